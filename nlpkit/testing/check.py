"""What a check is: a function with a name, a reason, and findings that say what to do."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nlpkit.errors import PluginError

if TYPE_CHECKING:
    from nlpkit.testing.under_test import TaskUnderTest

_OTHERS = (
    "nlpkit",
    "torch",
    "transformers",
    "tokenizers",
    "torchmetrics",
    "pytorch_lightning",
    "lightning_fabric",
    "json",
)


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


def described(error: BaseException) -> str:
    """An exception of an author's code, and the lines of that code that it passed through; of none the last at all."""
    steps = list(traceback.walk_tb(error.__traceback__))
    own = [step for step in steps if str(step[0].f_globals.get("__name__")).partition(".")[0] not in _OTHERS]
    lines = [
        f"{f.filename}:{f.lineno}, in {f.name}: {f.line}" for f in traceback.StackSummary.extract(own or steps[-1:])
    ]
    try:
        text = error.message if isinstance(error, PluginError) else str(error)  # the hint is to use this kit
    except Exception:  # an author's class may raise in that, too
        text = ""
    return "\n".join([f"{type(error).__name__}: {text}".rstrip(": "), *lines])


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
