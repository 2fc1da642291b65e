"""The two ways to run all checks: as one function, and as a test of pytest for each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nlpkit.errors import UsageError, nearest
from nlpkit.task import Task, TaskConfig
from nlpkit.testing.checks import CHECKS
from nlpkit.testing.trial import Trial


def check_task(
    task_class: type[Task[Any]],
    examples: Sequence[Mapping[str, Any]],
    *,
    config: TaskConfig | None = None,
    skip: Mapping[str, str] | None = None,
) -> None:
    """Run every check over a task; what was skipped or left open is said on stderr.

    Args:
        task_class: a subclass of Task, defined at the top of its module: other processes have to find it.
        examples: some labelled examples, eight or so, with two labels at least, as a reader would give them: under the
            names of fields or of their columns, values as JSON has them.
        config: settings other than the defaults.
        skip: name of a check -> why it does not apply.

    Raises:
        AssertionError: every check that failed: its rule, its reason, what was found and what to do.
        UsageError: ``skip`` has a name that is no check's, or no reason; an example is no dict.
    """
    skip = _reasons(skip)
    _check_rows(examples)
    trial = Trial(task_class, examples, config)
    failures = []
    for name in CHECKS:
        outcome = None if name in skip else trial.outcome(name)
        if outcome is None:
            _say(f"{task_class.__name__}: skipped {name}: {skip[name]}")
        elif outcome.verdict == "open":
            _say(f"{task_class.__name__}: {name} {outcome.text}")
        elif outcome.verdict == "failed":
            failures.append(outcome.text)
    if failures:
        raise AssertionError(
            f"{task_class.__name__} fails {len(failures)} of {len(CHECKS)} checks:\n\n" + "\n\n".join(failures)
        )


def task_test(
    task_class: type[Task[Any]],
    examples: Sequence[Mapping[str, Any]],
    *,
    config: TaskConfig | None = None,
    skip: Mapping[str, str] | None = None,
) -> Callable[[str], None]:
    """The same as a test of pytest for each check; bind it to a name that begins with ``test_``.

    ``pytest -rs`` prints what was skipped, with the reason.

    Args:
        task_class: see `check_task`, as for the other arguments.
        examples: see there.
        config: see there.
        skip: see there.

    Raises:
        UsageError: as in `check_task`; or pytest is not installed.
    """
    try:
        import pytest
    except ImportError:
        raise UsageError("task_test makes a test of pytest, which is not installed", "pip install pytest") from None
    skip = _reasons(skip)
    _check_rows(examples)
    trial = Trial(task_class, examples, config)
    marks = {name: pytest.mark.skip(reason=f"{name}: {reason}") for name, reason in skip.items()}

    @pytest.mark.parametrize("check", [pytest.param(name, marks=marks.get(name, ())) for name in CHECKS])
    def test(check: str) -> None:
        outcome = trial.outcome(check)
        if outcome.verdict == "open":
            pytest.skip(f"{check} {outcome.text}")
        if outcome.verdict == "failed":
            pytest.fail(outcome.text, pytrace=False)

    test.__doc__ = f"{task_class.__name__} keeps the rules of nlpkit.testing."
    return test


def _reasons(skip: Mapping[str, str] | None) -> Mapping[str, str]:
    if not isinstance(skip or {}, Mapping):
        raise UsageError(
            f"skip is a {type(skip).__name__}, expected a dict: why each check does not apply, by its name",
            'skip={"learns_a_few_examples": "has no weights to learn"}',
        )
    for name, reason in (skip or {}).items():
        if name not in CHECKS:
            raise UsageError(f"skip names '{name}', which is no check", f"{nearest(name, CHECKS)}{', '.join(CHECKS)}")
        if not isinstance(reason, str) or not reason.strip():
            raise UsageError(f"skip gives no reason for '{name}'", f'skip={{"{name}": "why it does not apply"}}')
    return skip or {}


def _check_rows(examples: Sequence[Mapping[str, Any]]) -> None:
    hint = 'EXAMPLES = [{"text": "what a day", "label": "good"}, ...]'
    if not isinstance(examples, Sequence) or isinstance(examples, str):
        raise UsageError(f"examples are a {type(examples).__name__}, expected a list of dicts", hint)
    for row, example in enumerate(examples):
        if not isinstance(example, Mapping):
            raise UsageError(
                f"example {row} is {example!r:.40}, expected a dict: the value of each field, by its name", hint
            )


def _say(line: str) -> None:
    print(line, file=sys.stderr)
