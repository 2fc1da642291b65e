"""The decoder of an encoder-decoder, and the search for what it writes, which is transformers' own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel, StoppingCriteria, StoppingCriteriaList
from transformers.modeling_outputs import BaseModelOutput

from nlpkit import Batch, SequenceHead
from nlpkit.heads import is_as_made


@dataclass(frozen=True)
class Search:
    """How a translation is searched for.

    Args:
        beams: sequences that are kept at each step; 1 takes the likeliest token each time (greedy).
        length_penalty: power of the length by which scores are divided; above 1 favours long texts.
        longest: tokens of a translation, at most.
        begin: the token that it must begin with, a language's; None: any.
    """

    beams: int
    length_penalty: float
    longest: int
    begin: int | None = None

    def settings(self) -> dict[str, Any]:
        """What transformers calls them."""
        several = self.beams > 1
        found: dict[str, Any] = {"num_beams": self.beams, "do_sample": False, "early_stopping": several}
        found |= {"length_penalty": self.length_penalty if several else 1.0}
        return found if self.begin is None else found | {"forced_bos_token_id": self.begin}


class TranslationHead(SequenceHead):
    """Writes a text of at most T tokens for each of R rows of source text.

    Args:
        backbone: configuration of an encoder-decoder.
        search: for predictions; it is saved with the model, so that plain ``generate`` does the same.
        smoothing: of labels, in training.
    """

    searches = True

    def __init__(self, backbone: PretrainedConfig, search: Search, smoothing: float) -> None:
        super().__init__(backbone)
        self.search, self.smoothing = search, smoothing
        self._keep_search()

    def adopt(self, model: PreTrainedModel) -> None:
        """Take over the weights of a whole model, and not how it was searched with."""
        super().adopt(model)
        self._keep_search()

    def _keep_search(self) -> None:
        own: Any = self.model.generation_config
        own.update(**self.search.settings(), max_length=self.search.longest + 1)  # what it begins with counts there

    @property
    def by_rows(self) -> bool:
        """As it is made."""
        return is_as_made(self, TranslationHead)

    def scored(self, hidden: Tensor, batch: Batch) -> tuple[list[tuple[Tensor, int]], Any]:
        """The loss of the reference, and what is written without it."""
        return self.terms(hidden, batch), self.predict(hidden, batch)

    def predict(self, hidden: Tensor, batch: Batch) -> Any:
        """The tokens of each row, padded (R, T), and whether each came to its end (R,).

        A row has room for twice its source and ten tokens more: what is not ended by then repeats itself.
        """
        mask = batch["attention_mask"]
        room = (2 * mask.sum(1) + 10).clamp(max=self.search.longest)  # (R,)
        write: Any = self.model.generate  # typed as a tensor by nn.Module
        ids = write(
            encoder_outputs=BaseModelOutput(last_hidden_state=hidden),
            attention_mask=mask,
            max_length=int(room.max()) + 1,
            stopping_criteria=StoppingCriteriaList([_Full(room)]),
            **self.search.settings(),
        )[:, 1:]
        ends = torch.isin(ids, torch.tensor(self.model.generation_config.eos_token_id, device=ids.device))
        place = torch.arange(ids.size(1), device=ids.device)
        length = torch.where(ends.any(1), ends.int().argmax(1), ids.size(1)).minimum(room)
        pad = self.config.pad_token_id or 0
        return {
            "ids": ids.masked_fill(place >= length.unsqueeze(1), pad),
            "lengths": length,
            "ended": ends.any(1) & (length < room),
        }


class _Full(StoppingCriteria):
    """Ends each row where its own room ends, so that the rows beside it change nothing.

    Args:
        room: tokens of each row, at most (R,).
    """

    def __init__(self, room: Tensor) -> None:
        self.room = room

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        """Which of some sequences for each row are full, (R * N, T) to (R * N,)."""
        return input_ids.size(1) > self.room.repeat_interleave(len(input_ids) // len(self.room))
