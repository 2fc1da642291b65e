"""Where the parts meet: pretrain, fit, resume, evaluate, load. A Python API; nothing here prints."""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nlpkit import bundle, corpus, planning, readers, running, score_notes
from nlpkit import config as config_module
from nlpkit.callbacks import Progress
from nlpkit.config import RunConfig
from nlpkit.control import Control
from nlpkit.data import Samples, TaskDataModule
from nlpkit.errors import DataError, ModelError
from nlpkit.examples import Remembered, read_examples
from nlpkit.folder import RunFolder
from nlpkit.generation import WRITERS, Generator
from nlpkit.joint.names import Data, Name, Paths, check_named, files_of, settings_of
from nlpkit.joint.names import paths_of as names
from nlpkit.module import TaskModule
from nlpkit.plugins import Registry, Stage
from nlpkit.plugins.blame import isolated
from nlpkit.predictor import Predictor
from nlpkit.request import by_owner
from nlpkit.running import Run as Run
from nlpkit.running import Settings, typed
from nlpkit.scores import lower_is_better, metrics_of
from nlpkit.scoring import to_score
from nlpkit.stages import Watched
from nlpkit.task import Example
from nlpkit.vetting import check_folder

log = logging.getLogger("nlpkit")


@isolated()
def pretrain(
    data: Paths,
    *,
    objective: str = "mlm",
    exclude: Paths = (),
    watch: Name = "",
    source: Name = "",
    tokenizer: Name = "",
    out: Name | None = None,
    config: str | None = None,
    overrides: Settings = (),
    plugins: Paths = (),
    hub: bool = False,
    progress: Progress | None = None,
    callbacks: Sequence[Any] = (),
    flags: dict[str, Any] | None = None,
) -> Run:
    """Learn from plain text: from nothing, or continued from any transformers model.

    Args:
        data: files, folders or globs of csv, tsv, jsonl or txt, each plain or .gz.
        objective: name of the objective; the parts of a mixture may have weights, ``mlm:0.8+nsp:0.2``.
        exclude: files of a test set; documents that repeat its texts, or nearly, are left out of the corpus.
        watch: a general text that is scored at the start and at each validation: it shows what is forgotten.
        source: model folder (or hub name with ``hub``) to continue from.
        tokenizer: folder of a tokenizer, a model or a run, whose tokenizer a new model takes; none: it is trained.
        out: folder of the run, which must not exist; None: the next free ``runs/OBJECTIVE-N``.
        config: a YAML file of settings.
        overrides: settings as ``key=value``.
        plugins: files of plugins that are not installed.
        hub: allow names on the hub.
        progress: shows how far the run is.
        callbacks: Lightning callbacks of your own.
        flags: settings that override all others, by dotted key.

    Raises:
        NlpkitError: see the exit codes; nothing is left half written.
    """
    asked = running.pretraining(
        data,
        objective=objective,
        source=source,
        tokenizer=tokenizer,
        config=config,
        overrides=overrides,
        plugins=plugins,
        hub=hub,
        exclude=exclude,
        watch=watch,
        flags=flags,
    )
    return running.start(asked, out, Watched(progress, callbacks))


@isolated()
def plan_pretraining(data: Paths, **asked: Any) -> planning.Plan:
    """What `pretrain` would take with the same arguments, less ``out``, ``progress`` and ``callbacks``.

    A few real steps are tried on the real model. Nothing is kept but the token store, which the run then reuses.
    """
    return running.plan(running.pretraining(data, **asked))


@isolated()
def fit(
    task: str = "sentiment",
    data: Data = (),
    *,
    dev: Data = (),
    source: Name = "",
    out: Name | None = None,
    config: str | None = None,
    overrides: Settings = (),
    plugins: Paths = (),
    hub: bool = False,
    progress: Progress | None = None,
    callbacks: Sequence[Any] = (),
    flags: dict[str, Any] | None = None,
) -> Run:
    """Learn a task from labelled examples.

    Args:
        task: name of the task; or of several that share one model, ``sentiment,ner``.
        data: labelled files; none: the sample that the task's plugin brings. Of several tasks those of each, by name:
            ``{"sentiment": "a.csv", "ner": ["b.conll"]}``.
        dev: labelled files that choose the best step; none: a share of the data. Of several tasks by name, likewise.
        source: bundle or model folder to start from; none: a new model.
        out: see `pretrain`, as for all other arguments.
        config: see `pretrain`.
        overrides: see `pretrain`.
        plugins: see `pretrain`.
        hub: see `pretrain`.
        progress: see `pretrain`.
        callbacks: see `pretrain`.
        flags: see `pretrain`.

    Raises:
        NlpkitError: see the exit codes; nothing is left half written.
    """
    asked = running.fine_tuning(
        task,
        data,
        dev=dev,
        source=source,
        config=config,
        overrides=overrides,
        plugins=plugins,
        hub=hub,
        flags=flags,
    )
    return running.start(asked, out, Watched(progress, callbacks))


