"""The library's log, as lines on stderr."""

from __future__ import annotations

import logging

import click

from nlpkit.cli.failures import style


class _Stderr(logging.Handler):
    """Writes to whatever stderr is at the moment, so that a progress bar can take the line in."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record: information as it is, a warning with its name."""
        text = record.getMessage()
        if record.levelno >= logging.WARNING:
            text = f"{style(record.levelname.lower() + ':', 'yellow')} {text}"
        click.echo(text, err=True)


def set_up_log(quiet: bool = False, verbose: int = 0, silent: bool = False) -> None:
    """Send the library's log to stderr: information, or warnings only, or everything, or errors alone."""
    log = logging.getLogger("nlpkit")
    log.handlers = [_Stderr()]
    log.propagate = False
    level = logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
    log.setLevel(logging.ERROR if silent else level)
