"""Several documents in one row, each read as if it stood alone: no attention across, positions from the start."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nlpkit.errors import ModelError

_LONGEST_TRIAL = 256  # tokens
_CLOSE = 1e-4  # of the largest hidden value; rounding stays far below, a leak or a wrong position far above
_LAST_PADDING = 8  # padding ids up to which a body may count positions from its own, as RoBERTa does
_REFUSALS = (RuntimeError, ValueError, IndexError, TypeError, AttributeError, KeyError)


class Apart:
    """How a body reads rows of several documents.

    Whether it reads forwards only, and where its positions begin, is found out by what makes two documents in one row
    come out as each does alone; so is that it can take such a mask at all.

    Args:
        backbone: the body.

    Raises:
        ModelError: it cannot keep documents apart.
    """

    def __init__(self, backbone: PreTrainedModel) -> None:
        self.backbone = backbone
        self._positioned = "position_ids" in inspect.signature(backbone.forward).parameters
        self._eager = backbone.config._attn_implementation == "eager"
        self._padding = getattr(backbone.config, "pad_token_id", None)
        after = () if self._padding is None or self._padding > _LAST_PADDING else (self._padding + 1,)
        for self.causal, self.first in product((False, True), (0, *after)):
            if self._distance() < _CLOSE:
                return
        raise ModelError(
            f"{backbone.config.model_type} cannot keep the documents of a row apart",
            "task.packing=stream; or a model such as BERT, ModernBERT, GPT-2 or Llama",
        )

    def inputs(self, documents: Tensor) -> dict[str, Any]:
        """The mask and the positions that the body needs beside the token ids.

        Args:
            documents: number of the document of each token (B, L); neighbours with equal numbers are together.
        """
        places = torch.arange(documents.size(1), device=documents.device)
        begins = torch.ones_like(documents, dtype=torch.bool)
        begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
        start = torch.where(begins, places, 0).cummax(1).values
        inputs: dict[str, Any] = {"attention_mask": self._masks(start, places)}
        return inputs | ({"position_ids": places - start + self.first} if self._positioned else {})

    def _masks(self, start: Tensor, places: Tensor) -> Tensor | dict[str, Tensor]:
        """What each place may see (B, 1, L, L); for each kind of layer where the body has several."""
        same = (start.unsqueeze(1) == start.unsqueeze(2)).unsqueeze(1)
        behind = places.unsqueeze(1) - places  # (L, L)
        if self.causal:
            same = same & (behind >= 0)
        window = getattr(self.backbone.config, "sliding_window", None)
        if window is None:
            return self._as_read(same)
        near = self._as_read(same & (behind < window if self.causal else behind.abs() <= window))
        kinds = set(getattr(self.backbone.config, "layer_types", None) or ["sliding_attention"])
        if len(kinds) == 1:
            return near if "sliding_attention" in kinds else self._as_read(same)
        return {kind: near if kind == "sliding_attention" else self._as_read(same) for kind in kinds}

    def _as_read(self, mask: Tensor) -> Tensor:
        if not self._eager:
            return mask
        dtype = self.backbone.dtype
        return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)

    @torch.no_grad()
    def _distance(self) -> float:
        """How far from each alone two documents in a row come out, as a share of the largest value."""
        tokens = self._trial_tokens()
        half = tokens.size(1) // 2 - 1
        documents = (torch.arange(tokens.size(1), device=tokens.device) >= half).long().unsqueeze(0)
        with _evaluating(self.backbone), torch.autocast(tokens.device.type, enabled=False):
            alone = torch.cat([self._hidden(tokens[:, :half]), self._hidden(tokens[:, half:])], 1)
            try:
                together = self._hidden(tokens, **self.inputs(documents))
            except _REFUSALS:
                return float("inf")
        return float((together - alone).abs().max() / alone.abs().max())

    def _hidden(self, tokens: Tensor, **inputs: Any) -> Tensor:
        return self.backbone(input_ids=tokens, **inputs).last_hidden_state.float()

    def _trial_tokens(self) -> Tensor:
        """Some tokens, none of them padding: (1, L)."""
        config = self.backbone.config
        longest = min(_LONGEST_TRIAL, getattr(config, "max_position_embeddings", None) or _LONGEST_TRIAL)
        window = getattr(config, "sliding_window", None) or 0
        length = min(longest - self.first, max(32, 3 * window))
        first = config.vocab_size // 2
        tokens = first + torch.arange(length) * 7919 % (config.vocab_size - first)
        if self._padding is not None:
            tokens[tokens == self._padding] -= 1
        return tokens.unsqueeze(0).to(self.backbone.device)


@contextlib.contextmanager
def _evaluating(module: torch.nn.Module) -> Iterator[None]:
    """No dropout while the ``with`` block lasts."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
