"""A test kit for task authors: ``test_mood = task_test(Mood, EXAMPLES)`` is a task's whole test.

It builds a tiny tokenizer and a backbone of the task's family, so it runs offline in seconds. The public names are
loaded on first use, as nlpkit's own: where the import of a plugin is timed, the kit must not be the slow part.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nlpkit.testing.check import Check as Check
    from nlpkit.testing.checks import CHECKS as CHECKS
    from nlpkit.testing.kit import check_task as check_task
    from nlpkit.testing.kit import task_test as task_test
    from nlpkit.testing.under_test import TaskUnderTest as TaskUnderTest

_HOME = {"CHECKS": "checks", "Check": "check", "TaskUnderTest": "under_test", "check_task": "kit", "task_test": "kit"}
__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'nlpkit.testing' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"nlpkit.testing.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
