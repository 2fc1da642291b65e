"""Where the parts meet: pretrain, fit, resume, evaluate, load. A Python API; nothing here prints."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nlpkit import bundle, checkpoints, corpus, parents, planning, recipes, stages
from nlpkit import config as config_module
from nlpkit.callbacks import Progress
from nlpkit.config import RunConfig
from nlpkit.control import Control
from nlpkit.errors import DataError, DivergedError, Interrupted, ModelError, ResourceError, UsageError
from nlpkit.examples import read_examples
from nlpkit.files import verify_manifest
from nlpkit.folder import RunFolder, read_json
from nlpkit.generation import Generator
from nlpkit.meeting import Meeting
from nlpkit.objectives.objective import weighted
from nlpkit.plugins import Registry, Stage
from nlpkit.predictor import Predictor
from nlpkit.prepare import Prepared
from nlpkit.processes import started
from nlpkit.request import Request
from nlpkit.resuming import Began, beginning
from nlpkit.scores import metrics_of
from nlpkit.scoring import to_score
from nlpkit.task import Example
from nlpkit.vetting import check_folder

log = logging.getLogger("nlpkit")

Name = str | os.PathLike[str]
Paths = Name | Sequence[Name]
Settings = str | Sequence[str]


@dataclass(frozen=True)
class Run:
    """A finished run.

    Args:
        folder: everything it left.
        results: what results.json says; empty in other processes than the first, which is still writing it.
    """

    folder: Path
    results: dict[str, Any]

    @property
    def model(self) -> Path:
        """The bundle."""
        return self.folder / "model"


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
    asked = _pretraining(
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
    return _start(asked, out, progress, callbacks)


def plan_pretraining(data: Paths, **asked: Any) -> planning.Plan:
    """What `pretrain` would take with the same arguments, less ``out``, ``progress`` and ``callbacks``.

    A few real steps are tried on the real model. Nothing is kept but the token store, which the run then reuses.
    """
    return _plan(_pretraining(data, **asked))


def fit(
    task: str = "sentiment",
    data: Paths = (),
    *,
    dev: Paths = (),
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
        task: name of the task.
        data: labelled files; none: the sample that the task's plugin brings.
        dev: labelled files that choose the best step; none: a share of the data.
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
    asked = _fine_tuning(
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
    return _start(asked, out, progress, callbacks)


def plan_fit(task: str = "sentiment", data: Paths = (), **asked: Any) -> planning.Plan:
    """What `fit` would take with the same arguments; as `plan_pretraining`, and nothing at all is kept."""
    return _plan(_fine_tuning(task, data, **asked))


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
        asked: ``config``, ``overrides``, ``flags`` that differ from the earlier run, and ``plugins``.

    Raises:
        ModelError: no run folder, or a run that is not finished.
        UsageError: a run of ``fit``, or one that began with other plugins.
    """
    return _start(_further(run, data, **asked), out, progress, callbacks)


def plan_further(run: Name, data: Paths, **asked: Any) -> planning.Plan:
    """What `further` would take; as `plan_pretraining`."""
    return _plan(_further(run, data, **asked))


