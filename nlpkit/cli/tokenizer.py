"""``nlpkit tokenizer``: train one, see what it makes of texts, give it more words."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nlpkit.cli.arguments import data_settings, files_and_settings
from nlpkit.cli.interrupts import interruptible
from nlpkit.cli.options import Common, print_json, print_table, shared
from nlpkit.errors import RunFolderError, UsageError

if TYPE_CHECKING:
    from nlpkit.objectives.objective import Objective
    from nlpkit.tokenizer import Kind

_FEW = 3  # files that a command to paste still names


@click.group(name="tokenizer")
def command() -> None:
    """Train a tokenizer, see what one makes of texts, or give it more words."""


@command.command()
@click.argument("arguments", nargs=-1, metavar="FILES... [data.KEY=VALUE]...")
@click.option("--vocab", type=click.IntRange(1), default=8000, show_default=True, help="Tokens, at most.")
@click.option(
    "--kind",
    type=click.Choice(["wordpiece", "bpe", "unigram"]),
    help="Algorithm; default: wordpiece, with --decoder or --sentinels bpe.",
)
@click.option(
    "--lowercase/--cased",
    default=None,
    help="Whether upper and lower case are one; default: they are, with --decoder or --sentinels not.",
)
@click.option("--decoder", is_flag=True, help="For a model that generates (clm): texts begin and end as documents do.")
@click.option("--sentinels", is_flag=True, help="For a T5 (denoise): with tokens for the gaps that it fills.")
@click.option("--max-length", type=click.IntRange(8), default=512, show_default=True, help="Longest input, in tokens.")
@click.option("--out", required=True, metavar="DIR", help="Folder to write; must not exist.")
@shared
def train(
    common: Common,
    arguments: tuple[str, ...],
    vocab: int,
    kind: Kind | None,
    lowercase: bool | None,
    decoder: bool,
    sentinels: bool,
    max_length: int,
    out: str,
) -> None:
    """Train a tokenizer on texts, for a new model.

    The model is one that reads, such as a BERT, unless an option says otherwise.

    \b
    nlpkit tokenizer train corpus/*.txt --vocab 16000 --out tok
    nlpkit pretrain corpus/*.txt --tokenizer tok
    """
    _refuse_existing(out)
    if decoder and sentinels:
        raise UsageError("--decoder and --sentinels are for different models", "leave out one of the two")
    texts = _texts(arguments, "nlpkit tokenizer train FILES... --out DIR")
    from nlpkit import config, tokenizer
    from nlpkit.files import new_folder

    objective = _objective(decoder, sentinels)
    usual = config.compose(objective).config.model
    with interruptible():
        words = tokenizer.train(
            texts,
            kind=kind or usual.tokenizer,
            vocabulary=vocab,
            lowercase=usual.lowercase if lowercase is None else lowercase,
            max_length=max_length,
            generates=objective.generates,
            denoises=objective.reads_and_writes,
        )
        with new_folder(Path(out)) as folder:
            words.save_pretrained(folder)
    following = _pretrain(arguments, objective.name, f"--tokenizer {shlex.quote(out)}")
    if common.as_json:
        print_json({"folder": out, "vocabulary": len(words), "next": [following]})
    else:
        click.echo(f"{out}: {len(words):,} tokens\nnext:\n  {following}")


@command.command()
@click.argument("folder")
@click.argument("arguments", nargs=-1, metavar="FILES... [data.KEY=VALUE]...")
@click.option("--max-length", type=click.IntRange(8), help="Longest input, in tokens; default: the tokenizer's own.")
@shared
def report(common: Common, folder: str, arguments: tuple[str, ...], max_length: int | None) -> None:
    """Say how well a tokenizer fits texts.

    FOLDER is that of a tokenizer, a model, or a run.

    \b
    nlpkit tokenizer report tok corpus.csv
    """
    texts = _texts(arguments, f"nlpkit tokenizer report {folder} FILES...")
    from nlpkit import adopting
    from nlpkit.tokenizer_report import report as count

    with interruptible():
        words = adopting.read(
            folder, "name the folder of a tokenizer, a model or a run: nlpkit tokenizer report DIR FILES"
        )
        counted = count(words, texts, max_length or min(words.model_max_length, 512))
    if common.as_json:
        print_json({**asdict(counted), **counted.scores()})
        return
    scores = counted.scores()
    print_table(
        ("", ""),
        [
            ("vocabulary", f"{counted.vocabulary:,}"),
            ("texts", f"{counted.texts:,}"),
            ("tokens", f"{counted.tokens:,}"),
            ("tokens per word", f"{scores['tokens_per_word']:.2f}"),
            ("bytes per token", f"{scores['bytes_per_token']:.2f}"),
            ("unknown", f"{100 * scores['unknown_share']:.2f}%"),
            (f"texts above {counted.longest} tokens", f"{100 * scores['cut_share']:.1f}%"),
        ],
    )


@command.command()
@click.argument("model")
@click.argument("arguments", nargs=-1, metavar="FILES... [data.KEY=VALUE]...")
@click.option("--add", type=click.IntRange(1), default=500, show_default=True, help="Words, at most.")
@click.option("--out", required=True, metavar="DIR", help="Model folder to write; must not exist.")
@shared
def extend(common: Common, model: str, arguments: tuple[str, ...], add: int, out: str) -> None:
    """Give a model the words of a corpus that save the most tokens.

    MODEL is a run, a bundle or a model folder. DIR opens in plain transformers, and new rows of the embedding start
    from the pieces that the words were made of; pretrain goes on from there.

    \b
    nlpkit tokenizer extend runs/base corpus.csv --add 500 --out runs/extended
    nlpkit pretrain corpus.csv --from runs/extended --objective OBJECTIVE
    """
    _refuse_existing(out)
    texts = _texts(arguments, f"nlpkit tokenizer extend {model} FILES... --out DIR")
    from nlpkit.extending import extend as write

    with interruptible():
        done = write(model, texts, add, Path(out))
    following = (
        _pretrain(arguments, done.objective, f"--from {shlex.quote(out)}")
        if done.objective
        else f"nlpkit fit --task TASK LABELLED.csv --from {shlex.quote(out)}"
    )
    before, after = done.before.scores()["tokens_per_word"], done.after.scores()["tokens_per_word"]
    if common.as_json:
        tokens = {"before": done.before.tokens, "after": done.after.tokens}
        per_word = {"before": before, "after": after}
        found = {"folder": out, "words": done.words, "tokens": tokens, "tokens_per_word": per_word}
        print_json({**found, "next": [following]})
        return
    saved = done.before.tokens - done.after.tokens
    click.echo(f"{len(done.words):,} words more, such as {', '.join(done.words[:5])}")
    click.echo(f"{saved:,} of {done.before.tokens:,} tokens saved: {before:.3f} tokens per word, now {after:.3f}")
    click.echo(f"model: {out}\nnext:\n  {following}")


def _objective(decoder: bool, sentinels: bool) -> type[Objective[Any]]:
    """The objective whose models a new tokenizer is for: what it does by default, it does here."""
    from nlpkit.objectives.clm import Clm
    from nlpkit.objectives.denoise import Denoise
    from nlpkit.objectives.mlm import Mlm

    return Clm if decoder else Denoise if sentinels else Mlm


def _pretrain(arguments: tuple[str, ...], objective: str, rest: str) -> str:
    """The command that goes on from here with the same texts; of many files only that they are to be named."""
    files, settings = files_and_settings(arguments)
    named = shlex.join(files) if len(files) <= _FEW else "FILES"
    more = "" if objective == "mlm" else f" --objective {objective}"
    return " ".join(["nlpkit pretrain", named, *map(shlex.quote, settings)]) + f"{more} {rest}"


def _refuse_existing(out: str) -> None:
    if Path(out).exists():
        raise RunFolderError(f"{out}: exists, and nothing is overwritten", "choose another --out")


def _texts(arguments: tuple[str, ...], usage: str) -> Iterator[str]:
    files, settings = files_and_settings(arguments)
    if not files:
        raise UsageError("no text given", usage)
    data_settings(settings)
    from nlpkit import config, readers
    from nlpkit.examples import read_examples, texts_of
    from nlpkit.objectives.mlm import Mlm  # any objective reads texts
    from nlpkit.plugins import Registry

    read = config.compose(Mlm, overrides=settings).config
    return texts_of(read_examples(Mlm, readers.expand(files), read, Registry()), Mlm)
