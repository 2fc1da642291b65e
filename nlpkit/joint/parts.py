"""The parts of a task: of several on one backbone each, by its name; of a single one the task itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from nlpkit.joint.task import JointTask, TaskExample
from nlpkit.task import Example, Features, Task


def classes_in(task_class: type[Task[Any]]) -> Mapping[str, type[Task[Any]]]:
    """The classes of the parts."""
    return task_class.classes if issubclass(task_class, JointTask) else {task_class.name: task_class}


def tasks_in(task: Task[Any]) -> Mapping[str, Task[Any]]:
    """The parts."""
    return task.parts if isinstance(task, JointTask) else {task.name: task}


def features_in(task: Task[Any], features: Features) -> Iterator[tuple[Task[Any], Features]]:
    """The parts that have encoded an example, and what each has made of it."""
    if not isinstance(task, JointTask):
        yield task, features
        return
    for name, own in features.items():
        yield task.parts[name], own


def divided(task_class: type[Task[Any]], examples: Iterable[Example]) -> dict[str, list[Example]]:
    """Examples by part, each in its order."""
    if not issubclass(task_class, JointTask):
        return {task_class.name: list(examples)}
    return task_class.divided(examples)


def together(task_class: type[Task[Any]], parts: Mapping[str, Sequence[Example]]) -> list[Example]:
    """The examples of all parts, as `divided` divides them."""
    if not issubclass(task_class, JointTask):
        return list(parts[task_class.name])
    return [TaskExample(example, name) for name, own in parts.items() for example in own]
