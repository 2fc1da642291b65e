"""The labelled rows of a fit, divided and checked: of one task, or of each of several that share a model."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nlpkit import splits
from nlpkit.config import RunConfig
from nlpkit.errors import DataError
from nlpkit.examples import check_parts, read_parts, texts_of
from nlpkit.examples import read_dev as read_dev_of
from nlpkit.joint.config import JointConfig
from nlpkit.joint.names import attribute, columns_of
from nlpkit.joint.task import JointTask, TaskExample
from nlpkit.owners import kind, useless
from nlpkit.plugins import Registry
from nlpkit.request import Request
from nlpkit.task import Example, Task, TaskConfig

log = logging.getLogger("nlpkit")


@dataclass(frozen=True)
class Labelled:
    """Rows to learn from, and what they say of the task.

    Args:
        settings: of the task, complete but for the length of inputs.
        train: to learn from.
        dev: choose the best step.
        guessed: column of each field that no user named; of several tasks behind their names.
    """

    settings: TaskConfig
    train: list[Example]
    dev: list[Example]
    guessed: dict[str, str]


def read(task_class: type[Task[Any]], request: Request, config: RunConfig, registry: Registry) -> Labelled:
    """Read and divide the rows of a request.

    Of several tasks each is read and divided as by itself. A text that chooses the best step of one is not learnt by
    another, either.

    Raises:
        DataError: no labels, one class only, or a class that the dev part lacks.
    """
    train, dev, guessed = _read(task_class, request, config, registry)
    train = list(task_class.select(config.task, train))
    settings = task_class.prepare(config.task, train)
    if not isinstance(settings, task_class.config_class):
        expected = f"expected the settings, a {task_class.config_class.__qualname__}"
        raise useless(task_class, "prepare", f"gives {kind(settings)}, {expected}")
    for own, part, (learnt, chooses) in _each(task_class, settings, train, dev):
        columns = columns_of(config.data.columns, own.name)
        check_parts(own, learnt, chooses, part.labels, columns.get("label", ""))
    return Labelled(settings, train, dev, guessed)


def _read(
    task_class: type[Task[Any]], request: Request, config: RunConfig, registry: Registry
) -> tuple[list[Example], list[Example], dict[str, str]]:
    if not issubclass(task_class, JointTask):
        return read_parts(task_class, request.data, request.dev, config, registry)
    parts: dict[str, tuple[list[Example], list[Example]]] = {}
    guessed: dict[str, str] = {}
    for name, own in task_class.classes.items():
        asked = request.part(name)
        log.info("%s:", name)
        learnt, chooses, columns = read_parts(own, asked.data, asked.dev, config_of(config, name), registry)
        parts[name] = learnt, chooses
        guessed |= {f"{attribute(name)}.{field}": column for field, column in columns.items()}
    for name in task_class.classes:
        parts[name] = _without_others(task_class, name, parts), parts[name][1]
    train, dev = ([TaskExample(e, n) for n, part in parts.items() for e in part[i]] for i in (0, 1))
    return list(train), list(dev), guessed


def _without_others(
    task_class: type[JointTask], name: str, parts: dict[str, tuple[list[Example], list[Example]]]
) -> list[Example]:
    """Rows of one task to learn from, without the texts that choose the best step of another."""
    learnt, text = parts[name][0], next(iter(task_class.classes[name].fields))
    for other, (_, chooses) in parts.items():
        if other == name:
            continue
        held_out = [{text: example[next(iter(task_class.classes[other].fields))]} for example in chooses]
        left = set(splits.overlap(map(Example, held_out), learnt, text=text))
        if left:
            log.info("%s: %d rows have a text of the dev part of %s, and are left out", name, len(left), other)
        if learnt and len(left) == len(learnt):
            raise DataError(
                f"{name}: all {len(left)} rows to learn from have a text of the dev part of {other}",
                f"other texts for {name}, or --dev {other}=FILE with others",
            )
        learnt = [example for i, example in enumerate(learnt) if i not in left]
    return learnt


def read_dev(task_class: type[Task[Any]], request: Request, config: RunConfig, registry: Registry) -> list[Example]:
    """The rows that choose the best step alone, as `read` gives them."""
    if not issubclass(task_class, JointTask):
        return read_dev_of(task_class, request.data, request.dev, config, registry)
    parts = {name: request.part(name) for name in task_class.classes}
    return [
        TaskExample(example, name)
        for name, asked in parts.items()
        for example in read_dev_of(task_class.classes[name], asked.data, asked.dev, config_of(config, name), registry)
    ]


def config_of(config: RunConfig, name: str) -> RunConfig:
    """The settings of a run of several tasks, as a run of one of them would have them."""
    assert isinstance(config.task, JointConfig)
    data = replace(config.data, columns=columns_of(config.data.columns, name))
    return replace(config, task=config.task.of(name), data=data)


def texts(task_class: type[Task[Any]], examples: Sequence[Example], *, written: bool = False) -> Iterator[str]:
    """Every text that the model will read, and ``written`` ones too, for a tokenizer of its own."""
    for own, rows in _by_class(task_class, examples):
        yield from texts_of(rows, own, written=written)


def unfolded(task_class: type[Task[Any]], rows: Labelled, request: Request) -> tuple[list[Example], list[Example]]:
    """What the rows of both parts stand for; where one stands for several, no text is on both sides.

    Args:
        task_class: unfolds.
        rows: as they were read.
        request: says whether they were divided here; else it is only said how many texts both have.
    """
    learnt, chooses = (list(task_class.unfold(rows.settings, part)) for part in (rows.train, rows.dev))
    if len(learnt) == len(rows.train) or issubclass(task_class, JointTask):
        return learnt, chooses
    text = next(iter(task_class.fields))
    if not request.dev:
        left = set(splits.overlap(chooses, learnt, text=text))
        if left:
            log.info("%d examples to learn from have a text that is in the dev part, too: left out", len(left))
        learnt = [example for i, example in enumerate(learnt) if i not in left]
    elif both := splits.overlap(learnt, chooses, text=text):
        log.warning("%d of %d dev texts are also in the training data: scores are too high", len(both), len(chooses))
    return learnt, chooses


def counts(task_class: type[Task[Any]], rows: Labelled) -> dict[str, dict[str, Any]]:
    """Of each of several tasks its rows in both parts, and the score that it chooses by; of a single one nothing."""
    if not issubclass(task_class, JointTask):
        return {}
    train, dev = task_class.divided(rows.train), task_class.divided(rows.dev)
    return {
        name: {"train": len(train[name]), "dev": len(dev[name]), "score": own.score}
        for name, own in task_class.classes.items()
    }


def _by_class(
    task_class: type[Task[Any]], examples: Sequence[Example]
) -> Iterable[tuple[type[Task[Any]], Sequence[Example]]]:
    if not issubclass(task_class, JointTask):
        return [(task_class, examples)]
    return [(task_class.classes[name], own) for name, own in task_class.divided(examples).items()]


def _each(
    task_class: type[Task[Any]], settings: Any, *parts: list[Example]
) -> Iterator[tuple[type[Task[Any]], TaskConfig, list[list[Example]]]]:
    """Each task with its settings and its rows of some parts."""
    if not issubclass(task_class, JointTask):
        yield task_class, settings, list(parts)
        return
    divided = [task_class.divided(part) for part in parts]
    for name, own in task_class.classes.items():
        yield own, settings.of(name), [part[name] for part in divided]
