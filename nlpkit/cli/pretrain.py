"""``nlpkit pretrain``: plain text to a backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nlpkit.cli.arguments import files_and_settings
from nlpkit.cli.options import Common, shared
from nlpkit.cli.training import Training, Typed, train, training_options
from nlpkit.errors import UsageError
from nlpkit.objectives.objective import weighted

if TYPE_CHECKING:
    from nlpkit.planning import Plan
    from nlpkit.run import Run


@click.command(name="pretrain")
@click.argument("arguments", nargs=-1, metavar="FILES... [KEY=VALUE]...")
@click.option(
    "--objective",
    default="mlm",
    show_default=True,
    metavar="NAME",
    help="What to learn from the text; mlm:0.8+nsp:0.2 weighs.",
)
@click.option(
    "--tokenizer",
    default="",
    metavar="DIR",
    help="Tokenizer of a new model: a folder of `nlpkit tokenizer train`, of any model, or a run; default: train one.",
)
@click.option(
    "--exclude",
    multiple=True,
    metavar="FILE",
    help="Leave out of the corpus what also stands in FILE, such as a test set, near repeats included; repeatable.",
)
@click.option(
    "--watch",
    default="",
    metavar="FILE",
    help="A general text, scored at the start and at each validation: it shows what is forgotten.",
)
@click.option(
    "--control",
    default="",
    metavar="COLUMNS",
    help="For clm: columns whose values generate --set can ask for, with commas between.",
)
@training_options
@shared
def command(
    common: Common,
    arguments: tuple[str, ...],
    objective: str,
    tokenizer: str,
    exclude: tuple[str, ...],
    watch: str,
    control: str,
    training: Training,
) -> None:
    """Train a backbone on plain text: from nothing, or from any transformers model.

    FILES are csv, tsv, jsonl or txt, each plain or .gz, folders of them, or globs. Settings are KEY=VALUE;
    `nlpkit config docs --objective mlm` explains them all.

    --resume RUN alone ends a run that was interrupted. With FILES it goes on from a finished run on further text, in
    a new run.

    \b
    nlpkit pretrain shop/reviews.csv --objective mlm --out runs/base
    nlpkit pretrain reviews/ data.text="Review Text" model.preset=small
    nlpkit pretrain shop/reviews.csv --tokenizer tok
    nlpkit pretrain shop/reviews.csv --exclude shop/more-labelled.csv
    nlpkit pretrain shop/reviews.csv --from MODEL --watch general.txt
    nlpkit pretrain reviews.csv --objective clm --control "Rating,Department Name" --out runs/lm
    nlpkit pretrain --resume runs/base
    nlpkit pretrain more.csv --resume runs/base --out runs/further
    """
    files, settings = files_and_settings(arguments)
    objective, weights = weighted(objective)
    settings = (*weights, *settings)
    if not files and not training.resume:
        raise UsageError("no text given", "nlpkit pretrain FILES...")

    def start(flags: dict[str, Any], **more: Any) -> Run | Plan:
        from nlpkit import run

        more["flags"] = {**flags, "data.control": [name.strip() for name in control.split(",")] if control else None}
        pretrain = run.plan_pretraining if training.plan else run.pretrain
        return pretrain(
            files,
            objective=objective,
            tokenizer=tokenizer,
            exclude=exclude,
            watch=watch,
            overrides=settings,
            plugins=common.plugins,
            **more,
        )

    beside = (*exclude, watch) if watch else exclude
    for_further = {"exclude": exclude, "watch": watch}
    train(common, training, Typed(objective, "pretrain", files, settings, start, beside, for_further))
