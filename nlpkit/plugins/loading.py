"""Import one plugin and collect what it registers: all of it or nothing, whatever the plugin does."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

import pluggy

from nlpkit import hookspecs
from nlpkit.errors import nearest
from nlpkit.plugins.installed import CORE, Plugin, Problem
from nlpkit.plugins.results import KINDS, Rubbish, check, offered

HEAVY = ("torch", "pytorch_lightning", "transformers", "numpy", "pandas", "sklearn")
"""Modules that a plugin should import inside its functions, because every command waits for its import."""
_packages: dict[str, Plugin] = {}


class Loaded(NamedTuple):
    """What came out of one plugin: either contributions or a problem.

    Args:
        values: kind (task, dataset, head, metric) -> name -> value.
        problem: why there is nothing.
        slow: heavy modules that the plugin's import brought in.
    """

    plugin: Plugin
    values: dict[str, dict[str, Any]]
    problem: Problem | None = None
    slow: tuple[str, ...] = ()


class _Refused(Exception):
    """A plugin that breaks the contract without raising anything itself."""


class _Load:
    """The steps of one load; remembers the moment, so that any exception can be placed."""

    def __init__(self, plugin: Plugin) -> None:
        self.plugin = plugin
        self.moment = "import"
        self.names: list[str] = []

    def run(self) -> Loaded:
        before = set(sys.modules)
        module, target = _import(self.plugin)
        slow = tuple(name for name in HEAVY if name in sys.modules and name not in before)
        self.moment = "registration"
        _check_version(module)
        manager = _register(target, self.plugin)
        values = {kind: self.call(manager, hook) for hook, kind in KINDS.items()}
        if self.plugin.distribution != CORE:
            _packages[module.__name__.partition(".")[0]] = self.plugin
        return Loaded(self.plugin, values, slow=slow)

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


def load(plugin: Plugin) -> Loaded:
    """Import a plugin and call its hooks; whatever it raises becomes the problem of the result.

    What the plugin prints goes to stderr, so that results on stdout stay whole.

    Raises:
        KeyboardInterrupt: the user's own, the only exception that passes.
    """
    steps = _Load(plugin)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return steps.run()
    except KeyboardInterrupt:
        raise
    except (_Refused, Rubbish) as error:
        problem = Problem(plugin, steps.moment, str(error), names=tuple(steps.names))
    except BaseException as error:
        problem = Problem(plugin, steps.moment, describe(error), _traceback(error), tuple(steps.names))
    return Loaded(plugin, {}, problem)


def _import(plugin: Plugin) -> tuple[ModuleType, Any]:
    if not plugin.distribution:
        module = _import_file(plugin)
        return module, module
    name, _, path = plugin.value.partition(":")
    module = importlib.import_module(name)
    target: Any = module
    for part in filter(None, path.split(".")):
        target = getattr(target, part)
    return module, target


def _import_file(plugin: Plugin) -> ModuleType:
    """Run a file as a module without writing compiled code beside it."""
    path = os.path.abspath(plugin.value)
    with _file_problems():
        if not path.endswith(".py"):
            raise _Refused("not a .py file")
        with open(path, "rb") as stream:
            source = stream.read()
    module = ModuleType("nlpkit_plugin_" + "".join(c if c.isalnum() else "_" for c in plugin.name))
    module.__file__ = path
    code = compile(source, path, "exec", dont_inherit=True)
    sys.modules[module.__name__] = module  # dataclasses look their module up
    try:
        exec(code, module.__dict__)
    except BaseException:
        del sys.modules[module.__name__]
        raise
    return module


@contextlib.contextmanager
def _file_problems() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _Refused(f"cannot be read: {(error.strerror or str(error)).lower()}") from error


def _check_version(module: ModuleType) -> None:
    wanted = getattr(module, "NLPKIT_API", hookspecs.API_VERSION)
    if wanted != hookspecs.API_VERSION or isinstance(wanted, bool):
        have = hookspecs.API_VERSION
        raise _Refused(f"written for version {wanted!a} of nlpkit's hooks, this is version {have}")


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


def culprit(error: BaseException) -> Plugin | None:
    """The plugin in whose code an exception arose, if it was neither nlpkit's own nor a caller's."""
    import traceback

    found = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package == "nlpkit" or package in _packages:
            found = _packages.get(package)
    return found


def describe(error: BaseException) -> str:
    """One line for an exception of somebody else's code, with the place it came from."""
    if isinstance(error, SyntaxError) and error.lineno:
        return f"{error.filename}:{error.lineno}: {error.msg}"
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = ""
    import traceback

    frames = [f for f in traceback.extract_tb(error.__traceback__) if not _ours(f.filename)]
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}{': ' if text else ''}{text[:500]}{place}"


def _ours(path: str) -> bool:
    return path.startswith("<frozen") or path == __file__ or os.path.dirname(path) == os.path.dirname(pluggy.__file__)


def _traceback(error: BaseException) -> str:
    import traceback

    try:
        return "".join(traceback.format_exception(error, limit=-20))
    except Exception:
        return ""
