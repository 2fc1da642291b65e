"""A run is started, gone on with, or taken part in: its folder, its facts, and what is left where it ends early."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nlpkit import bundle, checkpoints, parents, planning, recipes, stages
from nlpkit import config as config_module
from nlpkit.config import RunConfig
from nlpkit.data import TaskDataModule
from nlpkit.errors import DataError, DivergedError, Interrupted, ResourceError, UsageError
from nlpkit.files import verify_manifest
from nlpkit.folder import RunFolder, read_json
from nlpkit.joint.names import Data, Name, Paths, check_all, files_of, names_of
from nlpkit.joint.names import paths_of as names
from nlpkit.meeting import Meeting
from nlpkit.module import TaskModule
from nlpkit.objectives.objective import weighted
from nlpkit.plugins import Registry, Stage
from nlpkit.prepare import OF_SOURCES, Prepared
from nlpkit.processes import started
from nlpkit.request import Request
from nlpkit.resuming import Began, beginning
from nlpkit.stages import Watched
from nlpkit.task import Task

log = logging.getLogger("nlpkit")

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


@dataclass(frozen=True)
class Asked:
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


def pretraining(
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
) -> Asked:
    """Pre-training, as `nlpkit.run.pretrain` is asked for it."""
    name, weights = weighted(objective)
    beside = names(exclude), os.fspath(watch), os.fspath(tokenizer)
    request = Request(name, names(data), (), os.fspath(source), names(plugins), hub, *beside)
    defaults = recipes.CONTINUED if source else {}
    return _look_at(request, "pretrain", defaults, config, (*weights, *typed(overrides)), flags)


def fine_tuning(
    task: str,
    data: Data,
    *,
    dev: Data = (),
    source: Name = "",
    config: str | None = None,
    overrides: Settings = (),
    plugins: Paths = (),
    hub: bool = False,
    flags: dict[str, Any] | None = None,
) -> Asked:
    """Fine-tuning, as `nlpkit.run.fit` is asked for it."""
    files, data_of = files_of(task, data, "--data")
    dev_files, dev_of = files_of(task, dev, "--dev")
    request = Request(",".join(names_of(task)), files, dev_files, os.fspath(source), names(plugins), hub)
    request = replace(request, data_of=data_of, dev_of=dev_of)
    return _look_at(request, "finetune", None, config, overrides, flags)


def further(
    run: Name,
    data: Paths,
    *,
    config: str | None = None,
    overrides: Settings = (),
    plugins: Paths = (),
    exclude: Paths = (),
    watch: Name = "",
    flags: dict[str, Any] | None = None,
) -> Asked:
    """Further pre-training, as `nlpkit.run.further` is asked for it."""
    earlier = parents.read(Path(run), names(plugins))
    beside = earlier.beside(names(exclude), os.fspath(watch))
    request = Request(earlier.objective, names(data), (), os.fspath(run), names(plugins), False, *beside)
    return _look_at(request, "pretrain", earlier.settings, config, overrides, flags)


def _look_at(
    request: Request,
    stage: Stage,
    defaults: Mapping[str, Any] | None,
    file: str | None,
    overrides: Settings,
    flags: dict[str, Any] | None,
) -> Asked:
    registry = Registry(files=request.plugins)
    task_class = registry.task(request.task, stage=stage)
    check_all(request.task, request.data_of)
    settings = typed(overrides)
    if defaults is None:
        defaults = _defaults(task_class, request.source)
    if task_class.sample and not (request.data or request.source):
        defaults = {**defaults, **registry.dataset(task_class.sample).settings}
    composed = config_module.compose(task_class, defaults=defaults, file=file, overrides=settings, flags=flags or {})
    if started().first:
        stages.check_request(request, composed.config, registry)
    return Asked(request, stage, composed.config, registry)


def _defaults(task_class: type[Task[Any]], source: str) -> dict[str, Any]:
    """What a task sets for a new model or decoder, for one that nlpkit made, or for one of others."""
    folder = Path(bundle.find(source))
    if not source or (_writes(task_class) and _is_encoder(folder)):
        return task_class.defaults_new
    return {} if (folder / bundle.RECORD).is_file() else task_class.defaults_public


def _writes(task_class: type[Task[Any]]) -> bool:
    return any(field.written for field in task_class.fields.values())


def _is_encoder(folder: Path) -> bool:
    """Whether a model has no decoder, so that a task which writes puts a new one behind it."""
    path = folder / "config.json"
    return path.is_file() and not read_json(path).get("is_encoder_decoder", False)


def plan(asked: Asked) -> planning.Plan:
    """What a run would take."""
    devices = asked.config.trainer.devices * asked.config.trainer.nodes
    if devices > 1:
        raise UsageError(
            f"a plan tries its steps on one device, not on {devices}",
            "trainer.devices=1 trainer.nodes=1; all but the time is the same",
        )
    prepared = stages.prepare(asked.request, asked.stage, asked.config, asked.registry, None)
    return planning.plan(prepared, asked.registry)


def assemble(asked: Asked, kind: type[TaskModule]) -> tuple[TaskModule, TaskDataModule]:
    """What a run would train, for a Trainer of one's own."""
    prepared = stages.prepare(asked.request, asked.stage, asked.config, asked.registry, None)
    return stages.assemble(prepared, asked.registry, asked.request.source, kind)


