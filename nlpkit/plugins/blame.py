"""Which plugin an exception comes from, at which moment, and its author's own lines; looked for only once it is there.

Nothing here is in the way of what works: the frames of a traceback tell all of it.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import opcode
import os
from collections.abc import Callable, Iterator, Sequence
from types import CodeType, FrameType, TracebackType
from typing import Any, NamedTuple

from nlpkit.errors import DISK_FULL, NlpkitError, PluginError
from nlpkit.owners import FED_BY, named, owner_of
from nlpkit.task import Example, Task

_LINES = 20
SHOWS_LINES = "; the same command with -v shows their lines"
_RAISED = f"this is for the plugin's author{SHOWS_LINES}"
_UNUSABLE = "nlpkit.testing.check_task tries a task in all its parts; where it passes, this is a bug in nlpkit"
_KINDS = {("nlpkit.task", "Task"), ("nlpkit.heads", "Head")}  # by name: heads import torch
_RAISE = opcode.opmap["RAISE_VARARGS"]
_functions: dict[int, tuple[CodeType, str]] = {}
"""By ``id``, beside the code that keeps it: two functions of one text on one line have equal code."""


class _Step(NamedTuple):
    """A frame of a traceback.

    Args:
        traceback: from this frame on.
        frame: of it.
        owner: its plugin; ``nlpkit`` for our code, empty for that of others.
    """

    traceback: TracebackType
    frame: FrameType
    owner: str

    @property
    def module(self) -> str:
        """Its name."""
        return str(self.frame.f_globals.get("__name__", ""))

    @property
    def place(self) -> str:
        """File and line."""
        return f"{self.frame.f_code.co_filename}:{self.traceback.tb_lineno}"

    @property
    def raises(self) -> bool:
        """Whether it came to a ``raise``; what a signal raises comes between other statements."""
        return self.frame.f_code.co_code[self.traceback.tb_lasti] == _RAISE


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """Turn what the code of a plugin raises into an error that names plugin, moment and line.

    Raises:
        PluginError: with the exception as its cause.
    """
    try:
        yield
    except NlpkitError:
        raise
    except BaseException as error:
        if (known := plugin_error(error)) is not None:
            raise known from error
        raise


def plugin_error(error: BaseException) -> PluginError | None:
    """What an exception is for the user if a plugin is at fault; None: it is not, or the exception says what it is."""
    if isinstance(error, PluginError):
        return error
    if isinstance(error, (NlpkitError, GeneratorExit)) or is_of_user(error) or _lacks_resources(error):
        return None
    if isinstance(error, RuntimeError) and isinstance(error.__cause__, StopIteration):
        error = error.__cause__  # Python's own "generator raised StopIteration", behind which are the author's lines
    steps = _steps(error.__traceback__)
    return _raised(error, steps) or _not_usable(error, steps)


def is_of_user(error: BaseException | None) -> bool:
    """Whether it is a Ctrl-C: a ``KeyboardInterrupt`` that no statement of a plugin has raised of its own accord."""
    if not isinstance(error, KeyboardInterrupt):
        return False
    last = _steps(error.__traceback__)[-1:]
    raised = any(step.raises and step.owner not in ("", "nlpkit") for step in last)
    return not raised or is_of_user(error.__context__)


def _lacks_resources(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in (*DISK_FULL, errno.EPIPE)
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"  # which is torch's


def _steps(start: TracebackType | None) -> list[_Step]:
    steps = []
    while start is not None:
        module = str(start.tb_frame.f_globals.get("__name__", ""))
        owner = owner_of(module) or ("nlpkit" if module.partition(".")[0] == "nlpkit" else "")
        steps.append(_Step(start, start.tb_frame, owner))
        start = start.tb_next
    return steps


def _raised(error: BaseException, steps: list[_Step]) -> PluginError | None:
    """The error of an author's code, or of what that code has called, ours included."""
    entry = _entry(steps)
    if entry is None:
        return None
    inside = steps[steps.index(entry) :]
    message = f"plugin {entry.owner}: {_moment(inside)}: {describe(error, entry.owner)}{_whence(error, inside)}"
    known = PluginError(message, _RAISED)
    known.lines = lines_of(error, entry.owner)
    return known


def _entry(steps: list[_Step], plugin: str = "") -> _Step | None:
    """Where a plugin was called last: the first of its frames behind the last of ours."""
    entry = None
    for step in reversed(steps):
        if entry is not None and step.owner == "nlpkit":
            return entry
        if step.owner and step.owner != "nlpkit" and plugin in ("", step.owner):
            entry = step
    return entry


