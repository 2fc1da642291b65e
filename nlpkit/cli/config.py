"""``nlpkit config``: the settings a run would have, where each comes from, and what each means."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import click

from nlpkit.cli.options import Common, print_json, shared
from nlpkit.errors import UsageError
from nlpkit.task import Task

_YAML_WORDS = ("y", "n", "yes", "no", "on", "off", "true", "false", "null")


@click.group(name="config")
def command() -> None:
    """Show the settings of a run, and explain them."""


def _for_task(function: Callable[..., Any]) -> Callable[..., Any]:
    function = click.option("--objective", metavar="NAME", help="As for nlpkit pretrain.")(function)
    return click.option("--task", metavar="NAME", help="As for nlpkit fit.")(function)


@command.command()
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--config", "file", metavar="FILE", help="A YAML file of settings.")
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
    from nlpkit.config import compose, to_plain

    composed = compose(task_class, file=file, overrides=overrides)
    plain, origins = to_plain(composed.config), composed.origins
    if not common.as_json:
        for line in yaml_lines(plain, origins if origin else {}):
            click.echo(line)
    elif origin:
        print_json({key: {"value": value, "origin": _origin(key, origins)} for key, value in _flat(plain)})
    else:
        print_json(plain)


@command.command()
@_for_task
@shared
def docs(common: Common, task: str | None, objective: str | None) -> None:
    """Explain every setting: its key, type, default and meaning."""
    task_class = _task_class(common, task, objective)
    from nlpkit.config import describe

    rows = list(describe(task_class))
    if common.as_json:
        print_json([{"key": r.key, "type": r.type, "default": r.default, "doc": r.doc} for r in rows])
        return
    for row in rows:
        click.echo(f"{row.key}: {row.type} = {json.dumps(row.default, ensure_ascii=False)}")
        click.echo(click.wrap_text(row.doc, 100, "    ", "    "))


def _task_class(common: Common, task: str | None, objective: str | None) -> type[Task[Any]]:
    if task and objective:
        raise UsageError("both --task and --objective are given", "leave one of them out")
    if task:
        return common.registry.task(task, stage="finetune")
    return common.registry.task(objective, stage="pretrain") if objective else Task


def yaml_lines(plain: Mapping[str, Any], origins: Mapping[str, str], prefix: str = "") -> Iterator[str]:
    """Settings as YAML, each value in JSON's spelling, its origin as a comment."""
    indent = "  " * prefix.count(".")
    for name, value in plain.items():
        key = prefix + name
        if isinstance(value, Mapping) and value:
            yield f"{indent}{_scalar(name)}:"
            yield from yaml_lines(value, origins, key + ".")
        else:
            comment = f"  # {_origin(key, origins)}" if origins else ""
            yield f"{indent}{_scalar(name)}: {json.dumps(value, ensure_ascii=False)}{comment}"


def _scalar(name: str) -> str:
    plain = name.isidentifier() and name.lower() not in _YAML_WORDS
    return name if plain else json.dumps(name, ensure_ascii=False)


def _flat(plain: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in plain.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _origin(key: str, origins: Mapping[str, str]) -> str:
    """The origin of a key, or of the nearest setting that holds it (one entry of a mapping)."""
    while key not in origins and "." in key:
        key = key.rpartition(".")[0]
    return " ".join(origins.get(key, "default").split())
