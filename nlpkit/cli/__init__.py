"""The command ``nlpkit``: parse, call the library, print. A verb's module is imported when the verb is used."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

import nlpkit
from nlpkit.signals import ending_at_once

VERBS = {
    "pretrain": "Train a backbone on plain text.",
    "fit": "Fit a task on labelled text, from a backbone or from nothing.",
    "evaluate": "Score a fitted or a pre-trained model on text.",
    "predict": "Predict for new text, as JSON lines.",
    "generate": "Generate text with a decoder.",
    "tokenizer": "Train a tokenizer, see how it fits, or give it more words.",
    "demo": "Write a small data set of our own, to try nlpkit on.",
    "tasks": "List the tasks and objectives that are installed.",
    "plugins": "List plugins, and say what is wrong with them.",
    "config": "Show the settings of a run, and explain them.",
}
"""Verb -> its line in ``nlpkit --help``. Its module is ``nlpkit.cli.<verb>``, its command there is ``command``."""

TYPED = "nlpkit.cli.typed"
"""Key of a context's ``meta``: all arguments of the command line."""


class LazyGroup(click.Group):
    """A group that knows the names and summaries of its verbs without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All verbs, in the order of a user's work."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a verb."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"nlpkit.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb, or say which one was probably meant."""
        name = args[0]
        if name not in VERBS and not name.startswith("-"):
            from nlpkit.errors import UsageError, nearest

            raise UsageError(f"unknown command '{name}'", f"{nearest(name, VERBS)}commands: {', '.join(VERBS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the summaries of VERBS, so that help imports no verb."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(nlpkit.__version__, message="nlpkit %(version)s")
def cli() -> None:
    """From a team's own text to a task model it can trust.

    \b
    nlpkit demo shop
    nlpkit pretrain shop/reviews.csv --objective mlm --out runs/base
    nlpkit fit --task sentiment shop/labelled.csv --from runs/base --out runs/sentiment
    nlpkit evaluate runs/sentiment shop/more-labelled.csv
    nlpkit predict runs/sentiment shop/new.csv
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: without the program's name; those of the process where None.

    Returns:
        The exit code; see `nlpkit.errors` for the kinds.
    """
    _forgive_encoding()
    try:
        with ending_at_once():
            code = _invoke(sys.argv[1:] if arguments is None else list(arguments))
        sys.stdout.flush()
    except BaseException as error:
        from nlpkit.cli.failures import plugin_fault, report

        if isinstance(error, SystemExit) and not plugin_fault(error):
            raise

        return report(error)
    return code


def _invoke(arguments: list[str]) -> int:
    if instruction := os.environ.get("_NLPKIT_COMPLETE"):
        from click.shell_completion import shell_complete

        return shell_complete(cli, {}, "nlpkit", "_NLPKIT_COMPLETE", instruction)
    try:
        color = False if os.environ.get("NO_COLOR") else None
        with cli.make_context("nlpkit", list(arguments), color=color) as context:
            context.meta[TYPED] = arguments
            cli.invoke(context)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return error.exit_code
    except click.exceptions.Exit as end:
        return end.exit_code
    return 0


def _forgive_encoding() -> None:
    """Write characters that the terminal's encoding lacks as escapes, where Python would stop."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")
