"""Copies of a model that share its weights and nothing else that changes, so that each thread has its own."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from nlpkit.module import TaskModule

_TABLES = ("_modules", "_parameters", "_buffers")


def twin(module: TaskModule) -> TaskModule:
    """A module whose body and head can compute something else at the same time."""
    made: TaskModule = _shallow(module)
    made.backbone, made.head = _copied(module.backbone), _copied(module.head)
    return made


def is_bound(module: nn.Module) -> bool:
    """Whether something in it would go on to use the module itself, or another, in its twin: a method that is kept."""
    return any(inspect.ismethod(value) and isinstance(value.__self__, nn.Module) for value in vars(module).values())


def _copied(module: nn.Module) -> Any:
    made = _shallow(module)
    for name, child in module._modules.items():
        made._modules[name] = None if child is None else _copied(child)
    return made


def _shallow(module: nn.Module) -> Any:
    made = module.__new__(type(module))
    vars(made).update(vars(module))
    vars(made).update({table: dict(vars(module)[table]) for table in _TABLES})
    return made
