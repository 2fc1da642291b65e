"""``nlpkit plugins``: what is installed, what is wrong with it, and what is in use."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

import click

from nlpkit.cli.failures import style
from nlpkit.cli.options import Common, print_json, print_table, shared_without_log
from nlpkit.cli.plugins_new import new
from nlpkit.errors import PluginError, nearest
from nlpkit.plugins.installed import normalised

if TYPE_CHECKING:
    from nlpkit.plugins import Plugin, Problem, Registry
    from nlpkit.plugins.checkup import Finding
    from nlpkit.plugins.loading import Loaded

_LIBRARIES = ("torch", "transformers", "pytorch-lightning")


@click.group(name="plugins")
def command() -> None:
    """List plugins, say what is wrong with them, switch them off and on, begin one."""


command.add_command(new)


@command.command(name="list")
@shared_without_log
def list_plugins(common: Common) -> None:
    """List the plugins that are installed, and which of them are in use.

    By their metadata alone: none is imported.
    """
    rows = common.registry.installed()
    if common.as_json:
        print_json([{**p._asdict(), "in_use": not why_not, "why_not": why_not} for p, why_not in rows])
    else:
        header = ("NAME", "DISTRIBUTION", "VERSION", "VALUE", "IN USE")
        states = [f"no: {why_not}" if why_not else "yes" for _, why_not in rows]
        named = [(p.name, p.distribution or "-", p.version or "-", p.value) for p, _ in rows]
        print_table(header, [(*row, state) for row, state in zip(named, states, strict=True)])
    try:
        common.registry.selection.check(plugin for plugin, _ in rows if plugin.distribution)
    except PluginError as error:
        common.say(f"{error.message}; {error.hint}")
    _say_stale(common)
    _say_not_installed(common)


@command.command()
@shared_without_log
def doctor(common: Common) -> None:
    """Say what is wrong with plugins.

    Imports every one and says what it registers, or why it cannot; exit code 5 if one cannot. Warnings are for what
    works and should be mended: other versions than a plugin asks for, slow imports, prints, changes of what belongs to
    the whole process.

    With -v the tracebacks are printed, for the plugin's author.
    """
    from nlpkit.plugins.checkup import examine

    registry = common.watched_registry()
    problems, findings = examine(registry)
    if common.as_json:
        _print_as_json(registry, problems, findings)
    else:
        click.echo(", ".join(f"{name} {version}" for name, version in _versions().items()))
        for one in registry.loaded():
            click.echo(_line(one))
        for finding in findings:
            mark = style("warning:", "yellow") if finding.level == "warning" else "note:"
            click.echo(f"{mark} {finding}")
        for problem in problems:
            _print_problem(problem, common)
    _say_stale(common)
    _say_not_installed(common)
    if problems:
        click.get_current_context().exit(PluginError.exit_code)


@command.command()
@click.argument("name")
@shared_without_log
def disable(common: Common, name: str) -> None:
    """Switch a plugin off, until it is enabled again.

    NAME is that of a plugin or of its distribution; nothing is imported. For one command NLPKIT_PLUGINS=-NAME does the
    same.
    """
    from nlpkit.plugins import switches
    from nlpkit.plugins.selection import refuse_core

    known = _known(common.registry)
    if normalised(name) not in known:
        names = ", ".join(sorted({plugin.name for plugin, _ in common.registry.installed()}))
        hint = f"{nearest(name, known.values())}installed plugins: {names}"
        raise PluginError(f"plugin '{name}' is not installed", hint)
    name = known[normalised(name)]
    refuse_core([name], [plugin for plugin, _ in common.registry.installed()], "nlpkit plugins disable:")
    switches.change(add=[name])
    common.say(f"{name} is off; nlpkit plugins enable {name} puts it back")


@command.command()
@click.argument("name")
@shared_without_log
def enable(common: Common, name: str) -> None:
    """Switch a plugin on that was switched off.

    NAME is that of a plugin or of its distribution; nothing is imported.
    """
    from nlpkit.plugins import switches

    off = switches.switched_off()
    of_it = [plugin for plugin, _ in common.registry.installed() if normalised(name) in _names(plugin)]
    aliases = {normalised(name), *(alias for plugin in of_it for alias in _names(plugin))}
    known = {**_known(common.registry), **{normalised(one): one for one in off}}
    if normalised(name) not in known:
        raise PluginError(
            f"plugin '{name}' is neither installed nor switched off",
            f"{nearest(name, known.values())}nlpkit plugins list",
        )
    name = known[normalised(name)]
    found = [one for one in off if normalised(one) in aliases]
    if not found:
        common.say(f"{name} was not switched off")
        return
    switches.change(remove=found)
    common.say(f"{name} is on" if of_it else f"{name} is forgotten: it is not installed")


def _names(plugin: Plugin) -> dict[str, str]:
    """How it may be called, as pip compares names -> as it is written."""
    return {normalised(name): name for name in (plugin.name, plugin.distribution) if name}


def _known(registry: Registry) -> dict[str, str]:
    return {name: written for plugin, _ in registry.installed() for name, written in _names(plugin).items()}


def _versions() -> dict[str, str]:
    from nlpkit import __version__
    from nlpkit.hookspecs import API_VERSION
    from nlpkit.plugins.checkup import installed_version

    libraries = {name: version for name in _LIBRARIES if (version := installed_version(name))}
    return {"nlpkit": __version__, "NLPKIT_API": str(API_VERSION), "Python": platform.python_version(), **libraries}


def _print_as_json(registry: Registry, problems: list[Problem], findings: list[Finding]) -> None:
    print_json(
        {
            "versions": _versions(),
            "plugins": [_row(one) for one in registry.loaded()],
            "problems": [_problem_row(problem) for problem in problems],
            "findings": [{**finding._asdict(), "plugin": finding.plugin._asdict()} for finding in findings],
            "off": [{**plugin._asdict(), "why_not": why} for plugin, why in registry.installed() if why],
        }
    )


def _row(one: Loaded) -> dict[str, Any]:
    names = {f"{kind}s": sorted(values) for kind, values in one.values.items()}
    more = {"seconds": round(one.seconds, 3), "slow": list(one.slow), "changed": list(one.changed)}
    return {**one.plugin._asdict(), "ok": one.problem is None, **names, **more}


def _problem_row(problem: Problem) -> dict[str, Any]:
    return {**problem._asdict(), "plugin": problem.plugin._asdict(), "names": list(problem.names)}


def _line(one: Loaded) -> str:
    parts = [f"{kind}s: {', '.join(sorted(values))}" for kind, values in one.values.items() if values]
    what = "broken" if one.problem else "; ".join(parts) or "registers nothing"
    return f"{one.plugin.name} ({one.plugin.owner}): {what} ({one.seconds:.2f} s)"


def _print_problem(problem: Problem, common: Common) -> None:
    click.echo(f"{style('problem:', 'red')} {problem}")
    if common.verbose and problem.traceback:
        click.echo(problem.traceback, nl=False)


def _say_stale(common: Common) -> None:
    """Say which names are switched off that are nowhere to be found."""
    plugins = [plugin for plugin, _ in common.registry.installed()]
    for name in common.registry.selection.stale(plugins):
        common.say(f"{name} is switched off, and not installed; nlpkit plugins enable {name} forgets it")


def _say_not_installed(common: Common) -> None:
    if not common.registry.has_core():
        from nlpkit.plugins.registry import NOT_INSTALLED

        common.say(NOT_INSTALLED)
