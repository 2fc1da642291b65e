"""The labelled rows of a fit, divided and checked: of one task, or of each of several that share a model."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nlpkit import given, splits
from nlpkit.config import RunConfig
from nlpkit.errors import DataError
from nlpkit.examples import check_parts, read_parts, texts_of
from nlpkit.examples import read_dev as read_dev_of
from nlpkit.joint.config import configs_of, with_configs
from nlpkit.joint.names import attribute, columns_of, group_of
from nlpkit.joint.parts import classes_in, divided, together
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

    Of several tasks each is read and divided as by itself, but that none learns from what another holds out.

    Raises:
        DataError: no labels, one class only, or a class that the dev part lacks.
    """
    parts: dict[str, _Part] = {}
    guessed: dict[str, str] = {}
    for name, own in classes_in(task_class).items():
        if own is not task_class:
            log.info("%s:", name)
        mine, asked = config_of(config, name), request.part(name)
        learnt, chooses, columns = read_parts(own, asked.data, asked.dev, mine, registry)
        parts[name] = _Part(own, mine, learnt, chooses)
        prefix = "" if own is task_class else f"{attribute(name)}."
        guessed |= {prefix + field: column for field, column in columns.items()}
    train: dict[str, list[Example]] = {}
    settings: dict[str, TaskConfig] = {}
    for name, part in parts.items():
        own, before = part.task_class, part.config.task
        train[name] = given.examples(own, "select", before, _without_others(name, parts))
        settings[name] = given.settings(own, before, train[name])
        column = part.config.data.columns.get("label", "")
        check_parts(own, train[name], part.chooses, settings[name].labels, column)
    dev = together(task_class, {name: part.chooses for name, part in parts.items()})
    return Labelled(with_configs(config.task, settings), together(task_class, train), dev, guessed)


@dataclass(frozen=True)
class _Part:
    """The rows of one task: to learn from, and those that choose the best step."""

    task_class: type[Task[Any]]
    config: RunConfig
    learnt: list[Example]
    chooses: list[Example]

    def keys(self, example: Example) -> set[int]:
        """What it may have in common with none that another task holds out: its texts, and its group."""
        texts = [name for name, field in self.task_class.fields.items() if field.required]
        return splits.keys(example, texts, self.config.data.group)


def _without_others(name: str, parts: Mapping[str, _Part]) -> list[Example]:
    """Rows of one task to learn from, without the texts and the groups that another holds out."""
    part, others = parts[name], {other: part for other, part in parts.items() if other != name}
    if not others:
        return part.learnt
    learnt = [(example, part.keys(example)) for example in part.learnt]
    what = f"a text or the '{part.config.data.group}'" if part.config.data.group else "a text"
    for other, held_out in others.items():
        theirs = {key for example in held_out.chooses for key in held_out.keys(example)}
        kept = [(example, keys) for example, keys in learnt if not keys & theirs]
        if left := len(learnt) - len(kept):
            log.info("%s: %d rows have %s of the dev part of %s, and are left out", name, left, what, other)
        if left and not kept:
            raise DataError(
                f"{name}: all {left} rows to learn from have {what} of the dev part of {other}",
                f"other texts for {name}, or --dev {other}=FILE with others",
            )
        learnt = kept
    return [example for example, _ in learnt]


def read_dev(task_class: type[Task[Any]], request: Request, config: RunConfig, registry: Registry) -> list[Example]:
    """The rows that choose the best step alone, as `read` gives them."""
    parts = {}
    for name, own in classes_in(task_class).items():
        asked = request.part(name)
        parts[name] = read_dev_of(own, asked.data, asked.dev, config_of(config, name), registry)
    return together(task_class, parts)


def config_of(config: RunConfig, name: str) -> RunConfig:
    """The settings of a run, as a run of one of its tasks alone would have them: of a single one all."""
    own, columns = configs_of(config.task).get(name), config.data.columns
    if own is None:
        return config
    data = replace(config.data, columns=columns_of(columns, name), group=group_of(columns, name, config.data.group))
    return replace(config, task=own, data=data)


def texts(task_class: type[Task[Any]], examples: Sequence[Example], *, written: bool = False) -> Iterator[str]:
    """Every text that the model will read, and ``written`` ones too, for a tokenizer of its own."""
    classes = classes_in(task_class)
    for name, rows in divided(task_class, examples).items():
        yield from texts_of(rows, classes[name], written=written)


def unfolded(task_class: type[Task[Any]], rows: Labelled, request: Request) -> tuple[list[Example], list[Example]]:
    """What the rows of both parts stand for; where one stands for several, no text is on both sides.

    Args:
        task_class: unfolds.
        rows: as they were read.
        request: says whether they were divided here; else it is only said how many texts both have.
    """
    learnt, chooses = (given.examples(task_class, "unfold", rows.settings, part) for part in (rows.train, rows.dev))
    if len(learnt) == len(rows.train):
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
    classes = classes_in(task_class)
    train, dev = divided(task_class, rows.train), divided(task_class, rows.dev)
    return {
        name: {"train": len(train[name]), "dev": len(dev[name]), "score": own.score}
        for name, own in classes.items()
        if own is not task_class
    }
