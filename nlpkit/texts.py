"""Files as texts of a model: what stands before each, what is a document, and the store of their tokens."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from nlpkit import control, corpus, readers, tokenizer
from nlpkit.config import DataConfig, RunConfig
from nlpkit.errors import DataError
from nlpkit.examples import NOTHING, Remembered, read_examples, texts_of
from nlpkit.leak_guard import LeakGuard
from nlpkit.plugins import Registry
from nlpkit.task import Example, Task

log = logging.getLogger("nlpkit")
LOOKED_AT = 2_000_000  # tokens of a corpus that are enough to know it
OWN_LANGUAGE = "leave out --from, or start from a model of this language"
_MANY_UNKNOWN = 0.05
_MANY_FILES = 20  # of which some can be held out whole
_PARTS, _SHORTEST_PART = 50, 1 << 14  # of fewer files together; characters


@dataclass(frozen=True)
class Texts:
    """The texts of some files, read as often as need be.

    Args:
        task_class: says what a text is.
        paths: files, as `readers.expand` lists them.
        config: its ``data`` says how to read, and which columns stand before the texts.
        registry: of readers.
        beside: whether the files are no part of the corpus: columns are taken where a file has them.
        columns: of files beside it, column of each field that is taken where a file has it.
    """

    task_class: type[Task[Any]]
    paths: Sequence[str]
    config: RunConfig
    registry: Registry
    beside: bool = False
    columns: Mapping[str, str] | None = None

    def read(self, *, report: bool = True) -> Iterator[str]:
        """The texts as a model reads them, behind their attributes."""
        examples = control.written(self._examples(report=report), self.config.data.control)
        return texts_of(examples, self.task_class)

    def bare(self) -> Iterator[str]:
        """The texts alone."""
        return texts_of(self._examples(report=False), self.task_class)

    def count_control(self) -> control.Control | None:
        """The values of the columns that stand before the texts: a pass of its own, which finds bad columns first."""
        columns = self.config.data.control
        return control.count(self._examples(report=False), columns) if columns else None

    def store(
        self, words: PreTrainedTokenizerBase, guard: LeakGuard | None = None, *, report: bool = True
    ) -> corpus.TokenStore:
        """The token store of the texts that a guard keeps, from the cache or made now."""
        texts, data = self.read(report=report), self.config.data
        kept = guard.keep(texts) if guard else None
        parts = (tokenizer.tokenizer_hash(words), _what_is_read(data, self.columns), *([guard.key] if guard else []))
        key = corpus.content_key(self.paths, *parts)
        return corpus.build(
            kept or texts,
            words,
            corpus.folder_of(key),
            key=key,
            expected_bytes=sum(os.path.getsize(p) for p in self.paths),
            facts=kept.counts if kept else dict,
            columns=data.control,
        )

    def _examples(self, *, report: bool) -> Iterator[Example]:
        task_class, paths, config, wanted = self.task_class, self.paths, self.config, self.config.data.control
        documents = _documents(config.data, paths)
        if self.beside:
            return read_beside(task_class, paths, config, self.registry, documents, self.columns, wanted, report=report)
        extra = dict.fromkeys(wanted, "data.control")
        return read_examples(task_class, paths, config, self.registry, report=report, documents=documents, extra=extra)


def read_beside(
    task_class: type[Task[Any]],
    paths: Sequence[str],
    config: RunConfig,
    registry: Registry,
    documents: readers.Documents,
    columns: Mapping[str, str] | None = None,
    wanted: Sequence[str] = (),
    *,
    report: bool = True,
) -> Iterator[Example]:
    """Rows of files that are no part of the corpus: read as that is, but their column may have another name.

    Args:
        task_class: an objective, whose text is looked for.
        paths: files, folders or globs.
        config: its ``data`` says how to read; a column that it names is taken where there is one.
        registry: of readers.
        documents: what of a txt is a text.
        columns: that a model was trained on, taken likewise where ``config`` names none; that one is absent is said.
        wanted: further columns to carry along where a file has them.
        report: log what was detected of each file.
    """
    guessing = config if config.data.reader else replace(config, data=replace(config.data, columns={}))
    return read_examples(
        task_class,
        paths,
        guessing,
        registry,
        wanted=wanted,
        preferred=config.data.columns,
        remembered=NOTHING if config.data.columns else Remembered(columns or {}),
        report=report,
        documents=documents,
    )


def check_known(
    tokens: NDArray[np.int64], words: PreTrainedTokenizerBase, files: Sequence[str], hint: str = OWN_LANGUAGE
) -> None:
    """Whether the tokenizer, which may be that of another language, knows the words of the texts."""
    named = ", ".join(files) or "the sample"
    if np.isin(tokens, words.all_special_ids).all():
        raise DataError(f"{named}: the tokenizer knows no word of these texts", hint)
    unknown = float((tokens == words.unk_token_id).mean()) if words.unk_token_id is not None else 0.0
    if unknown > _MANY_UNKNOWN:
        log.warning("%s: the tokenizer does not know %.0f%% of the tokens", named, 100 * unknown)


def _documents(data: DataConfig, paths: Sequence[str]) -> readers.Documents:
    """What of a txt is a document; a few books are cut, for a part must be held out, and it is of whole documents."""
    if len(paths) >= _MANY_FILES:
        return readers.Documents(data.documents)
    size = sum(os.path.getsize(path) for path in paths)
    return readers.Documents(data.documents, max(_SHORTEST_PART, size // _PARTS))


def _what_is_read(data: DataConfig, columns: Mapping[str, str] | None) -> str:
    """What decides what a file's texts are, columns as in `read_beside`; how they are divided changes no token."""
    taken = dict(data.columns or columns or {})
    return repr((taken, data.control, data.reader, data.documents, data.encoding, data.delimiter, data.errors))
