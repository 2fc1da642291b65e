"""The readers by name, and the sample; what reads is imported when a file is read, so that plugins list fast."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from nlpkit import Dataset, Example

if TYPE_CHECKING:
    from nlpkit.readers.examples import Errors

_SAMPLE = os.path.join(os.path.dirname(__file__), "sample.conll")


def read_conll(
    path: str, columns: Mapping[str, str] | None = None, encoding: str | None = None, errors: Errors = "strict"
) -> Iterator[Example]:
    """Words in columns with their tags; ``data.entities`` names the column of the tags, or counts it from 1."""
    from nlpkit_ner import conll

    return conll.read(path, tags=(columns or {}).get("entities"), encoding=encoding, errors=errors)


def read_spans(path: str, encoding: str | None = None, errors: Errors = "strict") -> Iterator[Example]:
    """JSON of annotation tools, in any of their forms."""
    from nlpkit_ner import span_files

    return span_files.read(path, encoding=encoding, errors=errors)


DATASETS = {
    "conll": Dataset(read_conll, endings=(".conll", ".conllu", ".iob", ".iob2", ".bio", ".bioes")),
    "spans": Dataset(read_spans),
    "ner-sample": Dataset(read_conll, files={"train": _SAMPLE}, about="120 short texts; a trial, no benchmark"),
}
