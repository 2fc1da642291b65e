"""From a request and a config to everything a run trains with: the one difference between the two stages."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from nlpkit import adopting, backbone, bundle, control, corpus, handover, readers, seen, tokenizer, word_vectors
from nlpkit.config import DataConfig, RunConfig
from nlpkit.data import EncodedExamples, Samples
from nlpkit.errors import DataError, ModelError, UsageError
from nlpkit.examples import check_parts, read_beside, read_examples, read_parts, texts_of
from nlpkit.heads import Head
from nlpkit.leak_guard import LeakGuard
from nlpkit.objectives.objective import Objective
from nlpkit.plugins import Registry
from nlpkit.seen import Seen, Sketch
from nlpkit.task import Example, Task, TaskConfig
from nlpkit.vetting import check_folder
from nlpkit.watch import Spread

log = logging.getLogger("nlpkit")
_DEFAULT_LENGTH = 256
_LOOKED_AT = 2_000_000  # tokens of a corpus that are enough to know it
_MANY_UNKNOWN = 0.05
_FEW_TOKENS = 2000  # of a text that is watched
_OWN_LANGUAGE = "leave out --from, or start from a model of this language"
_OWN_WORDS = "leave out --tokenizer, or give one that was trained on this language"
_MANY_FILES = 20  # of which some can be held out whole
_PARTS, _SHORTEST_PART = 50, 1 << 14  # of fewer files together; characters


@dataclass(frozen=True)
class Request:
    """What a user asked for, as run.json keeps it.

    Args:
        task: name of the task or objective.
        data: files, folders or globs; empty: the task's sample.
        dev: files of the dev part; empty: held out of the data.
        source: model folder or hub name to start from; empty: from nothing.
        plugins: files of plugins that are not installed.
        hub: whether ``source`` may be a hub name.
        exclude: files whose texts are kept out of the corpus.
        watch: file, folder or glob of a text that is scored beside the dev part; empty: none.
        tokenizer: folder of the tokenizer of a new model; empty: one is trained on the data.
    """

    task: str
    data: tuple[str, ...] = ()
    dev: tuple[str, ...] = ()
    source: str = ""
    plugins: tuple[str, ...] = ()
    hub: bool = False
    exclude: tuple[str, ...] = ()
    watch: str = ""
    tokenizer: str = ""

    def seen_from(self, folder: str) -> Request:
        """The same with files that were named in another working folder, unless they are seen from here only."""

        def there(name: str) -> str:
            joined = os.path.join(folder, os.path.expanduser(name))
            return name if os.path.exists(name) and not os.path.exists(joined) else joined

        if folder == os.getcwd():
            return self
        is_name = self.hub and not os.path.isdir(os.path.join(folder, self.source))
        source = there(self.source) if self.source and not is_name else self.source
        files: dict[str, Any] = {
            name: tuple(map(there, getattr(self, name))) for name in ("data", "dev", "plugins", "exclude")
        }
        beside: dict[str, Any] = {
            name: there(value) for name in ("watch", "tokenizer") if (value := getattr(self, name))
        }
        return replace(self, source=source, **files, **beside)

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


@dataclass
class Prepared:
    """Everything a run trains with.

    Args:
        task: with complete config and tokenizer.
        config: complete.
        backbone: the body, with the weights it starts from.
        head: likewise.
        train: samples to train on.
        dev: samples that choose the best step.
        fingerprint: of the data, so that a resume notices changes.
        examples: train and dev examples of a fine-tuning, for baselines; empty in pre-training.
        facts: for results.json and run.json.
        seen: fingerprints of the texts that the model will have seen.
        watch: samples that are scored beside the dev part; None: there are none.
        word_entropy: nats of a model that knows word frequencies only; pre-training is to get well below.
        record: for nlpkit.json, beside what every stage writes there.
        store: folder of the token store; None in fine-tuning.
    """

    task: Task[Any]
    config: RunConfig
    backbone: PreTrainedModel
    head: Head
    train: Samples
    dev: Samples
    fingerprint: str
    examples: tuple[list[Example], list[Example]] = field(default_factory=lambda: ([], []))
    facts: dict[str, Any] = field(default_factory=dict)
    seen: Seen = field(default_factory=dict)
    watch: Samples | None = None
    word_entropy: float | None = None
    record: dict[str, Any] = field(default_factory=dict)
    store: Path | None = None


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
    paths = readers.expand(list(request.data))
    source = str(setup) if setup else bundle.find(request.source) if request.source else ""
    given = _tokenizer_of(source, request.hub)
    if not source and request.tokenizer:
        given = adopting.adopt(request.tokenizer, task_class, config.model.sequence_length)
    columns = _count_control(task_class, paths, config, registry)
    guard = _guard(task_class, request, config, registry)
    texts = _texts(task_class, paths, config, registry)
    words = given or _train_tokenizer(guard.keep(texts) if guard else texts, request, config)
    architecture = _architecture(source, config, words, request.hub)
    length = _asked_length(config.task, architecture, words) or min(
        config.model.sequence_length, _model_length(architecture, words)
    )
    task = task_class(replace(config.task, max_length=length), words)
    config = replace(config, task=task.config)
    task.check_architecture(architecture)
    texts = _texts(task_class, paths, config, registry, report=given is not None)  # the tokenizer's pass has said it
    store = _store(texts, paths, words, config.data, guard)
    log.info("corpus: %s documents, %s tokens", f"{store.documents:,}", f"{len(store):,}")
    excluded = _excluded(store, request)
    learnt, held_out = store.holdout(config.data.dev_share, config.seed)
    train, dev = task.samples(learnt, length), task.samples(held_out, length)
    if not len(train.lengths) or not len(dev.lengths):
        raise DataError(
            f"{', '.join(request.data)}: {store.documents} documents with {len(store)} tokens are too few to learn "
            "from",
            f"give more text, one document a row{', or leave out --exclude' if request.exclude else ''}",
        )
    _check_known(store.read(0, _LOOKED_AT), words, request.data, _OWN_WORDS if request.tokenizer else _OWN_LANGUAGE)
    head = bundle.build_head(task, architecture, registry)
    body = _body(request.source and source, architecture, head, request.hub, fresh=setup is not None)
    task.check_backbone(body)
    if not source and config.model.embeddings == "lsa":
        log.info("embeddings: latent semantic analysis of the corpus (model.embeddings)")
        word_vectors.start_from(body.get_input_embeddings(), learnt, store.header.separator, words.all_special_ids)
    parent = bundle.read_record(source) if request.source and not setup else None
    facts = {"corpus": {"documents": store.documents, "tokens": len(store), **excluded}, "parent": parent}
    record = {"store": store.header.key, **({"control": columns.plain()} if columns else {})}
    seen_texts = seen.join(_seen_before(source), {"pretrain": Sketch.of(store.fingerprints())})
    entropy = task.loss_of_frequencies(_word_entropy(store))
    return Prepared(
        task,
        config,
        body,
        head,
        train,
        dev,
        store.header.content,
        facts=facts,
        seen=seen_texts,
        watch=_watched(task, request, config, registry),
        word_entropy=entropy,
        record=record,
        store=store.folder,
    )


def fine_tuning(request: Request, config: RunConfig, registry: Registry, setup: Path | None = None) -> Prepared:
    """Labelled examples, divided, and a model with a head to learn from them.

    Raises:
        DataError: no labels, one class only, or a class that the dev part lacks.
    """
    task_class = registry.task(request.task, stage="finetune")
    source = str(setup) if setup else bundle.find(request.source) if request.source else ""
    given = _tokenizer_of(source, request.hub)
    train, dev = read_parts(task_class, request.data, request.dev, config, registry)
    settings = task_class.prepare(config.task, train)
    check_parts(train, dev, settings.labels)
    words = given or _train_tokenizer(texts_of(train, task_class), request, config)
    architecture = _architecture(source, config, words, request.hub)
    dropout = 0.1 if config.model.dropout is None else config.model.dropout
    backbone.set_dropout(architecture, dropout)
    length = _asked_length(settings, architecture, words) or min(_DEFAULT_LENGTH, _model_length(architecture, words))
    task = task_class(replace(settings, max_length=length), words)
    config = replace(config, task=task.config)
    head = bundle.build_head(task, architecture, registry)
    body = _body(request.source and source, architecture, head, request.hub, fresh=setup is not None)
    record = bundle.read_record(source) if request.source and not setup else None
    fingerprint = _fingerprint(train + dev)
    facts = {"examples": {"train": len(train), "dev": len(dev)}, "parent": record}
    samples = EncodedExamples(task, train), EncodedExamples(task, dev)
    _check_known(_first_tokens(samples[0]), words, request.data)
    cut = float((samples[0].lengths >= length).mean())
    if cut > 0.01:
        log.info("%.0f%% of the texts are longer than %d tokens and are cut (task.max_length)", 100 * cut, length)
    before, held_out = _seen_before(source), list(texts_of(dev, task_class))
    if not setup:  # which knows the texts of the run itself
        seen.warn(seen.count(before, held_out), len(held_out), request.dev or request.data, "dev texts")
    seen_texts = seen.join(before, seen.of_texts("finetune", [*texts_of(train, task_class), *held_out]))
    return Prepared(task, config, body, head, *samples, fingerprint, (train, dev), facts, seen_texts)


def _texts(
    task_class: type[Task[Any]], paths: Sequence[str], config: RunConfig, registry: Registry, *, report: bool = True
) -> Iterator[str]:
    examples = _examples(task_class, paths, config, registry, report=report)
    return texts_of(control.written(examples, config.data.control), task_class)


def _count_control(
    task_class: type[Task[Any]], paths: Sequence[str], config: RunConfig, registry: Registry
) -> control.Control | None:
    """The values of the columns that stand before the texts: a pass of its own, which finds bad columns first."""
    if not config.data.control:
        return None
    return control.count(_examples(task_class, paths, config, registry, report=False), config.data.control)


def _examples(
    task_class: type[Task[Any]], paths: Sequence[str], config: RunConfig, registry: Registry, *, report: bool
) -> Iterator[Example]:
    documents, extra = _documents(config.data, paths), dict.fromkeys(config.data.control, "data.control")
    return read_examples(task_class, paths, config, registry, report=report, documents=documents, extra=extra)


def _documents(data: DataConfig, paths: Sequence[str]) -> readers.Documents:
    """What of a txt is a document; a few books are cut, for a part must be held out, and it is of whole documents."""
    if len(paths) >= _MANY_FILES:
        return readers.Documents(data.documents)
    size = sum(os.path.getsize(path) for path in paths)
    return readers.Documents(data.documents, max(_SHORTEST_PART, size // _PARTS))


def _guard(task_class: type[Task[Any]], request: Request, config: RunConfig, registry: Registry) -> LeakGuard | None:
    documents = readers.Documents(config.data.documents)
    if not request.exclude:
        return None
    texts = texts_of(read_beside(task_class, request.exclude, config, registry, documents), task_class)
    return LeakGuard(texts, ", ".join(request.exclude), control.bare(config.data.control))


def _store(
    texts: Iterator[str],
    paths: Sequence[str],
    words: PreTrainedTokenizerBase,
    data: DataConfig,
    guard: LeakGuard | None = None,
) -> corpus.TokenStore:
    """The token store of some files, from the cache or made now."""
    kept = guard.keep(texts) if guard else None
    key = corpus.content_key(
        paths, tokenizer.tokenizer_hash(words), _what_is_read(data), *([guard.key] if guard else [])
    )
    return corpus.build(
        kept or texts,
        words,
        corpus.folder_of(key),
        key=key,
        expected_bytes=sum(os.path.getsize(p) for p in paths),
        facts=kept.counts if kept else dict,
        columns=data.control,
    )


def _excluded(store: corpus.TokenStore, request: Request) -> dict[str, Any]:
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


def _watched(task: Objective[Any], request: Request, config: RunConfig, registry: Registry) -> Samples | None:
    """Samples of the text that is watched, from a token store of its own."""
    file = request.watch
    if not file:
        return None
    store, whole = text_beside(task, [file], config, registry, "watch another text")
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
) -> tuple[corpus.TokenStore, Samples]:
    """A text that is scored and not learnt from: its token store, and the samples that an objective makes of it.

    Args:
        task: the objective.
        files: files, folders or globs.
        config: its ``data`` says how to read, and which columns stand before the texts where a file has them.
        registry: of readers.
        hint: what to do where the text will not do.
        columns: column of each field that is taken where a file has it.

    Raises:
        DataError: too short for one sample, or in another language.
    """
    paths, words = readers.expand(list(files)), task.tokenizer
    _warn_of_bare(paths, config.data)
    documents, control_columns = _documents(config.data, paths), config.data.control
    rows = read_beside(type(task), paths, config, registry, documents, columns, control_columns)
    texts = texts_of(control.written(rows, control_columns), type(task))
    store = _store(texts, paths, words, config.data)
    _check_known(store.read(0, _LOOKED_AT), words, files, hint)
    samples = task.samples(store.holdout(0.0, config.seed)[0], task.config.max_length)
    if not len(samples.lengths):
        raise DataError(f"{', '.join(files)}: {len(store)} tokens make no sample of {task.name}", hint)
    return store, samples


def texts_beside(
    task: Objective[Any],
    files: Sequence[str],
    config: RunConfig,
    registry: Registry,
    columns: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """The texts themselves, without what stands before them; arguments as for `text_beside`."""
    paths = readers.expand(list(files))
    documents = _documents(config.data, paths)
    rows = read_beside(type(task), paths, config, registry, documents, columns, report=False)
    return texts_of(rows, type(task))


def count_scored(task: Objective[Any], store: corpus.TokenStore, samples: Samples) -> int:
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


def _seen_before(source: str) -> Seen:
    return seen.read(Path(source)) if source and Path(source).is_dir() else {}


def _tokenizer_of(source: str, hub: bool) -> PreTrainedTokenizerBase | None:
    """The tokenizer of what the run starts from; that it is no model at all is said first."""
    if not source:
        return None
    if Path(source).is_dir() or not hub:
        check_folder(Path(source), handover.ADD_HUB)
    return tokenizer.make_ready(tokenizer.load(source, hub))


def _train_tokenizer(texts: Iterable[str], request: Request, config: RunConfig) -> PreTrainedTokenizerBase:
    texts = (text for text in texts if text.strip())
    first = next(texts, None)
    if first is None:
        raise DataError(f"{', '.join(request.data)}: every text is empty", "name the column with data.text=COLUMN")
    model = config.model
    return tokenizer.train(
        chain((first,), texts),
        kind=model.tokenizer,
        vocabulary=model.vocabulary,
        lowercase=model.lowercase,
        max_length=model.sequence_length,
        generates=model.family in backbone.DECODERS,
        denoises=model.family in backbone.ENCODER_DECODERS,
    )


def _architecture(source: str, config: RunConfig, words: PreTrainedTokenizerBase, hub: bool) -> PretrainedConfig:
    if not source:
        return backbone.architecture(config.model, words)
    architecture = handover.read_architecture(source, hub=hub)
    kinds = (AutoModelForMaskedLM, AutoModelForCausalLM, AutoModelForSeq2SeqLM)
    if not any(type(architecture) in kind._model_mapping for kind in kinds):
        raise ModelError(
            f"{source}: {architecture.model_type} is neither an encoder nor a decoder of text",
            "name a model such as BERT, ModernBERT, GPT-2, Llama or T5",
        )
    tokenizer.check_matches(words, architecture.vocab_size)
    if architecture.pad_token_id is None:
        architecture.pad_token_id = words.pad_token_id
    if config.model.dropout is not None:
        backbone.set_dropout(architecture, config.model.dropout)
    return architecture


def _positions(architecture: PretrainedConfig, words: PreTrainedTokenizerBase) -> int:
    """Tokens that the model has positions for; what its tokenizer says where it has none."""
    # RoBERTa counts positions from the padding id on
    offset = architecture.pad_token_id + 1 if architecture.model_type in {"roberta", "xlm-roberta", "camembert"} else 0
    positions = getattr(architecture, "max_position_embeddings", None)
    return int(positions) - offset if positions else words.model_max_length


def _model_length(architecture: PretrainedConfig, words: PreTrainedTokenizerBase) -> int:
    return min(_positions(architecture, words), words.model_max_length)


def _asked_length(settings: TaskConfig, architecture: PretrainedConfig, words: PreTrainedTokenizerBase) -> int:
    """What ``task.max_length`` says: 0, or a length that the model can read and that has room for a word."""
    longest, shortest = _positions(architecture, words), words.num_special_tokens_to_add() + 1
    if settings.max_length and not shortest <= settings.max_length <= longest:
        raise UsageError(
            f"task.max_length is {settings.max_length}, this model reads from {shortest} to {longest} tokens",
            f"task.max_length={longest}; a new model reads as many as model.sequence_length says",
        )
    return settings.max_length


def _body(source: str, architecture: PretrainedConfig, head: Head, hub: bool, *, fresh: bool) -> PreTrainedModel:
    """The body with the weights the run starts from; a resumed run gets its weights from the checkpoint instead."""
    if fresh or not source:
        body = backbone.build(architecture)
        head.tie(body)
        if not fresh:
            count = backbone.count_parameters(body, head)
            log.info("a new %s with %.1f million parameters", architecture.model_type, count / 1e6)
        return body
    body, account = handover.load(source, head, config=architecture, hub=hub)
    log.info("%s: %s", source, account)
    return body


def _check_known(
    tokens: NDArray[np.int64], words: PreTrainedTokenizerBase, files: Sequence[str], hint: str = _OWN_LANGUAGE
) -> None:
    """Whether the tokenizer, which may be that of another language, knows the words of the texts."""
    named = ", ".join(files) or "the sample"
    if np.isin(tokens, words.all_special_ids).all():
        raise DataError(f"{named}: the tokenizer knows no word of these texts", hint)
    unknown = float((tokens == words.unk_token_id).mean()) if words.unk_token_id is not None else 0.0
    if unknown > _MANY_UNKNOWN:
        log.warning("%s: the tokenizer does not know %.0f%% of the tokens", named, 100 * unknown)


def _first_tokens(samples: EncodedExamples) -> NDArray[np.int64]:
    count = min(len(samples.lengths), 2000)
    return np.concatenate([np.asarray(samples.features(i)["input_ids"], np.int64) for i in range(count)])


def _fingerprint(examples: Sequence[Example]) -> str:
    digest = hashlib.sha256()
    for example in examples:
        digest.update(repr(sorted(example.items())).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _word_entropy(store: corpus.TokenStore) -> float:
    counts = np.bincount(store.read(0, _LOOKED_AT)).astype(np.float64)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def _what_is_read(data: DataConfig) -> str:
    """The settings that decide what a file's texts are; how they are divided changes no token."""
    return repr((data.columns, data.control, data.reader, data.documents, data.encoding, data.delimiter, data.errors))