def start(asked: Asked, out: Name | None, watched: Watched) -> Run:
    """Make a run folder, and train; of a run that fails before it has learnt anything, nothing is left."""
    request, stage, registry = asked.request, asked.stage, asked.registry
    meeting = Meeting(asked.config.trainer)
    if not meeting.place.first:
        return _join(meeting, request.plugins, watched)
    folder = RunFolder.create(None if out is None else os.fspath(out), request.task)
    try:
        prepared = stages.prepare(request, stage, asked.config, registry, None)
        facts = {"command": " ".join(sys.argv), **beginning(request, prepared, stage)}
        facts["chosen"] = recipes.chosen(asked.config)
        facts["plugins"] = {one: bundle.plain(registry.owner("task", one)) for one in names_of(request.task)}
        stages.write_setup(folder, prepared, facts)
        meeting.tell(**_for_others(folder, prepared, None))
        made = stages.Made(folder, prepared, registry, facts)
        return Run(folder.path, stages.train(made, None, watched, meeting))
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


def go_on(run: Name, stage: Stage | None, watched: Watched, anyway: bool, plugins: tuple[str, ...], hub: bool) -> Run:
    """Go on with a run that was interrupted; raises what `nlpkit.run.resume` says."""
    if not started().first:
        return _follow(RunFolder(Path(run)), plugins, watched)
    folder = RunFolder.open_existing(os.fspath(run))
    try:
        began = Began.read(folder, plugins, hub=hub, anyway=anyway)
        found, request = began.stage, began.request
        if stage not in (None, found):
            raise UsageError(f"{run}: made by nlpkit {folder.verb()}", folder.resume_command())
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
        prepared.facts.update({key: began.facts.get(key) for key in OF_SOURCES})
        began.check_data(prepared.fingerprint)
        began.warn_of_rounding(prepared.config)
        meeting.tell(**_for_others(folder, prepared, checkpoint))
        made = stages.Made(folder, prepared, registry, began.facts)
        return Run(folder.path, stages.train(made, checkpoint, watched, meeting))
    except KeyboardInterrupt as error:
        raise _interrupted(error, folder) from None
    except ResourceError as error:
        _tell_how_to_go_on(error, folder)
        raise
    finally:
        folder.unlock()


def _follow(folder: RunFolder, plugins: tuple[str, ...], watched: Watched) -> Run:
    """What another process than the first does on a resume."""
    if folder.results.exists():
        return Run(folder.path, read_json(folder.results))
    _, config = _as_it_began(Began.read(folder, plugins, hub=False, anyway=True))
    return _join(Meeting(config.trainer), plugins, watched)


def _join(meeting: Meeting, plugins: tuple[str, ...], watched: Watched) -> Run:
    """Take part in a run that the first process has made ready, as in one that is gone on with; write nothing."""
    told = meeting.hear()
    folder, checkpoint = RunFolder(Path(told["folder"])), Path(told["checkpoint"]) if told["checkpoint"] else None
    began = Began.read(folder, plugins, hub=False, anyway=True)
    registry, config = _as_it_began(began)
    # the weights come from the first process
    prepared = stages.prepare(began.request, began.stage, config, registry, folder.path / "setup")
    if prepared.fingerprint != told["fingerprint"]:
        raise DataError(
            f"{', '.join(began.request.data)}: process {meeting.place.rank} reads other data than process 0",
            "give every machine the same files",
        )
    made = stages.Made(folder, prepared, registry, began.facts)
    stages.train(made, checkpoint, Watched(None, watched.callbacks), meeting)
    return Run(folder.path, {})


def _as_it_began(began: Began) -> tuple[Registry, RunConfig]:
    """The plugins and settings of a run that is gone on with or taken part in."""
    registry = Registry(files=began.request.plugins)
    return registry, config_module.load(began.task_class(registry), str(began.folder.config))


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


def typed(overrides: Settings) -> tuple[str, ...]:
    """Settings, of one or several."""
    return (overrides,) if isinstance(overrides, str) else tuple(overrides)
