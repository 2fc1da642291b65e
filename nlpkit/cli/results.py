"""What a finished run has to say, on stdout: a table for people, one JSON document with --json."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nlpkit.cli.options import Common, print_json, print_table
from nlpkit.cli.progress import is_terminal

if TYPE_CHECKING:
    from nlpkit.plugins import Registry
    from nlpkit.run import Run

_FEW = 50  # one of them is two points
_FORGOTTEN = 0.005  # nats: less is shown as nothing
_TITLES = {"tfidf": "TF-IDF"}


def print_run(common: Common, run: Run) -> None:
    """Print the scores of a run beside those of simple methods, its folder, and the command to type next."""
    results, steps = run.results, next_steps(run, common.registry)
    if common.as_json:
        unbeaten = list(dict.fromkeys(name for name, _, _ in not_beaten(results)))
        print_json({"folder": str(run.folder), **results, "not_beaten": unbeaten, "next": steps})
        return
    show_table(*score_table(results["dev"], _beside(results)))
    _print_about(results)
    for line in remarks(results, trained=bool(_request(run.folder).get("source"))):
        click.echo(line)
    click.echo(f"run: {run.folder}")
    click.echo("\n".join(["next:", *(f"  {step}" for step in steps)]))


def print_scores(common: Common, evaluated: dict[str, Any]) -> None:
    """Print the scores of a model on files."""
    if common.as_json:
        print_json(evaluated)
        return
    show_table(*score_table(evaluated["scores"], {}))
    _print_about(evaluated)
    if "examples" in evaluated:
        click.echo(f"{evaluated['examples']:,} examples")
    else:
        click.echo(f"{evaluated['documents']:,} documents, {evaluated['tokens']:,} tokens")
        click.echo(f"a model of {evaluated['task']} has learnt no task: these scores say how well it knows such texts")


def _print_about(results: dict[str, Any]) -> None:
    """What scores are exactly, where their task says it."""
    for name, about in results.get("about", {}).items():
        click.echo(f"{name}: {about}")


def show_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: ruled on a terminal, aligned plain text where stdout is a file or a pipe."""
    if not is_terminal(sys.stdout):
        print_table(header, rows)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for name in header:
        table.add_column(name, justify="left" if name == header[0] else "right")
    for row in rows:
        table.add_row(*row)
    Console(highlight=False, markup=False).print(table)


def score_table(
    scores: dict[str, float], beside: dict[str, dict[str, float]]
) -> tuple[list[str], list[tuple[str, ...]]]:
    """Header and rows: a metric a row, the model first, then what it is compared with; the loss last.

    Args:
        scores: of the model.
        beside: name of another method -> its scores.
    """
    header = ["SCORE", "MODEL", *(_TITLES.get(name, name.upper()) for name in beside)]
    names = sorted(scores, key=lambda name: (name == "loss", "/" in name))
    columns, counts = (scores, *beside.values()), _counts(scores)
    rows = [(name, *(_number(column.get(name), name in counts) for column in columns)) for name in names]
    return header, rows


def _counts(scores: dict[str, float]) -> set[str]:
    """Scores that are numbers of something: those before whose last ``/`` is the same are whole, and not all 0 or 1."""
    groups: dict[str, list[str]] = {}
    for name in scores:
        groups.setdefault(name.rpartition("/")[0] or name, []).append(name)
    return {
        name
        for group in groups.values()
        if all(scores[n].is_integer() for n in group) and any(scores[n] > 1 for n in group)
        for name in group
    }


def not_beaten(results: dict[str, Any]) -> list[tuple[str, str, float]]:
    """The simple methods that the model is no better than: name, score that chooses, their value of it.

    Of several tasks each is compared by the score that it chooses by itself.
    """
    tasks = results.get("tasks", {})
    chosen = [f"{name}/{own['score']}" for name, own in tasks.items()] or [results.get("score", "")]
    mine = results["dev"]
    # not "at least": a score that is no number beats nothing; nothing beats a score of 1
    return [
        (name, score, values[score])
        for score in chosen
        for name, values in results.get("baselines", {}).items()
        if score.rpartition("/")[2] != "loss" and score in mine and score in values
        if not mine[score] > values[score] and not mine[score] == values[score] == 1
    ]


def remarks(results: dict[str, Any], *, trained: bool = False) -> list[str]:
    """What the numbers rest on, and plain words where a simple method is as good.

    Args:
        results: of the run.
        trained: it started from a model.
    """
    lines = []
    if counts := results.get("examples"):
        lines.append(f"{counts['train']:,} examples to learn from, {counts['dev']:,} held out for these scores")
        several = results.get("tasks", {})
        lines += [f"{name}: {own['train']:,} and {own['dev']:,}" for name, own in several.items()]
        few = min((own["dev"] for own in several.values()), default=counts["dev"])
        if few < _FEW:
            lines.append(f"{few} are too few to tell models apart: give more with --dev or data.dev_share")
    if corpus := results.get("corpus"):
        lines.append(f"{corpus['documents']:,} documents, {corpus['tokens']:,} tokens, {results['steps']:,} steps")
    lines += forgotten(results)
    for name, score, value in not_beaten(results):
        title = _TITLES.get(name, name)
        lines.append(
            f"the model does not beat {title}: {score} {_number(results['dev'][score])} against {_number(value)}"
        )
    if not_beaten(results):
        lines.append(_advice(results, trained))
    return lines


