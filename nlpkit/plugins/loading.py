"""Import one plugin and collect what it registers: all of it or nothing, whatever the plugin does."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import re
import sys
import time
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import IO, Any, NamedTuple, cast

import pluggy

from nlpkit import hookspecs
from nlpkit.errors import nearest
from nlpkit.owners import claim
from nlpkit.plugins.blame import describe, is_of_user, lines_of, remember
from nlpkit.plugins.installed import CORE, PACKAGE, Plugin, Problem, find_installed
from nlpkit.plugins.results import KINDS, Rubbish, check, offered

HEAVY = ("torch", "pytorch_lightning", "transformers", "numpy", "pandas", "sklearn")
"""Modules that a plugin should import inside its functions, because every command waits for its import."""
_REMEMBERED = 1000  # characters of what is printed
_DECLARED = re.compile(r"^NLPKIT_API\s*(?::[^=\n]+)?=\s*(\d+)\s*(?:#.*)?$", re.MULTILINE)


class Loaded(NamedTuple):
    """What came out of one plugin: either contributions or a problem.

    Args:
        values: kind (task, dataset, head, metric) -> name -> value.
        problem: why there is nothing.
        slow: heavy modules that the plugin's import brought in.
        seconds: from the start of its import to the end of its hooks.
        printed: what it wrote to stdout meanwhile.
        changed: what it changed for the whole process meanwhile, if that was watched.
    """

    plugin: Plugin
    values: dict[str, dict[str, Any]]
    problem: Problem | None = None
    slow: tuple[str, ...] = ()
    seconds: float = 0.0
    printed: str = ""
    changed: tuple[str, ...] = ()


class _Refused(Exception):
    """A plugin that breaks the contract without raising anything itself."""


class _Load:
    """The steps of one load; remembers the moment, so that any exception can be placed."""

    def __init__(self, plugin: Plugin) -> None:
        self.plugin = plugin
        self.moment = "import"
        self.names: list[str] = []

    def run(self) -> dict[str, dict[str, Any]]:
        if self.plugin.distribution != CORE:
            claim(_module_of(self.plugin), str(self.plugin))
        module, target = _import(self.plugin)
        self.moment = "registration"
        _check_version(getattr(module, "NLPKIT_API", hookspecs.API_VERSION), self.plugin)
        manager = _register(target, self.plugin)
        values = {kind: self.call(manager, hook) for hook, kind in KINDS.items()}
        for kind, named in values.items():
            for name, value in named.items() if kind != "task" else ():
                remember(*(("reader", name, value.read) if kind == "dataset" else (kind, name, value)))
        return values

    def call(self, manager: pluggy.PluginManager, hook: str) -> dict[str, Any]:
        self.moment = hook
        caller = getattr(manager.hook, hook)
        expected = [impl for impl in caller.get_hookimpls() if not (impl.wrapper or impl.hookwrapper)]
        results = caller()
        if len(results) < len(expected):  # pluggy drops None
            results.append(None)
        values: dict[str, Any] = {}
        for result in results:
            self.names += offered(result)
            for name, value in check(hook, result).items():
                if values.setdefault(name, value) is not value:
                    raise Rubbish(f"returned two {KINDS[hook]}s of the name '{name}'")
        return values


def load(plugin: Plugin, watched: bool = False) -> Loaded:
    """Import a plugin and call its hooks; whatever it raises becomes the problem of the result.

    What the plugin prints goes to stderr, so that results on stdout stay whole.

    Args:
        plugin: which one.
        watched: also find out what it changes for the whole process.

    Raises:
        KeyboardInterrupt: the user's Ctrl-C, the only exception that passes.
    """
    steps, heard = _Load(plugin), _Heard()
    modules, changes = set(sys.modules), _watch() if watched else tuple
    began = time.perf_counter()
    values: dict[str, dict[str, Any]] = {}
    problem = None
    try:
        with contextlib.redirect_stdout(cast(IO[str], heard)):
            values = steps.run()
    except (_Refused, Rubbish) as error:
        problem = Problem(plugin, steps.moment, str(error), names=tuple(steps.names))
    except BaseException as error:
        if is_of_user(error):
            raise
        problem = _problem(steps, error)
    seconds = time.perf_counter() - began
    slow = tuple(name for name in HEAVY if name in sys.modules and name not in modules)
    return Loaded(plugin, values, problem, slow, seconds, heard.text, changes())


def _watch() -> Callable[[], tuple[str, ...]]:
    """What has changed for the whole process from now on."""
    from nlpkit.plugins.process_state import differences, take

    before = take()
    return lambda: differences(before, take())


def _problem(steps: _Load, error: BaseException) -> Problem:
    plugin, names = steps.plugin, tuple(steps.names)
    if steps.moment == "import" and isinstance(error, (ImportError, AttributeError)):  # perhaps of a later nlpkit
        try:
            _check_version(_declared_version(plugin), plugin)
        except _Refused as refused:
            return Problem(plugin, "registration", str(refused), lines_of(error, str(plugin)), names)
    return Problem(plugin, steps.moment, describe(error, str(plugin)), lines_of(error, str(plugin)), names)


class _Heard:
    """Passes on to stderr what is printed, and remembers how it begins; in all else it is stderr."""

    text = ""

    def write(self, text: str) -> int:
        self.text += text[: _REMEMBERED - len(self.text)]
        return sys.stderr.write(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


def _import(plugin: Plugin) -> tuple[ModuleType, Any]:
    if not plugin.distribution:
        module = import_file(plugin)
        return module, module
    name, _, path = plugin.value.partition(":")
    module = importlib.import_module(name)
    target: Any = module
    for part in filter(None, path.split(".")):
        target = getattr(target, part)
    return module, target


def _module_of(plugin: Plugin) -> str:
    """The name of its module."""
    if plugin.distribution:
        return plugin.value.partition(":")[0]
    folder, file = os.path.split(os.path.abspath(plugin.value))
    if file == PACKAGE and _is_free(name := os.path.basename(folder), folder, plugin):
        return name  # its modules may name it so
    return "nlpkit_plugin_" + "".join(c if c.isalnum() else "_" for c in plugin.name)


def _is_free(name: str, folder: str, plugin: Plugin) -> bool:
    """Whether no module but the package in this folder is called so, or only that of which it takes the place."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__path__", None) == [folder]
    from importlib.util import find_spec

    if not name.isidentifier():
        return False
    found = find_spec(name)
    if found is None or found.submodule_search_locations == [folder]:
        return True
    installed = (other for other in find_installed()[0] if plugin.is_module_of(other))
    return any(other.value.partition(":")[0] == name for other in installed)


