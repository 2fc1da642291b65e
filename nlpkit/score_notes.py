"""What a task says beside its scores, looked at before anything is made of it: simple methods, what the scores are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nlpkit import given
from nlpkit.owners import kind, useless
from nlpkit.task import Example, Task


def baselines(task: Task[Any], train: Sequence[Example], test: Sequence[Example]) -> dict[str, dict[str, float]]:
    """The scores of ``Task.baselines`` as plain numbers.

    Raises:
        PluginError: other than numbers by name, by the name of a method.
    """
    found = given.mapping(task, "baselines", train, test)
    for method, scores in found.items():
        if not isinstance(scores, Mapping):
            what = f"gives {kind(scores)} for '{method}', expected a dict such as {{'{task.score}': 0.5}}"
            raise useless(type(task), "baselines", what)
    return {
        str(method): {str(name): _number(task, value, f"{method}/{name}") for name, value in scores.items()}
        for method, scores in found.items()
    }


def about_scores(task: Task[Any]) -> dict[str, str]:
    """The lines of ``Task.about_scores``.

    Raises:
        PluginError: other than texts by name.
    """
    found = given.mapping(task, "about_scores")
    for name, line in found.items():
        if not isinstance(line, str):
            raise useless(type(task), "about_scores", f"gives {kind(line)} for '{name}', expected a text")
    return {str(name): line for name, line in found.items()}


def _number(task: Task[Any], value: Any, where: str) -> float:
    """A number, also one that numpy or torch hold."""
    if not hasattr(value, "__float__") or getattr(value, "ndim", 0) != 0:
        raise useless(type(task), "baselines", f"gives {kind(value)} for '{where}', expected a number")
    return float(value)