def _moment(steps: Sequence[_Step]) -> str:
    """What was called of a plugin, whose frames begin here; what a dataclass has written itself is nothing to name."""
    for step in steps:
        code = step.frame.f_code
        if step.owner == steps[0].owner and code.co_filename != "<string>":
            return _functions[id(code)][1] if id(code) in _functions else _name(code)
    made = steps[0].frame.f_locals.get("self")
    return _name(steps[0].frame.f_code) if made is None else type(made).__qualname__.replace(".<locals>", "")


def _name(code: CodeType) -> str:
    return code.co_qualname.replace(".<locals>", "")


def _not_usable(error: BaseException, steps: list[_Step]) -> PluginError | None:
    """The error of our own code that works on what a plugin's class gave it, as far as that can be told."""
    ours = [step for step in reversed(steps) if step.owner == "nlpkit"]
    code = next((step.frame.f_code for step in ours if step.frame.f_code in FED_BY), None)
    if code is None:
        return None
    for cls in (cls for step in ours for cls in _classes(step.frame)):
        if made := _first_of(cls, FED_BY[code] if issubclass(cls, Task) else ("forward",)):
            cannot = f"nlpkit's {_name(code)} cannot use what it gives: {describe(error, 'nlpkit')}"
            known = PluginError(f"{named(cls)}{made}: {cannot}{_whence(error)}", _UNUSABLE)
            known.lines = _format(error, error.__traceback__)
            return known
    return None


def _classes(frame: FrameType) -> Iterator[type]:
    """The classes of the task and the head that a function of ours works for."""
    known = frame.f_locals
    me = known.get("self")
    for given in (me, getattr(me, "__dict__", {}).get("task"), *map(known.get, ("task", "cls", "task_class"))):
        cls = given if isinstance(given, type) else type(given)
        if any((base.__module__, base.__name__) in _KINDS for base in cls.__mro__):
            yield cls


def _first_of(cls: type, methods: tuple[str, ...]) -> str:
    """The first of some methods that a plugin has written."""
    own = (name for name in methods if owner_of(getattr(getattr(cls, name, None), "__module__", "")))
    found = next(own, "")
    return found and f"{cls.__qualname__}.{found}".replace(".<locals>", "")


def _whence(error: BaseException, steps: Sequence[_Step] = ()) -> str:
    """Where the data came from: what is noted of it, or the example that one of these functions had in hand."""
    if notes := getattr(error, "__notes__", ()):
        return "; " + "; ".join(map(str, notes))
    for step in reversed(steps):
        for value in step.frame.f_locals.values():
            if isinstance(value, Example) and value.where:
                return f"; at {value.where}"
    return ""


def describe(error: BaseException, plugin: str = "") -> str:
    """One line for an exception of somebody else's code, with the place it came from.

    Args:
        error: what was raised.
        plugin: whose last line is the place, where it has any, or ``nlpkit``; else the last line of others.
    """
    if isinstance(error, SyntaxError) and error.lineno and os.path.isfile(error.filename or ""):
        return f"{error.filename}:{error.lineno}: {error.msg}"
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = ""
    steps = _steps(error.__traceback__)
    its = [step for step in steps if plugin and step.owner == plugin]
    places = [step.place for step in its or steps if its or not _is_machinery(step)]
    place = f" ({places[-1]})" if places else ""
    return f"{type(error).__name__}{': ' if text else ''}{text[:500]}{place}"


def _is_machinery(step: _Step) -> bool:
    """Whether a frame is of what calls plugins: this package, Python's imports, pluggy."""
    return (
        step.module.partition(".")[0] in ("pluggy", "importlib")
        or step.owner == "nlpkit"
        or step.place.startswith("<frozen")
    )


def lines_of(error: BaseException, plugin: str) -> str:
    """The traceback of an exception from the plugin's first line on; what is ours before it says its author nothing."""
    entry = _entry(_steps(error.__traceback__), plugin)
    return _format(error, entry and entry.traceback)


def _format(error: BaseException, start: TracebackType | None) -> str:
    import traceback  # only what fails pays for it

    try:
        return "".join(traceback.format_exception(type(error), error, start, limit=-_LINES))
    except Exception:  # of an exception that cannot be shown
        return ""


def remember(kind: str, name: str, function: Callable[..., Any] | None) -> None:
    """Let a function that is registered by a name be called so in messages; of one for several names only its kind."""
    function = function.func if isinstance(function, functools.partial) else function
    made = getattr(function, "__init__", None) if isinstance(function, type) else function
    code = getattr(made, "__code__", None)
    if isinstance(code, CodeType):
        text = f"{kind} '{name}'"
        known = _functions.get(id(code), (code, text))[1]
        _functions[id(code)] = code, text if known == text else f"a {kind}"
