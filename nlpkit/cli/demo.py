"""``nlpkit demo``: reviews written for nlpkit, to try the whole story on."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from nlpkit.cli.interrupts import interruptible
from nlpkit.cli.options import Common, print_json, shared


@click.group(name="demo")
def command() -> None:
    """Write a small data set of our own, to try nlpkit on."""


@command.command()
@click.option("--out", default="shop", show_default=True, metavar="DIR", help="Folder to write; must be new or empty.")
@shared
def shop(common: Common, out: str) -> None:
    """Write a shop's reviews, some of them labelled.

    3,000 without labels to pre-train on, 400 with labels to fit, 200 to evaluate, and 20 new ones to predict.
    """
    from nlpkit.demo import write_shop

    with interruptible():
        paths = write_shop(out)
    steps = next_steps(*paths)
    if common.as_json:
        print_json({"files": [str(path) for path in paths], "next": steps})
    else:
        click.echo("\n".join(map(str, paths)))
    common.say("\n".join(["next:", *(f"  {step}" for step in steps)]))


def next_steps(reviews: Path, labelled: Path, new: Path, more: Path) -> list[str]:
    """Commands that take the shop from raw reviews to predictions, ready to paste into a shell."""
    quoted = [shlex.quote(str(path)) for path in (reviews, labelled, new, more)]
    return [
        f"nlpkit pretrain {quoted[0]} --objective mlm --out runs/base",
        f"nlpkit fit --task sentiment {quoted[1]} --from runs/base --out runs/sentiment",
        f"nlpkit evaluate runs/sentiment {quoted[3]}",
        f"nlpkit predict runs/sentiment {quoted[2]} > predictions.jsonl",
    ]
