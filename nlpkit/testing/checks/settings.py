"""The task as nlpkit's commands see it: its name, its class attributes and its settings."""

from __future__ import annotations

import inspect
import json

from nlpkit.config import compose, describe, from_plain, to_plain
from nlpkit.errors import NlpkitError
from nlpkit.plugins.results import Rubbish
from nlpkit.plugins.results import check as check_result
from nlpkit.testing.check import Finding, check, require
from nlpkit.testing.under_test import TaskUnderTest


@check("nlpkit refuses a plugin as a whole that offers such a task, and its users find none of it.")
def can_be_registered(it: TaskUnderTest) -> None:
    """Name, stage, and config class are such as the hook nlpkit_tasks takes."""
    try:
        check_result("nlpkit_tasks", [type(it.task)])
    except Rubbish as error:
        raise Finding(f"nlpkit_tasks {error}", "change it in the class") from None


@check("Settings are typed on the command line, and `nlpkit config docs` is all the help that their users have.")
def settings_are_described(it: TaskUnderTest) -> None:
    """Every setting has a type that the command line takes, a default, and a string under it that says what it does."""
    task_class = type(it.task)
    try:
        rows = describe(task_class)
        for name in ("defaults_new", "defaults_public"):
            compose(task_class, defaults=getattr(task_class, name))
    except NlpkitError as error:
        raise Finding(error.message, error.hint) from None
    try:
        inspect.getsource(task_class.config_class)
    except (OSError, TypeError):  # typed into an interpreter: nobody can see what stands under a field
        return
    silent = [row.key for row in rows if row.key.startswith("task.") and not row.doc]
    require(not silent, f"nothing is said of {', '.join(silent)}", "write a string on the line below the field")


@check(
    "A run could not be resumed, nor its model loaded: both have the settings from a file.",
    needs=("settings_are_described",),
)
def settings_survive_a_file(it: TaskUnderTest) -> None:
    """The settings are the same after they were written and read as JSON."""
    plain = json.loads(json.dumps({"task": to_plain(it.task.config)}))
    read = from_plain(type(it.task), plain).task
    require(
        read == it.task.config,
        f"{read!r:.200} was {it.task.config!r:.200}",
        "give settings plain types, and change none in __post_init__ that was changed before",
    )
