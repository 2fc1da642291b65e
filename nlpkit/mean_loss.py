"""The loss over many batches, in one process or several."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torchmetrics import Metric

from nlpkit.limits import LOSS_TERMS


class MeanLoss(Metric):
    """The loss over any number of batches: each of its terms (`Head.terms`) is a mean over all that it counts."""

    full_state_update = False
    sums: torch.Tensor
    counts: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("sums", "counts"):
            self.add_state(name, torch.zeros(LOSS_TERMS, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, terms: Sequence[tuple[torch.Tensor, int]]) -> None:
        """Add the terms of a batch, `LOSS_TERMS` at most; a mean over nothing counts for nothing, whatever it is."""
        for place, (mean, count) in enumerate(terms):
            if count:
                self.sums[place] += mean.detach().double() * count
                self.counts[place] += count

    def compute(self) -> torch.Tensor:
        """The sum of the means."""
        return (self.sums / self.counts.clamp(min=1)).sum()
