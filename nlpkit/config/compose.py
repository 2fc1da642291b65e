"""The merge of all sources into one run, with the origin of each value; the only user of OmegaConf."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, OmegaConfBaseException

from nlpkit.config import yaml_files
from nlpkit.config.plain import flat, to_plain
from nlpkit.config.schema import RunConfig
from nlpkit.config.sources import Sources, Value, entry_kind
from nlpkit.config.tree import Path, Tree, default, tree_of
from nlpkit.config.values import Reference, Refused, convert
from nlpkit.errors import NlpkitError, PluginError, UsageError
from nlpkit.owners import named
from nlpkit.task import Task


@dataclass(frozen=True)
class Composed:
    """A run's settings and where each comes from.

    Args:
        config: plain dataclasses.
        origins: dotted key -> ``default``, ``task mlm``, ``run``, ``run.yaml:12``, ``command line`` or ``flag --seed``.
    """

    config: RunConfig
    origins: dict[str, str]


def compose(
    task_class: type[Task[Any]],
    *,
    defaults: Mapping[str, Any] | None = None,
    file: str | os.PathLike[str] | None = None,
    overrides: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
) -> Composed:
    """Merge the settings of a run; later sources win.

    Args:
        task_class: decides which settings ``task.*`` has, and brings defaults of its own.
        defaults: further defaults by dotted key, for what only this run knows.
        file: a YAML file, or the name of a recipe.
        overrides: ``key=value`` as typed; a text setting takes exactly what follows the first ``=``.
        flags: Python values by dotted key; None: not given.

    Raises:
        UsageError: every unknown key and every value that does not fit, all at once; or a recipe for the other stage.
        PluginError: the task's own settings or defaults are wrong.
    """
    if file is not None:
        yaml_files.check_recipe(file, "pretrain" if task_class.stage == "pretrain" else "fit")
    tree = tree_of(task_class)
    start = _check_task(task_class, tree)
    sources = Sources(tree)
    sources.add_plain(task_class.defaults, f"task {tree.task}")
    sources.add_plain(defaults or {}, "run")
    if file is not None:
        sources.add_file(file)
    sources.add_overrides(overrides)
    sources.add_flags(flags or {})
    config = _merge(task_class, sources, start)
    return Composed(config, _origins(config, sources.values))


def _check_task(task_class: type[Task[Any]], tree: Tree) -> RunConfig:
    """Make the default run; its own values and the task's must fit as a user's must."""
    start = default(task_class)
    sources = Sources(tree)
    try:
        sources.add_plain(to_plain(start), "default")
        sources.add_plain(task_class.defaults, f"task {tree.task}")
        sources.check()
    except (UsageError, TypeError) as error:
        message = error.message if isinstance(error, UsageError) else f"default: {error}"
        mend = f"mend {task_class.__module__}.{task_class.__qualname__}"
        raise PluginError(named(task_class) + message, mend) from error
    return start


def _merge(task_class: type[Task[Any]], sources: Sources, start: RunConfig) -> RunConfig:
    """Lay the values over the default run; reports what sources have collected, and references that lead nowhere."""
    texts: list[str] = []
    layer: dict[str, Any] = {}
    for value in sources.values:
        _put(layer, value.path, _hold(value.value, texts))
    merged = OmegaConf.merge(_hold(to_plain(start), texts), layer)
    assert isinstance(merged, DictConfig)
    _check_references(merged, sources, texts)
    sources.check()
    plain = _release(OmegaConf.to_container(merged, resolve=True), texts)
    return _build(task_class, sources.tree, plain)


def _put(layer: dict[str, Any], path: Path, value: Any) -> None:
    for name in path[:-1]:
        layer = layer.setdefault(name, {})
    layer[path[-1]] = value


def _hold(value: Any, texts: list[str]) -> Any:
    """Put a number in place of each text, for OmegaConf reads ``???`` and ``${...}`` in texts as its own."""
    if isinstance(value, Mapping):
        return {key: _hold(inner, texts) for key, inner in value.items()}
    if isinstance(value, list):
        return [_hold(inner, texts) for inner in value]
    if isinstance(value, str) and not isinstance(value, Reference):
        texts.append(value)
        return f"text {len(texts) - 1}"
    return str(value) if isinstance(value, Reference) else value


def _release(value: Any, texts: list[str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _release(inner, texts) for key, inner in value.items()}
    if isinstance(value, list):
        return [_release(inner, texts) for inner in value]
    return texts[int(value.removeprefix("text "))] if isinstance(value, str) else value


def _check_references(merged: DictConfig, sources: Sources, texts: list[str]) -> None:
    """Follow every reference that has not been overridden; what it leads to must fit like any value."""
    last = {value.path: value for value in sources.values}
    for value in last.values():
        if not _refers(value.value):
            continue
        try:
            node: Any = merged
            for name in value.path:
                node = node[name]
            found = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
            convert(_release(found, texts), value.kind)
        except OmegaConfBaseException as error:
            what = "refers to no setting" if isinstance(error, InterpolationKeyError) else "refers to itself"
            _report(value, f"is {_spelled(value.value)}, which {what}", sources)
        except Refused as refused:
            _report(value, f"({_spelled(value.value)}) {refused.reason}", sources)


def _refers(value: Any) -> bool:
    return isinstance(value, Reference) or (isinstance(value, list) and any(map(_refers, value)))


def _spelled(value: Any) -> str:
    return f"[{', '.join(value)}]" if isinstance(value, list) else f"'{value}'"


def _report(value: Value, reason: str, sources: Sources) -> None:
    sources.problems.append(
        (f"{value.origin}: {value.key} {reason}", "write ${section.name} of a setting that has a value")
    )


def _build(task_class: type[Task[Any]], tree: Tree, plain: Mapping[str, Any]) -> RunConfig:
    """Make the dataclasses from checked values, numbers in the type of their setting."""

    def make(path: Path, inner: Mapping[str, Any]) -> Any:
        values = {
            name: make((*path, name), value) if (*path, name) in tree.sections else _typed(tree, (*path, name), value)
            for name, value in inner.items()
        }
        return _call(tree.sections[path], path, values)

    run = make((), plain)
    assert isinstance(run, RunConfig)
    return run


def _typed(tree: Tree, path: Path, value: Any) -> Any:
    setting = tree.settings[path]
    if setting.kind.name == "dict":
        return {entry: convert(inner, entry_kind(setting, entry)) for entry, inner in value.items()}
    return convert(value, setting.kind)


def _call(cls: type, path: Path, values: dict[str, Any]) -> Any:
    """Make one section; a check of its own may refuse values that fit one by one."""
    try:
        return cls(**values)
    except NlpkitError:
        raise
    except ValueError as error:
        key = ".".join(path)
        raise UsageError(f"{key}: {error}", f"change a setting that begins with {key}.") from error


def _origins(config: RunConfig, values: Sequence[Value]) -> dict[str, str]:
    """The origin of every setting, and of every entry of those that are dicts."""
    given = {value.key: value.origin for value in values}
    return {key: given.get(key, "default") for key, _ in flat(to_plain(config))}


def from_plain(task_class: type[Task[Any]], plain: Mapping[str, Any], *, where: str = "settings") -> RunConfig:
    """Make a run's settings from what ``to_plain`` gave; what is absent has its default.

    Args:
        task_class: the task of the run; its ``defaults`` are not looked at.
        plain: nested sections.
        where: the source's name for messages.

    Raises:
        UsageError: every unknown key and every value that does not fit, all at once.
    """
    sources = Sources(tree_of(task_class))
    sources.add_plain(plain, where)
    return _restore(task_class, sources)


def load(task_class: type[Task[Any]], path: str | os.PathLike[str]) -> RunConfig:
    """Read a run's settings as ``save`` wrote them; what is absent has its default.

    Raises:
        UsageError: the file cannot be read, or every problem in it at once.
    """
    sources = Sources(tree_of(task_class))
    sources.add_file(path)
    return _restore(task_class, sources)


def _restore(task_class: type[Task[Any]], sources: Sources) -> RunConfig:
    """Build the run, with no entries beside those that a saved dict had."""
    start = default(task_class)
    for path in sources.dicts:
        owner: Any = start
        for name in path[:-1]:
            owner = getattr(owner, name)
        setattr(owner, path[-1], {})
    return _merge(task_class, sources, start)
