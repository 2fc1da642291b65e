"""Whether an engine translates as well as torch does: both write a sample of the dev part, and are scored."""

from __future__ import annotations

import contextlib
import logging
import shlex
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from nlpkit import Example, Task, TaskModule
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
_TOLERATED = 0.5  # of both scores
_BATCH_TOKENS, _BATCH_ROWS = 4096, 64
_SCORES = {"bleu": "BLEU", "chrf": "chrF"}
_NUMBERS = ("texts", "equal", *(f"{score}_{by}" for score in _SCORES for by in ("torch", "engine")))
_NO_PART = ("engine", "source_language", "target_language")
"""What predictions may change, and what is kept is not told apart by: its file is named after the engine, and it is of
the languages of the dev part."""


def check(engine: Engine, model: Loaded, folder: Path, dev: Callable[[], Sequence[Example]]) -> None:
    """Say how the scores of an engine agree with those of torch, which is found out once and kept beside the model.

    It is found out again where predictions are set otherwise. A reason for which nothing can be compared is not kept.

    Args:
        engine: of the setting ``task.engine`` of the model.
        model: on the CPU.
        folder: of the model; ``NAME-ENGINE.json`` beside it keeps what was found.
        dev: gives the dev part; where it raises an `NlpkitError`, that is said and nothing is compared.
    """
    task: Any = model.task
    name, place = task.config.engine, folder.resolve()
    evaluate = f"nlpkit evaluate {shlex.quote(str(folder))} FILES"
    compare = f"compare {evaluate} --engine {name} with {evaluate} --engine torch"
    if not task.in_languages_of_data:
        log.info("%s was not compared with torch: the dev part is in other languages; %s", name, compare)
        return
    kept, made_of = place.parent / f"{place.name}-{name}.json", {"model": identity(folder), "settings": _settings(task)}
    found = _read(kept, made_of)
    if found is None:
        try:
            examples = dev()
        except NlpkitError as error:
            log.info("%s was not compared with torch: %s; %s", name, error.message, compare)
            return
        found = {**made_of, **_compare(engine, model, examples)}
        with contextlib.suppress(NlpkitError):  # what cannot be kept is found again
            write_json(kept, found)
    _say(found, name, compare)


def _settings(task: Task[Any]) -> dict[str, Any]:
    """What predictions may change, and the comparison depends on."""
    free = [field.name for field in fields(task.config) if field.metadata.get("at_prediction")]
    return {name: getattr(task.config, name) for name in free if name not in _NO_PART}


def _read(path: Path, made_of: dict[str, Any]) -> dict[str, Any] | None:
    """What was found of this model with these settings, if anything."""
    try:
        found = read_json(path)
    except ModelError:
        return None
    numbers = all(isinstance(found.get(key), int | float) for key in _NUMBERS)
    return found if numbers and made_of.items() <= found.items() else None


def _compare(engine: Engine, model: Loaded, examples: Sequence[Example]) -> dict[str, Any]:
    """Numbers of texts and equal translations, and scores; BLEU alone is 0 where no translation has four words."""
    number = min(_TEXTS, len(examples))
    spread = [examples[i * len(examples) // number] for i in range(number)]
    what = "comparing %s with torch on %d texts of the dev part, once for these settings"
    log.info(what, model.task.config.engine, number)
    by_torch, by_engine, references = map(list, zip(*_written(engine, model, spread), strict=True))
    same = sum(one == other for one, other in zip(by_torch, by_engine, strict=True))
    found: dict[str, Any] = {"texts": number, "equal": same}
    for name in _SCORES:
        scorer = SCORERS[name]()
        for by, texts in (("torch", by_torch), ("engine", by_engine)):
            found[f"{name}_{by}"] = scorer.corpus_score(texts, [references]).score
    return found


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


def _say(found: dict[str, Any], name: str, compare: str) -> None:
    said, apart = f"{found['texts']} texts of the dev part, with beam {found['settings']['beam']}: ", 0.0
    for score, title in _SCORES.items():
        one, other = found[f"{score}_torch"], found[f"{score}_engine"]
        said += f"{title} {one:.2f} by torch, {other:.2f} by {name} ({other - one:+.2f}), "
        apart = max(apart, abs(other - one))
    said += f"{found['equal']} translations are equal"
    if apart > _TOLERATED:
        log.warning("%s; they should agree to %g: %s", said, _TOLERATED, compare)
    else:
        log.info("%s", said)
