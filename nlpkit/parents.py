"""The finished run that a new one goes on from: its objective and its settings."""

from __future__ import annotations

import logging
import os
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
        exclude: files of test sets whose texts stayed out.
        watch: the general text that was watched; empty: none.
    """

    objective: str
    settings: dict[str, Any]
    exclude: tuple[str, ...]
    watch: str

    def beside(self, exclude: tuple[str, ...], watch: str) -> tuple[tuple[str, ...], str]:
        """Test sets and general text of the new run: what its user names, else those of this one, said aloud."""
        if self.exclude and not exclude:
            log.info("--exclude %s, as before", " --exclude ".join(self.exclude))
        elif left := [file for file in self.exclude if _real(file) not in map(_real, exclude)]:
            log.warning(
                "%s: left out of the earlier corpus, and not of this one; name it with --exclude, too, to keep it out",
                ", ".join(left),
            )
        if self.watch and not watch:
            log.info("--watch %s, as before", self.watch)
        return exclude or self.exclude, watch or self.watch


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
    config = config_module.load(began.task_class(Registry(files=plugins)), str(folder.config))
    settings = dict(config_module.flat(config_module.to_plain(config)))
    chosen = began.facts.get("chosen", ())
    settings = {key: value for key, value in settings.items() if key not in chosen and not _is_left_behind(key)}
    step = read_json(folder.results).get("best_step")
    log.info("%s: going on from its weights of step %s, %s as before, rates warmed up again", run, step, objective)
    return Parent(objective, settings, began.request.exclude, began.request.watch)


def _real(file: str) -> str:
    return os.path.realpath(os.path.expanduser(file))


def _is_left_behind(key: str) -> bool:
    """Whether a setting is of the model, which is there, or of the machine, which may be another."""
    section, _, name = key.partition(".")
    return name in {"model": stages.OF_NEW_MODELS, "trainer": _OF_MACHINES}.get(section, ())
