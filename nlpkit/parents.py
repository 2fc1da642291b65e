"""The finished run that a new one goes on from: its objective and its settings."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nlpkit import config as config_module
from nlpkit import stages
from nlpkit.errors import ModelError, UsageError
from nlpkit.folder import RunFolder, read_json
from nlpkit.plugins import Registry
from nlpkit.resuming import Began

log = logging.getLogger("nlpkit")
_OF_MACHINES = ("devices", "nodes", "accelerator", "precision", "threads", "workers")


@dataclass(frozen=True)
class Parent:
    """What a run takes over from an earlier one, weights aside.

    Args:
        objective: its name.
        settings: by dotted key, but for those of a new model, which the parent brings, those of its machine, and
            those that nobody has set: they were chosen by the size of its text.
        beside: files of test sets whose texts stay out, and the general text that is watched.
    """

    objective: str
    settings: dict[str, Any]
    beside: tuple[tuple[str, ...], str]


def read(run: Path, plugins: tuple[str, ...] = ()) -> Parent:
    """Read a run that further text is to go on from, and say so.

    Raises:
        ModelError: no run folder of nlpkit, or one that is not finished.
        UsageError: a run of the other stage.
    """
    folder = RunFolder(run)
    folder.check_began()
    began = Began.read(folder, plugins, hub=False, anyway=False)
    if began.stage != "pretrain":
        more = f"more labelled rows: nlpkit fit --task {began.request.task} FILES --from {run}"
        raise UsageError(f"{run}: made by nlpkit fit, and further text is for a run of nlpkit pretrain", more)
    if not folder.results.is_file():
        raise ModelError(
            f"{run}: the run is unfinished, so further text cannot follow yet",
            f"end it first: {folder.resume_command()}",
        )
    objective = began.request.task
    task_class = Registry(files=plugins).task(objective, stage="pretrain")
    config = config_module.load(task_class, str(folder.config))
    settings = dict(config_module.flat(config_module.to_plain(config)))
    chosen = began.facts.get("chosen", ())
    settings = {key: value for key, value in settings.items() if key not in chosen and not _is_left_behind(key)}
    step = read_json(folder.results).get("best_step")
    log.info("%s: going on from its weights of step %s, %s as before, rates warmed up again", run, step, objective)
    return Parent(objective, settings, (began.request.exclude, began.request.watch))


def _is_left_behind(key: str) -> bool:
    """Whether a setting is of the model, which is there, or of the machine, which may be another."""
    section, _, name = key.partition(".")
    return name in {"model": stages.OF_NEW_MODELS, "trainer": _OF_MACHINES}.get(section, ())
