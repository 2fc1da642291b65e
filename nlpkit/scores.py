"""The metrics of a run, the task's own and those that its user added, and what they come to."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch
from torchmetrics import Metric, MetricCollection

from nlpkit import given
from nlpkit.errors import PluginError, UsageError
from nlpkit.joint.parts import tasks_in
from nlpkit.joint.task import JointTask
from nlpkit.owners import fed_by, useless
from nlpkit.plugins import Registry
from nlpkit.task import Task

log = logging.getLogger("nlpkit")


def metrics_of(task: Task[Any], registry: Registry) -> MetricCollection:
    """The task's metrics and those that ``task.metrics`` names, all at zero.

    Raises:
        UsageError: a name that no plugin registers, or that the task has itself.
        PluginError: what a plugin makes is no torchmetrics Metric.
    """
    if isinstance(task, JointTask):
        return task.metrics_from({name: metrics_of(part, registry) for name, part in task.parts.items()})
    metrics = given.metrics(task)
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


def lower_is_better(metrics: MetricCollection) -> list[str]:
    """Names of the metrics that say so themselves."""
    return [name for name, metric in metrics.items() if metric.higher_is_better is False]


def check_direction(task: Task[Any]) -> None:
    """Make sure that the score which chooses the best step is none of which a lower one is better.

    Raises:
        PluginError: it is, and the worst step would be kept.
    """
    for part in tasks_in(task).values():
        if part.score in lower_is_better(given.metrics(part)):
            raise useless(
                type(part),
                "score",
                f"is '{part.score}', of which a lower one is better, and the step with the highest is kept; "
                "leave it out (the loss then chooses), or name a score",
            )


@fed_by("compare", "build_metrics")
def update_metrics(task: Task[Any], metrics: MetricCollection, compared: tuple[Any, ...]) -> None:
    """Add what `Task.compare` gives of a batch."""
    metrics.update(*compared)


@fed_by("compare", "build_metrics")
def values_of(task: Task[Any], metrics: MetricCollection) -> dict[str, torch.Tensor]:
    """What the metrics come to.

    Raises:
        PluginError: one that is not a single number.
    """
    return given.numbers(type(task), metrics.compute())


def finite(scores: dict[str, float], of: str = "") -> dict[str, float]:
    """The scores that are numbers; the others, which no JSON file can hold, are named in the log, behind ``of``."""
    if odd := [f"{of}{name} is {value}" for name, value in scores.items() if not math.isfinite(value)]:
        log.warning("%s: left out", ", ".join(odd))
    return {name: value for name, value in scores.items() if math.isfinite(value)}
