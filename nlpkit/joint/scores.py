"""The scores of several tasks, each behind its name, and the mean that chooses the best step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.wrappers.abstract import WrapperMetric

from nlpkit import given
from nlpkit.joint.names import module_name
from nlpkit.mean_loss import MeanLoss
from nlpkit.owners import useless
from nlpkit.task import Task

MEAN = "mean_score"


class JointScores(WrapperMetric):
    """``NAME/SCORE`` of each task, its loss included, and ``mean_score``.

    That is the mean of the score that each task chooses its best step by; where that is a loss, which is better the
    lower it is, minus the loss.

    Args:
        metrics: by task.
        classes: of the tasks by name, each with the score that it chooses by.
    """

    def __init__(self, metrics: Mapping[str, MetricCollection], classes: Mapping[str, type[Task[Any]]]) -> None:
        super().__init__()
        self.classes = dict(classes)
        self.metrics = nn.ModuleDict({module_name(name): own for name, own in metrics.items()})
        self.losses = nn.ModuleDict({module_name(name): MeanLoss() for name in metrics})

    def update(
        self, compared: Mapping[str, tuple[Any, ...]], terms: Mapping[str, Sequence[tuple[Tensor, int]]]
    ) -> None:
        """Add a batch.

        Args:
            compared: what the metrics of each task in it are updated with.
            terms: of the loss of each.
        """
        for name, values in compared.items():
            given.used(self.classes[name], self._metrics(name).update, *values)
            self._loss(name).update(terms.get(name, ()))

    def compute(self) -> dict[str, Tensor]:
        """All scores.

        Raises:
            PluginError: a task chooses by a score that it does not have.
        """
        found: dict[str, Tensor] = {}
        chosen = []
        for name, task in self.classes.items():
            scores = given.numbers(task, given.used(task, self._metrics(name).compute))
            own = {**scores, "loss": self._loss(name).compute()}
            if task.score not in own:
                raise useless(task, "score", f"is '{task.score}', expected one of {', '.join(sorted(own))}")
            value = torch.as_tensor(own[task.score]).float()
            chosen.append(-value if task.score == "loss" else value)
            found |= {f"{name}/{key}": value for key, value in own.items()}
        return {MEAN: torch.stack([value.reshape(()) for value in chosen]).mean(), **found}

    def reset(self) -> None:
        """All at zero."""
        super().reset()
        for name in self.classes:
            self._metrics(name).reset()
            self._loss(name).reset()

    def _metrics(self, name: str) -> MetricCollection:
        metrics = self.metrics[module_name(name)]
        assert isinstance(metrics, MetricCollection)
        return metrics

    def _loss(self, name: str) -> MeanLoss:
        loss = self.losses[module_name(name)]
        assert isinstance(loss, MeanLoss)
        return loss
