"""From a request and a config to everything a run trains with: the one difference between the two stages."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from nlpkit import adopting, backbone, bundle, given, labelled, readers, seen, word_vectors
from nlpkit.beside import guard_of, watched
from nlpkit.config import RunConfig
from nlpkit.corpus import TokenStore, View
from nlpkit.data import EncodedExamples, Samples
from nlpkit.errors import DataError
from nlpkit.examples import fingerprint
from nlpkit.heads import Head
from nlpkit.joint.config import configs_of, with_configs
from nlpkit.joint.names import attribute
from nlpkit.joint.parts import features_in, tasks_in
from nlpkit.objectives.objective import Objective
from nlpkit.owners import fed_by
from nlpkit.plugins import Registry
from nlpkit.request import Request
from nlpkit.seen import Seen, Sketch
from nlpkit.starting import architecture_of, input_length, start_body, tokenizer_of, train_tokenizer
from nlpkit.task import Example, Task, TaskConfig
from nlpkit.texts import LOOKED_AT, OWN_LANGUAGE, Texts, check_known

log = logging.getLogger("nlpkit")
OF_SOURCES = ("parent", "also_from")
"""Facts of the models that a run started from, which its resume does not open again."""
_DEFAULT_LENGTH = 256
_ENOUGH_HELD_OUT = 0.2
_OWN_WORDS = "leave out --tokenizer, or give one that was trained on this language"


@dataclass
class Prepared:
    """Everything a run trains with.

    Args:
        task: with complete config and tokenizer.
        config: complete.
        architecture: of the model that it starts from, or of a new one; a resume builds the same from it.
        backbone: the body, with the weights it starts from.
        head: likewise.
        train: samples to train on.
        dev: samples that choose the best step.
        fingerprint: of the data, so that a resume notices changes.
        examples: train and dev examples of a fine-tuning, for baselines; empty in pre-training.
        facts: for results.json and run.json.
        seen: fingerprints of the texts that the model will have seen.
        watch: samples that are scored beside the dev part; None: there are none.
        word_frequencies: losses of a model that knows these only; pre-training is to get well below.
        chance: scores of a model that tosses a coin; likewise.
        record: for nlpkit.json, beside what every stage writes there.
        store: folder of the token store; None in fine-tuning.
        guessed: column of each field that no user named; the model remembers it.
    """

    task: Task[Any]
    config: RunConfig
    architecture: PretrainedConfig
    backbone: PreTrainedModel
    head: Head
    train: Samples
    dev: Samples
    fingerprint: str
    examples: tuple[list[Example], list[Example]] = field(default_factory=lambda: ([], []))
    facts: dict[str, Any] = field(default_factory=dict)
    seen: Seen = field(default_factory=dict)
    watch: Samples | None = None
    word_frequencies: dict[str, float] = field(default_factory=dict)
    chance: dict[str, float] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
    store: Path | None = None
    guessed: dict[str, str] = field(default_factory=dict)


def pretraining(request: Request, config: RunConfig, registry: Registry, setup: Path | None = None) -> Prepared:
    """Texts to a token store, and a model to learn from it.

    Args:
        request: what to read and where to start from.
        config: as composed.
        registry: of plugins.
        setup: architecture and tokenizer of the run that is resumed.

    Raises:
        DataError: too little text.
    """
    task_class = registry.task(request.task, stage="pretrain")
    assert issubclass(task_class, Objective)  # the registry refuses others
    texts = Texts(task_class, readers.expand(list(request.data)), config, registry)
    source, named = _source(request, setup), ", ".join(request.data)
    brought = tokenizer_of(source, request.hub, task_class.slow_tokenizers)
    if not source and request.tokenizer:
        brought = adopting.adopt(request.tokenizer, task_class, config.model.sequence_length)
    columns = texts.count_control()
    guard = guard_of(task_class, request, config, registry)
    words = brought or train_tokenizer(guard.keep(texts.read()) if guard else texts.read(), named, config.model)
    architecture = architecture_of(source, config.model, words, request.hub)
    length = input_length(config.task, architecture, words, config.model.sequence_length)
    task = task_class(replace(config.task, max_length=length), words)
    config = replace(config, task=task.config)
    task.check_architecture(architecture)
    store = texts.store(words, guard, report=brought is not None)  # the tokenizer's pass has said it
    log.info("corpus: %s documents, %s tokens", f"{store.documents:,}", f"{len(store):,}")
    excluded = _excluded(store, request)
    learnt, held_out = store.holdout(config.data.dev_share, config.seed)
    train = _learnt(task, learnt, length, named)
    if not len(train.lengths) or not len(held_out):
        raise DataError(
            f"{named}: {store.documents} documents with {len(store)} tokens are too few to learn from",
            f"give more text, one document a row{'; --exclude took the rest' if request.exclude else ''}",
        )
    dev = _held_out(task, held_out, length, config.data.dev_share, named)
    check_known(store.read(0, LOOKED_AT), words, request.data, _OWN_WORDS if request.tokenizer else OWN_LANGUAGE)
    head, body, parent = _start(task, architecture, source, request, registry, setup)
    task.check_backbone(body)
    if not source and config.model.embeddings == "lsa":
        log.info("embeddings: latent semantic analysis of the corpus (model.embeddings)")
        word_vectors.start_from(body.get_input_embeddings(), learnt, store.header.separator, words.all_special_ids)
    facts = {"corpus": {"documents": store.documents, "tokens": len(store), **excluded}, "parent": parent}
    record = {"store": store.header.key, **({"control": columns.plain()} if columns else {})}
    seen_texts = seen.join(_seen_before(source), {"pretrain": Sketch.of(store.fingerprints())})
    return Prepared(
        task,
        config,
        architecture,
        body,
        head,
        train,
        dev,
        store.header.content,
        facts=facts,
        seen=seen_texts,
        watch=watched(task, request, config, registry),
        word_frequencies=task.scores_of_frequencies(_word_entropy(store)),
        chance=task.scores_of_chance(),
        record=record,
        store=store.folder,
    )


def fine_tuning(request: Request, config: RunConfig, registry: Registry, setup: Path | None = None) -> Prepared:
    """Labelled examples, divided, and a model with a head to learn from them.

    Raises:
        DataError: no labels, one class only, or a class that the dev part lacks.
    """
    task_class = registry.task(request.task, stage="finetune")
    source = _source(request, setup)
    brought = tokenizer_of(source, request.hub, task_class.slow_tokenizers)
    rows = labelled.read(task_class, request, config, registry)
    settings = rows.settings
    words = brought or train_tokenizer(
        labelled.texts(task_class, rows.train, written=True),
        ", ".join(request.data),
        config.model,
        given.texts(task_class, "extra_tokens", settings),
    )
    train, dev = labelled.unfolded(task_class, rows, request)
    architecture = architecture_of(source, config.model, words, request.hub)
    if architecture.pad_token_id is None:  # by which a decoder's class finds the end of a text
        architecture.pad_token_id = words.pad_token_id
    dropout = 0.1 if config.model.dropout is None else config.model.dropout
    backbone.set_dropout(architecture, dropout)
    task = task_class(_limited(settings, architecture, words), words)
    config = replace(config, task=task.config)
    head, body, parent = _start(task, architecture, source, request, registry, setup)
    further = [] if setup else given.texts(task, "start", head, architecture)
    others = [{"source": other, "history": _history(other)} for other in further]
    facts = {"examples": {"train": len(train), "dev": len(dev)}, "parent": parent, "also_from": others}
    if counts := labelled.counts(task_class, rows):
        facts["tasks"] = counts
    samples = EncodedExamples(task, train), EncodedExamples(task, dev)
    check_known(_first_tokens(task, samples[0]), words, request.data)
    _say_what_is_cut(task, samples[0])
    before, held_out = _seen_before(source), list(labelled.texts(task_class, dev))
    for other in further:
        before = seen.join(before, _seen_before(bundle.find(other)))
    if not setup:  # which knows the texts of the run itself
        files, cut = request.dev or request.data, not request.dev
        seen.warn(seen.count(before, held_out), len(held_out), files, "dev texts", cut=cut)
    seen_texts = seen.join(before, seen.of_texts("finetune", [*labelled.texts(task_class, train), *held_out]))
    return Prepared(
        task,
        config,
        architecture,
        body,
        head,
        *samples,
        fingerprint(train + dev),
        (train, dev),
        facts,
        seen_texts,
        guessed=rows.guessed,
    )


def _limited(settings: TaskConfig, architecture: PretrainedConfig, words: PreTrainedTokenizerBase) -> TaskConfig:
    """The settings with the length of inputs; each of several tasks has its own, or that of all."""
    parts = {}
    for name, own in configs_of(settings).items():
        own = replace(own, max_length=own.max_length or settings.max_length)
        parts[name] = replace(own, max_length=input_length(own, architecture, words, _DEFAULT_LENGTH))
    longest = max(own.max_length for own in parts.values())
    return replace(with_configs(settings, parts), max_length=longest)


def _say_what_is_cut(task: Task[Any], samples: EncodedExamples) -> None:
    """Say where many texts are as long as their task takes them; longer ones are read in windows."""
    lengths = samples.lengths.reshape(len(samples.lengths), -1)
    for number, (name, part) in enumerate(tasks_in(task).items()):
        own, whose, setting = lengths, "", "task.max_length"
        if part is not task:
            own, whose, setting = lengths[samples.kinds == number], f" of {name}", f"task.{attribute(name)}.max_length"
        longest = part.config.max_length
        cut = 100 * float((own == longest).any(1).sum()) / max(1, len(own))
        if cut > 1:
            what = "%.0f%% of the texts%s are longer than %d tokens and are cut (%s)"
            log.info(what, cut, whose, longest, setting)


def _source(request: Request, setup: Path | None) -> str:
    """The folder or hub name that architecture and tokenizer come from; empty: from nothing."""
    return str(setup) if setup else bundle.find(request.source) if request.source else ""


def _start(
    task: Task[Any],
    architecture: PretrainedConfig,
    source: str,
    request: Request,
    registry: Registry,
    setup: Path | None,
) -> tuple[Head, PreTrainedModel, dict[str, Any] | None]:
    """Head and body with the weights that a run begins with, and what nlpkit.json says of the model they come from."""
    head = bundle.build_head(task, architecture, registry)
    body = start_body(request.source and source, architecture, head, request.hub, fresh=setup is not None)
    return head, body, bundle.read_record(source) if request.source and not setup else None


def _learnt(task: Objective[Any], documents: View, length: int, named: str) -> Samples:
    """Samples to train on; where a text makes none, its files are named."""
    try:
        return task.samples(documents, length)
    except DataError as error:
        raise DataError(f"{named}: {error.message}", error.hint) from None


def _held_out(task: Objective[Any], documents: View, length: int, share: float, named: str) -> Samples:
    """Samples of the part that is held out, which of a short text may be too little."""
    try:
        samples = task.samples(documents, length)
        problem = "" if len(samples.lengths) else f"no sample of {task.name}"
    except DataError as error:
        problem = error.message
    if not problem:
        return samples
    more = f"data.dev_share={_ENOUGH_HELD_OUT:g} holds out more; or " if share < _ENOUGH_HELD_OUT else ""
    part = f"the part held out to choose the best step, {100 * share:g}% of the text,"
    raise DataError(f"{named}: {part} is too small: {problem}", f"{more}give more text, one document a row")


def _excluded(store: TokenStore, request: Request) -> dict[str, Any]:
    """Say how many documents were left out, and keep it among the facts of the corpus."""
    if not request.exclude:
        return {}
    counts = {kind: store.header.facts.get(kind, 0) for kind in ("exact", "near")}
    log.info(
        "%s of its documents were left out as repeats of %s: %s exact, %s near",
        f"{sum(counts.values()):,}",
        ", ".join(request.exclude),
        f"{counts['exact']:,}",
        f"{counts['near']:,}",
    )
    return {"excluded": {"files": list(request.exclude), **counts}}


def _seen_before(source: str) -> Seen:
    return seen.read(Path(source)) if source and Path(source).is_dir() else {}


def _history(source: str) -> list[Any]:
    """The stages that made a model; none of one that others made."""
    return list((bundle.read_record(bundle.find(source)) or {}).get("history", []))


@fed_by("encode")
def _first_tokens(task: Task[Any], samples: EncodedExamples) -> NDArray[np.int64]:
    count = min(len(samples.lengths), 2000)
    found = [own for i in range(count) for _, own in features_in(task, samples.features(i))]
    return np.concatenate([np.asarray(own["input_ids"], np.int64) for own in found])


def _word_entropy(store: TokenStore) -> float:
    counts = np.bincount(store.read(0, LOOKED_AT)).astype(np.float64)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
