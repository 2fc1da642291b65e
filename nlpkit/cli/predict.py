"""``nlpkit predict``: new text to JSON lines, in order and as a stream."""

from __future__ import annotations

import json
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nlpkit.cli.arguments import OF_MODELS, files_and_settings, of_model, own_options_in_mind, with_options
from nlpkit.cli.interrupts import interruptible
from nlpkit.cli.options import Common, shared
from nlpkit.errors import PluginError, RunFolderError, UsageError
from nlpkit.joint.parts import classes_in
from nlpkit.owners import useless

if TYPE_CHECKING:
    from nlpkit.predictor import Predictor
    from nlpkit.task import Example, Task


@click.command(name="predict", context_settings=OF_MODELS)
@click.argument("run")
@click.argument(
    "arguments", nargs=-1, type=click.UNPROCESSED, metavar="FILES|- [data.KEY=VALUE]... [--SETTING VALUE]..."
)
@click.option(
    "--html", metavar="FILE", help="Also write a page that shows the answers, if the task draws one; a new file."
)
@click.option("--task", default="", metavar="NAME", help="Of a model of several tasks: answer this one alone.")
@shared
def command(common: Common, run: str, arguments: tuple[str, ...], html: str | None, task: str) -> None:
    """Predict for new text: one JSON object a line, in the order of the input.

    `-` reads standard input, a line a text. Settings of its task that a finished model takes are options, too, such as
    --beam 5 of translation.

    \b
    nlpkit predict runs/sentiment shop/new.csv > predictions.jsonl
    echo "I would buy it again" | nlpkit predict runs/sentiment -
    """
    with own_options_in_mind((run, *arguments)):
        _predict(common, run, arguments, html, task)


def _predict(common: Common, run: str, arguments: Sequence[str], html: str | None, task: str) -> None:
    run, *rest = with_options((run, *arguments))  # options may stand before it
    files, settings = files_and_settings(rest)
    if not files:
        raise UsageError("no text given", f"nlpkit predict {run} FILES..., or - for standard input")
    of_task, of_data = of_model(settings)
    from nlpkit import readers

    paths = readers.expand(files)  # a wrong name is said before torch is imported
    from nlpkit.run import load, read_for

    with interruptible():
        predictor = load(run, task=task, overrides=of_task, plugins=common.plugins)
        if html:
            _check_page(predictor.task, Path(html))
        total = blank = 0
        shown = []
        for row in with_inputs(predictor, read_for(predictor, paths, of_data, common.plugins)):
            _write(row, predictor.task)
            if html:
                shown.append(row)
            total += 1
            blank += not any(str(row[name]).strip() for name in _inputs(predictor))
        if blank:
            common.warn(f"{blank:,} of {total:,} texts are empty; what is predicted for them means nothing")
        if html:
            _draw(predictor.task, shown, html)
            common.say(f"the page is {html}")


def with_inputs(predictor: Predictor, examples: Iterable[Example]) -> Iterator[dict[str, Any]]:
    """Each prediction, behind the fields that it was made from."""
    fields = _inputs(predictor)
    waiting: deque[Example] = deque()

    def passing() -> Iterator[Example]:
        for example in examples:
            waiting.append(example)
            yield example

    for prediction in predictor.stream(passing()):
        example = waiting.popleft()
        yield {**{name: example[name] for name in fields}, **prediction}


def _check_page(task: Task[Any], target: Path) -> None:
    """What would go wrong after all the work."""
    "".join(task.page([]))
    if target.is_dir() or not target.parent.is_dir():
        raise UsageError(f"--html {target}: no file can be written there", f"--html {task.name}.html")
    if os.path.lexists(target):
        raise RunFolderError(f"--html {target}: exists, and nothing is overwritten", "choose another --html")


def _draw(task: Task[Any], rows: list[dict[str, Any]], target: str) -> None:
    from nlpkit.files import write_bytes

    write_bytes(Path(target), "".join(task.page(rows)).encode("utf-8", "replace"))


def _inputs(predictor: Predictor) -> list[str]:
    return [name for name, field in predictor.task.fields.items() if field.required]


def _write(row: dict[str, Any], task: Task[Any]) -> None:
    ascii_only = "utf" not in (sys.stdout.encoding or "").lower()
    try:
        line = json.dumps(row, ensure_ascii=ascii_only, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise _no_json(row, type(task)) from error
    print(line, flush=True)


def _no_json(row: dict[str, Any], task: type[Task[Any]]) -> PluginError:
    for key, value in row.items():
        try:
            json.dumps({key: value}, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            what = "a number that is not finite" if "float" in str(error) else str(error)
            part = classes_in(task).get(key, task)
            return useless(part, "decode", f"gives what JSON does not have in '{key}': {what}")
    return useless(task, "decode", "gives what JSON does not have")
