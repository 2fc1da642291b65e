"""``nlpkit fit``: labelled text to a task model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nlpkit.cli.arguments import files_and_settings
from nlpkit.cli.options import Common, shared
from nlpkit.cli.sides import WithSides, side_by_side
from nlpkit.cli.training import Training, Typed, train, training_options
from nlpkit.joint.names import check_all, files_of, names_of, typed_data

if TYPE_CHECKING:
    from nlpkit.planning import Plan
    from nlpkit.run import Run


@click.command(name="fit", cls=WithSides)
@click.argument("arguments", nargs=-1, metavar="[FILES]... [KEY=VALUE]...")
@click.option(
    "--task", default="sentiment", show_default=True, metavar="NAME", help="What to learn; A,B: both, in one model."
)
@click.option("--data", multiple=True, metavar="TASK=FILE", help="Labelled text of one of several tasks; repeatable.")
@click.option(
    "--dev",
    multiple=True,
    metavar="FILE",
    help="Labelled text that chooses the best step, of several tasks TASK=FILE; default: a share of FILES.",
)
@training_options
@shared
def command(
    common: Common,
    arguments: tuple[str, ...],
    task: str,
    data: tuple[str, ...],
    dev: tuple[str, ...],
    training: Training,
    **sides: tuple[str, ...],
) -> None:
    """Fit a task on labelled text, from a backbone or from nothing.

    FILES are csv, tsv, jsonl or txt, each plain or .gz, folders of them, or globs; without any, the task's own sample
    is used. Settings are KEY=VALUE; `nlpkit config docs --task sentiment` explains them all.

    \b
    nlpkit fit --task sentiment shop/labelled.csv --from runs/base --out runs/sentiment
    nlpkit fit --task sentiment stars.csv data.text=Review data.label=Stars strategy=lora
    nlpkit fit --task sentiment,ner --data sentiment=labelled.csv --data ner=posts.conll
    nlpkit fit --resume runs/sentiment
    """
    files, settings = files_and_settings(arguments)
    task = ",".join(names_of(task))
    labelled = typed_data(task, files, data, "--data")
    chooses = typed_data(task, (), dev, "--dev")
    (files, named), (dev, _) = files_of(task, labelled, "--data"), files_of(task, chooses, "--dev")
    if not training.resume:
        check_all(task, named)
    if any(sides.values()):
        files, dev, reader = side_by_side(task, common.registry, sides, files, dev)
        labelled, chooses, settings = files, dev, (*reader, *settings)

    def start(**more: Any) -> Run | Plan:
        from nlpkit import run

        fit = run.plan_fit if training.plan else run.fit
        return fit(task, labelled, dev=chooses, overrides=settings, plugins=common.plugins, **more)

    train(common, training, Typed(task, "finetune", files, settings, start, dev))
