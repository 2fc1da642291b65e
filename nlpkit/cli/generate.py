"""``nlpkit generate``: text from a decoder."""

from __future__ import annotations

import functools
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from nlpkit.cli.interrupts import interruptible
from nlpkit.cli.options import Common, shared
from nlpkit.cli.progress import is_terminal
from nlpkit.errors import UsageError

if TYPE_CHECKING:
    from nlpkit.generation import Written
    from nlpkit.novelty import Novelty
    from nlpkit.token_store import TokenStore


@click.command(name="generate")
@click.argument("run")
@click.option("--prompt", "prompts", multiple=True, metavar="TEXT", help="A beginning; repeatable. None: a document's.")
@click.option("--prompts", "file", metavar="FILE", help="Beginnings from a file, as for nlpkit predict.")
@click.option(
    "--set",
    "attributes",
    multiple=True,
    metavar="COLUMN=VALUE",
    help="Ask for it, of a model with --control; repeatable.",
)
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
@click.option("--novelty", is_flag=True, help="Say how much of each text stands in the training data word for word.")
@shared
def command(
    common: Common,
    run: str,
    prompts: tuple[str, ...],
    file: str | None,
    attributes: tuple[str, ...],
    count: int,
    tokens: int,
    temperature: float,
    top_k: int,
    top_p: float,
    repetition_penalty: float,
    stop: tuple[str, ...],
    seed: int,
    novelty: bool,
) -> None:
    """Generate text with a model of nlpkit pretrain --objective clm.

    With --json one line a text, with its prompt and what it was asked for.

    \b
    nlpkit generate runs/lm --prompt "The captain" -n 5 --temperature 0.8 --top-p 0.95 --seed 1
    nlpkit generate runs/lm --set Rating=1 --set "Department Name=Dresses" --novelty
    """
    beginnings, asked = _prompts(prompts, file), _asked(attributes)
    from nlpkit.generation import Sampling
    from nlpkit.run import load_corpus, load_generator

    with interruptible():
        store = load_corpus(run) if novelty else None
        generator = load_generator(run, plugins=common.plugins)
        sampling = Sampling(tokens, temperature, top_k, top_p, repetition_penalty, stop)
        live = count == 1 and not common.as_json and not novelty and is_terminal(sys.stdout)
        write = functools.partial(click.echo, nl=False) if live else None
        answers = generator.generate(beginnings, count, sampling, attributes=asked, seed=seed, write=write)
        if live:
            _print_live(beginnings, answers)
            return
        texts = ((prompt, written) for prompt in beginnings for written in next(answers))
        for prompt, written, report in _compared(texts, store, generator.tokenizer):
            (_print_json if common.as_json else _print_text)(prompt, written, report)


def _compared(
    texts: Iterator[tuple[str, Written]], store: TokenStore | None, tokenizer: Any
) -> Iterator[tuple[str, Written, Novelty | None]]:
    """Texts one by one; with the corpus to compare them with many at once, for it is read from end to end."""
    if store is None:
        yield from ((prompt, written, None) for prompt, written in texts)
        return
    from nlpkit.novelty import compare

    texts, same = itertools.tee(texts)
    reports = compare((written.text for _, written in same), store, tokenizer)
    yield from ((prompt, written, report) for (prompt, written), report in zip(texts, reports, strict=True))


def _print_live(beginnings: Sequence[str], answers: Iterator[list[Written]]) -> None:
    """Texts whose pieces are printed as they come."""
    for prompt in beginnings:
        click.echo(prompt, nl=False)
        next(answers)
        click.echo("\n")


def _print_json(prompt: str, written: Written, report: Novelty | None) -> None:
    line: dict[str, Any] = {"prompt": prompt, "text": written.text}
    line |= {"attributes": written.attributes} if written.attributes else {}
    line |= {"novelty": report.plain()} if report else {}
    click.echo(json.dumps(line, ensure_ascii=False))


def _print_text(prompt: str, written: Written, report: Novelty | None) -> None:
    click.echo(f"{prompt}{written.text}\n")
    if report:
        click.echo(f"  {_told(report)}\n")


def _told(report: Novelty) -> str:
    """One line: ``new: 41% of 4-grams, 93% of 8-grams; longest copy: 7 tokens, 'true to size', ...``."""
    new = [f"{share:.0%} of {n}-grams" for n, share in report.new.items() if share is not None]
    span = report.longest
    copy = f"{span.tokens} tokens, '{span.text}', as in document {span.document}: '{span.excerpt}'"
    longest = f"longest copy: {copy if span.tokens else 'none'}".replace("\n", " ")
    return f"new: {', '.join(new)}; {longest}" if new else longest


def _asked(attributes: tuple[str, ...]) -> dict[str, str]:
    asked: dict[str, str] = {}
    for attribute in attributes:
        column, equals, value = (part.strip() for part in attribute.partition("="))
        if not equals:
            raise UsageError(f"--set {attribute}: expected COLUMN=VALUE", '--set "Rating=5"')
        if column in asked:
            raise UsageError(f"--set names '{column}' twice", "leave one of them out")
        asked[column] = value
    return asked


def _prompts(prompts: tuple[str, ...], file: str | None) -> list[str]:
    if prompts and file:
        raise UsageError("both --prompt and --prompts are given", "leave one of them out")
    if not file:
        return list(prompts) or [""]
    from nlpkit import readers
    from nlpkit.task import TEXT_COLUMNS, Field

    return [row["text"] for row in readers.read_examples(readers.expand([file]), {"text": Field(TEXT_COLUMNS)})]
