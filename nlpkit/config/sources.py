"""From where settings come: each source becomes a list of typed values, and every mistake in it is collected."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nlpkit.config import lightning, yaml_files
from nlpkit.config.kinds import Kind
from nlpkit.config.tree import Path, Setting, Tree
from nlpkit.config.values import Refused, Text, convert, shown
from nlpkit.config.yaml_files import Node
from nlpkit.errors import UsageError

COMMAND_LINE = "command line"


@dataclass(frozen=True)
class Value:
    """A setting's value from one source.

    Args:
        setting: which setting.
        entry: which entry of it, where it is a dict; None: the setting itself.
        value: of the setting's type, or a Reference.
        origin: the source in words.
    """

    setting: Setting
    entry: str | None
    value: Any
    origin: str

    @property
    def path(self) -> Path:
        """Where the value stands in the tree; the entry is one step, dots included."""
        return self.setting.path if self.entry is None else (*self.setting.path, self.entry)

    @property
    def key(self) -> str:
        """The dotted key."""
        return ".".join(self.path)

    @property
    def kind(self) -> Kind:
        """The type of the value: of an entry, that of the dict's items."""
        return entry_kind(self.setting, self.entry)


def entry_kind(setting: Setting, entry: str | None) -> Kind:
    """The type of a setting, or of the items of a dict where an entry is meant."""
    if entry is None or setting.kind.item is None:
        return setting.kind
    return lightning.options()[entry] if setting.path == lightning.SECTION else setting.kind.item


@dataclass
class Sources:
    """Collects values and problems.

    Args:
        tree: the settings there are.
        values: what fits, in the order of the sources.
        dicts: the settings that a source gave as a dict, not entry by entry.
        problems: what does not fit, each with its hint.
    """

    tree: Tree
    values: list[Value] = field(default_factory=list)
    dicts: set[Path] = field(default_factory=set)
    problems: list[tuple[str, str]] = field(default_factory=list)

    def add_plain(self, plain: Mapping[str, Any], origin: str) -> None:
        """Add Python values by dotted key or in nested sections."""
        self._add_section((), plain, origin)

    def add_flags(self, flags: Mapping[str, Any]) -> None:
        """Add the values of flags by dotted key; None: the flag was not given."""
        for key, value in flags.items():
            if value is not None:
                self._add(tuple(key.split(".")), value, f"flag --{key.rpartition('.')[2].replace('_', '-')}")

    def add_file(self, path: str | os.PathLike[str]) -> None:
        """Add a YAML file or a recipe; a setting that it names twice is a problem."""
        name = yaml_files.printable(path)
        before = len(self.values)
        self._add_section((), yaml_files.read(path), name)
        seen: dict[Path, Value] = {}
        for value in self.values[before:]:
            first = seen.setdefault(value.path, value)
            if first is not value:
                line = first.origin.rpartition(":")[2]
                problem = f"{value.origin}: {value.key} is given twice, first on line {line}"
                self.problems.append((problem, "leave one of them out"))

    def add_overrides(self, overrides: Sequence[str]) -> None:
        """Add ``key=value`` arguments."""
        for argument in overrides:
            key, equals, text = argument.partition("=")
            if equals:
                self._add(tuple(key.strip().split(".")), Text(text), COMMAND_LINE)
            else:
                problem = f"{COMMAND_LINE}: {shown(argument)} is no setting, expected KEY=VALUE"
                self.problems.append((problem, self.tree.suggest(argument)))

    def check(self) -> None:
        """Raise every problem that was collected.

        Raises:
            UsageError: there is at least one.
        """
        if len(self.problems) == 1:
            problem, hint = self.problems[0]
            raise UsageError(problem, hint or self.tree.listing)
        if self.problems:
            hints = [hint.removesuffix(self.tree.listing).rstrip() for _, hint in self.problems]
            lines = [
                f"{problem} ({hint})" if hint else problem
                for (problem, _), hint in zip(self.problems, hints, strict=True)
            ]
            raise UsageError(f"{len(lines)} problems in the settings\n  " + "\n  ".join(lines), self.tree.listing)

    def _add(self, path: Path, value: Any, origin: str) -> None:
        """Add what a source says of one path: a section is taken apart, a setting converted."""
        path = self.tree.normalise(path)
        found = self.tree.find(path)
        if path in self.tree.sections:
            self._add_section(path, value, origin)
        elif found is None:
            key = ".".join(path)
            self.problems.append((f"{origin}: no setting {shown(key)}", self.tree.suggest(key)))
        else:
            self._add_setting(path, *found, value, origin)

    def _add_section(self, path: Path, value: Any, origin: str) -> None:
        if isinstance(value, Mapping):
            for name, inner in value.items():
                self._add((*path, *str(name).split(".")), *_located(inner, origin))
        elif value != Text("", plain=True):
            key = ".".join(path)
            names = ", ".join(setting.key for setting in self.tree.settings.values() if setting.path[:-1] == path)
            self.problems.append((f"{origin}: {key} is a section, not one value", f"its settings are {names}"))

    def _add_setting(self, path: Path, setting: Setting, entry: str | None, value: Any, origin: str) -> None:
        if entry is not None or setting.kind.name != "dict":
            self._convert(setting, entry, value, origin)
        elif isinstance(value, Mapping):
            self.dicts.add(path)
            for name, inner in value.items():
                self._add((*path, str(name)), *_located(inner, origin))
        elif value != Text("", plain=True):
            problem = f"{origin}: {setting.key} is {shown(value)}, expected {setting.kind.expected}"
            self.problems.append((problem, f"write {setting.key}.NAME=VALUE"))

    def _convert(self, setting: Setting, entry: str | None, value: Any, origin: str) -> None:
        try:
            converted = convert(_bare(value), entry_kind(setting, entry))
        except Refused as refused:
            key = setting.key if entry is None else f"{setting.key}.{entry}"
            self.problems.append((f"{origin}: {key} {refused.reason}", refused.hint))
        else:
            self.values.append(Value(setting, entry, converted, origin))


def _located(value: Any, origin: str) -> tuple[Any, str]:
    """The value and its line, where it comes from a file; else as they are."""
    return (value.value, value.where) if isinstance(value, Node) else (value, origin)


def _bare(value: Any) -> Any:
    """A list of nodes as the list of their values."""
    if isinstance(value, list | tuple):
        return [_bare(item.value if isinstance(item, Node) else item) for item in value]
    return value
