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
    """Score the examples, and train on them, each process on its share of every batch.

    Scores are of an odd number of examples before anything is learnt: shares of the same size, or without a mistake,
    would have the score of all. In evaluation mode: dropout would be another in each process.

    Returns:
        The scores before, the loss of the last step and the scores after it, by name.
    """
    settings = TrainerConfig(devices=processes, accelerator="cpu", precision="32")
    config = RunConfig(task=it.task.config, optim=it.module.optim, trainer=settings)
    odd = it.examples[: len(it.examples) - 1 | 1]
    data = TaskDataModule(it.task, it.samples, odd, batch_tokens=_TOKENS, epochs=_STEPS)
    with trainer.quiet(), Meeting(settings).training("cpu"):
        it.module.eval()
        with torch.no_grad():
            before = it.module.score(data.val_dataloader(), it.task.build_metrics())
        lightning = trainer.build(config, trainer.Length(_STEPS, _STEPS), [CounterSeeds(0)])
        lightning.fit(it.module, datamodule=data)
        after = {name: float(torch.as_tensor(value)) for name, value in lightning.callback_metrics.items()}
    return {**{f"{name} at first": value for name, value in before.items()}, **after}
