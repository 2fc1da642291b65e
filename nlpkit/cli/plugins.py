"""``nlpkit plugins``: what is installed, and what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nlpkit.cli.failures import style
from nlpkit.cli.options import Common, print_json, print_table, shared_without_log
from nlpkit.cli.plugins_new import new
from nlpkit.errors import PluginError

if TYPE_CHECKING:
    from nlpkit.plugins import Problem
    from nlpkit.plugins.loading import Loaded


@click.group(name="plugins")
def command() -> None:
    """List plugins, and say what is wrong with them."""


command.add_command(new)


@command.command(name="list")
@shared_without_log
def list_plugins(common: Common) -> None:
    """List the plugins in use.

    By their metadata alone: none is imported.
    """
    plugins = common.registry.plugins()
    if common.as_json:
        print_json([plugin._asdict() for plugin in plugins])
    else:
        header = ("NAME", "DISTRIBUTION", "VERSION", "VALUE")
        print_table(header, [(p.name, p.distribution or "-", p.version or "-", p.value) for p in plugins])
    _say_not_installed(common)


@command.command()
@shared_without_log
def doctor(common: Common) -> None:
    """Say what is wrong with plugins.

    Imports every one and says what it registers, or why it cannot; exit code 5 if one cannot.

    With -v the tracebacks are printed, for the plugin's author.
    """
    problems = common.registry.problems()
    loaded = common.registry.loaded()
    if common.as_json:
        print_json({"plugins": [_row(one) for one in loaded], "problems": [_problem_row(p) for p in problems]})
    else:
        for one in loaded:
            _print_loaded(one)
        for problem in problems:
            _print_problem(problem, common)
    _say_not_installed(common)
    if problems:
        click.get_current_context().exit(PluginError.exit_code)


def _row(one: Loaded) -> dict[str, Any]:
    names = {f"{kind}s": sorted(values) for kind, values in one.values.items()}
    return {**one.plugin._asdict(), "ok": one.problem is None, **names, "slow": list(one.slow)}


def _problem_row(problem: Problem) -> dict[str, Any]:
    return {**problem._asdict(), "plugin": problem.plugin._asdict(), "names": list(problem.names)}


def _print_loaded(one: Loaded) -> None:
    parts = [f"{kind}s: {', '.join(sorted(values))}" for kind, values in one.values.items() if values]
    what = "broken" if one.problem else "; ".join(parts) or "registers nothing"
    click.echo(f"{one.plugin.name} ({one.plugin.owner}): {what}")
    if one.slow:
        click.echo(f"  slow: imports {', '.join(one.slow)} at once; import it inside the functions that use it")


def _print_problem(problem: Problem, common: Common) -> None:
    click.echo(f"{style('problem:', 'red')} {problem}")
    if common.verbose and problem.traceback:
        click.echo(problem.traceback, nl=False)


def _say_not_installed(common: Common) -> None:
    if not common.registry.has_core():
        from nlpkit.plugins.registry import NOT_INSTALLED

        common.say(NOT_INSTALLED)
