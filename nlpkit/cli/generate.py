"""``nlpkit generate``: text from a decoder."""

from __future__ import annotations

import functools
import json
import sys

import click

from nlpkit.cli.interrupts import interruptible
from nlpkit.cli.options import Common, shared
from nlpkit.cli.progress import is_terminal
from nlpkit.errors import UsageError


@click.command(name="generate")
@click.argument("run")
@click.option("--prompt", "prompts", multiple=True, metavar="TEXT", help="A beginning; repeatable. None: a document's.")
@click.option("--prompts", "file", metavar="FILE", help="Beginnings from a file, as for nlpkit predict.")
@click.option("-n", "count", type=click.IntRange(1), default=1, show_default=True, help="Texts for each prompt.")
@click.option("--tokens", type=click.IntRange(1), default=100, show_default=True, help="New tokens, at most.")
@click.option(
    "--temperature",
    type=click.FloatRange(0),
    default=0.8,
    show_default=True,
    help="Below 1 keeps to likely words; 0 takes the likeliest.",
)
@click.option("--top-k", type=click.IntRange(0), default=0, help="Choose among so many likeliest tokens; 0: all.")
@click.option(
    "--top-p",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.95,
    show_default=True,
    help="Choose among the likeliest tokens that reach this probability.",
)
@click.option(
    "--repetition-penalty",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    help="Above 1 makes repeats less likely.",
)
@click.option("--stop", multiple=True, metavar="TEXT", help="End at this text; repeatable.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Same seed, same text.")
@shared
def command(
    common: Common,
    run: str,
    prompts: tuple[str, ...],
    file: str | None,
    count: int,
    tokens: int,
    temperature: float,
    top_k: int,
    top_p: float,
    repetition_penalty: float,
    stop: tuple[str, ...],
    seed: int,
) -> None:
    """Generate text with a model of nlpkit pretrain --objective clm.

    With --json one line a text, with its prompt.

    \b
    nlpkit generate runs/lm --prompt "The captain" -n 5 --temperature 0.8 --top-p 0.95 --seed 1
    """
    with interruptible():
        beginnings = _prompts(prompts, file)
        from nlpkit.generation import Sampling
        from nlpkit.run import load_generator

        generator = load_generator(run, plugins=common.plugins)
        sampling = Sampling(tokens, temperature, top_k, top_p, repetition_penalty, stop)
        live = count == 1 and not common.as_json and is_terminal(sys.stdout)
        write = functools.partial(click.echo, nl=False) if live else None
        answers = generator.generate(beginnings, count, sampling, seed=seed, write=write)
        for prompt in beginnings:
            if live:
                click.echo(prompt, nl=False)
            for text in next(answers):
                if common.as_json:
                    click.echo(json.dumps({"prompt": prompt, "text": text}, ensure_ascii=False))
                else:
                    click.echo("\n" if live else f"{prompt}{text}\n")


def _prompts(prompts: tuple[str, ...], file: str | None) -> list[str]:
    if prompts and file:
        raise UsageError("both --prompt and --prompts are given", "leave one of them out")
    if not file:
        return list(prompts) or [""]
    from nlpkit import readers
    from nlpkit.task import TEXT_COLUMNS, Field

    return [row["text"] for row in readers.read_examples(readers.expand([file]), {"text": Field(TEXT_COLUMNS)})]
