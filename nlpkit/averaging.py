"""The average of the weights over the last steps: it is what is scored and kept, while training goes on without it."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor


class Averaging(WeightAveraging):
    """An exponential average, over fewer steps at first, so that the weights that training began with are soon gone.

    Lightning's own does the rest: checkpoints hold both. Buffers are left as they are, for some hold whole numbers.

    Args:
        steps: over which later weights are averaged.
    """

    def __init__(self, steps: int) -> None:
        def average(averaged: Tensor, present: Tensor, count: Tensor | int) -> Tensor:
            kept = min(1 - 1 / steps, (1 + int(count)) / (10 + int(count)))
            return averaged * kept + present * (1 - kept)

        super().__init__(use_buffers=False, avg_fn=average)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Nothing yet: other callbacks score the average here, too."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Go on with the weights themselves."""
        super().on_validation_epoch_end(trainer, pl_module)
