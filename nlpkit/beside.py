"""Text beside the corpus: scored and not learnt from, or kept out of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from nlpkit import control, readers
from nlpkit.config import DataConfig, RunConfig
from nlpkit.corpus import TokenStore
from nlpkit.data import Samples
from nlpkit.errors import DataError
from nlpkit.examples import texts_of
from nlpkit.leak_guard import LeakGuard
from nlpkit.objectives.objective import Objective
from nlpkit.plugins import Registry
from nlpkit.request import Request
from nlpkit.task import Task
from nlpkit.texts import LOOKED_AT, Texts, check_known, read_beside
from nlpkit.watch import Spread

log = logging.getLogger("nlpkit")
_OTHER = "leave --watch out, or watch another text"
_FEW_TOKENS = 2000  # of a text that is watched


def guard_of(task_class: type[Task[Any]], request: Request, config: RunConfig, registry: Registry) -> LeakGuard | None:
    """What keeps the texts of test sets out of the corpus; None: nothing is to be kept out."""
    if not request.exclude:
        return None
    documents = readers.Documents(config.data.documents)
    texts = texts_of(read_beside(task_class, request.exclude, config, registry, documents), task_class)
    return LeakGuard(texts, ", ".join(request.exclude), control.bare(config.data.control))


def watched(task: Objective[Any], request: Request, config: RunConfig, registry: Registry) -> Samples | None:
    """Samples of the text that is watched, from a token store of its own."""
    file = request.watch
    if not file:
        return None
    _, store, whole = text_beside(task, [file], config, registry, _OTHER, role=" (--watch)")
    samples = Spread(whole)
    scored = count_scored(task, store, samples)
    log.info("watch: %s of the %s tokens of %s are scored", f"{scored:,}", f"{len(store):,}", file)
    if len(store) < _FEW_TOKENS:
        log.warning("%s: %s tokens are too few for a sure score of what is forgotten", file, f"{len(store):,}")
    return samples


def text_beside(
    task: Objective[Any],
    files: Sequence[str],
    config: RunConfig,
    registry: Registry,
    hint: str,
    columns: Mapping[str, str] | None = None,
    *,
    role: str = "",
) -> tuple[Texts, TokenStore, Samples]:
    """A text that is scored and not learnt from: its token store, and the samples that an objective makes of it.

    Args:
        task: the objective.
        files: files, folders or globs.
        config: its ``data`` says how to read, and which columns stand before the texts where a file has them.
        registry: of readers.
        hint: what to do where the text will not do.
        columns: column of each field that is taken where a file has it.
        role: stands behind the files in messages.

    Raises:
        DataError: it makes no sample, or is in another language.
    """
    texts = Texts(type(task), readers.expand(list(files)), config, registry, beside=True, columns=columns)
    _warn_of_bare(texts.paths, config.data)
    store = texts.store(task.tokenizer)
    check_known(store.read(0, LOOKED_AT), task.tokenizer, files, hint)
    named = ", ".join(files) + role
    try:
        samples = task.samples(store.holdout(0.0, config.seed)[0], task.config.max_length)
    except DataError as error:  # of pairs
        raise DataError(f"{named}: {error.message}", f"{hint}, with documents of several sentences") from None
    if not len(samples.lengths):
        raise DataError(f"{named}: {len(store)} tokens make no sample of {task.name}", hint)
    return texts, store, samples


def count_scored(task: Objective[Any], store: TokenStore, samples: Samples) -> int:
    """Tokens of a store that stand in some samples: what fills no block stands in none."""
    return min(len(store), int(samples.lengths.sum()) - len(samples.lengths) * task.overhead)


def _warn_of_bare(paths: Sequence[str], data: DataConfig) -> None:
    """Say which files lack a column that stands before the texts a model has read; a reader's rows say so nowhere."""
    for path in paths if data.control and not data.reader else ():
        there = readers.inspect(path, encoding=data.encoding or None, delimiter=data.delimiter or None).columns
        if lacking := [name for name in data.control if not readers.find_columns([name], there)]:
            names, stand = ", ".join(f"'{name}'" for name in lacking), "stand" if len(lacking) > 1 else "stands"
            what = "before the texts that this model learns from; its texts are scored without"
            log.warning("%s: no column %s, which %s %s", path, names, stand, what)
