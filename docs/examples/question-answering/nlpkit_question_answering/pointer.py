"""A head of its own: where an answer begins and where it ends. B batch, L length, D width."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nlpkit import Batch, Head


class Pointer(Head):
    """Points at the first and the last token of a span.

    Args:
        width: of the hidden states.
        longest: tokens of a span, at most.
    """

    def __init__(self, width: int, longest: int) -> None:
        super().__init__()
        self.longest = longest
        self.scores = nn.Linear(width, 2)

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Map hidden states (B, L, D) to scores (B, 2, L) of a first and of a last token, low outside of the context.

        `Head.loss` takes the cross entropy of ``batch["labels"]``, the true first and last token (B, 2), as it is.
        """
        scores = self.scores(hidden).transpose(1, 2)  # (B, 2, L)
        return scores.masked_fill(batch["ends"].unsqueeze(1) == 0, -1e4)

    def predict(self, hidden: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The likeliest span of each text: first and last token (B, 2), and its probability (B,)."""
        first, last = super().predict(hidden, batch).unbind(1)  # (B, L)
        spans = (first.unsqueeze(2) * last.unsqueeze(1)).triu().tril(self.longest - 1)  # (B, L, L)
        score, place = spans.flatten(1).max(1)
        length = first.size(1)
        return torch.stack([place // length, place % length], 1), score
