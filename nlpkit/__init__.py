"""nlpkit: from a team's own text to a task model it can trust.

The public names are loaded on first use: ``import nlpkit`` imports neither torch nor Lightning.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nlpkit.data import TaskDataModule as TaskDataModule
    from nlpkit.errors import DataError as DataError
    from nlpkit.errors import NlpkitError as NlpkitError
    from nlpkit.errors import UsageError as UsageError
    from nlpkit.heads import Head as Head
    from nlpkit.heads import TransformersHead as TransformersHead
    from nlpkit.hookspecs import hookimpl as hookimpl
    from nlpkit.module import TaskModule as TaskModule
    from nlpkit.objectives.objective import Objective as Objective
    from nlpkit.objectives.sequence_head import SequenceHead as SequenceHead
    from nlpkit.run import assemble as assemble
    from nlpkit.run import evaluate as evaluate
    from nlpkit.run import fit as fit
    from nlpkit.run import load as load
    from nlpkit.run import pretrain as pretrain
    from nlpkit.run import read as read
    from nlpkit.run import resume as resume
    from nlpkit.span_head import SpanHead as SpanHead
    from nlpkit.task import Batch as Batch
    from nlpkit.task import Dataset as Dataset
    from nlpkit.task import Example as Example
    from nlpkit.task import Features as Features
    from nlpkit.task import Field as Field
    from nlpkit.task import Task as Task
    from nlpkit.task import TaskConfig as TaskConfig

__version__ = "0.1.0"

_HOME = {
    "TaskDataModule": "data",
    "DataError": "errors",
    "NlpkitError": "errors",
    "UsageError": "errors",
    "Head": "heads",
    "TransformersHead": "heads",
    "hookimpl": "hookspecs",
    "TaskModule": "module",
    "Objective": "objectives.objective",
    "SequenceHead": "objectives.sequence_head",
    "assemble": "run",
    "evaluate": "run",
    "fit": "run",
    "load": "run",
    "pretrain": "run",
    "read": "run",
    "resume": "run",
    "SpanHead": "span_head",
    "Batch": "task",
    "Dataset": "task",
    "Example": "task",
    "Features": "task",
    "Field": "task",
    "Task": "task",
    "TaskConfig": "task",
}
__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'nlpkit' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"nlpkit.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
