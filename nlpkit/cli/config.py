"""``nlpkit config``: the settings a run would have, where each comes from, and what each means."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import click

from nlpkit.cli.options import Common, print_json, shared
from nlpkit.errors import UsageError
from nlpkit.task import Task


@click.group(name="config")
def command() -> None:
    """Show the settings of a run, and explain them."""


def _for_task(function: Callable[..., Any]) -> Callable[..., Any]:
    function = click.option("--objective", metavar="NAME", help="As for nlpkit pretrain.")(function)
    return click.option("--task", metavar="NAME", help="As for nlpkit fit.")(function)


@command.command()
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--config", "file", metavar="FILE", help="A YAML file of settings, or the name of a recipe.")
@click.option("--origin", is_flag=True, help="Say where each value comes from.")
@_for_task
@shared
def show(
    common: Common, overrides: tuple[str, ...], file: str | None, origin: bool, task: str | None, objective: str | None
) -> None:
    """Show every setting of a run, as YAML that --config takes.

    Without --task or --objective: the settings that all tasks share.
    """
    task_class = _task_class(common, task, objective)
    from nlpkit import config
    from nlpkit.config.plain import flat

    composed = config.compose(task_class, file=file, overrides=overrides)
    if not common.as_json:
        click.echo(config.show(composed, origin=origin), nl=False)
    elif origin:
        values = dict(flat(config.to_plain(composed.config)))
        print_json({key: {"value": value, "origin": composed.origins[key]} for key, value in values.items()})
    else:
        print_json(config.to_plain(composed.config))


@command.command()
@_for_task
@shared
def docs(common: Common, task: str | None, objective: str | None) -> None:
    """Explain every setting: its key, type, default and meaning."""
    task_class = _task_class(common, task, objective)
    from nlpkit.config import describe

    rows = describe(task_class)
    if common.as_json:
        print_json([asdict(row) for row in rows])
        return
    for row in rows:
        allowed = f" ({row.allowed})" if row.allowed else ""
        click.echo(f"{row.key}: {row.type}{allowed} = {json.dumps(row.default, ensure_ascii=False)}")
        click.echo(click.wrap_text(row.doc, 100, "    ", "    "))


def _task_class(common: Common, task: str | None, objective: str | None) -> type[Task[Any]]:
    if task and objective:
        raise UsageError("both --task and --objective are given", "leave one of them out")
    if task:
        return common.registry.task(task, stage="finetune")
    return common.registry.task(objective, stage="pretrain") if objective else Task
