"""Telling files from ``key=value`` settings, and what goes with --resume."""

from __future__ import annotations

import contextlib
import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence

import click

from nlpkit.errors import UsageError, nearest
from nlpkit.request import by_owner

_KEY = re.compile(r"[A-Za-z_][\w-]*(\.[^./\\=]+)*")
_OPTION = re.compile(r"--[A-Za-z][\w-]*(\.[\w-]+)*")
_OF_DATA = "only data. settings, like data.text=COLUMN"
_OF_TASK = "--help lists the options; a setting of the model's task is --NAME VALUE"


def files_and_settings(arguments: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Divide arguments: a setting is ``key=value`` with a dotted key, unless a file has that very name.

    Returns:
        Files, folders and globs; settings. Both in the order given.
    """
    settings = tuple(argument for argument in arguments if _is_setting(argument))
    return tuple(argument for argument in arguments if argument not in settings), settings


OF_MODELS = {"ignore_unknown_options": True}
"""Context settings of commands that take settings of a model's task as options."""


def with_options(arguments: Sequence[str]) -> list[str]:
    """Arguments in which options that no command has are settings of the task: ``--beam 5`` is ``task.beam=5``.

    Raises:
        UsageError: one without a value, or that is no name.
    """
    found: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if not _is_option(argument):
            found.append(argument)
            continue
        name, equals, value = argument.partition("=")
        if not _OPTION.fullmatch(name):
            raise UsageError(f"unknown option '{name}'", _OF_TASK)
        given = value if equals else next(rest, None)
        if given is None:
            raise UsageError(f"{name} has no value", _OF_TASK)
        found.append(f"task.{name[2:].removeprefix('task.').replace('-', '_')}={given}")
    return sorted(found, key=_is_setting)  # what is no setting stands first, in its order


@contextlib.contextmanager
def own_options_in_mind(arguments: Sequence[str]) -> Iterator[None]:
    """Ask in the hint of a mistake whether an option was meant that the command has: ``--jsn`` is no setting."""
    try:
        yield
    except UsageError as error:
        context = click.get_current_context()
        own = [name for parameter in context.command.get_params(context) for name in parameter.opts]
        meant = "".join(nearest(a.partition("=")[0], own) for a in arguments if _is_option(a))
        raise UsageError(error.message, meant + error.hint) from error


def _is_option(argument: str) -> bool:
    return argument.startswith("-") and argument != "-" and not os.path.lexists(argument)


def of_model(settings: Sequence[str]) -> tuple[list[str], list[str]]:
    """Settings of the task, and of how files are read; a finished model takes no others.

    Raises:
        UsageError: a setting of neither.
    """
    of_task, of_data = by_owner(settings)
    data_settings(of_data, f"{_OF_DATA}, and those that its task lets change")
    return of_task, of_data


def data_settings(settings: Sequence[str], hint: str = _OF_DATA) -> None:
    """A finished model can be told how to read files, and nothing else.

    Raises:
        UsageError: a setting of anything but the data.
    """
    for setting in settings:
        if not setting.strip().startswith("data."):
            key = setting.partition("=")[0]
            raise UsageError(f"{key} is no setting of a finished model", hint)


def refuse_with_resume(given: Iterable[str]) -> None:
    """A run goes on as it began.

    Args:
        given: what else stands on the command line, as its user typed it.

    Raises:
        UsageError: something is given.
    """
    if found := ", ".join(given):
        raise UsageError(
            f"--resume goes on with the run as it began, and {found} would change it",
            "leave it out, or start a new run",
        )


def given_options(*allowed: str) -> list[str]:
    """The options of the present command that its user typed, but for those allowed."""
    context = click.get_current_context()
    source = click.core.ParameterSource.COMMANDLINE
    options = [p for p in context.command.get_params(context) if isinstance(p, click.Option)]
    return [
        p.opts[0] for p in options if p.name not in allowed and context.get_parameter_source(p.name or "") == source
    ]


def _is_setting(argument: str) -> bool:
    key, equals, _ = argument.partition("=")
    if not equals or not _KEY.fullmatch(key.strip()) or os.path.lexists(argument):
        return False
    return not (glob.has_magic(argument) and glob.glob(argument, recursive=True))
