"""What a finished model is scored on: labelled examples or, after pre-training, text as it was trained on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from nlpkit import seen
from nlpkit.config import RunConfig
from nlpkit.data import Samples
from nlpkit.errors import DataError
from nlpkit.examples import read_labelled, texts_of
from nlpkit.objectives.objective import Objective
from nlpkit.plugins import Registry
from nlpkit.prepare import count_scored, text_beside, texts_beside
from nlpkit.task import Example, Task

log = logging.getLogger("nlpkit")


def to_score(
    task: Task[Any],
    files: Sequence[str],
    config: RunConfig,
    columns: dict[str, str],
    registry: Registry,
    known: seen.Seen,
) -> tuple[Sequence[Example] | Samples, dict[str, Any]]:
    """What a model is scored on, and facts about it; a warning where the model has seen it.

    Args:
        task: of the model.
        files: as the user named them.
        config: its ``data`` says how to read.
        columns: that the model was trained with.
        registry: of readers.
        known: fingerprints of the texts that the model has seen.

    Raises:
        DataError: text that does not suit the model, or labels that it does not know.
    """
    if isinstance(task, Objective):
        return _texts(task, files, config, columns, registry, known)
    return _examples(task, files, config, columns, registry, known)


def _texts(
    task: Objective[Any],
    files: Sequence[str],
    config: RunConfig,
    columns: dict[str, str],
    registry: Registry,
    known: seen.Seen,
) -> tuple[Samples, dict[str, Any]]:
    """Text as pre-training reads it, and how much of it there is."""
    store, samples = text_beside(task, files, config, registry, "give more text, in the language of the model", columns)
    scored = count_scored(task, store, samples)
    if scored < len(store):
        log.info("%s of the %s tokens are scored: the others fill no sample", f"{scored:,}", f"{len(store):,}")
    counts = seen.count(known, texts_beside(task, files, config, registry, columns))
    seen.warn(counts, store.documents, files)
    return samples, {"documents": store.documents, "tokens": scored, "labels": [], "seen": counts}


def _examples(
    task: Task[Any],
    files: Sequence[str],
    config: RunConfig,
    columns: dict[str, str],
    registry: Registry,
    known: seen.Seen,
) -> tuple[list[Example], dict[str, Any]]:
    """Labelled examples, and what there is to say of them."""
    task_class = type(task)
    examples = read_labelled(task_class, files, config, registry, preferred=columns)
    for example in examples:
        if task.config.labels and example.get("label") not in task.config.labels:
            raise DataError(
                f"{example.where}: label '{example.get('label')}' is none of the model's "
                f"({', '.join(task.config.labels)})",
                "name the column of the labels with data.label=COLUMN, if this file has labels",
            )
    texts = list(texts_of(examples, task_class))
    counts = seen.count(known, texts)
    seen.warn(counts, len(texts), files)
    return examples, {"examples": len(examples), "labels": task.config.labels, "seen": counts}
