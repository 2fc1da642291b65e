"""What a check is: a function with a name, a reason, and findings that say what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nlpkit.testing.under_test import TaskUnderTest


class Finding(AssertionError):
    """A task breaks a rule.

    Args:
        found: what was seen: numbers, keys, the example.
        advice: what its author can do.
    """

    def __init__(self, found: str, advice: str) -> None:
        super().__init__(found)
        self.found, self.advice = found, advice


def require(holds: bool, found: str, advice: str) -> None:
    """Raise a `Finding` unless the rule holds."""
    if not holds:
        raise Finding(found, advice)


@dataclass(frozen=True)
class Check:
    """A rule that a task keeps.

    Args:
        name: what ``skip`` takes.
        rule: one sentence.
        reason: what its users would suffer from a task that breaks it.
        run: raises where the task breaks it; anything that is no `Finding` arose in the author's code.
        needs: names of checks without which this one says nothing.
        slow: whether it starts other processes.
    """

    name: str
    rule: str
    reason: str
    run: Callable[[TaskUnderTest], None]
    needs: tuple[str, ...] = ()
    slow: bool = False


def check(reason: str, *, needs: tuple[str, ...] = (), slow: bool = False) -> Callable[[Callable[..., None]], Check]:
    """Make a function a `Check`; its name is the check's, and the first line of its docstring is the rule."""

    def made(run: Callable[..., None]) -> Check:
        rule = (run.__doc__ or "").strip().partition("\n")[0]
        return Check(run.__name__, rule, reason, run, needs, slow)

    return made
