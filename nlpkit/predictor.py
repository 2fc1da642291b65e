"""A finished model that answers: texts in, JSON values out, in their order."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torchmetrics import MetricCollection

from nlpkit import given
from nlpkit.batching import sorted_batches
from nlpkit.bundle import Loaded
from nlpkit.data import Samples, batch_named, encoded, make_batch
from nlpkit.errors import DataError
from nlpkit.examples import checked
from nlpkit.joint.task import JointTask, NewExample
from nlpkit.module import TaskModule
from nlpkit.packed import pack
from nlpkit.plugins.blame import isolated
from nlpkit.task import Example, Task

_WINDOW = 2048  # texts that are sorted by length together
_BATCH_TOKENS = 4096
_BATCH_ROWS = 64


class Predictor:
    """Predictions of a finished run, without a trainer.

    Args:
        loaded: the bundle.
        device: ``cpu`` or ``cuda``; None: a GPU if there is one.
    """

    def __init__(self, loaded: Loaded, device: str | None = None) -> None:
        self.record, self.task = loaded.record, loaded.task
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.module = TaskModule(loaded.task, loaded.backbone, loaded.head).eval().to(self.device)
        pack(self.module)

    def predict(self, texts: Sequence[str | dict[str, Any]]) -> list[dict[str, Any]]:
        """One JSON value for each text or row, in their order.

        Raises:
            DataError: a single text, or a row without one.
        """
        if isinstance(texts, str):
            raise DataError("predict takes a list of texts, found one text", 'predict(["..."])')
        rows = (self._example(text, f"row {i}") for i, text in enumerate(texts, 1))
        with isolated():
            return list(self.stream(checked(type(self.task), rows)))

    def _example(self, given: Any, where: str) -> Example:
        """A row with the fields that the task needs; a bare text is the first of them."""
        needed = [name for name, field in self.task.fields.items() if field.required]
        row = {needed[0]: given} if isinstance(given, str) else given
        for name in needed:
            if not isinstance(row, Mapping) or not isinstance(row.get(name), str):
                raise DataError(
                    f"{where}: no text for '{name}', found {given!r:.60}", f'predict([{{"{name}": "..."}}])'
                )
        return Example({name: row[name] for name in needed}, where)

    def stream(self, examples: Iterable[Example]) -> Iterator[dict[str, Any]]:
        """The same for any number of examples, a window of 2,048 in memory at a time."""
        iterator = iter(examples)
        while window := list(islice(iterator, _WINDOW)):
            with isolated():
                answers = self._predict_window(window)
            yield from answers

    @isolated()
    def score(self, examples: Sequence[Example] | Samples, metrics: MetricCollection | None = None) -> dict[str, float]:
        """The mean loss and the metrics, the task's own where none are given, on labelled examples or samples."""
        return self.module.score((batch for _, batch in self._batches(examples)), metrics or given.metrics(self.task))

    def _predict_window(self, window: list[Example]) -> list[dict[str, Any]]:
        answers: list[dict[str, Any]] = [{}] * len(window)
        for rows, batch in self._batches([_without_label(e, self.task) for e in window]):
            with _batch_named(window, rows):
                found = given.answers(self.task, self.module.predict_step(batch), len(rows))
                for row, answer in zip(rows, found, strict=True):
                    answers[row] = given.completed(self.task, answer, window[row])
        return answers

    def _batches(self, examples: Sequence[Example] | Samples) -> Iterator[tuple[list[int], Any]]:
        with torch.inference_mode(), _unicode_errors(examples):
            samples = encoded(self.task, examples)
            for rows in sorted_batches(samples.lengths, _BATCH_TOKENS, _BATCH_ROWS):
                with batch_named(samples, np.asarray(rows)):
                    batch = make_batch(self.task, samples, np.asarray(rows), 0, -1)
                yield rows.tolist(), {k: v.to(self.device) for k, v in batch.items()}


def _without_label(example: Example, task: Task[Any]) -> Example:
    kept = Example({k: v for k, v in example.items() if k in task.fields and task.fields[k].required}, example.where)
    if isinstance(task, JointTask) and isinstance(example, NewExample):
        return NewExample(kept, {name: _without_label(own, task.parts[name]) for name, own in example.parts.items()})
    return kept


@contextlib.contextmanager
def _batch_named(window: Sequence[Example], rows: Sequence[int]) -> Iterator[None]:
    """Let what fails in the ``with`` block say where the first of its examples stands."""
    try:
        yield
    except Exception as error:
        error.add_note(f"in the batch of {window[rows[0]].where}{f' and {len(rows) - 1} more' * (len(rows) > 1)}")
        raise


@contextlib.contextmanager
def _unicode_errors(examples: Sequence[Example] | Samples) -> Iterator[None]:
    try:
        yield
    except (UnicodeEncodeError, TypeError):
        if not isinstance(examples, Sequence):
            raise
        texts = (value for example in examples for value in example.values() if isinstance(value, str))
        if any("\ud800" <= character <= "\udfff" for text in texts for character in text):
            raise DataError("a text holds a lone surrogate, which is no character", "clean the text first") from None
        raise