def resume(
    run: Name,
    *,
    stage: Stage | None = None,
    progress: Progress | None = None,
    callbacks: Sequence[Any] = (),
    anyway: bool = False,
    plugins: Paths = (),
) -> Run:
    """Go on with an interrupted run from its newest whole checkpoint.

    Args:
        run: the run folder.
        stage: refuse a run of the other stage; None: take either.
        progress: shows how far the run is.
        callbacks: Lightning callbacks of your own.
        anyway: go on although the data or the settings have changed.
        plugins: files of plugins that are not installed, if the run began with any: it runs none by itself.

    Returns:
        The run; one that was finished already is left as it is.

    Raises:
        ModelError: no run folder, or without a whole checkpoint.
        DataError: the data has changed since the run began.
        UsageError: the settings have changed, the run is of the other stage, or it began with other plugins.
    """
    if not started().first:
        return _follow(RunFolder(Path(run)), _paths(plugins), callbacks)
    folder = RunFolder.open_existing(os.fspath(run))
    try:
        began = Began.read(folder, _paths(plugins), anyway)
        found, request = began.stage, began.request
        if stage not in (None, found):
            raise UsageError(f"{run}: a run of the other stage", folder.resume_command())
        if folder.results.exists():
            log.info("%s: already finished; nothing was done", run)
            return Run(folder.path, read_json(folder.results))
        registry, config = _as_it_began(began)
        began.check_settings(config)
        meeting = Meeting(config.trainer)
        checkpoint, setup, kept = None, None, folder.path / "setup"
        if folder.has_checkpoint():
            checkpoint, setup = checkpoints.newest(folder.checkpoints), kept
            verify_manifest(setup)
        else:
            log.info("%s: no checkpoint was saved yet; the run starts again", run)
        if request.tokenizer and not setup:
            verify_manifest(kept)
            request = replace(request, tokenizer=str(kept))
        prepared = stages.prepare(request, found, config, registry, setup)
        prepared.facts["parent"] = began.facts.get("parent")
        began.check_data(prepared.fingerprint)
        began.warn_of_rounding(prepared.config)
        meeting.tell(**_for_others(folder, prepared, checkpoint))
        results = stages.train(folder, prepared, registry, began.facts, checkpoint, progress, callbacks, meeting)
        return Run(folder.path, results)
    except KeyboardInterrupt as error:
        raise _interrupted(error, folder) from None
    except ResourceError as error:
        _tell_how_to_go_on(error, folder)
        raise
    finally:
        folder.unlock()


def evaluate(
    run: Name, data: Paths, *, overrides: Settings = (), plugins: Paths = (), device: str | None = None
) -> dict[str, Any]:
    """Scores of a finished run on labelled files; of a pre-trained one on any text, in blocks as it was trained.

    Args:
        run: run folder or bundle.
        data: labelled files.
        overrides: ``data.`` settings as ``key=value``.
        plugins: files of plugins that are not installed.
        device: ``cpu`` or ``cuda``; None: a GPU if there is one.

    Returns:
        ``scores``, ``task`` and ``stage``, the number of ``examples`` (of a pre-trained model ``documents``, and the
        ``tokens`` that were scored), the ``labels``, and how many of the texts the model has ``seen`` in each stage
        that it remembers, ``pretrain`` and ``finetune``.
    """
    registry = Registry(files=_paths(plugins))
    loaded = bundle.load(os.fspath(run), registry)
    predictor = Predictor(loaded, device)
    bundle.check_metrics(os.fspath(run), predictor.record, predictor.task, registry)
    config, columns = _how_to_read(predictor, data, overrides)
    samples, facts = to_score(predictor.task, _paths(data), config, columns, registry, loaded.seen)
    scores = predictor.score(samples, metrics_of(predictor.task, registry))
    return {"scores": scores, "task": predictor.task.name, "stage": predictor.task.stage, **facts}


def load(run: Name, *, plugins: Paths = (), device: str | None = None) -> Predictor:
    """A finished run, ready to predict.

    Args:
        run: run folder or bundle.
        plugins: files of plugins that are not installed.
        device: ``cpu`` or ``cuda``; None: a GPU if there is one.
    """
    return Predictor(bundle.load(os.fspath(run), Registry(files=_paths(plugins))), device)


def load_generator(run: Name, *, plugins: Paths = (), device: str | None = None) -> Generator:
    """A finished run of a decoder, ready to generate; arguments as for `load`.

    Raises:
        ModelError: the model generates nothing.
    """
    return Generator(bundle.load(os.fspath(run), Registry(files=_paths(plugins))), device)


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


def read_for(predictor: Predictor, data: Paths, overrides: Settings = (), plugins: Paths = ()) -> Iterator[Example]:
    """The rows of files that a finished model can predict for, as a stream.

    Args:
        predictor: the model.
        data: files; ``-`` is standard input, a line a text.
        overrides: ``data.`` settings as ``key=value``.
        plugins: files of plugins that are not installed.
    """
    config, columns = _how_to_read(predictor, data, overrides)
    registry = Registry(files=_paths(plugins))
    return read_examples(type(predictor.task), _paths(data), config, registry, preferred=columns)