@isolated()
def assemble(
    task: str = "sentiment",
    data: Data = (),
    *,
    dev: Data = (),
    source: Name = "",
    config: str | None = None,
    overrides: Settings = (),
    plugins: Paths = (),
    hub: bool = False,
    module: type[TaskModule] = TaskModule,
) -> tuple[TaskModule, TaskDataModule]:
    """What `fit` would train, for a Trainer of your own: the module, and its train and dev parts in batches.

    Args:
        task: see `fit`, as for all others; of ``trainer`` only ``batch_tokens``, ``batch_size`` and ``workers`` count,
            and the rest is checked as that of a run.
        data: see `fit`.
        dev: see `fit`.
        source: see `fit`.
        config: see `fit`.
        overrides: see `fit`.
        plugins: see `fit`.
        hub: see `fit`.
        module: `TaskModule`, or a subclass of yours that takes the same arguments.

    Returns:
        The module, whose ``save`` writes a model folder, and the data module.

    Raises:
        NlpkitError: as `fit`; nothing is written.
    """
    asked = running.fine_tuning(
        task, data, dev=dev, source=source, config=config, overrides=overrides, plugins=plugins, hub=hub
    )
    return running.assemble(asked, module)


@isolated()
def plan_fit(task: str = "sentiment", data: Data = (), **asked: Any) -> planning.Plan:
    """What `fit` would take with the same arguments; as `plan_pretraining`, and nothing at all is kept."""
    return running.plan(running.fine_tuning(task, data, **asked))


@isolated()
def further(
    run: Name,
    data: Paths,
    *,
    out: Name | None = None,
    progress: Progress | None = None,
    callbacks: Sequence[Any] = (),
    **asked: Any,
) -> Run:
    """Go on with a finished pre-training on further text, in a run of its own.

    Objective, tokenizer, architecture and settings are those of the earlier run, and its best weights are where this
    one starts from. The optimiser is a new one, whose rates are warmed up again.

    Args:
        run: the earlier run; it stays as it is.
        data: see `pretrain`.
        out: see `pretrain`.
        progress: see `pretrain`.
        callbacks: see `pretrain`.
        asked: ``config``, ``overrides``, ``flags``, ``exclude`` and ``watch`` that differ from the earlier run, and
            ``plugins``.

    Raises:
        ModelError: no run folder, or a run that is not finished.
        UsageError: a run of ``fit``, or one that began with other plugins.
    """
    return running.start(running.further(run, data, **asked), out, Watched(progress, callbacks))


@isolated()
def plan_further(run: Name, data: Paths, **asked: Any) -> planning.Plan:
    """What `further` would take; as `plan_pretraining`."""
    return running.plan(running.further(run, data, **asked))


@isolated()
def resume(
    run: Name,
    *,
    stage: Stage | None = None,
    progress: Progress | None = None,
    callbacks: Sequence[Any] = (),
    anyway: bool = False,
    plugins: Paths = (),
    hub: bool = False,
) -> Run:
    """Go on with an interrupted run from its newest whole checkpoint.

    Args:
        run: the run folder.
        stage: refuse a run of the other stage; None: take either.
        progress: shows how far the run is.
        callbacks: Lightning callbacks of your own.
        anyway: go on although the data or the settings have changed.
        plugins: files of plugins that are not installed, if the run began with any: it runs none by itself.
        hub: let a run that has saved nothing yet take its model from the hub again, if it began so.

    Returns:
        The run; one that was finished already is left as it is.

    Raises:
        ModelError: no run folder, or without a whole checkpoint.
        DataError: the data has changed since the run began.
        UsageError: the settings have changed, the run is of the other stage, or it began with other plugins.
    """
    return running.go_on(run, stage, Watched(progress, callbacks), anyway, names(plugins), hub)


