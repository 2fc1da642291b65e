"""What hooks may return; a plugin that returns anything else is refused as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nlpkit.owners import kind
from nlpkit.plugins.installed import is_name
from nlpkit.plugins.signatures import faults, takes
from nlpkit.task import Dataset, Field, Task, TaskConfig

KINDS = {"nlpkit_tasks": "task", "nlpkit_datasets": "dataset", "nlpkit_heads": "head", "nlpkit_metrics": "metric"}
"""Hook -> what one of its results is called."""
STAGES = ("pretrain", "finetune")
_ATTRIBUTES: dict[str, tuple[type, str]] = {
    **dict.fromkeys(("defaults", "defaults_new", "defaults_public"), (Mapping, "a dict of settings by dotted key")),
    "readers": (Mapping, "a dict of readers' names by format"),
    "padding": (Mapping, "a dict such as {**nlpkit.Task.padding, 'x': 0}"),
    "score": (str, "the name of a metric"),
    "sample": (str, "the name of a dataset"),
    "sides": (str, "the name of a reader"),
}
_OF_OBJECTS = ("padding",)  # read of an object alone, so that a property serves
_ARGUMENTS = {"head": ("task", "backbone"), "metric": ("task",)}


class Rubbish(Exception):
    """A result that cannot be used; the message says what was found and what is expected."""


def check(hook: str, result: Any) -> dict[str, Any]:
    """Turn what a hook returned into name -> value.

    Raises:
        Rubbish: anything but what hookspecs.py says.
    """
    return _check_tasks(result) if hook == "nlpkit_tasks" else _check_named(hook, result)


def _check_tasks(result: Any) -> dict[str, Any]:
    if not isinstance(result, (list, tuple)):
        raise Rubbish(f"returned {kind(result)}, expected a list of task classes")
    tasks: dict[str, Any] = {}
    for task in result:
        _check_task(task)
        if tasks.setdefault(task.name, task) is not task:
            raise Rubbish(f"returned two tasks of the name '{task.name}'")
    return tasks


def _check_task(task: Any) -> None:
    if not isinstance(task, type):
        raise Rubbish(f"returned a list with {kind(task)}, expected task classes")
    if not issubclass(task, Task):
        raise Rubbish(f"returned the class {task.__name__}, which is no subclass of nlpkit.Task")
    name = getattr(task, "name", None)
    if name is None:
        raise Rubbish(f"{task.__name__} has no name")
    if not isinstance(name, str) or not _is_kebab_case(name):
        raise Rubbish(f"{task.__name__}.name is {name!a}, expected lower-case words joined by '-' or '+'")
    if task.stage not in STAGES:
        raise Rubbish(f"{task.__name__}.stage is {task.stage!a}, expected 'pretrain' or 'finetune'")
    if task.stage == "pretrain" and not hasattr(task, "encode_tokens"):
        raise Rubbish(f"{task.__name__}.stage is 'pretrain', so it must be a subclass of nlpkit.Objective")
    if missing := sorted(task.__abstractmethods__):
        raise Rubbish(f"{task.__name__} does not define {', '.join(missing)}")
    for fault in faults(task):
        raise Rubbish(fault)
    for attribute, (expected, said) in _ATTRIBUTES.items():
        value = getattr(task, attribute)
        if not isinstance(value, expected) and not (attribute in _OF_OBJECTS and hasattr(value, "__get__")):
            raise Rubbish(f"{task.__name__}.{attribute} is {kind(value)}, expected {said}")
    _check_config_class(task)
    _check_fields(task)


def _is_kebab_case(name: str) -> bool:
    return name.isascii() and name == name.lower() and all(map(str.isalnum, name.replace("+", "-").split("-")))


def _check_config_class(task: type[Task[Any]]) -> None:
    config: Any = task.config_class
    if not (isinstance(config, type) and issubclass(config, TaskConfig)):
        raise Rubbish(f"{task.__name__}.config_class is {kind(config)}, expected a subclass of nlpkit.TaskConfig")
    settings = vars(config).get("__annotations__", {})
    if "__dataclass_fields__" not in vars(config) and settings:
        raise Rubbish(f"{config.__name__} has settings of its own but lacks @dataclass")


def _check_fields(task: type[Task[Any]]) -> None:
    fields: Any = task.fields
    if not isinstance(fields, Mapping) or not fields:
        raise Rubbish(f"{task.__name__}.fields is {kind(fields)}, expected a dict of nlpkit.Field by name")
    for name, field in fields.items():
        if not isinstance(name, str) or not isinstance(field, Field):
            raise Rubbish(f"{task.__name__}.fields has {kind(field)} at {name!a}, expected an nlpkit.Field")
    if not any(field.required for field in fields.values()):
        raise Rubbish(f"{task.__name__}.fields has no field that is required, so that new texts would be empty")


def _check_named(hook: str, result: Any) -> dict[str, Any]:
    what = KINDS[hook]
    if not isinstance(result, Mapping):
        raise Rubbish(f"returned {kind(result)}, expected a dict of {what}s by name")
    for name, value in result.items():
        if not isinstance(name, str) or not is_name(name):
            raise Rubbish(f"returned a {what} of the name {name!a}, expected letters, digits, '-', '_' and '.'")
        if what == "dataset" and not isinstance(value, Dataset):
            raise Rubbish(f"dataset '{name}' is {kind(value)}, expected an nlpkit.Dataset")
        if what == "dataset" and not _are_endings(value.endings):
            raise Rubbish(f"endings of dataset '{name}' are {value.endings!a}, expected a tuple such as ('.conll',)")
        if what == "dataset" and not _are_sides(value.sides):
            raise Rubbish(f"sides of dataset '{name}' are {value.sides!a}, expected a tuple such as ('text', 'label')")
        if what != "dataset" and not callable(value):
            raise Rubbish(f"{what} '{name}' is {kind(value)}, expected a function that makes one")
        if what == "dataset" and value.read is not None and not takes(value.read, *(paths := value.sides or ("path",))):
            raise Rubbish(f"reader '{name}' cannot be called with ({', '.join(paths)})")
        if what != "dataset" and not takes(value, *_ARGUMENTS[what]):
            raise Rubbish(f"{what} '{name}' cannot be called with ({', '.join(_ARGUMENTS[what])})")
    return dict(result)


def _are_endings(given: Any) -> bool:
    lower = isinstance(given, tuple) and all(isinstance(ending, str) for ending in given)
    return lower and all(ending.startswith(".") and ending == ending.lower() for ending in given)


def _are_sides(given: Any) -> bool:
    return isinstance(given, tuple) and len(given) != 1 and all(isinstance(side, str) and side for side in given)


def offered(result: Any) -> list[str]:
    """Names in a result, good or bad, so that a later question for one of them can be answered."""
    values = result if isinstance(result, (list, tuple, Mapping)) else ()
    names = [value if isinstance(value, str) else getattr(value, "name", None) for value in values]
    return [name for name in names if isinstance(name, str)]
