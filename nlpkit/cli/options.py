"""Options that every verb has, the log on stderr, and results on stdout."""

from __future__ import annotations

import functools
import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from nlpkit.cli.failures import style

if TYPE_CHECKING:
    from nlpkit.plugins import Registry


@dataclass(frozen=True)
class Common:
    """What the shared options say.

    Args:
        as_json: print results as JSON.
        quiet: print nothing on stderr but warnings and errors.
        verbose: number of -v.
        plugins: files of unpackaged plugins.
        no_plugins: use the core's own plugins and those files alone.
    """

    as_json: bool = False
    quiet: bool = False
    verbose: int = 0
    plugins: tuple[str, ...] = ()
    no_plugins: bool = False

    @functools.cached_property
    def registry(self) -> Registry:
        """The plugins that this command may use; nothing is imported yet."""
        from nlpkit.plugins import Registry

        return Registry(self.plugins)

    def say(self, text: str) -> None:
        """Tell the user something that is no result; on stderr, and not with --quiet."""
        if not self.quiet:
            click.echo(text, err=True)


_OPTIONS = [
    click.option("--json", "as_json", is_flag=True, help="Print results as JSON."),
    click.option("-q", "--quiet", is_flag=True, help="Print nothing on stderr but warnings and errors."),
    click.option("-v", "--verbose", count=True, help="Print more on stderr."),
    click.option("--plugin", "plugins", multiple=True, metavar="FILE.py", help="Use a plugin that is not packaged."),
    click.option("--no-plugins", is_flag=True, help="Leave out installed plugins, except the core's own."),
]


def shared(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb the shared options; it receives them as its first argument, a `Common`."""

    @functools.wraps(function)
    def with_common(
        *args: Any, as_json: bool, quiet: bool, verbose: int, plugins: Sequence[str], no_plugins: bool, **rest: Any
    ) -> Any:
        common = Common(as_json, quiet, verbose, tuple(plugins), no_plugins)
        if no_plugins:  # the library and worker processes make registries of their own
            os.environ["NLPKIT_PLUGINS"] = "nlpkit-core"
        set_up_log(common)
        return function(common, *args, **rest)

    wrapped: Callable[..., Any] = with_common
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


class _Stderr(logging.Handler):
    """Writes to whatever stderr is at the moment, so that a progress bar can take the line in."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record: information as it is, a warning with its name."""
        text = record.getMessage()
        if record.levelno >= logging.WARNING:
            text = f"{style(record.levelname.lower() + ':', 'yellow')} {text}"
        click.echo(text, err=True)


def set_up_log(common: Common) -> None:
    """Send the library's log to stderr: information, or warnings only, or everything."""
    log = logging.getLogger("nlpkit")
    log.handlers = [_Stderr()]
    log.propagate = False
    log.setLevel(logging.DEBUG if common.verbose else logging.WARNING if common.quiet else logging.INFO)


def print_json(value: Any) -> None:
    """Print one JSON document on stdout."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns on stdout, under a header."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        click.echo("  ".join(cells).rstrip())
