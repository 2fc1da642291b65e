"""``nlpkit evaluate``: the scores of a model on text, and a gate for them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import click

from nlpkit.cli.arguments import OF_MODELS, files_and_settings, of_model, own_options_in_mind, with_options
from nlpkit.cli.interrupts import interruptible
from nlpkit.cli.options import Common, shared
from nlpkit.cli.results import print_scores
from nlpkit.errors import GateError, UsageError, nearest
from nlpkit.joint.names import check_named, paths_of, typed_data

_LOWER_IS_BETTER = {"loss", "perplexity", "bits_per_byte"}


@click.command(name="evaluate", context_settings=OF_MODELS)
@click.argument("run")
@click.argument(
    "arguments", nargs=-1, type=click.UNPROCESSED, metavar="FILES... [data.KEY=VALUE]... [--SETTING VALUE]..."
)
@click.option("--data", multiple=True, metavar="TASK=FILE", help="Labelled text of one of several tasks; repeatable.")
@click.option("--task", default="", metavar="NAME", help="Of a model of several tasks: the one that FILES are for.")
@click.option(
    "--fail-under",
    "gates",
    multiple=True,
    metavar="METRIC=VALUE",
    help="End with exit code 9 where this score is below VALUE; repeatable.",
)
@shared
def command(
    common: Common, run: str, arguments: tuple[str, ...], data: tuple[str, ...], task: str, gates: tuple[str, ...]
) -> None:
    """Score a fitted model on labelled text, or a pre-trained one on any text.

    RUN is a run folder of fit or pretrain, or a model folder that one of them made. Of a pre-trained model the scores
    say how well it knows such texts. Settings of its task that a finished model takes are options, too.

    \b
    nlpkit evaluate runs/sentiment shop/more-labelled.csv
    nlpkit evaluate runs/base other.txt
    nlpkit evaluate runs/sentiment test.csv data.label=Stars --fail-under f1_macro=0.8
    nlpkit evaluate runs/both --data sentiment=test.csv --data ner=test.conll
    """
    with own_options_in_mind((run, *arguments)):
        _evaluate(common, run, arguments, data, task, gates)


def _evaluate(
    common: Common, run: str, arguments: Sequence[str], data: Sequence[str], task: str, gates: Sequence[str]
) -> None:
    run, *rest = with_options((run, *arguments))  # options may stand before it
    files, settings = files_and_settings(rest)
    if not files and not data:
        raise UsageError("no text given", f"nlpkit evaluate {run} FILES...")
    labelled = typed_data("TASK", files, data, "--data")
    check_named(task, labelled)
    of_model(settings)
    wanted = _gates(gates)
    from nlpkit import readers

    named = [file for some in labelled.values() for file in paths_of(some)] if isinstance(labelled, Mapping) else files
    readers.expand(named)  # a wrong name is said before torch is imported
    from nlpkit.run import evaluate

    with interruptible():
        evaluated = evaluate(run, labelled, task=task, overrides=settings, plugins=common.plugins)
        _check_names(wanted, evaluated)
        from nlpkit.scores import finite

        print_scores(common, {**evaluated, "scores": finite(evaluated["scores"])})
    _check(wanted, evaluated["scores"])


def _gates(gates: Sequence[str]) -> dict[str, float]:
    wanted: dict[str, float] = {}
    for gate in gates:
        name, _, text = gate.rpartition("=")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not name or not math.isfinite(value):
            raise UsageError(f"--fail-under is '{gate}', expected METRIC=NUMBER", "--fail-under f1_macro=0.8")
        if name.rpartition("/")[2] in _LOWER_IS_BETTER or name.endswith("_loss"):
            raise _upside_down(name)
        wanted[name] = max(value, wanted.get(name, -math.inf))
    return wanted


def _upside_down(name: str) -> UsageError:
    return UsageError(f"--fail-under {name}: a lower {name} is better, so this gate says nothing", "name a score")


def _check_names(wanted: dict[str, float], evaluated: dict[str, Any]) -> None:
    scores = evaluated["scores"]
    for name in wanted:
        if name in evaluated.get("lower_is_better", ()):
            raise _upside_down(name)
        if name not in scores:
            known = [score for score in scores if score.rpartition("/")[2] != "loss"]
            hint = f"{nearest(name, known)}scores: {', '.join(known)}"
            raise UsageError(f"--fail-under names '{name}', which is none of the scores", hint)


def _check(wanted: dict[str, float], scores: dict[str, float]) -> None:
    # not "lower than": a score that is no number passes no gate
    failed = [
        f"{name} is {scores[name]:.4f}, under {value:g}" for name, value in wanted.items() if not scores[name] >= value
    ]
    if failed:
        raise GateError("; ".join(failed))