def import_file(plugin: Plugin) -> ModuleType:
    """Run a file as a module without writing compiled code beside it; a package is imported once, with its modules."""
    from importlib.util import module_from_spec, spec_from_file_location

    path = os.path.abspath(plugin.value)
    package = [os.path.dirname(path)] if os.path.basename(path) == PACKAGE else None
    source = _source(plugin)
    name = _module_of(plugin)
    if package and getattr(sys.modules.get(name), "__path__", None) == package:
        return sys.modules[name]
    spec = spec_from_file_location(name, path, submodule_search_locations=package)
    module = module_from_spec(cast(Any, spec))
    code = compile(source, path, "exec", dont_inherit=True)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        exec(code, module.__dict__)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _source(plugin: Plugin) -> bytes:
    path = os.path.abspath(plugin.value)
    folder, file = os.path.split(path)
    if not plugin.value or not os.path.exists(path):
        of_folder = f"missing, and {os.path.basename(folder)} is no package without it"
        raise _Refused(of_folder if file == PACKAGE and os.path.isdir(folder) else "no such file or folder")
    if not path.endswith(".py"):
        raise _Refused("not a .py file")
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError as error:
        raise _Refused(f"cannot be read: {(error.strerror or str(error)).lower()}") from error


def _check_version(wanted: Any, plugin: Plugin) -> None:
    have = hookspecs.API_VERSION
    if wanted == have and not isinstance(wanted, bool):
        return
    written = f"written for version {wanted!a} of nlpkit's hooks, this nlpkit has version {have}"
    if isinstance(wanted, bool) or not isinstance(wanted, int):
        raise _Refused(f"NLPKIT_API is {wanted!a}, expected the version of nlpkit's hooks, {have}")
    newer = f"pip install --upgrade {CORE if wanted > have else plugin.distribution}"
    raise _Refused(f"{written}: {newer if wanted > have or plugin.distribution else f'write it for {have}'}")


def _declared_version(plugin: Plugin) -> int:
    """What a module that cannot be imported says in its text; a later nlpkit may well have what it lacks."""
    with contextlib.suppress(Exception):
        from importlib.util import find_spec

        found = find_spec(_module_of(plugin)) if plugin.distribution else None
        path = (found.origin or "") if found else plugin.value
        with open(path, encoding="utf-8") as stream:
            if said := _DECLARED.search(stream.read()):
                return int(said[1])
    return hookspecs.API_VERSION


def _register(target: Any, plugin: Plugin) -> pluggy.PluginManager:
    """Validate and register into a manager of the plugin's own, so that its wrappers reach no other plugin."""
    manager = pluggy.PluginManager("nlpkit")
    manager.add_hookspecs(hookspecs)
    marked = _marked(manager, target)
    for name in KINDS:
        if name not in marked.values() and inspect.isroutine(getattr(target, name, None)):
            raise _Refused(f"{name} is not registered: is @nlpkit.hookimpl missing?")
    if not marked:
        raise _Refused("this plugin registers nothing: is @nlpkit.hookimpl missing?")
    for name, hook in marked.items():
        _check_signature(getattr(target, name), hook)
    try:
        manager.register(target, plugin.name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise _Refused(" ".join(str(error).split())) from error
    return manager


def _marked(manager: pluggy.PluginManager, target: Any) -> dict[str, str]:
    """Attributes with @nlpkit.hookimpl -> the hook each of them is for."""
    marked = {}
    for name in dir(target):
        options = manager.parse_hookimpl_opts(target, name)
        if options is not None and not options.get("optionalhook"):
            marked[name] = options.get("specname") or name
    return marked


def _check_signature(function: Callable[..., Any], hook: str) -> None:
    if hook not in KINDS:
        raise _Refused(f"there is no hook '{hook}'; {nearest(hook, KINDS)}known hooks: {', '.join(KINDS)}")
    expected = inspect.signature(getattr(hookspecs, hook))
    for parameter in inspect.signature(function).parameters.values():
        named = parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        if named and parameter.default is parameter.empty and parameter.name not in expected.parameters:
            takes = ", ".join(expected.parameters) or "no arguments"
            raise _Refused(f"{hook} asks for the argument '{parameter.name}', but is called with {takes}")
