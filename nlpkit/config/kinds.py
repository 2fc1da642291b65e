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
        name: str, int, float, bool, choice, list, dict or either.
        optional: whether None is a value.
        choices: the values of a choice.
        item: the type of what a list or dict holds.
        limits: ``above``, ``at_least``, ``below`` and ``at_most`` of a number.
        alternatives: the types that ``either`` may be; the first that a value fits is its own.
    """

    name: str
    optional: bool = False
    choices: tuple[Any, ...] = ()
    item: Kind | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    alternatives: tuple[Kind, ...] = ()

    @property
    def type(self) -> str:
        """The type in the spelling of Python, for tables."""
        name = "str" if self.name == "choice" and all(isinstance(c, str) for c in self.choices) else self.name
        name = "int" if name == "choice" else name
        inner = self.item.type if self.item else ""
        name = {"list": f"list[{inner}]", "dict": f"dict[str, {inner}]"}.get(name, name)
        name = " or ".join(one.type for one in self.alternatives) or name
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
        if self.alternatives:
            words = " or ".join(one.expected for one in self.alternatives)
        elif self.name == "list":
            words = "a list like [a, b]"
        elif self.name == "dict":
            words = "names with values"
        elif self.name == "choice":
            words = ("one of " if len(self.choices) > 1 else "") + ", ".join(f"'{choice}'" for choice in self.choices)
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
    optional = type(None) in get_args(hint) and members != [hint]
    if len(members) > 1:
        parts = sorted((kind_of(member, limits) for member in members), key=_order)
        return Kind("either", optional, alternatives=tuple(parts))
    name, choices, item = _parts(members[0], known)
    if None in choices:
        optional, choices = True, tuple(choice for choice in choices if choice is not None)
    return Kind(name, optional, choices, item, known if name in ("int", "float") else {})


def _order(kind: Kind) -> int:
    """Where a type stands among others that a text may spell: any text is a text, and a whole number is a number."""
    names = ("bool", "int", "float", "choice", "str")
    return names.index(kind.name) if kind.name in names else 0


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
