"""``nlpkit plugins new``: the distribution of a new plugin, to be changed."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from nlpkit.cli.options import Common, print_json, shared_without_log


@click.command()
@click.argument("name", metavar="NAME")
@click.option(
    "--form",
    default="classification",
    show_default=True,
    metavar="FORM",
    help="What to start from, one of these.",
)
@click.option("--out", metavar="DIR", help="Folder to make; default: nlpkit-NAME.")
@shared_without_log
def new(common: Common, name: str, form: str, out: str | None) -> None:
    """Write a new plugin: a task, its sample, its tests.

    NAME is that of the task, lower-case words joined by '-'. Its tests pass as it is; its README says what to change.

    \b
    classification  a label for each text
    multilabel      any number of labels for each text
    tagging         a tag for each word of a text
    regression      a number for each text, such as how many stars it gives
    pair            a label for two texts, such as a question and an answer
    generation      a text that is written for each text
    """
    from nlpkit.scaffold import new_plugin

    files = new_plugin(name, form, out, common.registry)
    steps = next_steps(name, Path(out or f"nlpkit-{name}"))
    if common.as_json:
        print_json({"files": [str(path) for path in files], "next": steps})
    else:
        click.echo("\n".join(map(str, files)))
    common.say("\n".join(["next:", *(f"  {step}" for step in steps)]))


def next_steps(name: str, folder: Path) -> list[str]:
    """Commands that install the plugin, test it and learn from its sample, ready to paste into a shell."""
    return [f"cd {shlex.quote(str(folder))}", "pip install -e '.[dev]'", "pytest", f"nlpkit fit --task {name}"]