def _how_to_read(predictor: Predictor, data: Paths, overrides: Settings) -> tuple[RunConfig, dict[str, str]]:
    """Settings for further files of a finished model, and the columns that it was fitted with.

    The reader of its training data serves files, too, unless the user says anything of how to read them; and so do the
    columns that stood before its texts.
    """
    known, settings = predictor.record.get("data", {}), _settings(overrides)
    as_before = known.get("reader") and not settings and "-" not in _paths(data)
    defaults: dict[str, Any] = {"data.reader": known["reader"]} if as_before else {}
    if attributes := Control.of(predictor.record):
        defaults["data.control"] = list(attributes.columns)
    composed = config_module.compose(type(predictor.task), defaults=defaults, overrides=settings)
    return composed.config, known.get("columns", {})


@dataclass(frozen=True)
class _Asked:
    """What a run is to start from, looked at before any work.

    Args:
        request: what to read and where to start from.
        stage: of the run.
        config: as composed.
        registry: of plugins.
    """

    request: Request
    stage: Stage
    config: RunConfig
    registry: Registry


def _pretraining(
    data: Paths,
    *,
    objective: str = "mlm",
    source: Name = "",
    tokenizer: Name = "",
    config: str | None = None,
    overrides: Settings = (),
    plugins: Paths = (),
    hub: bool = False,
    exclude: Paths = (),
    watch: Name = "",
    flags: dict[str, Any] | None = None,
) -> _Asked:
    name, weights = weighted(objective)
    beside = _paths(exclude), os.fspath(watch), os.fspath(tokenizer)
    request = Request(name, _paths(data), (), os.fspath(source), _paths(plugins), hub, *beside)
    defaults = recipes.CONTINUED if source else {}
    return _look_at(request, "pretrain", defaults, config, (*weights, *_settings(overrides)), flags)


def _fine_tuning(
    task: str,
    data: Paths,
    *,
    dev: Paths = (),
    source: Name = "",
    config: str | None = None,
    overrides: Settings = (),
    plugins: Paths = (),
    hub: bool = False,
    flags: dict[str, Any] | None = None,
) -> _Asked:
    request = Request(task, _paths(data), _paths(dev), os.fspath(source), _paths(plugins), hub)
    return _look_at(request, "finetune", {}, config, overrides, flags)


def _further(
    run: Name,
    data: Paths,
    *,
    config: str | None = None,
    overrides: Settings = (),
    plugins: Paths = (),
    flags: dict[str, Any] | None = None,
) -> _Asked:
    earlier = parents.read(Path(run), _paths(plugins))
    request = Request(earlier.objective, _paths(data), (), os.fspath(run), _paths(plugins), False, *earlier.beside)
    return _look_at(request, "pretrain", earlier.settings, config, overrides, flags)


def _look_at(
    request: Request,
    stage: Stage,
    defaults: Mapping[str, Any],
    file: str | None,
    overrides: Settings,
    flags: dict[str, Any] | None,
) -> _Asked:
    registry = Registry(files=request.plugins)
    task_class = registry.task(request.task, stage=stage)
    settings = _settings(overrides)
    composed = config_module.compose(task_class, defaults=defaults, file=file, overrides=settings, flags=flags or {})
    if started().first:
        stages.check_request(request, composed.config, registry)
    return _Asked(request, stage, composed.config, registry)


def _plan(asked: _Asked) -> planning.Plan:
    devices = asked.config.trainer.devices * asked.config.trainer.nodes
    if devices > 1:
        raise UsageError(
            f"a plan tries its steps on one device, not on {devices}",
            "trainer.devices=1 trainer.nodes=1; all but the time is the same",
        )
    prepared = stages.prepare(asked.request, asked.stage, asked.config, asked.registry, None)
    return planning.plan(prepared, asked.registry)


