"""Whose code is whose: the plugin that a module belongs to, which is told when the plugin is loaded."""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType
from typing import Any, TypeVar

from nlpkit.errors import PluginError

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])
FED_BY: dict[CodeType, tuple[str, ...]] = {}
"""Functions of ours by their code -> the methods of a task whose results they work on, the nearest first."""
_owners: dict[str, str] = {}
_FOR_THE_AUTHOR = "this is for the plugin's author; nlpkit.testing.check_task tries a task in all its parts"


def claim(module: str, plugin: str) -> None:
    """Remember that a module, and what lies beside it in its package, is of a plugin.

    Args:
        module: dotted name.
        plugin: for messages, such as ``'emotion' (nlpkit-emotion 0.3.0)``.
    """
    _owners[module] = plugin
    _owners.setdefault(module.partition(".")[0], plugin)


def owner_of(module: str) -> str:
    """The plugin of a module, as it was claimed; empty: it is of none."""
    while module not in _owners and "." in module:
        module = module.rpartition(".")[0]
    return _owners.get(module, "")


def fed_by(*methods: str) -> Callable[[FunctionT], FunctionT]:
    """Mark a function of ours that works on what these methods of a task give: where it cannot, they are named."""

    def marked(function: FunctionT) -> FunctionT:
        FED_BY[function.__code__] = methods
        return function

    return marked


def named(cls: type) -> str:
    """How a message about a class begins: with its plugin, if it is of one."""
    plugin = owner_of(cls.__module__)
    return f"plugin {plugin}: " if plugin else ""


def useless(cls: type, method: str, what: str) -> PluginError:
    """The error of a method whose result cannot be used.

    Args:
        cls: of the object that was asked.
        method: its name.
        what: it gives, and what was expected.
    """
    defined = next((base for base in cls.__mro__ if method in vars(base)), cls)
    name = f"{defined.__qualname__}.{method}".replace(".<locals>", "")
    return PluginError(f"{named(defined)}{name} {what}", _FOR_THE_AUTHOR)


def kind(value: object) -> str:
    """What a value is, for messages: ``None``, ``a list``, ``the class Emotion``."""
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