@isolated()
def evaluate(
    run: Name,
    data: Data,
    *,
    task: str = "",
    overrides: Settings = (),
    plugins: Paths = (),
    device: str | None = None,
) -> dict[str, Any]:
    """Scores of a finished run on labelled files; of a pre-trained one on any text, in blocks as it was trained.

    Args:
        run: run folder or bundle.
        data: labelled files; of a model of several tasks by task, ``{"sentiment": "a.csv"}``.
        task: of such a model the one that the files are for, where they are not given by task.
        overrides: ``data.`` settings as ``key=value``, and those of the task that a finished model takes.
        plugins: files of plugins that are not installed.
        device: ``cpu`` or ``cuda``; None: a GPU if there is one.

    Returns:
        ``scores``, what they are exactly where the task says it (``about``), those beside the loss of which a lower one
        is better (``lower_is_better``), ``task`` and ``stage``, the number of
        ``examples`` (of a pre-trained model ``documents``, and the ``tokens`` that were scored), the ``labels``, and
        how many of the texts the model has ``seen`` in each stage that it remembers, ``pretrain`` and ``finetune``.
        Of files by task the ``scores`` are behind the names of their tasks, and ``tasks`` has all of it for each.
    """
    check_named(task, data)
    if isinstance(data, Mapping):
        return _evaluate_each(run, data, typed(overrides), plugins, device)
    registry = Registry(files=names(plugins))
    of_task, of_data = by_owner(typed(overrides))
    loaded = bundle.load(os.fspath(run), registry, settings=of_task, part=task)
    files_of(loaded.task.name, data, "--data")  # of several tasks it must be said which they are for
    predictor = Predictor(loaded, device)
    bundle.check_metrics(os.fspath(run), predictor.record, predictor.task, registry)
    config, columns = _how_to_read(predictor, data, of_data, registry)
    samples, facts = to_score(predictor.task, names(data), config, columns, registry, loaded.seen)
    metrics = metrics_of(predictor.task, registry)
    scores = predictor.score(samples, metrics)
    about: dict[str, Any] = {"about": known} if (known := score_notes.about_scores(predictor.task)) else {}
    about |= {"lower_is_better": lower} if (lower := lower_is_better(metrics)) else {}
    return {"scores": scores, **about, "task": predictor.task.name, "stage": predictor.task.stage, **facts}


def _evaluate_each(
    run: Name, data: Mapping[str, Paths], overrides: Sequence[str], plugins: Paths, device: str | None
) -> dict[str, Any]:
    """The scores of several tasks of a model, each as by itself."""
    if known := bundle.tasks_of(os.fspath(run)):
        files_of(",".join(known), data, "--data")
    parts = {
        name: evaluate(
            run, files, task=name, overrides=settings_of(overrides, name, known), plugins=plugins, device=device
        )
        for name, files in data.items()
    }

    def joined(key: str) -> dict[str, Any]:
        found = {}
        for name, part in parts.items():
            for one in sorted(part.get(key, {}), key=lambda score: score == "loss"):
                found[f"{name}/{one}"] = part[key][one]
        return found

    about: dict[str, Any] = {"about": found} if (found := joined("about")) else {}
    lower = [f"{name}/{one}" for name, part in parts.items() for one in part.get("lower_is_better", ())]
    about |= {"lower_is_better": lower} if lower else {}
    examples = sum(part["examples"] for part in parts.values())
    whole = {"task": ",".join(parts), "stage": "finetune", "examples": examples, "tasks": parts}
    return {"scores": joined("scores"), **about, **whole}


@isolated()
def load(
    run: Name, *, task: str = "", overrides: Settings = (), plugins: Paths = (), device: str | None = None
) -> Predictor:
    """A finished run, ready to predict.

    Args:
        run: run folder or bundle.
        task: of a model of several tasks one, which then answers as a model of its own would; none: all.
        overrides: settings of the task that a finished model takes, as ``key=value``.
        plugins: files of plugins that are not installed.
        device: ``cpu`` or ``cuda``; None: a GPU if there is one.

    Raises:
        ModelError: no finished model, or one that is only pre-trained: what it would answer means nothing.
    """
    loaded = bundle.load(os.fspath(run), Registry(files=names(plugins)), settings=typed(overrides), part=task)
    if loaded.task.stage == "pretrain":
        raise ModelError(
            f"{run}: pre-trained by {loaded.task.name}, which has learnt no task yet",
            f"nlpkit fit --task TASK LABELLED.csv --from {shlex.quote(os.fspath(run))}",
        )
    return Predictor(loaded, device)


