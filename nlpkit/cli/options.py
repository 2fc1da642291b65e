"""Options that every verb has, and results on stdout."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from nlpkit.cli.failures import showing_lines, style
from nlpkit.errors import UsageError

if TYPE_CHECKING:
    from nlpkit.plugins import Registry


class Common:
    """What the shared options say.

    Args:
        as_json: print results as JSON.
        quiet: print nothing on stderr but warnings and errors.
        verbose: number of -v.
        plugins: files of unpackaged plugins.
    """

    def __init__(self, as_json: bool, quiet: bool, verbose: int, plugins: Sequence[str]) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.verbose = verbose
        self.plugins = tuple(plugins)

    @functools.cached_property
    def registry(self) -> Registry:
        """The plugins that this command may use; nothing is imported yet."""
        from nlpkit.plugins import Registry

        return Registry(self.plugins, warn=self.warn)

    def watched_registry(self) -> Registry:
        """The same, which also finds out what plugins change for the whole process."""
        from nlpkit.plugins import Registry

        return Registry(self.plugins, warn=self.warn, watched=True)

    def say(self, text: str) -> None:
        """Tell the user something that is no result; on stderr, and not with --quiet."""
        if not self.quiet:
            click.echo(text, err=True)

    def warn(self, text: str) -> None:
        """Tell the user of a problem, on stderr."""
        click.echo(f"{style('warning:', 'yellow')} {text}", err=True)


_OPTIONS = [
    click.option("--json", "as_json", is_flag=True, help="Print results as JSON."),
    click.option("-q", "--quiet", is_flag=True, help="Print nothing on stderr but warnings and errors."),
    click.option("-v", "--verbose", count=True, help="Print more on stderr."),
    click.option(
        "--plugin", "plugins", multiple=True, metavar="FILE|FOLDER", help="Use a plugin that is not installed."
    ),
    click.option("--no-plugins", is_flag=True, help="Leave out installed plugins, except the core's own."),
]


def shared(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb the shared options; it receives them as its first argument, a `Common`. Its log is on stderr."""

    @functools.wraps(function)
    def with_log(common: Common, *args: Any, **rest: Any) -> Any:
        from nlpkit.cli.log import set_up_log

        set_up_log(common.quiet, common.verbose)
        return function(common, *args, **rest)

    return shared_without_log(with_log)


def shared_without_log(function: Callable[..., Any]) -> Callable[..., Any]:
    """As `shared`, for a verb that must start fast and calls nothing that logs."""

    @functools.wraps(function)
    def with_common(
        *args: Any, as_json: bool, quiet: bool, verbose: int, plugins: Sequence[str], no_plugins: bool, **rest: Any
    ) -> Any:
        if quiet and verbose:
            raise UsageError("--quiet prints less and --verbose more", "leave one of them out")
        if no_plugins:
            leave_out_plugins()
        with showing_lines(verbose):
            return function(Common(as_json, quiet, verbose, plugins), *args, **rest)

    wrapped: Callable[..., Any] = with_common
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


def leave_out_plugins() -> None:
    """Use no installed plugin in this process and those it starts: each makes registries of its own."""
    os.environ["NLPKIT_PLUGINS"] = "nlpkit-core"


def print_json(value: Any) -> None:
    """Print one JSON document on stdout."""
    import json

    click.echo(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns on stdout, under a header."""
    rows = [[cell.replace("\n", "\\n") for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        click.echo("  ".join(cells).rstrip())
