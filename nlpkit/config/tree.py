"""The tree of settings of one task: which keys there are, of which type, and what an unknown one was meant to be."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nlpkit.config import lightning
from nlpkit.config.kinds import Kind, kind_of
from nlpkit.config.schema import RunConfig
from nlpkit.errors import PluginError
from nlpkit.owners import named
from nlpkit.task import Task, TaskConfig

Path = tuple[str, ...]
_OTHER_WORDS = {"lr": "learning_rate", "epochs": "max_epochs", "steps": "max_steps"}  # too short to be near anything
COLUMNS: Path = ("data", "columns")


@dataclass(frozen=True)
class Setting:
    """One setting.

    Args:
        path: section names and its own.
        kind: its type.
        owner: the dataclass that declares it.
    """

    path: Path
    kind: Kind
    owner: type

    @property
    def key(self) -> str:
        """The dotted key that users type."""
        return ".".join(self.path)


@dataclass(frozen=True)
class Tree:
    """All settings of a task, in the order of the schema.

    Args:
        task: the task's name.
        sections: path -> dataclass, the root included.
        settings: path -> setting.
        fields: names of the task's fields, which data.columns may name.
        stage: of the task.
    """

    task: str
    sections: Mapping[Path, type]
    settings: Mapping[Path, Setting]
    fields: tuple[str, ...]
    stage: str = "finetune"

    def normalise(self, path: Path) -> Path:
        """Write out the short forms: data.text is data.columns.text where text is a field of the task.

        Likewise trainer.profiler is trainer.lightning.profiler, and so with all that Lightning's Trainer takes.
        """
        if len(path) < 2 or path in self.settings:
            return path
        if path[0] == "data" and (name := ".".join(path[1:])) in self.fields:
            return (*COLUMNS, name)
        if len(path) == 2 and path[0] == lightning.SECTION[0] and path[1] in lightning.options():
            return (*lightning.SECTION, path[1])
        return path

    def find(self, path: Path) -> tuple[Setting, str | None] | None:
        """Find the setting that a path means, and the name of the entry where the setting is a dict."""
        for length in range(len(path), 0, -1):
            setting = self.settings.get(path[:length])
            entry = ".".join(path[length:]) if path[length:] else None
            if setting is not None and self._takes(setting, entry):
                return setting, entry
        return None

    def _takes(self, setting: Setting, entry: str | None) -> bool:
        if entry is None:
            return True
        known = {COLUMNS: self.fields, lightning.SECTION: lightning.options()}.get(setting.path)
        return setting.kind.name == "dict" and (known is None or entry in known)

    def keys(self) -> list[str]:
        """Every key that can be named in advance, entries of data.columns and of trainer.lightning included."""
        columns = [".".join((*COLUMNS, name)) for name in self.fields]
        lightnings = [f"trainer.{name}" for name in (*lightning.options(), *lightning.DECIDED)]
        return [*(setting.key for setting in self.settings.values()), *columns, *lightnings]

    def suggest(self, key: str) -> str:
        """Say which setting was probably meant, as a hint."""
        section, _, name = key.rpartition(".")
        if section in ("trainer", "trainer.lightning") and name in lightning.DECIDED:
            return f"nlpkit decides it: {lightning.DECIDED[name]}"
        near = self._nearest(key)
        if instead := lightning.DECIDED.get(near.removeprefix("trainer.")):
            return f"did you mean '{near}'? nlpkit decides it: {instead}"
        return f"did you mean '{near}'? {self.listing}" if near else self.listing

    @property
    def listing(self) -> str:
        """The command that lists every setting, as a hint."""
        task = f" --{'objective' if self.stage == 'pretrain' else 'task'} {self.task}" if self.task else ""
        return f"nlpkit config docs{task} lists every setting"

    def _nearest(self, key: str) -> str:
        """The likeliest key: by its last name within its section, then anywhere, then as a whole."""
        section, _, name = key.rpartition(".")
        name = _OTHER_WORDS.get(name, name)
        names: dict[str, str] = {}
        for known in self.keys():
            names.setdefault(known.rpartition(".")[2], known)
        every = [*(f"data.{name}" for name in self.fields), *self.keys()]
        inside = {known.rpartition(".")[2]: known for known in every if known.rpartition(".")[0] == section}
        whole = {known: known for known in self.keys()}
        for asked, candidates in ((name, inside), (name, names), (key, whole)):
            if match := difflib.get_close_matches(asked, candidates, n=1, cutoff=0.6):
                return candidates[match[0]]
        return ""


def tree_of(task_class: type[Task[Any]]) -> Tree:
    """Read the settings of a run of this task from the dataclasses.

    Raises:
        PluginError: the task's config class has a type that settings cannot have.
    """
    sections: dict[Path, type] = {}
    settings: dict[Path, Setting] = {}
    _grow((), RunConfig, task_class.config_class, sections, settings)
    return Tree(getattr(task_class, "name", ""), sections, settings, task_class.named_columns(), task_class.stage)


def _grow(
    path: Path, cls: type, task_config: type[TaskConfig], sections: dict[Path, type], settings: dict[Path, Setting]
) -> None:
    sections[path] = cls
    hints = _hints(cls)
    for field in dataclasses.fields(cls):
        inner, hint = (*path, field.name), hints[field.name]
        hint = task_config if inner == ("task",) else hint
        if dataclasses.is_dataclass(hint):
            _grow(inner, typing.cast(type, hint), task_config, sections, settings)
        else:
            settings[inner] = Setting(inner, _kind(cls, field.name, hint, field.metadata), cls)


def _hints(cls: type) -> dict[str, Any]:
    if not dataclasses.is_dataclass(cls) or "__dataclass_fields__" not in vars(cls):
        raise PluginError(f"{named(cls)}{_name(cls)} is no dataclass", "write @dataclass above the class")
    try:
        return typing.get_type_hints(cls)
    except NameError as error:
        raise PluginError(
            f"{named(cls)}{_name(cls)} has a type that is not defined: {error}", "import it above the class"
        ) from error


def _kind(cls: type, name: str, hint: Any, limits: Mapping[str, Any]) -> Kind:
    try:
        return kind_of(hint, limits)
    except TypeError as error:
        found = getattr(hint, "__name__", str(hint)) if isinstance(hint, type) else str(hint)
        types = (
            "str, int, float, bool, Literal, list[...] or dict[str, ...] of these, or a union of them, None included"
        )
        what = f"{named(cls)}{_name(cls)}.{name} has the type {found}, which a setting cannot have"
        raise PluginError(what, types) from error


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def default(task_class: type[Task[Any]]) -> RunConfig:
    """The run as it is without a word from anyone.

    Raises:
        PluginError: a setting of the task has no default.
    """
    try:
        return RunConfig(task=task_class.config_class())
    except (TypeError, ValueError) as error:
        config = task_class.config_class
        raise PluginError(
            f"{named(config)}{_name(config)} cannot be made without arguments: {error}", "give every setting a default"
        ) from error