@isolated()
def load_generator(run: Name, *, plugins: Paths = (), device: str | None = None) -> Generator:
    """A finished run of a decoder, ready to generate; arguments as for `load`.

    Raises:
        ModelError: the model generates nothing.
    """
    return Generator(bundle.load(os.fspath(run), Registry(files=names(plugins)), WRITERS), device)


def load_corpus(run: Name) -> corpus.TokenStore:
    """The token store that a model was pre-trained on, held-out documents included, for `nlpkit.novelty`.

    Raises:
        ModelError: no model of pre-training.
        DataError: the cache has the store no more.
    """
    source = bundle.find(os.fspath(run))
    check_folder(Path(source), "give the run folder that --out named")
    record = bundle.read_record(source) or {}
    if not (key := record.get("store")):
        raise ModelError(
            f"{run}: {bundle.RECORD} names no token store", "nlpkit pretrain makes models that know theirs"
        )
    folder = corpus.folder_of(key)
    if not folder.exists():
        raise DataError(f"{folder}: the token store of this model is not there any more", _remake(os.fspath(run)))
    return corpus.TokenStore.open(folder)


def _remake(run: str) -> str:
    """The command that makes the token store of a run once more."""
    folder, files, settings = RunFolder(Path(run)), ["FILES"], []
    if folder.facts.is_file():
        facts = folder.read_facts()
        files = [os.path.join(facts["folder"], name) for name in facts["request"]["data"]]
        settings = ["--objective", facts["request"]["task"], "--config", str(folder.config)]
        for file in facts["request"].get("exclude", ()):
            settings += ["--exclude", os.path.join(facts["folder"], file)]
    words = ["nlpkit", "pretrain", *files, "--from", run, *settings, "--out", "NEW", "trainer.max_steps=1"]
    return f"this makes it again: {shlex.join(words)}"


@isolated()
def read(
    model: Predictor | TaskModule,
    data: Paths,
    *,
    overrides: Settings = (),
    plugins: Paths = (),
) -> Sequence[Example] | Samples:
    """Labelled examples of files, for a `TaskDataModule`; text for a pre-trained model, in blocks as it was trained.

    Columns are found as `evaluate` finds them, and a warning says where the model has seen the texts.

    Args:
        model: that they are for.
        data: labelled files.
        overrides: ``data.`` settings as ``key=value``.
        plugins: files of plugins that are not installed.

    Raises:
        DataError: text that does not suit the model, or labels that it does not know.
    """
    registry = Registry(files=names(plugins))
    config, columns = _how_to_read(model, data, overrides, registry)
    known = model.origin.seen if isinstance(model, TaskModule) and model.origin else {}
    return to_score(model.task, names(data), config, columns, registry, known)[0]


def read_for(
    predictor: Predictor | TaskModule, data: Paths, overrides: Settings = (), plugins: Paths = ()
) -> Iterator[Example]:
    """The rows of files that a finished model can predict for, as a stream.

    Args:
        predictor: the model.
        data: files; ``-`` is standard input, a line a text.
        overrides: ``data.`` settings as ``key=value``.
        plugins: files of plugins that are not installed.
    """
    registry = Registry(files=names(plugins))
    config, columns = _how_to_read(predictor, data, overrides, registry)
    return _isolated(read_examples(type(predictor.task), names(data), config, registry, remembered=columns))


def _isolated(examples: Iterator[Example]) -> Iterator[Example]:
    with isolated():
        yield from examples


def _how_to_read(
    predictor: Predictor | TaskModule, data: Paths, overrides: Settings, registry: Registry
) -> tuple[RunConfig, Remembered]:
    """Settings for further files of a finished model, and the columns that it was fitted with.

    The reader of its training data serves files, too, unless the user says anything of how to read them; and so do the
    columns that stood before its texts.
    """
    known, settings = predictor.record.get("data", {}), typed(overrides)
    reader = known.get("reader")
    formats = {readers.format_of(name) for name in names(data)}
    of_lines = bool(reader) and bool(getattr(registry.datasets().get(reader), "sides", ()))
    as_before = reader and not settings and "-" not in names(data) and not (of_lines and formats - {None, "txt"})
    defaults: dict[str, Any] = {"data.reader": known["reader"]} if as_before else {}
    if attributes := Control.of(predictor.record):
        defaults["data.control"] = list(attributes.columns)
    composed = config_module.compose(type(predictor.task), defaults=defaults, overrides=settings)
    return composed.config, Remembered.of(predictor.record)
