"""Whether an engine translates as well as torch does: both write a sample of the dev part, and BLEU is compared."""

from __future__ import annotations

import contextlib
import logging
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from nlpkit import Example, TaskModule
from nlpkit.batching import sorted_batches
from nlpkit.data import EncodedExamples, make_batch
from nlpkit.errors import ModelError, NlpkitError
from nlpkit.files import write_json
from nlpkit.folder import read_json
from nlpkit_translation.conversion import identity
from nlpkit_translation.engine import Engine
from nlpkit_translation.metrics import SCORERS

if TYPE_CHECKING:
    from nlpkit.bundle import Loaded

log = logging.getLogger("nlpkit")
_TEXTS = 200
_TOLERATED = 0.5  # BLEU
_BATCH_TOKENS, _BATCH_ROWS = 4096, 64


def check(engine: Engine, model: Loaded, folder: Path, dev: Callable[[], Sequence[Example]]) -> None:
    """Say how the scores of an engine agree with those of torch, which is found out once and kept beside the model.

    Args:
        engine: of the setting ``task.engine`` of the model.
        model: on the CPU.
        folder: of the model; ``NAME-ENGINE.json`` beside it keeps what was found.
        dev: gives the dev part; where it raises an `NlpkitError`, that is said and nothing is compared.
    """
    name, place = model.task.config.engine, folder.resolve()
    kept = place.parent / f"{place.name}-{name}.json"
    found = _read(kept, folder)
    if found is None:
        found = {"model": identity(folder), "beam": engine.search.beams, **_compare(engine, model, dev)}
        with contextlib.suppress(NlpkitError):  # what cannot be kept is found again
            write_json(kept, found)
    _say(found, name, folder)


def _read(path: Path, model: Path) -> dict[str, Any] | None:
    """What was found of this model, if anything."""
    try:
        found = read_json(path)
    except ModelError:
        return None
    return found if found.get("model") == identity(model) else None


def _compare(engine: Engine, model: Loaded, dev: Callable[[], Sequence[Example]]) -> dict[str, Any]:
    try:
        examples = dev()
    except NlpkitError as error:
        return {"not_compared": error.message}
    number = min(_TEXTS, len(examples))
    spread = [examples[i * len(examples) // number] for i in range(number)]
    by_torch, by_engine, references = map(list, zip(*_written(engine, model, spread), strict=True))
    scorer = SCORERS["bleu"]()
    bleu = [scorer.corpus_score(texts, [references]).score for texts in (by_torch, by_engine)]
    same = sum(one == other for one, other in zip(by_torch, by_engine, strict=True))
    return {"texts": number, "bleu_torch": bleu[0], "bleu_engine": bleu[1], "equal": same}


def _written(engine: Engine, model: Loaded, examples: Sequence[Example]) -> list[tuple[str, str, str]]:
    """What torch writes of each source, what the engine does, and the reference; ordered by length."""
    task: Any = model.task
    module, samples = TaskModule(task, model.backbone, model.head).eval(), EncodedExamples(task, examples)
    texts: list[tuple[str, str, str]] = []
    with torch.inference_mode():
        for rows in sorted_batches(samples.lengths, _BATCH_TOKENS, _BATCH_ROWS):
            batch = make_batch(task, samples, rows, 0, -1)
            for _, asked in task.as_predicted(batch):
                by_torch, references, *_ = task.compare(module.predictions(asked), asked)
                by_engine = task.compare(model.head.in_groups(asked, engine), asked)[0]
                texts += zip(by_torch, by_engine, references, strict=True)
    return texts


def _say(found: dict[str, Any], name: str, folder: Path) -> None:
    evaluate = f"nlpkit evaluate {shlex.quote(str(folder))} FILES"
    compare = f"compare {evaluate} --engine {name} with {evaluate} --engine torch"
    if reason := found.get("not_compared"):
        log.info("%s was not compared with torch: %s; %s", name, reason, compare)
        return
    one, other = found["bleu_torch"], found["bleu_engine"]
    said = f"{found['texts']} texts of the dev part, with beam {found['beam']}: BLEU {one:.2f} by torch, "
    said += f"{other:.2f} by {name} ({other - one:+.2f}), {found['equal']} translations are equal"
    if abs(other - one) > _TOLERATED:
        log.warning("%s; they should agree to %g: %s", said, _TOLERATED, compare)
    else:
        log.info("%s", said)
