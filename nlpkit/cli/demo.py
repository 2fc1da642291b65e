"""``nlpkit demo``: reviews written for nlpkit, to try the whole story on."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click


@click.group("demo", help="Write data of our own to try nlpkit on.")
def command() -> None:
    """Hold one subcommand for each set of demo data."""


@command.command("shop")
@click.option("--out", default="shop", show_default=True, metavar="DIR", help="Folder to write; must be new or empty.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
@click.option("--quiet", is_flag=True, help="Do not print what to type next.")
def shop(out: str, as_json: bool, quiet: bool) -> None:
    """Write a shop's reviews: 3,000 without labels, 400 and 200 with, and 20 new ones."""
    from nlpkit.demo import write_shop

    paths = write_shop(out)
    steps = next_steps(*paths)
    if as_json:
        click.echo(json.dumps({"files": [str(path) for path in paths], "next": steps}, ensure_ascii=False))
    else:
        click.echo("\n".join(map(str, paths)))
    if not quiet:
        click.echo("\n".join(["next:", *(f"  {step}" for step in steps)]), err=True)


def next_steps(reviews: Path, labelled: Path, new: Path, more: Path) -> list[str]:
    """Commands that take the shop from raw reviews to predictions, ready to paste into a shell."""
    quoted = [shlex.quote(str(path)) for path in (reviews, labelled, new, more)]
    return [
        f"nlpkit pretrain {quoted[0]} --objective mlm --out runs/base",
        f"nlpkit fit --task sentiment {quoted[1]} --from runs/base --out runs/sentiment",
        f"nlpkit evaluate runs/sentiment {quoted[3]}",
        f"nlpkit predict runs/sentiment {quoted[2]} > predictions.jsonl",
    ]
