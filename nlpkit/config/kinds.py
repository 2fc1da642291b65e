"""The type of a setting, read from its annotation, and how it is called in tables and messages."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Union, get_args, get_origin

LIMITS = {"above": "above {}", "at_least": "at least {}", "below": "below {}", "at_most": "at most {}"}
WORDS = {"str": "text", "int": "a whole number", "float": "a number", "bool": "true or false"}


@dataclass(frozen=True)
class Kind:
    """The type of one setting.

    Args:
        name: str, int, float, bool, choice, list or dict.
        optional: whether None is a value.
        choices: the values of a choice.
        item: the type of what a list or dict holds.
        limits: ``above``, ``at_least``, ``below`` and ``at_most`` of a number.
    """

    name: str
    optional: bool = False
    choices: tuple[Any, ...] = ()
    item: Kind | None = None
    limits: Mapping[str, float] = field(default_factory=dict)

    @property
    def type(self) -> str:
        """The type in the spelling of Python, for tables."""
        name = "str" if self.name == "choice" and all(isinstance(c, str) for c in self.choices) else self.name
        name = "int" if name == "choice" else name
        inner = self.item.type if self.item else ""
        name = {"list": f"list[{inner}]", "dict": f"dict[str, {inner}]"}.get(name, name)
        return f"{name} or none" if self.optional else name

    @property
    def allowed(self) -> str:
        """The choices or limits in words; empty: any value of the type."""
        if self.item:
            return self.item.allowed
        if self.choices:
            return ", ".join(str(choice) for choice in self.choices)
        return " and ".join(LIMITS[name].format(limit) for name, limit in self.limits.items())

    @property
    def expected(self) -> str:
        """What is asked for, at the end of a sentence."""
        if self.name == "list":
            words = "a list like [a, b]"
        elif self.name == "dict":
            words = "names with values"
        elif self.name == "choice":
            words = "one of " + ", ".join(f"'{choice}'" for choice in self.choices)
        else:
            limits = f"of {self.allowed}" if self.allowed.startswith("at ") else self.allowed
            words = f"{WORDS[self.name]} {limits}".rstrip()
        return f"{words} or none" if self.optional else words


def kind_of(hint: Any, limits: Mapping[str, Any] = types.MappingProxyType({})) -> Kind:
    """Read a field's type.

    Args:
        hint: the resolved annotation.
        limits: the field's metadata; what is no limit is passed over.

    Raises:
        TypeError: a type that settings cannot have.
    """
    known = {name: limit for name, limit in limits.items() if name in LIMITS}
    members = [hint]
    if get_origin(hint) in (Union, types.UnionType):
        members = [member for member in get_args(hint) if member is not type(None)]
    if len(members) != 1:
        raise TypeError(hint)
    optional = members[0] is not hint
    name, choices, item = _parts(members[0], known)
    if None in choices:
        optional, choices = True, tuple(choice for choice in choices if choice is not None)
    return Kind(name, optional, choices, item, known if name in ("int", "float") else {})


def _parts(hint: Any, limits: Mapping[str, Any]) -> tuple[str, tuple[Any, ...], Kind | None]:
    """Name, choices and item type of an annotation without None."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal and all(choice is None or type(choice) in (str, int) for choice in arguments):
        return "choice", arguments, None
    if origin is list or (origin is dict and arguments[0] is str):
        item = kind_of(arguments[-1], limits)
        if item.name not in ("list", "dict"):
            return origin.__name__, (), item
    if hint in (str, int, float, bool):
        return hint.__name__, (), None
    raise TypeError(hint)
