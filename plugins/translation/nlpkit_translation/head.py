"""The decoder of an encoder-decoder, and the search for what it writes, which is transformers' own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel, StoppingCriteria, StoppingCriteriaList
from transformers.modeling_outputs import BaseModelOutput

from nlpkit import Batch, SequenceHead
from nlpkit.batching import sorted_batches
from nlpkit.errors import ModelError
from nlpkit.heads import is_as_made
from nlpkit.silence import silenced


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
        begun: whether labels begin with the token that the decoder is given to begin with, and need not write.

    Raises:
        ModelError: no token ends a text; or as `SequenceHead`.
    """

    searches = True
    begun = False
    tokens, rows = 4096, 128
    """Padded tokens and rows of source text in a search, at most: more are searched for group by group."""

    def __init__(self, backbone: PretrainedConfig, search: Search, smoothing: float, *, begun: bool = False) -> None:
        super().__init__(backbone)
        self.search, self.smoothing, self.begun = search, smoothing, begun
        self._keep_search()

    def adopt(self, model: PreTrainedModel) -> None:
        """Take over the weights of a whole model, and not how it was searched with."""
        super().adopt(model)
        self._keep_search()

    def _keep_search(self) -> None:
        before = self.model.generation_config  # that of others may ask for lengths and words that suit another task
        ids = {
            f"{name}_token_id": getattr(before, f"{name}_token_id") for name in ("bos", "eos", "pad", "decoder_start")
        }
        own = GenerationConfig(**ids, **self.search.settings(), max_length=self.search.longest + 1)  # the first counts
        if own.pad_token_id is not None and own.pad_token_id != own.eos_token_id:
            own.suppress_tokens = [own.pad_token_id]  # Marian's has a logit of 0, which is above those of most words
        self.model.generation_config = own
        if own.eos_token_id is None:
            raise ModelError(
                "neither config.json nor generation_config.json has an eos_token_id, the token that ends a text",
                "set it in config.json to that of the tokenizer",
            )

    def answers(self, batch: Batch) -> Tensor:
        """What the decoder writes of the text."""
        return batch["labels"][:, int(self.begun) :]

    @property
    def by_rows(self) -> bool:
        """As it is made."""
        return is_as_made(self, TranslationHead)

    def scored(self, hidden: Tensor, batch: Batch) -> tuple[list[tuple[Tensor, int]], Any]:
        """The loss of the reference, and what is written without it."""
        return self.terms(hidden, batch), self.predict(hidden, batch)

    def in_groups(self, batch: Batch, predict: Callable[[Batch], Any]) -> Any:
        """The rows that are about as long together, the longest first: a text of many lines is as many rows."""
        mask = batch["attention_mask"]
        groups = [torch.from_numpy(g) for g in sorted_batches(mask.sum(1).cpu().numpy(), self.tokens, self.rows)]
        if len(groups) == 1:
            return predict(batch)
        found = []
        for group in groups:
            longest = int(mask[group].sum(1).max())
            found.append(predict({key: batch[key][group, :longest] for key in ("input_ids", "attention_mask")}))
        return joined(found, groups, self.config.pad_token_id or 0)

    def predict(self, hidden: Tensor, batch: Batch) -> Any:
        """What `predictions` gives of each row, by a search of transformers."""
        mask = batch["attention_mask"]
        room = room_of(mask, self.search.longest)
        write: Any = self.model.generate  # typed as a tensor by nn.Module
        with silenced("transformers.modeling_utils", below=logging.ERROR):  # it wants a mask of what is behind the end
            ids = write(
                encoder_outputs=BaseModelOutput(last_hidden_state=hidden),
                attention_mask=mask,
                max_length=int(room.max()) + 1,
                stopping_criteria=StoppingCriteriaList([_Full(room)]),
                **self.search.settings(),
            )[:, 1:]
        return predictions(ids, self.model.generation_config.eos_token_id, room, self.config.pad_token_id or 0)


class _Full(StoppingCriteria):
    """Ends each row where its own room ends, so that the rows beside it change nothing.

    Args:
        room: tokens of each row, at most (R,).
    """

    def __init__(self, room: Tensor) -> None:
        self.room = room

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        """Whether rows (R * beams, T) are to end, (R * beams,)."""
        return input_ids.size(1) - 1 >= self.room.repeat_interleave(len(input_ids) // len(self.room))


def room_of(mask: Tensor, longest: int) -> Tensor:
    """Tokens that a row may get (R,), from its mask (R, L): twice its source and ten; what is longer repeats itself."""
    return (2 * mask.sum(1) + 10).clamp(max=longest)


def predictions(ids: Tensor, end: int | list[int], room: Tensor, pad: int) -> dict[str, Tensor]:
    """Tokens of each row (R, T) behind which all is padding, their ``lengths`` (R,), and whether they ``ended`` (R,).

    Args:
        ids: as written, (R, T).
        end: the token that ends a text, or several.
        room: of each row, (R,).
        pad: for padding.
    """
    ends = torch.isin(ids, torch.tensor(end, device=ids.device))
    found = ends.any(1)
    length = torch.where(found, ends.int().argmax(1), ids.size(1)).minimum(room)
    place = torch.arange(ids.size(1), device=ids.device)
    return {
        "ids": ids.masked_fill(place >= length.unsqueeze(1), pad),
        "lengths": length,
        "ended": found & (length < room),
    }


def joined(found: Sequence[dict[str, Tensor]], groups: Sequence[Tensor], pad: int) -> dict[str, Tensor]:
    """Predictions of groups of rows as one, in the order of the rows.

    Args:
        found: what `predictions` gives, of each group.
        groups: the rows of each.
        pad: for padding.
    """
    width = max(part["ids"].size(1) for part in found)
    padded = [
        {**part, "ids": nn.functional.pad(part["ids"], (0, width - part["ids"].size(1)), value=pad)} for part in found
    ]
    order = torch.cat(list(groups)).argsort()
    return {key: torch.cat([part[key] for part in padded])[order] for key in padded[0]}
