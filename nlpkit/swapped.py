"""Parts that a plugin gives to somebody else's task are tried on a batch before a run trains with them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torchmetrics import MetricCollection

from nlpkit import given
from nlpkit.data import Samples, make_batch
from nlpkit.errors import NlpkitError, PluginError
from nlpkit.joint.head import JointHead
from nlpkit.joint.rows import batch_of
from nlpkit.joint.task import JointTask
from nlpkit.module import TaskModule
from nlpkit.plugins import Registry
from nlpkit.plugins.blame import describe, lines_of
from nlpkit.task import Batch, Task

_TRIED = 4  # samples


def check(module: TaskModule, samples: Samples, registry: Registry) -> None:
    """See that the head and the metrics which ``task.head`` and ``task.metrics`` name go with the task.

    Nothing is tried where they name none, and nothing of the module changes.

    Args:
        module: with that head, in training mode.
        samples: with labels.
        registry: knows whose they are.

    Raises:
        PluginError: one of them does not; it is named with its plugin.
    """
    for one, batch in _tried(module, samples):
        task = one.task
        one.eval()
        with torch.no_grad():
            compared = [_ask(one, part, asked, registry) for part, asked in task.as_predicted(batch)]
            for name in task.config.metrics:
                hint = f"{task.name} compares: {_first_line(task.compare)}"
                with _named("metric", name, task, registry, hint):
                    _score(task, name, compared, registry)
        one.train()


def _tried(module: TaskModule, samples: Samples) -> Iterator[tuple[TaskModule, Batch]]:
    """The model with a batch, where its settings name a part of somebody else's; of several tasks each by itself."""
    task, head, numbers = module.task, module.head, range(len(samples.lengths))
    if not isinstance(task, JointTask):
        if task.config.head or task.config.metrics:
            yield module, make_batch(task, samples, np.array(numbers[:_TRIED]), 0, -1)
        return
    assert isinstance(head, JointHead)
    for name, part in task.parts.items():
        own = [i for i in numbers if name in samples.features(i)][:_TRIED]
        if own and (part.config.head or part.config.metrics):
            batch = make_batch(task, samples, np.array(own), 0, -1)
            yield TaskModule(part, module.backbone, head.of(name)), batch_of(batch, name)


def _ask(module: TaskModule, part: Batch, asked: Batch, registry: Registry) -> tuple[Any, ...]:
    """What the metrics are updated with: loss and predictions of a batch, as its scores are made."""
    task, name = module.task, module.task.config.head
    hidden = module.hidden(part)
    own = f"leave it out; what a head of {task.name} is given and gives back, its README says"
    with _named("head", name, task, registry, own) if name else contextlib.nullcontext():
        given.terms(module.head, hidden, part)
        predictions = module.predictions(asked)
        task.decode(predictions, asked)
        return task.compare(predictions, asked)


def _score(task: Task[Any], name: str, compared: list[tuple[Any, ...]], registry: Registry) -> None:
    metrics = MetricCollection({name: registry.metric(name)(task)})
    for values in compared:
        metrics.update(*values)
    for value in metrics.compute().values():
        if (count := torch.as_tensor(value).numel()) != 1:
            raise ValueError(f"it has {count} values, expected one number: average it")


@contextlib.contextmanager
def _named(kind: Any, name: str, task: Task[Any], registry: Registry, hint: str) -> Iterator[None]:
    """Say of which plugin a part is that fails, and with which task."""
    try:
        yield
    except NlpkitError:
        raise
    except Exception as error:
        owner = registry.owner(kind, name)
        reason = describe(error, str(owner))
        known = PluginError(f"plugin {owner}: {kind} '{name}' does not go with {task.name}: {reason}", hint)
        known.lines = lines_of(error, str(owner))
        raise known from error


def _first_line(function: Any) -> str:
    return (function.__doc__ or "see its README").strip().splitlines()[0]
