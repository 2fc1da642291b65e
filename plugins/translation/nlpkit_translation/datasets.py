"""Readers of pairs, and the sample."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from nlpkit import Dataset, Example

if TYPE_CHECKING:
    from nlpkit.readers.examples import Errors

_SAMPLE = os.path.join(os.path.dirname(__file__), "sample.tsv")


def read_parallel(
    source: str, target: str | None = None, encoding: str | None = None, errors: Errors = "strict"
) -> Iterator[Example]:
    """Two files, line by line; without a target the lines of one."""
    from nlpkit_translation import parallel

    return parallel.read(source, target, encoding=encoding, errors=errors)


def read_pairs(
    path: str, columns: Mapping[str, str] | None = None, encoding: str | None = None, errors: Errors = "strict"
) -> Iterator[Example]:
    """Csv, tsv or jsonl; ``data.source`` and ``data.target`` name columns, languages, or count columns from 1."""
    from nlpkit_translation import pairs

    return pairs.read(path, columns=columns, encoding=encoding, errors=errors)


def read_tmx(
    path: str, columns: Mapping[str, str] | None = None, encoding: str | None = None, errors: Errors = "strict"
) -> Iterator[Example]:
    """A translation memory; ``data.source`` and ``data.target`` name languages: en is en-US, too."""
    from nlpkit_translation import tmx

    return tmx.read(path, columns=columns, encoding=encoding, errors=errors)


DATASETS = {
    "parallel": Dataset(read_parallel, sides=("source", "target")),
    "pairs": Dataset(read_pairs),
    "tmx": Dataset(read_tmx, endings=(".tmx",)),
    "translation-sample": Dataset(
        read_pairs,
        files={"train": _SAMPLE},
        about="400 short sentences in English and German; a trial, no benchmark",
        settings={"model.preset": "tiny", "optim.learning_rate": 2e-3, "trainer.max_epochs": 40},
    ),
}
