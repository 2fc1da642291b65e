"""The metrics of a run, the task's own and those that its user added, and what they come to."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

import torch
from torchmetrics import Metric, MetricCollection

from nlpkit.errors import PluginError, UsageError
from nlpkit.owners import kind, useless
from nlpkit.plugins import Registry
from nlpkit.task import Task

log = logging.getLogger("nlpkit")
MOST_TERMS = 8  # of a loss


def metrics_of(task: Task[Any], registry: Registry) -> MetricCollection:
    """The task's metrics and those that ``task.metrics`` names, all at zero.

    Raises:
        UsageError: a name that no plugin registers, or that the task has itself.
        PluginError: what a plugin makes is no torchmetrics Metric.
    """
    metrics = own_metrics(task)
    for name in task.config.metrics:
        made = registry.metric(name)(task)
        if not isinstance(made, Metric):
            owner = registry.owner("metric", name)
            raise PluginError(
                f"plugin {owner}: metric '{name}' is {type(made).__name__}, expected a torchmetrics Metric",
                "leave it out of task.metrics",
            )
        if name == "loss" or name in metrics:
            owner = registry.owner("metric", name)
            raise UsageError(
                f"task.metrics: '{name}' of plugin {owner} has the name of a score that {task.name} has itself",
                "leave it out",
            )
        metrics.add_metrics({name: made})
    return metrics


def own_metrics(task: Task[Any]) -> MetricCollection:
    """The task's metrics alone, at zero.

    Raises:
        PluginError: it makes something else.
    """
    metrics = task.build_metrics()
    if not isinstance(metrics, MetricCollection):
        raise useless(type(task), "build_metrics", f"gives {kind(metrics)}, expected a torchmetrics MetricCollection")
    return metrics


class MeanLoss(Metric):
    """The loss over any number of batches: each of its terms (`Head.terms`) is a mean over all that it counts."""

    full_state_update = False
    sums: torch.Tensor
    counts: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("sums", "counts"):
            self.add_state(name, torch.zeros(MOST_TERMS, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, terms: Sequence[tuple[torch.Tensor, int]]) -> None:
        """Add the terms of a batch; a mean over nothing counts for nothing, whatever it is.

        Raises:
            PluginError: more terms than `MOST_TERMS`.
        """
        if len(terms) > MOST_TERMS:
            raise PluginError(
                f"the head's loss has {len(terms)} terms, at most {MOST_TERMS} can be scored", "add some up"
            )
        for place, (mean, count) in enumerate(terms):
            if count:
                self.sums[place] += mean.detach().double() * count
                self.counts[place] += count

    def compute(self) -> torch.Tensor:
        """The sum of the means."""
        return (self.sums / self.counts.clamp(min=1)).sum()


def values_of(metrics: MetricCollection) -> dict[str, torch.Tensor]:
    """What the metrics come to.

    Raises:
        PluginError: one that is not a single number.
    """
    scores = metrics.compute()
    for name, value in scores.items():
        if torch.as_tensor(value).numel() != 1:
            raise PluginError(
                f"score '{name}' has {torch.as_tensor(value).numel()} values, expected one number",
                "average it, or wrap the metric in torchmetrics' ClasswiseWrapper",
            )
    return {name: torch.as_tensor(value).reshape(()) for name, value in scores.items()}


def finite(scores: dict[str, float]) -> dict[str, float]:
    """The scores that are numbers; the others, which no JSON file can hold, are named in the log."""
    if odd := [f"{name} is {value}" for name, value in scores.items() if not math.isfinite(value)]:
        log.warning("%s: left out", ", ".join(odd))
    return {name: value for name, value in scores.items() if math.isfinite(value)}