def _start(asked: _Asked, out: Name | None, progress: Progress | None, callbacks: Sequence[Any]) -> Run:
    request, stage, registry = asked.request, asked.stage, asked.registry
    meeting = Meeting(asked.config.trainer)
    if not meeting.place.first:
        return _join(meeting, request.plugins, callbacks)
    folder = RunFolder.create(None if out is None else os.fspath(out), request.task)
    try:
        prepared = stages.prepare(request, stage, asked.config, registry, None)
        facts = {"command": " ".join(sys.argv), **beginning(request, prepared, stage)}
        facts["chosen"] = recipes.chosen(asked.config)
        stages.write_setup(folder, prepared, facts)
        meeting.tell(**_for_others(folder, prepared, None))
        return Run(folder.path, stages.train(folder, prepared, registry, facts, None, progress, callbacks, meeting))
    except (KeyboardInterrupt, Interrupted) as error:
        folder.remove_if_unused()
        if isinstance(error, KeyboardInterrupt) and folder.facts.exists():
            raise _interrupted(error, folder) from None
        raise
    except BaseException as error:
        if not folder.has_checkpoint() and not isinstance(error, DivergedError):  # its losses tell why
            folder.remove()  # nothing was learnt that could be gone on with
        elif isinstance(error, ResourceError):
            _tell_how_to_go_on(error, folder)
        raise
    finally:
        folder.unlock()


def _follow(folder: RunFolder, plugins: tuple[str, ...], callbacks: Sequence[Any]) -> Run:
    """What another process than the first does on a resume."""
    if folder.results.exists():
        return Run(folder.path, read_json(folder.results))
    _, config = _as_it_began(Began.read(folder, plugins, anyway=True))
    return _join(Meeting(config.trainer), plugins, callbacks)


def _join(meeting: Meeting, plugins: tuple[str, ...], callbacks: Sequence[Any]) -> Run:
    """Take part in a run that the first process has made ready, as in one that is gone on with; write nothing."""
    told = meeting.hear()
    folder, checkpoint = RunFolder(Path(told["folder"])), Path(told["checkpoint"]) if told["checkpoint"] else None
    began = Began.read(folder, plugins, anyway=True)
    registry, config = _as_it_began(began)
    # the weights come from the first process
    prepared = stages.prepare(began.request, began.stage, config, registry, folder.path / "setup")
    if prepared.fingerprint != told["fingerprint"]:
        raise DataError(
            f"{', '.join(began.request.data)}: process {meeting.place.rank} reads other data than process 0",
            "give every machine the same files",
        )
    stages.train(folder, prepared, registry, began.facts, checkpoint, None, callbacks, meeting)
    return Run(folder.path, {})


def _as_it_began(began: Began) -> tuple[Registry, RunConfig]:
    """The plugins and settings of a run that is gone on with or taken part in."""
    registry = Registry(files=began.request.plugins)
    return registry, config_module.load(registry.task(began.request.task, stage=began.stage), str(began.folder.config))


def _for_others(folder: RunFolder, prepared: Prepared, checkpoint: Path | None) -> dict[str, Any]:
    """What the other processes need to know to join."""
    at = None if checkpoint is None else os.path.abspath(checkpoint)
    return {"folder": os.path.abspath(folder.path), "checkpoint": at, "fingerprint": prepared.fingerprint}


def _tell_how_to_go_on(error: ResourceError, folder: RunFolder) -> None:
    error.hint = "; then ".join(filter(None, (error.hint, folder.resume_command())))


def _interrupted(error: KeyboardInterrupt, folder: RunFolder) -> Interrupted:
    """What a signal becomes outside of training, where no callback sees it; its argument may be the signal's number."""
    number = int(error.args[0]) if error.args else signal.SIGINT
    return Interrupted("interrupted; the run can go on", folder.resume_command(), signal_number=number)


def _paths(data: Paths) -> tuple[str, ...]:
    return tuple(os.fspath(path) for path in ((data,) if isinstance(data, str | os.PathLike) else data))


def _settings(overrides: Settings) -> tuple[str, ...]:
    return (overrides,) if isinstance(overrides, str) else tuple(overrides)
