"""How a command ends when something goes wrong: one message, a hint, and the exit code. A traceback means our bug."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

import click

from nlpkit.errors import (
    DISK_FULL,
    Interrupted,
    NlpkitError,
    PluginError,
    ResourceError,
    RunFolderError,
    UsageError,
    nearest,
)


def report(error: BaseException) -> int:
    """Print an exception on stderr as its kind deserves.

    Returns:
        The exit code of the command.
    """
    if isinstance(error, BrokenPipeError):
        _silence_stdout()
        return 141
    known = _translate(error) or plugin_fault(error)
    if known is None and isinstance(error, (KeyboardInterrupt, click.Abort)):
        click.echo("interrupted", err=True)
        return 130
    if known is None:
        return _bug(error)
    if isinstance(known, ResourceError):
        _silence_stdout()
    _print(known)
    return known.exit_code


def _translate(error: BaseException) -> NlpkitError | None:
    if isinstance(error, NlpkitError):
        return error
    if isinstance(error, click.ClickException):
        return _usage(error)
    if isinstance(error, MemoryError):
        return ResourceError("not enough memory", "use smaller batches: trainer.batch_tokens=N")
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        where = f"{error.filename}: " if error.filename else ""
        return ResourceError(f"{where}{os.strerror(error.errno or 0).lower()}", "free some space, or write elsewhere")
    if isinstance(error, FileNotFoundError) and _is_nowhere():
        return RunFolderError("the folder that this command was started in is gone", "cd to a folder that is there")
    return None


def _is_nowhere() -> bool:
    """Whether the working folder was deleted: every relative path fails there."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def _usage(error: click.ClickException) -> UsageError:
    context = error.ctx if isinstance(error, click.UsageError) else None
    hint = f"{context.command_path} --help" if context else ""
    if isinstance(error, click.NoSuchOption):
        return UsageError(f"unknown option '{error.option_name}'", nearest(error.option_name, _options(context)) + hint)
    message = error.format_message().rstrip(".")
    return UsageError(message[:1].lower() + message[1:], hint)


def _options(context: click.Context | None) -> list[str]:
    parameters = context.command.get_params(context) if context else []
    return [name for parameter in parameters for name in parameter.opts if name.startswith("--")]


def _print(error: NlpkitError) -> None:
    if isinstance(error, Interrupted):
        click.echo(str(error.message), err=True)
        click.echo(error.hint, err=True, nl=bool(error.hint))
        return
    message = "; ".join((error.message, *getattr(error, "__notes__", ())))
    click.echo(f"{style('error:', 'red')} {message}", err=True)
    if error.hint:
        click.echo(f"{style('hint:', 'cyan')} {error.hint}", err=True)


def _bug(error: BaseException) -> int:
    import traceback

    click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    click.echo(f"{style('error:', 'red')} this is a bug in nlpkit; please report the lines above", err=True)
    return 1


def plugin_fault(error: BaseException) -> PluginError | None:
    """The error of a plugin that an exception is, if any; as long as none is imported it is not."""
    if isinstance(error, PluginError) or "nlpkit.plugins.loading" not in sys.modules:
        return error if isinstance(error, PluginError) else None
    from nlpkit.plugins.blame import plugin_error

    return plugin_error(error)


@contextlib.contextmanager
def showing_lines(verbose: int) -> Iterator[None]:
    """With -v, print the lines that are for a plugin's author where it fails."""
    try:
        yield
    except BaseException as error:
        if verbose and (known := plugin_fault(error)):
            from nlpkit.plugins.blame import SHOWS_LINES

            click.echo(known.lines, err=True, nl=False)
            known.hint = known.hint.removesuffix(SHOWS_LINES)
            if known is not error:
                raise known from error
        raise


def _silence_stdout() -> None:
    """Let the interpreter's last flush go nowhere: nobody reads, or nothing fits."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError, AttributeError):
        return


def style(text: str, colour: str) -> str:
    """Colour a word for stderr, unless NO_COLOR is set; click strips colours where stderr is no terminal."""
    return text if os.environ.get("NO_COLOR") else click.style(text, fg=colour, bold=True)
