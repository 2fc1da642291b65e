"""A second text that is scored beside the dev part, so that what a model forgets can be seen; it chooses nothing."""

from __future__ import annotations

import numpy as np
import pytorch_lightning as pl
import torch

from nlpkit.callbacks import Recorder
from nlpkit.data import FixedLoader, Samples
from nlpkit.metrics_log import scores_at
from nlpkit.module import TaskModule
from nlpkit.scores import finite
from nlpkit.task import Features

_TOKENS = 2**17  # that are scored each time: a score of more is hardly surer, and would slow training down


class Spread:
    """Samples of a text, evenly spread over all of it, so that scoring them costs no more than need be.

    Args:
        samples: of the whole text.
        tokens: in the chosen samples, at most; one sample is always chosen.
    """

    def __init__(self, samples: Samples, tokens: int = _TOKENS) -> None:
        self._samples = samples
        count, total = len(samples.lengths), int(samples.lengths.sum())
        fitting = count if total <= tokens else max(1, count * tokens // total)
        self._chosen = np.linspace(0, count - 1, fitting).astype(np.int64)
        self.lengths = samples.lengths[self._chosen]

    def features(self, index: int, seed: int = 0) -> Features:
        """The features of one sample."""
        return self._samples.features(int(self._chosen[index]), seed)

    def where(self, index: int) -> str:
        """Where one sample comes from, for messages."""
        return self._samples.where(int(self._chosen[index]))


class Watch(pl.Callback):
    """Score a text at the start of a run and at each validation, as ``watch/...`` beside ``dev/...``.

    Args:
        loader: its batches, the same each time.
        recorder: keeps the score of the start; comes before this callback.
    """

    def __init__(self, loader: FixedLoader, recorder: Recorder) -> None:
        self.loader, self.recorder = loader, recorder

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Score what the run starts from, unless an earlier start has done so."""
        if trainer.global_step or scores_at(self.recorder.path, 0, "watch"):
            return
        module.eval()
        with torch.no_grad():  # not inference_mode: what a model keeps from its first batch is for training, too
            scores = self._scores(trainer, module)
        module.train()
        self.recorder.write([{"step": 0, **finite(scores)}])

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Score the weights of the moment; Lightning has switched gradients and dropout off."""
        module.log_dict(self._scores(trainer, module))

    def _scores(self, trainer: pl.Trainer, module: pl.LightningModule) -> dict[str, float]:
        assert isinstance(module, TaskModule)
        metrics = module.metrics.clone()
        metrics.reset()  # they stand half-way through the dev part
        with trainer.precision_plugin.val_step_context():
            scores = module.score(self.loader, metrics)
        return {f"watch/{name}": value for name, value in scores.items()}