def forgotten(results: dict[str, Any]) -> list[str]:
    """Plain words where the loss of the text that is watched rose."""
    watch = results.get("watch", {})
    start, end = (watch.get(at, {}).get("loss") for at in ("start", "end"))
    if start is None or end is None or end - start < _FORGOTTEN:
        return []
    rise = f"loss {_number(start)} at the start, {_number(end)} at the end"
    return [f"forgot {end - start:.2f} nats on {watch['file']}: {rise}"]


def _advice(results: dict[str, Any], trained: bool) -> str:
    """What is likeliest to help a model that a simple method beats."""
    mine, majority = results["dev"], results.get("baselines", {}).get("majority", {})
    if majority and all(mine.get(name) == value for name, value in majority.items()):
        return "it gives every text the most frequent label: train longer, or raise optim.learning_rate"
    if results["best_step"] == results["steps"]:
        return "its last step was its best: train longer (trainer.max_epochs, trainer.max_steps)"
    return "more labels help" + ("" if trained else ", or a model that knows the language: --from MODEL")


def next_steps(run: Run, registry: Registry) -> list[str]:
    """Commands that go on from a run, ready to paste but for the names of files.

    Args:
        run: what has ended.
        registry: of the tasks that can be fitted here, and of readers.
    """
    folder = shlex.quote(str(run.folder))
    if run.results["stage"] == "pretrain":
        tasks = registry.tasks("finetune")
        task = next(iter(tasks)) if len(tasks) == 1 else "TASK"
        out = shlex.quote(str(Path(run.folder).parent / task.lower()))
        fit = f"nlpkit fit --task {task} LABELLED.csv --from {folder} --out {out}"
        return [f"nlpkit generate {folder} {_asking(run.folder)}", fit] if run.results.get("generates") else [fit]
    request = _request(run.folder)
    if request.get("data_of"):
        labelled, new = _names_of_each(request)
    else:
        labelled, new = _names(run, request.get("data", []), registry)
    plugins = "".join(f" --plugin {shlex.quote(file)}" for file in request.get("plugins", []))
    return [
        f"nlpkit evaluate {folder} {labelled}{plugins}",
        f"nlpkit predict {folder} {new}{plugins} > predictions.jsonl",
    ]


def _names_of_each(request: dict[str, Any]) -> tuple[str, str]:
    """What further files of each of several tasks may be called, and new ones."""
    first: dict[str, str] = {}
    for task, file in zip(request["data_of"], request["data"], strict=True):
        first.setdefault(task, _ending([file]))
    labelled = " ".join(f"--data {shlex.quote(f'{task}=LABELLED{ending}')}" for task, ending in first.items())
    return labelled, "NEW.txt"


def _names(run: Run, files: Sequence[str], registry: Registry) -> tuple[str, str]:
    """What further files may be called, labelled and new ones; of a reader with sides a file for each."""
    from nlpkit.bundle import RECORD
    from nlpkit.folder import read_json

    reader = read_json(run.folder / "model" / RECORD)["data"]["reader"]
    sides = registry.dataset(reader).sides if reader else ()
    if not sides:
        ending = _ending(files)
        return shlex.quote(f"LABELLED{ending}"), shlex.quote(f"NEW{ending}")
    endings = list(dict.fromkeys(_ending([file]) for file in files))
    if len(endings) != len(sides):  # endings that do not tell sides apart
        endings = [f".{side}{endings[0]}" for side in sides]
    fields = registry.task(run.results["task"]).fields
    needed = sum(fields[side].required for side in sides)
    names = [[shlex.quote(name + ending) for ending in endings] for name in ("LABELLED", "NEW")]
    return " ".join(names[0]), " ".join(names[1][:needed])


def _request(folder: Path) -> dict[str, Any]:
    """What was asked for, as run.json keeps it."""
    from nlpkit.folder import read_json

    request: dict[str, Any] = read_json(folder / "run.json").get("request", {})
    return request


def _ending(files: Sequence[str]) -> str:
    """That of the first file that a run was fitted on; csv, where it has none or is the sample."""
    name = Path(files[0]) if files else Path()
    return name.with_suffix("").suffix + name.suffix if name.suffix == ".gz" else name.suffix or ".csv"


def _asking(folder: Path) -> str:
    """What a decoder is asked by: a value of a column that stands before its texts, or a beginning."""
    from nlpkit.bundle import RECORD
    from nlpkit.control import Control
    from nlpkit.folder import read_json

    known = Control.of(read_json(folder / "model" / RECORD))
    values = [(column, value) for column in known.columns for value in known.values(column) if value] if known else []
    return f"--set {shlex.quote('='.join(values[0]))}" if values else '--prompt "TEXT"'


def _beside(results: dict[str, Any]) -> dict[str, dict[str, float]]:
    baselines: dict[str, dict[str, float]] = results.get("baselines", {})
    simple = {name.replace("_", " "): results[name] for name in ("word_frequencies", "chance") if name in results}
    watch = results.get("watch", {})
    return {**baselines, **simple, **{f"watch at {at}": watch[at] for at in ("start", "end") if at in watch}}


def _number(value: float | None, whole: bool = False) -> str:
    return "-" if value is None else f"{value:,.0f}" if whole and value.is_integer() else f"{value:.4f}"
