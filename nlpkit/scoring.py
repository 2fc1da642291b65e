"""What a finished model is scored on: labelled examples or, after pre-training, text as it was trained on."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from nlpkit import seen
from nlpkit.beside import count_scored, text_beside
from nlpkit.config import RunConfig
from nlpkit.data import Samples
from nlpkit.examples import Remembered, check_labels, read_labelled, texts_of
from nlpkit.objectives.objective import Objective
from nlpkit.plugins import Registry
from nlpkit.task import Example, Task

log = logging.getLogger("nlpkit")
_LONGER = "give more text, in the language of the model"


def to_score(
    task: Task[Any],
    files: Sequence[str],
    config: RunConfig,
    columns: Remembered,
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
    samples: Sequence[Example] | Samples
    texts: Iterable[str]
    if isinstance(task, Objective):
        read, store, samples = text_beside(task, files, config, registry, _LONGER, columns.named)
        if (scored := count_scored(task, store, samples)) < len(store):
            log.info("%s of the %s tokens are scored: the others fill no sample", f"{scored:,}", f"{len(store):,}")
        texts, total = read.bare(), store.documents
        facts = {"documents": total, "tokens": scored, "labels": []}
    else:
        samples = read_labelled(type(task), files, config, registry, remembered=columns)
        if task.config.labels:
            check_labels(
                type(task),
                samples,
                task.config.labels,
                f"is none of the model's ({', '.join(task.config.labels)})",
                f"name the column of the labels with data.{_label_field(task)}=COLUMN, if this file has labels",
            )
        texts = list(texts_of(samples, type(task)))
        total, facts = len(texts), {"examples": len(samples), "labels": task.config.labels}
    counts = seen.count(known, texts)
    seen.warn(counts, total, files)
    return samples, {**facts, "seen": counts}


def _label_field(task: Task[Any]) -> str:
    return next((name for name, field in task.fields.items() if not field.required), "label")
