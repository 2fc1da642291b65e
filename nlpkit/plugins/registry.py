"""Look-ups by name over all plugins; a failed one says what was asked, what is near, and how to repair it."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

from nlpkit.errors import PluginError, UsageError, nearest
from nlpkit.plugins.installed import CORE, PACKAGE, Plugin, Problem, find_installed
from nlpkit.plugins.selection import BY_ENVIRONMENT, BY_SWITCH, Selection

if TYPE_CHECKING:
    from nlpkit.plugins.loading import Loaded
    from nlpkit.task import Dataset, Task

Kind = Literal["task", "dataset", "head", "metric"]
Stage = Literal["pretrain", "finetune"]
_WORD = {"finetune": "task", "pretrain": "objective"}
_COMMAND = {"finetune": "nlpkit fit --task", "pretrain": "nlpkit pretrain --objective"}
_LONG = 5.0  # seconds that a plugin may take before its user is told who lets them wait
_MISSING = re.compile(r"ModuleNotFoundError: No module named '(\w+)'")  # not of a.b, which is missing in a
_said: set[str] = set()
_OWN = {name: f"nlpkit-{name}" for name in ("sentiment", "ner", "translation")}


class Registry:
    """All plugins of this installation, plus files; nothing is imported before something is asked for.

    Args:
        files: paths of plugins that are not installed, files or folders; one of them that is broken is an error,
            because it was asked for.
        enabled: names of plugins or distributions to use, besides the core's own; an empty one: only the core's.
            None: what the environment variable NLPKIT_PLUGINS says, or all that are not switched off.
        warn: is told which plugins are left out; None: the log.
        watched: also find out what plugins change for the whole process as they are imported.
    """

    def __init__(
        self,
        files: Sequence[str] = (),
        enabled: Collection[str] | None = None,
        warn: Callable[[str], None] | None = None,
        watched: bool = False,
    ) -> None:
        self._installed, self._metadata_problems = find_installed()
        named = map(Plugin.of_file, files)
        self._files = list({os.path.realpath(plugin.value): plugin for plugin in named}.values())
        self.selection = Selection.of_user() if enabled is None else Selection(only=enabled)
        self._warn = warn or _log
        self._watched = watched
        self._loaded: list[Loaded] | None = None
        self._joined: dict[tuple[str, ...], type[Task[Any]]] = {}

    def plugins(self) -> list[Plugin]:
        """The plugins that are in use, by metadata alone."""
        return [plugin for plugin, why_not in self.installed() if not why_not]

    def installed(self) -> list[tuple[Plugin, str]]:
        """Every plugin, files included, and what leaves it out, if anything does; by metadata alone.

        A file that is the module of an installed plugin, as it is or as it is being written, leaves that out.
        """
        return [(plugin, self._why_not(plugin)) for plugin in (*self._installed, *self._files)]

    def _why_not(self, plugin: Plugin) -> str:
        instead = next((file for file in self._files if file.is_module_of(plugin)), None)
        return f"--plugin {instead.value}" if instead else self.selection.why_not(plugin)

    def loaded(self) -> list[Loaded]:
        """Import every plugin in use, once; broken ones are in the list with their problem.

        Raises:
            PluginError: the environment names a plugin that is not installed.
            UsageError: two files have one name.
        """
        if self._loaded is None:
            from nlpkit.plugins.loading import load

            self.selection.check(self._installed)
            for plugin, why_not in self.installed():
                if why_not.startswith("--plugin "):
                    import logging

                    logging.getLogger("nlpkit").info("%s counts instead of the installed plugin %s", why_not, plugin)
            self._check_files()
            self._loaded = [load(plugin, self._watched) for plugin in self.plugins()]
        return self._loaded

    def _check_files(self) -> None:
        """Files are told apart by their names: as modules, and when a run is gone on with."""
        named: dict[str, Plugin] = {}
        for plugin in self._files:
            if (other := named.setdefault(plugin.name, plugin)) is not plugin:
                both = f"--plugin {other.value} and --plugin {plugin.value}"
                raise UsageError(f"{both} are both called '{plugin.name}'", "rename one, or leave one out")

    def problems(self) -> list[Problem]:
        """Everything that is wrong with the plugins in use."""
        broken = [one.problem for one in self.loaded() if one.problem]
        metadata = [problem for problem in self._metadata_problems if not self.selection.why_not(problem.plugin)]
        return [*metadata, *broken, *self._clashes()]

    def _clashes(self) -> list[Problem]:
        return [
            Problem(owners[-1], "clash", f"{kind} '{name}' is also registered by {' and '.join(map(str, owners[:-1]))}")
            for kind, named in self._registered.items()
            for name, entries in named.items()
            if len(owners := [plugin for plugin, _ in entries]) > 1
        ]

    @functools.cached_property
    def _registered(self) -> dict[Kind, dict[str, list[tuple[Plugin, Any]]]]:
        """Kind -> name -> plugins with what they register so; two entries for one and the same object count as one."""
        registered: dict[Kind, dict[str, list[tuple[Plugin, Any]]]] = {kind: {} for kind in get_args(Kind)}
        for one in self.loaded():
            for kind, named in registered.items():
                for name, value in one.values.get(kind, {}).items():
                    entries = named.setdefault(name, [])
                    if all(value is not other for _, other in entries):
                        entries.append((one.plugin, value))
        return registered

    @functools.cached_property
    def _found(self) -> dict[Kind, dict[str, Any]]:
        """Kind -> name -> value for all names that have one owner; says which plugins are left out."""
        for one in self.loaded():
            if one.problem and not one.plugin.distribution:
                raise _with_lines(_sentence(one.problem), _of_file(one.problem), one.problem)
        self._report()
        return {
            kind: {name: entries[0][1] for name, entries in reversed(named.items()) if len(entries) == 1}
            for kind, named in self._registered.items()
        }

    def _report(self) -> None:
        for problem in self.problems():
            left_out = "" if problem.moment in ("clash", "metadata") else "left out: "
            self._warn_once(f"{left_out}{problem}")
        for one in self.loaded():
            if one.seconds > _LONG:
                self._warn_once(f"plugin {one.plugin}: import: takes {one.seconds:.1f} seconds")

    def _warn_once(self, text: str) -> None:
        if text not in _said:
            _said.add(text)
            self._warn(f"{text}; see nlpkit plugins doctor")

    def tasks(self, stage: Stage | None = None) -> dict[str, type[Task[Any]]]:
        """Tasks by name, sorted, of one stage or of both; names that two plugins claim are left out."""
        found = self._found["task"]
        return {name: found[name] for name in sorted(found) if stage in (None, found[name].stage)}

    def task(self, name: str, stage: Stage | None = None) -> type[Task[Any]]:
        """The task (stage ``finetune``) or objective (stage ``pretrain``) of a name; of ``a,b`` one task of both.

        Raises:
            UsageError: there is none, or it belongs to the other stage.
            PluginError: two plugins claim the name, or the plugin that has it is broken.
        """
        if "," in name and stage != "pretrain":
            return self._joint(name)
        word = _WORD.get(stage or "finetune", "task")
        found: type[Task[Any]] = self._look_up("task", word, name, lambda: sorted(self.tasks(stage)))
        if stage and found.stage != stage:
            article = {"task": "a task, not an objective", "objective": "an objective, not a task"}
            raise UsageError(f"'{name}' is {article[_WORD[found.stage]]}", f"{_COMMAND[found.stage]} {name}")
        return found

    def _joint(self, tasks: str) -> type[Task[Any]]:
        from nlpkit.joint.names import names_of
        from nlpkit.joint.task import joint_task

        names = tuple(names_of(tasks))
        if names not in self._joined:
            self._joined[names] = joint_task({name: self.task(name, stage="finetune") for name in names})
        return self._joined[names]

    def heads(self) -> dict[str, Callable[..., Any]]:
        """Functions that make a head from (task, backbone configuration), by name."""
        return self._found["head"]

    def datasets(self) -> dict[str, Dataset]:
        """Named readers and sample data."""
        return self._found["dataset"]

    def metrics(self) -> dict[str, Callable[..., Any]]:
        """Functions that make a metric from (task), by name."""
        return self._found["metric"]

    def head(self, name: str) -> Callable[..., Any]:
        """The head of a name; raises as `task`."""
        found: Callable[..., Any] = self._look_up("head", "head", name, lambda: sorted(self.heads()))
        return found

    def dataset(self, name: str) -> Dataset:
        """The dataset of a name; raises as `task`."""
        found: Dataset = self._look_up("dataset", "dataset", name, lambda: sorted(self.datasets()))
        return found

    def metric(self, name: str) -> Callable[..., Any]:
        """The metric of a name; raises as `task`."""
        found: Callable[..., Any] = self._look_up("metric", "metric", name, lambda: sorted(self.metrics()))
        return found

    def owner(self, kind: Kind, name: str) -> Plugin:
        """The plugin that registers a name; raises as `task`."""
        self._look_up(kind, kind, name, lambda: sorted(self._registered[kind]))
        return self._registered[kind][name][0][0]

    def _look_up(self, kind: Kind, word: str, name: str, known: Callable[[], list[str]]) -> Any:
        if name in self._found[kind]:
            return self._found[kind][name]
        if owners := [plugin for plugin, _ in self._registered[kind].get(name, [])]:
            raise PluginError(f"{word} '{name}' is registered by {' and by '.join(map(str, owners))}", _choose(owners))
        for one in self.loaded():
            if one.problem and (name in one.problem.names or (kind == "task" and name == one.plugin.name)):
                raise _with_lines(f"no {word} '{name}': {one.problem}", "nlpkit plugins doctor -v", one.problem)
        for plugin, why_not in self.installed() if kind == "task" else ():
            if why_not and name in (plugin.name, plugin.distribution):
                what = _left_out(why_not)
                raise PluginError(f"no {word} '{name}': plugin {plugin} {what}", way_back(plugin, why_not))
        raise UsageError(f"unknown {word} '{name}'", self._advice(word, name, known()))

    def _advice(self, word: str, name: str, known: list[str]) -> str:
        parts = [f"{nearest(name, known)}known {word}s: {', '.join(known) or 'none'}"]
        if word in _WORD.values():
            parts.append("see nlpkit tasks")
            parts += self._how_to_get(name)
        if any(one.problem for one in self.loaded()):
            parts.append("broken plugins are left out, see nlpkit plugins doctor")
        return "; ".join(parts)

    def _how_to_get(self, name: str) -> list[str]:
        if hidden := sorted({plugin.name for plugin, why_not in self.installed() if why_not}):
            return [f"switched off, see nlpkit plugins list: {', '.join(hidden)}"]
        if not self.has_core():
            return [NOT_INSTALLED]
        return [f"pip install {_OWN[name]}"] if name in _OWN else []

    def absence(self, plugin: Plugin) -> tuple[str, str]:
        """Why a plugin that was there once does not give what it gave, and what to do.

        Args:
            plugin: as it was; of a file only what `Plugin.file` says of it.

        Returns:
            Behind "which", and a hint.
        """
        if not plugin.distribution:
            given = next((one for one in self.loaded() if one.plugin.file == plugin.file), None)
            if given is None:
                return "is not given", f"--plugin {plugin.file}"
            if given.problem:
                how = f"nlpkit plugins doctor -v --plugin {given.plugin.value}"
                return f"does not load: {given.problem.moment}: {given.problem.error}", how
            return "is given, without it", "give the file as it was then"
        exact = f"pip install {plugin.distribution}=={plugin.version}, or from where you had it"
        of_it = [pair for pair in self.installed() if pair[0].distribution == plugin.distribution]
        if not of_it:
            return "is not installed", exact
        other, why_not = next((pair for pair in of_it if pair[0].name == plugin.name), of_it[0])
        if why_not:
            return _left_out(why_not), way_back(other, why_not)
        problem = next((one.problem for one in self.loaded() if one.plugin == other and one.problem), None)
        if problem:
            return f"does not load: {problem.moment}: {problem.error}", "nlpkit plugins doctor -v"
        return f"is there in version {other.version}, without it", exact

    def has_core(self) -> bool:
        """Whether nlpkit itself is installed; run from a bare folder, it does not find its own objectives."""
        return any(plugin.distribution == CORE for plugin in self._installed)


NOT_INSTALLED = (
    "nlpkit runs from a folder without being installed, so that plugins are not found: pip install -e that folder"
)


def _log(text: str) -> None:
    import logging

    logging.getLogger("nlpkit").warning(text)


def way_back(plugin: Plugin, why_not: str) -> str:
    """How a plugin that is left out gets into use."""
    if why_not == BY_SWITCH:
        return f"nlpkit plugins enable {plugin.name}"
    return f"leave out {why_not}" + (f", or set NLPKIT_PLUGINS={plugin.name}" if why_not == BY_ENVIRONMENT else "")


def _with_lines(message: str, hint: str, problem: Problem) -> PluginError:
    error = PluginError(message, hint)
    error.lines = problem.traceback
    return error


def _sentence(problem: Problem) -> str:
    """The problem of a file; a syntax error names the file and line itself."""
    path = os.path.abspath(problem.plugin.value)
    hook = "" if problem.moment in ("import", "registration") else f"{problem.moment}: "
    at = f"{problem.plugin.value or '--plugin'}: {hook}"
    return problem.error if problem.error.startswith(f"{path}:") else f"{at}{problem.error}"


def _of_file(problem: Problem) -> str:
    """What to do about it."""
    path = problem.plugin.value
    if not (path.endswith(".py") and os.path.isfile(path)):
        return "--plugin takes a .py file, or a folder with __init__.py"
    return "; ".join(["correct the file, or leave out its --plugin", *_of_import(problem)])


def _of_import(problem: Problem) -> list[str]:
    """What to do about an import that fails: for another module of the plugin, or for one that is to be installed."""
    folder, file = os.path.split(os.path.abspath(problem.plugin.value))
    several = ["a plugin of several files is a folder with __init__.py: --plugin FOLDER"]
    if problem.error.startswith("ImportError: attempted relative import with no known parent"):
        return several
    if not (missing := _MISSING.match(problem.error)):
        return []
    name = missing[1]
    if not any(os.path.exists(os.path.join(folder, beside)) for beside in (name, f"{name}.py")):
        return [f"install what brings {name}, if it is a dependency"]
    return [f"a module of the same package: from . import {name}"] if file == PACKAGE else several


def _left_out(why_not: str) -> str:
    """What has become of a plugin that is not in use."""
    return f"gives way to {why_not}" if why_not.startswith("--plugin ") else "is switched off"


def _choose(owners: Sequence[Plugin]) -> str:
    last = owners[-1]
    return f"pip uninstall {last.distribution}" if last.distribution else f"leave out --plugin {last.value}"
