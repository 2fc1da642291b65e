"""A task on a tiny backbone, with a tokenizer made of its examples: what checks look at."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchmetrics import MetricCollection

from nlpkit import backbone, bundle, given, readers, tokenizer
from nlpkit.config import ModelConfig, OptimConfig, from_plain
from nlpkit.data import EncodedExamples, make_batch
from nlpkit.errors import NlpkitError
from nlpkit.examples import checked
from nlpkit.handover import quiet
from nlpkit.module import TaskModule
from nlpkit.plugins import Plugin, Registry
from nlpkit.randomness import seed_all, seed_of
from nlpkit.task import Batch, Example, Task, TaskConfig
from nlpkit.testing.alike import tensors
from nlpkit.testing.elsewhere import Elsewhere

LEARNT = 0.2
"""The share of the first loss at which examples count as learnt by heart."""
_MANY = 120  # steps in which they must be
_NUDGE = 0.1  # of a weight, as a standard deviation
_LENGTH = 64  # tokens that the backbone takes


class TaskUnderTest:
    """A task on a tiny backbone, with examples; every one that is made of them has the same weights.

    Args:
        task_class: what is tested.
        examples: eight or so, labelled, as a reader would give them; `Task.check` sees them first.
        settings: of the task; labels are found in the examples.
        elsewhere: other processes with the same task.
        seed: of the weights.

    Raises:
        AssertionError: the task takes no such examples.
    """

    def __init__(
        self,
        task_class: type[Task[Any]],
        examples: Sequence[Mapping[str, Any]],
        settings: Any = None,
        elsewhere: Elsewhere | None = None,
        seed: int = 0,
    ) -> None:
        self._made_of = (task_class, examples, settings)
        self.elsewhere = elsewhere or Elsewhere(*self._made_of)
        family = task_class.defaults.get("model.family", "bert")
        model = ModelConfig(preset="tiny", family=family, sequence_length=_LENGTH)
        try:
            self.examples = as_read(task_class, examples)
            config = given.settings(task_class, settings or _defaults(task_class), self.examples)
        except NlpkitError as error:
            raise AssertionError(f"these examples are no data for {task_class.__name__}: {error.message}") from None
        words = tokenizer.train(
            iter(self._texts(task_class)),
            kind="wordpiece",
            vocabulary=400,
            lowercase=True,
            max_length=_LENGTH,
            generates=model.family in backbone.DECODERS,
            denoises=model.family in backbone.ENCODER_DECODERS,
            special=task_class.extra_tokens(config),
        )
        self.task = task_class(replace(config, max_length=config.max_length or _LENGTH), words)
        self.architecture = backbone.architecture(model, words)
        torch.manual_seed(seed)
        optim = OptimConfig(learning_rate=5e-4, schedule="constant", warmup=0.0)
        with quiet():
            head = self.task.build_head(self.architecture)
        self.module = TaskModule(self.task, backbone.build(self.architecture), head, optim, total_steps=60)
        self.samples = EncodedExamples(self.task, self.examples)

    def _texts(self, task_class: type[Task[Any]]) -> list[str]:
        needed = [name for name, field in task_class.fields.items() if field.required]
        written = [name for name, field in task_class.fields.items() if field.written]
        return [str(e[name]) for e in self.examples for name in needed + written]

    def again(self, seed: int = 0) -> TaskUnderTest:
        """The same task with the weights that it had at first, or with those of another seed."""
        return TaskUnderTest(*self._made_of, self.elsewhere, seed)

    def batch(self, *rows: int) -> Batch:
        """A batch of some examples, in this order; of all where none is named."""
        return make_batch(self.task, self.samples, np.array(rows or range(len(self.examples))), 0, 0)

    def bare(self) -> list[Example]:
        """The examples as new texts are: without what need not be there."""
        needed = [name for name, field in self.task.fields.items() if field.required]
        return [Example({name: e[name] for name in needed}, e.where) for e in self.examples]

    def batch_of(self, examples: Sequence[Example]) -> Batch:
        """A batch of other examples."""
        return make_batch(self.task, EncodedExamples(self.task, examples), np.arange(len(examples)), 0, 0)

    def nudged(self) -> TaskUnderTest:
        """This task with noise on the weights of its head: what zeros at first would hide is seen.

        A layer that begins at zero answers the same to everything, and lets no gradient through.
        """
        noise = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for weights in self.module.head.parameters():
                if weights.is_floating_point():
                    weights.add_(torch.randn(weights.shape, generator=noise), alpha=_NUDGE)
        return self

    def loss(self, batch: Batch) -> torch.Tensor:
        """The loss of a batch, as training has it."""
        return self.module.loss_of(batch)

    def answers(self, batch: Batch) -> list[dict[str, Any]]:
        """Predictions in evaluation mode."""
        self.module.eval()
        with torch.no_grad():
            return self.module.predict_step(batch)

    def predictions(self, batch: Batch, count: int) -> list[dict[str, torch.Tensor]]:
        """What the head predicts of each example in evaluation mode, before it is decoded.

        Args:
            batch: of some examples.
            count: how many.

        Returns:
            For each example its part of every tensor with a row for each, by the place of the tensor.
        """
        self.module.eval()
        with torch.no_grad():
            found = dict(tensors(self.module.predictions(batch)))
        rows = {place: values for place, values in found.items() if values.ndim and len(values) == count}
        return [{place: values[row] for place, values in rows.items()} for row in range(count)]

    def scores(self, batch: Batch, metrics: MetricCollection | None = None) -> dict[str, float]:
        """The task's own metrics of a batch, in evaluation mode; ``metrics`` may have seen others before."""
        self.module.eval()
        with torch.no_grad():
            scores = self.module.score([batch], given.metrics(self.task) if metrics is None else metrics)
        return {name: value for name, value in scores.items() if name != "loss"}

    def learn(self, steps: int, below: float = -math.inf) -> list[float]:
        """Train on all examples, seeded before each batch as a run is; stops when the loss is a share of the first.

        Returns:
            The loss before each step.
        """
        optimizer = self.module.configure_optimizers()["optimizer"]
        losses: list[float] = []
        self.module.train()
        while len(losses) < steps and (not losses or losses[-1] >= below * losses[0]):
            seed_all(seed_of(0, 3, len(losses)))
            loss = self.loss(self.batch())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        return losses

    def learn_by_heart(self) -> list[float]:
        """Train until the loss is the share `LEARNT` of the first, or not for much longer."""
        return self.learn(_MANY, below=LEARNT)

    def save(self, folder: Path) -> None:
        """Write the bundle."""
        bundle.save(folder, self.task, self.module.backbone, self.module.head, {}, OneTask(type(self.task)))

    def named(self, row: int) -> str:
        """An example for messages, with the beginning of its text."""
        first = next(iter(self.task.fields))
        return f"example {row} ({self.examples[row][first]!r:.40})"


