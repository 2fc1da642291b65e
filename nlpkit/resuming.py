"""Whether a run may be gone on with: with the settings it began with, on the same data, by the same versions."""

from __future__ import annotations

import functools
import json
import logging
import os
import shlex
from dataclasses import dataclass, replace
from typing import Any

import torch

from nlpkit import bundle
from nlpkit.config import RunConfig, flat, to_plain
from nlpkit.errors import DataError, ModelError, NlpkitError, UsageError
from nlpkit.examples import fingerprint
from nlpkit.folder import RunFolder, versions
from nlpkit.plugins import Plugin, Registry, Stage
from nlpkit.prepare import OF_SOURCES, Prepared
from nlpkit.request import Request
from nlpkit.task import Task
from nlpkit.trainer import accelerator_of

log = logging.getLogger("nlpkit")
_FREE = {"trainer.workers", "trainer.minutes", "trainer.logger", "checkpoint.every_steps"}  # no weight depends on these
_ANYWAY = "put it back, or start a new run; to go on all the same: --resume-anyway"


def beginning(request: Request, prepared: Prepared, stage: Stage) -> dict[str, Any]:
    """What run.json keeps, so that a resume notices what has changed."""
    return {
        "stage": stage,
        "request": request.plain(),
        "seed": prepared.config.seed,
        "folder": os.getcwd(),
        "data_fingerprint": prepared.fingerprint,
        "settings": _settings(prepared.config),
        "threads": torch.get_num_threads(),
        "accelerator": accelerator_of(prepared.config),
        **{key: prepared.facts.get(key) for key in OF_SOURCES},
        **(
            {"corpus": prepared.facts["corpus"]}
            if stage == "pretrain"
            else {"dev_fingerprint": fingerprint(prepared.examples[1])}
        ),
    }


@dataclass(frozen=True)
class Began:
    """How a run began, from its run.json.

    Args:
        folder: of the run.
        facts: all that run.json says.
        stage: of the task.
        request: with files as seen from here.
        anyway: differences are warnings, no errors.
    """

    folder: RunFolder
    facts: dict[str, Any]
    stage: Stage
    request: Request
    anyway: bool

    @classmethod
    def read(cls, folder: RunFolder, plugins: tuple[str, ...], *, hub: bool, anyway: bool) -> Began:
        """Read run.json.

        Args:
            folder: of the run.
            plugins: files that the user has named now. Those that run.json names are never run: it may be from
                somebody else.
            hub: whether the user has named the hub now, without which the network is not used, whatever run.json says.
            anyway: differences are warnings, no errors.

        Raises:
            ModelError: it says nothing of the kind.
            UsageError: the run began with other plugins.
        """
        facts = folder.read_facts()
        try:
            request = Request.of(facts)
            stage: Stage = "pretrain" if facts["stage"] == "pretrain" else "finetune"
            str(facts["data_fingerprint"]), dict(facts["settings"])
        except (KeyError, TypeError, AttributeError, ValueError):
            raise ModelError(f"{folder.facts}: not written by nlpkit") from None
        _check_plugins(folder, request.plugins, plugins)
        return cls(folder, facts, stage, replace(request, plugins=plugins, hub=request.hub and hub), anyway)

    def task_class(self, registry: Registry) -> type[Task[Any]]:
        """The class of its task, or of its several tasks.

        Raises:
            PluginError: the plugin of one is not to be had any more.
        """
        plugins = self.facts.get("plugins")
        for name, plugin in plugins.items() if isinstance(plugins, dict) else ():  # else from before they were kept
            what = f"{self.folder.path}: began with {'objective' if self.stage == 'pretrain' else 'task'} '{name}'"
            bundle.of_plugin(what, plugin, registry, functools.partial(registry.task, name, stage=self.stage))
        return registry.task(self.request.task, stage=self.stage)

    def check_settings(self, config: RunConfig) -> None:
        """Compare config.yaml with the settings that the run began with.

        Raises:
            UsageError: some differ that decide what is learnt.
        """
        before = self.facts["settings"]
        changed = [
            f"{key} from {json.dumps(before[key])} to {json.dumps(value)}"
            for key, value in _settings(config).items()
            if key not in _FREE and before.get(key, value) != value
        ]
        if changed:
            self._refuse(
                UsageError(f"{self.folder.config}: changed since the run began: {', '.join(changed)}", _ANYWAY)
            )

    def check_data(self, fingerprint: str) -> None:
        """Compare the data with that of the beginning.

        Raises:
            DataError: it differs.
        """
        before = self.facts["data_fingerprint"]
        if fingerprint != before:
            files = ", ".join(self.request.data) or "the sample"
            prints = f"fingerprint {before[:12]}, now {fingerprint[:12]}"
            self._refuse(DataError(f"{files}: the data has changed since the run began ({prints})", _ANYWAY))

    def warn_of_rounding(self, config: RunConfig) -> None:
        """Say where what follows may differ, in the last bits, from what an uninterrupted run would have given."""
        accelerator = accelerator_of(config)
        now = {**versions(), "threads": torch.get_num_threads(), "accelerator": accelerator}
        before = {**self.facts.get("versions", {}), **{key: self.facts.get(key) for key in ("threads", "accelerator")}}
        changed = [
            f"{name} {before.get(name)}, now {value}" for name, value in now.items() if before.get(name) != value
        ]
        if changed:
            log.warning("the run began with %s: what follows is not promised equal to the bit", "; ".join(changed))
        elif accelerator != "cpu":
            log.info("on a GPU what follows is not promised equal to the bit")

    def _refuse(self, error: NlpkitError) -> None:
        if not self.anyway:
            raise error
        log.warning("%s", error.message)


def _check_plugins(folder: RunFolder, before: tuple[str, ...], given: tuple[str, ...]) -> None:
    """Files may have been moved, and are compared by their names."""
    one, two = ({Plugin.of_file(file).file: file for file in files} for files in (before, given))
    if lacking := [file for name, file in one.items() if name not in two]:
        options = shlex.join(word for file in lacking for word in ("--plugin", file))
        moved = "" if all(map(os.path.exists, lacking)) else "; one that was moved, from where it is now"
        raise UsageError(
            f"{folder.path}: the run began with {options}, which is code and must be asked for again",
            f"add {options}, if you trust it{moved}",
        )
    if strange := [name for name in two if name not in one]:
        raise UsageError(
            f"{folder.path}: the run began without the plugin {', '.join(strange)}", "leave it out, or start a new run"
        )


def _settings(config: RunConfig) -> dict[str, Any]:
    """Every setting by dotted key, as JSON has it."""
    return dict(flat(to_plain(config)))
