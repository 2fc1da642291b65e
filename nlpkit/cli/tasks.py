"""``nlpkit tasks``: what can be fitted and pre-trained here."""

from __future__ import annotations

from typing import Any

import click

from nlpkit.cli.options import Common, print_json, print_table, shared_without_log
from nlpkit.task import Task


@click.command(name="tasks")
@shared_without_log
def command(common: Common) -> None:
    """List the tasks and objectives that are installed."""
    registry = common.registry
    rows = [(task, registry.owner("task", name)) for name, task in registry.tasks().items()]
    if common.as_json:
        print_json(
            [
                {
                    "name": task.name,
                    "stage": task.stage,
                    "summary": summary(task),
                    "plugin": plugin._asdict(),
                }
                for task, plugin in rows
            ]
        )
    else:
        header = ("NAME", "USED BY", "PLUGIN", "SUMMARY")
        verbs = {"pretrain": "pretrain --objective", "finetune": "fit --task"}
        print_table(header, [(task.name, verbs[task.stage], plugin.owner, summary(task)) for task, plugin in rows])
    if not registry.has_core():
        from nlpkit.plugins.registry import NOT_INSTALLED

        common.say(NOT_INSTALLED)


def summary(task: type[Task[Any]]) -> str:
    """First line of a task's docstring, if it has one of its own."""
    text = (vars(task).get("__doc__") or "").strip()
    return " ".join(text.split("\n\n")[0].split())