def as_read(task_class: type[Task[Any]], examples: Sequence[Mapping[str, Any]]) -> list[Example]:
    """Rows of a table as a reader gives them, checked by the task."""
    return list(checked(task_class, (_named(task_class, row, f"example {i}") for i, row in enumerate(examples))))


def _named(task_class: type[Task[Any]], row: Mapping[str, Any], where: str) -> Example:
    """A row under the names of fields; its columns may have any of the names that the task recognises."""
    columns = {readers.plain_name(column): column for column in row}
    values = dict(row)
    for name, field in task_class.fields.items():
        found = next((columns[c] for c in map(readers.plain_name, field.columns) if c in columns), name)
        if name not in row and found in row:
            values[name] = values.pop(found)
        if field.required and name not in values:
            raise AssertionError(f"{where} has no '{name}', found {', '.join(map(repr, row)) or 'nothing'}")
    return Example(values, getattr(row, "where", "") or where)


def _defaults(task_class: type[Task[Any]]) -> TaskConfig:
    """The settings that a run has where its user says nothing."""
    own = {key.removeprefix("task."): v for key, v in task_class.defaults.items() if key.startswith("task.")}
    return from_plain(task_class, {"task": own}).task if own else task_class.config_class()


class OneTask(Registry):
    """A registry that knows the task under test and the installed heads."""

    def __init__(self, task_class: type[Task[Any]]) -> None:
        super().__init__()
        self.task_class = task_class

    def task(self, name: str, stage: Any = None) -> type[Task[Any]]:
        """The task under test, whatever the name."""
        return self.task_class

    def owner(self, kind: Any, name: str) -> Plugin:
        """A plugin that stands for the one under test."""
        return Plugin(name="under-test", distribution="under-test", version="0", value=self.task_class.__module__)


def answers_of(folder: Path, task_class: type[Task[Any]], examples: Sequence[Example]) -> list[dict[str, Any]]:
    """Load a bundle of a task and give its answers to some examples."""
    loaded = bundle.load(str(folder), OneTask(task_class))
    batch = make_batch(loaded.task, EncodedExamples(loaded.task, examples), np.arange(len(examples)), 0, 0)
    with torch.no_grad():
        return TaskModule(loaded.task, loaded.backbone, loaded.head).eval().predict_step(batch)
