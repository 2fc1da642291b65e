"""Whether what a plugin has written can be called as nlpkit calls it; found out when it is registered."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

from nlpkit.owners import kind

_CONTRACTS = {("nlpkit.task", "Task"), ("nlpkit.objectives.objective", "Objective")}  # by name: not all are imported


def faults(task: type) -> Iterator[str]:
    """What is wrong with the methods of a task that take the place of ours."""
    for base in task.__mro__:
        for name, expected in _methods(base) if (base.__module__, base.__qualname__) in _CONTRACTS else ():
            found = inspect.getattr_static(task, name)
            if found is not expected and (fault := _fault(name, found, expected)):
                yield f"{task.__name__}.{name}{fault}"


def takes(function: Callable[..., Any], *names: str) -> bool:
    """Whether a function can be called with arguments of these names, as far as it tells; it may need more."""
    try:
        inspect.signature(function, follow_wrapped=False).bind_partial(*names)
    except TypeError:
        return False
    except (ValueError, NameError):  # of what is not written in Python, or names what is there for checkers only
        return True
    return True


@functools.cache
def _methods(base: type) -> tuple[tuple[str, Any], ...]:
    return tuple((name, value) for name, value in vars(base).items() if isinstance(value, FunctionType | classmethod))


def _fault(name: str, found: Any, expected: Any) -> str:
    of_class = isinstance(expected, classmethod)
    if of_class and isinstance(found, FunctionType):
        return " is no classmethod"
    function = getattr(found, "__func__", found)
    if isinstance(found, property) or not (callable(function) or hasattr(found, "__get__")):
        return f" is {kind(found)}, expected a {'classmethod' if of_class else 'method'}"
    code = getattr(expected, "__func__", expected).__code__
    wanted = code.co_varnames[: code.co_argcount]
    if not isinstance(function, FunctionType):
        return ""
    try:
        signature = inspect.signature(function, follow_wrapped=False)
    except NameError:  # an annotation, which Python 3.14 looks at here
        return ""
    try:
        signature.bind(*wanted[isinstance(found, staticmethod) :])
    except TypeError:
        plain = [parameter.replace(annotation=parameter.empty) for parameter in signature.parameters.values()]
        return f"{inspect.Signature(plain)} cannot be called as {name}({', '.join(wanted)})"
    return ""
