"""Every hook of nlpkit, in the order of a run. A plugin is a module (or object) with functions of these names.

A plugin module starts with ``import nlpkit`` and marks its functions::

    @nlpkit.hookimpl
    def nlpkit_tasks():
        return [Emotion]

and its distribution names the module in its entry points::

    [project.entry-points.nlpkit]
    emotion = "nlpkit_emotion"
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from torchmetrics import Metric
    from transformers import PretrainedConfig

    from nlpkit.heads import Head
    from nlpkit.task import Dataset, Task

API_VERSION = 1
"""Raised when a hook changes in a way that breaks plugins; a plugin may say ``NLPKIT_API = 1``."""

hookspec = pluggy.HookspecMarker("nlpkit")
hookimpl = pluggy.HookimplMarker("nlpkit")


@hookspec
def nlpkit_tasks() -> Sequence[type[Task[Any]]]:  # type: ignore[empty-body]
    """Task classes; ``Task.name`` is what ``--task`` (or ``--objective``) takes.

    Example::

        @nlpkit.hookimpl
        def nlpkit_tasks():
            return [Emotion]
    """


@hookspec
def nlpkit_datasets() -> Mapping[str, Dataset]:  # type: ignore[empty-body]
    """Named readers for ``data.reader=NAME``, and sample data.

    Example::

        @nlpkit.hookimpl
        def nlpkit_datasets():
            sample = nlpkit.Dataset(files={"train": "/path/to/sample.csv"})
            return {"emotion-sample": sample, "log": nlpkit.Dataset(read)}


        def read(path):
            for line in open(path, encoding="utf-8"):
                label, _, text = line.strip().partition("|")
                yield {"text": text, "label": label}
    """


@hookspec
def nlpkit_heads() -> Mapping[str, Callable[[Task[Any], PretrainedConfig], Head]]:  # type: ignore[empty-body]
    """Named heads for ``task.head=NAME``.

    Example::

        @nlpkit.hookimpl
        def nlpkit_heads():
            return {"mean-pool": lambda task, backbone: MeanPool(backbone.hidden_size, len(task.config.labels))}
    """


@hookspec
def nlpkit_metrics() -> Mapping[str, Callable[[Task[Any]], Metric]]:  # type: ignore[empty-body]
    """Named metrics for ``task.metrics=[NAME]``, added to the task's own.

    Example::

        @nlpkit.hookimpl
        def nlpkit_metrics():
            return {"kappa": lambda task: CohenKappa(task="multiclass", num_classes=len(task.config.labels))}
    """
