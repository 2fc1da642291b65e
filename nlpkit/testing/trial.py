"""One task through the checks: each run once, after those that it needs, and what it says in words for an author."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nlpkit.task import Task, TaskConfig
from nlpkit.testing.check import Check, Finding, described
from nlpkit.testing.checks import CHECKS
from nlpkit.testing.elsewhere import Elsewhere
from nlpkit.testing.under_test import TaskUnderTest


@dataclass(frozen=True)
class Outcome:
    """What became of a check.

    Args:
        verdict: ``open`` where another check has to be passed before this one says anything.
        text: of a failure or of what is open, for the author.
    """

    verdict: Literal["passed", "failed", "open"]
    text: str = ""


class Trial:
    """A task under test, and what is known of it so far.

    Args:
        task_class: the task.
        examples: labelled.
        config: its settings; None: the defaults.
    """

    def __init__(
        self, task_class: type[Task[Any]], examples: Sequence[Mapping[str, Any]], config: TaskConfig | None
    ) -> None:
        self.task_class, self.examples, self.config = task_class, examples, config
        self._elsewhere = Elsewhere(task_class, examples, config)
        self._outcomes: dict[str, Outcome] = {}

    def outcome(self, name: str) -> Outcome:
        """Run a check, unless it was run before; those that it needs are run first."""
        if name not in self._outcomes:
            self._outcomes[name] = self._run(CHECKS[name])
        return self._outcomes[name]

    def _run(self, check: Check) -> Outcome:
        broken = [name for name in check.needs if self.outcome(name).verdict != "passed"]
        if broken:
            return Outcome("open", f"says nothing before {' and '.join(broken)} passes")
        # each gets a task and weights of its own, so that none depends on what another has changed
        it = self._made()
        try:
            check.run(it)
        except Finding as finding:
            return Outcome("failed", _told(check, finding.found, finding.advice))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # an author's code may raise anything, and the other checks still count
            return Outcome("failed", _told(check, described(error), "mend what raised it"))
        return Outcome("passed")

    def _made(self) -> TaskUnderTest:
        """The task, its head and its weights.

        Raises:
            AssertionError: nothing can be made, so no check says anything.
        """
        try:
            return TaskUnderTest(self.task_class, self.examples, self.config, self._elsewhere)
        except (AssertionError, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise AssertionError(f"{self.task_class.__name__} cannot be made: {described(error)}") from error


def _told(check: Check, found: str, advice: str) -> str:
    parts = (("rule", check.rule), ("why", check.reason), ("found", found), ("do", advice))
    lines = [f"  {word + ':':<7}{text}".replace("\n", "\n         ") for word, text in parts]
    return "\n".join([check.name, *lines])
