"""A few steps of training as a run has them, alone or with another process."""

from __future__ import annotations

import torch

from nlpkit import trainer
from nlpkit.callbacks import CounterSeeds
from nlpkit.config import RunConfig, TrainerConfig
from nlpkit.data import TaskDataModule
from nlpkit.meeting import Meeting
from nlpkit.testing.under_test import TaskUnderTest

_STEPS = 3
_TOKENS = 1_000_000  # in a batch: all examples stand in one


def train(it: TaskUnderTest, processes: int) -> dict[str, float]:
    """Train, each process on its share of every batch, and score the same examples.

    In evaluation mode: dropout would be another in each process.

    Returns:
        The loss of the last step and the dev scores, by name.
    """
    settings = TrainerConfig(devices=processes, accelerator="cpu", precision="32")
    config = RunConfig(task=it.task.config, optim=it.module.optim, trainer=settings)
    data = TaskDataModule(it.task, it.samples, it.samples, batch_tokens=_TOKENS, epochs=_STEPS)
    it.module.eval()
    with trainer.quiet(), Meeting(settings).training("cpu"):
        lightning = trainer.build(config, trainer.Length(_STEPS, _STEPS), [CounterSeeds(0)])
        lightning.fit(it.module, datamodule=data)
        return {name: float(torch.as_tensor(value)) for name, value in lightning.callback_metrics.items()}
