"""The one place that builds a pl.Trainer: devices, precision, the length of a run, and what is kept off the screen."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities.exceptions import SIGTERMException

from nlpkit import checkpoints, lightning
from nlpkit.ahead import explain_death
from nlpkit.averaging import Averaging
from nlpkit.callbacks import Checkpoints, CounterSeeds, Progress, Recorder
from nlpkit.compiling import compiled
from nlpkit.config import RunConfig
from nlpkit.data import FIXED_ROWS, FixedLoader, Samples, TaskDataModule
from nlpkit.errors import ModelError, PluginError, ResourceError, UsageError
from nlpkit.folder import RunFolder
from nlpkit.loggers import loggers
from nlpkit.meeting import ANSWER, Meeting
from nlpkit.module import TaskModule
from nlpkit.plugins.blame import describe, is_of_user, plugin_error
from nlpkit.processes import place
from nlpkit.row_adamw import looked_up_by_rows
from nlpkit.silence import silenced
from nlpkit.stopping import Signals, TimeLimit
from nlpkit.watch import Watch

log = logging.getLogger("nlpkit")
_POINTS = 100  # of a loss that loggers draw, at least; in a short run as many as it has steps


@dataclass(frozen=True)
class Length:
    """How long a run is.

    Args:
        steps: optimiser steps.
        validate_every: batches between two scores of the dev part; divides the number of batches.
    """

    steps: int
    validate_every: int


@dataclass(frozen=True)
class Outcome:
    """What a training run ended with.

    Args:
        steps: optimiser steps done.
        tokens: tokens seen, padding included.
        best_step: step of the best dev score; the module holds its weights.
        best: that score.
    """

    steps: int
    tokens: int
    best_step: int
    best: float | None


def plan_length(config: RunConfig, data: TaskDataModule) -> Length:
    """Steps of the run, a whole number of equal stretches between validations.

    The whole run is one Lightning epoch, so that no checkpoint can fall on an epoch's end; a few batches at the end
    are left out to make the stretches equal.
    """
    trainer = config.trainer
    batches = len(data.train_dataloader())
    steps = batches // trainer.accumulate
    if trainer.max_steps is not None:
        steps = min(steps, trainer.max_steps)
    if steps < 1:
        raise UsageError(
            f"{batches} batches make no step with trainer.accumulate={trainer.accumulate}", "trainer.accumulate=1"
        )
    epochs = steps * trainer.accumulate / max(1, batches / data.epochs)
    stretches = max(1, min(steps, round(epochs * trainer.validations_per_epoch)))
    every = max(1, steps // stretches)
    return Length(steps // every * every, every * trainer.accumulate)


def train(
    module: TaskModule,
    data: TaskDataModule,
    config: RunConfig,
    length: Length,
    folder: RunFolder,
    *,
    resume_from: Path | None = None,
    resume_command: str = "",
    progress: Progress | None = None,
    callbacks: tuple[Any, ...] = (),
    meeting: Meeting | None = None,
    watch: Samples | None = None,
) -> Outcome:
    """Train, and leave the best weights in the module; score ``watch`` at the start and at each validation.

    With several processes each of them comes here, with the same arguments.

    Raises:
        Interrupted: Ctrl-C, SIGTERM or SIGHUP, after a save.
        DivergedError: a loss or score that is not finite.
        ResourceError: memory ran out, or another process ended.
        PluginError: weights that the loss does not reach, with several processes; code of others that ends the program.
    """
    saver = Checkpoints(
        folder.checkpoints,
        module.task.score,
        config.trainer.patience,
        config.checkpoint.every_steps,
        config.trainer.accumulate,
        progress,
    )
    recorder = Recorder(folder, length.steps, progress, data.train_dataloader().whence)
    signals = Signals(saver, resume_command)
    limit = TimeLimit(config.trainer.minutes, config.trainer.accumulate)
    named = lightning.callbacks(config.trainer)
    ours = [CounterSeeds(config.seed), recorder, limit, saver, signals, *named, *callbacks]
    if config.optim.average:  # before what saves
        ours.insert(0, Averaging(config.optim.average))
    if watch is not None:
        ours.insert(
            ours.index(limit),
            Watch(FixedLoader(module.task, watch, data.fixed_tokens, FIXED_ROWS, config.seed), recorder),
        )
    meeting = meeting or Meeting(config.trainer)
    with (
        quiet(),
        signals.explained(),
        memory_errors(),
        explain_death(),
        not_ended(),
        _idle_weights(),
        lightning.explained(),
        meeting.training(accelerator_of(config)),
        compiled(module, config.trainer.compile),
        by_rows(module, config),
    ):
        begun = checkpoints.step_of(resume_from) if resume_from else 0
        more = {"logger": loggers(config, folder, begun), **lightning.arguments(config.trainer, folder.path)}
        trainer = build(config, length, ours, more)
        signals.listen()
        try:
            trainer.fit(module, datamodule=data, ckpt_path=resume_from, weights_only=True)
        finally:
            signals.restore()
            if progress:
                progress.end()
    averaged = config.optim.average > 0  # a resume at the end of a run has the weights themselves
    best = _to_best(module, folder, saver.best_step, trainer.global_step, always=averaged)
    return Outcome(trainer.global_step, recorder.tokens, best, saver.best)


def by_rows(module: TaskModule, config: RunConfig) -> contextlib.AbstractContextManager[None]:
    """Embeddings are stepped by the rows that were looked up, where that pays: fine-tuning on a CPU, in one process."""
    alone = accelerator_of(config) == "cpu" and place().world == 1
    return looked_up_by_rows(module, alone and module.task.stage == "finetune")


def _to_best(module: TaskModule, folder: RunFolder, best: int, last: int, *, always: bool = False) -> int:
    """Give the module the best weights, and return their step; where they are damaged, the last ones are kept."""
    if best == -1 or (best == last and not always):
        return best
    try:
        state = checkpoints.load(checkpoints.path_of(folder.checkpoints, best))
    except ModelError as error:
        log.warning(
            "%s; the weights of the last step (%d) are kept in place of the best (%d)", error.message, last, best
        )
        return last
    module.load_state_dict(state["state_dict"])
    return best


def build(
    config: RunConfig, length: Length, callbacks: list[Any], more: Mapping[str, Any] = MappingProxyType({})
) -> pl.Trainer:
    """The Trainer of a run; nothing is left to Lightning's defaults or its environment variables.

    Args:
        config: of the run.
        length: likewise.
        callbacks: likewise.
        more: arguments that win over ours.
    """
    accelerator, several = accelerator_of(config), place().world > 1
    arguments: dict[str, Any] = {
        "accelerator": accelerator,
        "devices": config.trainer.devices,
        "num_nodes": config.trainer.nodes,
        "strategy": _shared() if several else "auto",
        "precision": precision_of(config, accelerator),
        "max_epochs": 1,
        "max_steps": length.steps,
        "val_check_interval": length.validate_every,
        "check_val_every_n_epoch": None,
        "num_sanity_val_steps": 0,
        "accumulate_grad_batches": config.trainer.accumulate,
        "log_every_n_steps": max(1, min(50, length.steps // _POINTS)),
        "callbacks": callbacks,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "plugins": [checkpoints.AtomicCheckpointIO(), TorchElasticEnvironment() if several else LightningEnvironment()],
        "default_root_dir": os.getcwd(),
        "inference_mode": True,
    }
    return pl.Trainer(**{"logger": False, **arguments, **more})


def _shared() -> DDPStrategy:
    # buffers are constants here, and processes may differ by a dev batch: a forward pass is no place to wait
    return DDPStrategy(timeout=ANSWER, broadcast_buffers=False)


def accelerator_of(config: RunConfig) -> str:
    """``cpu`` or ``gpu``.

    Raises:
        UsageError: a GPU was asked for and there is none, or more than there are.
    """
    asked, seen = config.trainer, torch.cuda.device_count()
    if asked.accelerator == "gpu" and not torch.cuda.is_available():
        raise UsageError("trainer.accelerator is gpu, and torch sees none", "trainer.accelerator=auto")
    if asked.accelerator == "cpu" or not torch.cuda.is_available():
        return "cpu"
    if asked.devices > seen:
        raise UsageError(f"trainer.devices is {asked.devices}, and torch sees {seen}", f"trainer.devices={seen}")
    return "gpu"


def precision_of(config: RunConfig, accelerator: str) -> str:
    """float32 on a CPU, where bfloat16 is often far slower; bfloat16 on a GPU that computes in it."""
    if config.trainer.precision != "auto":
        return "32-true" if config.trainer.precision == "32" else config.trainer.precision
    return "bf16-mixed" if accelerator == "gpu" and torch.cuda.is_bf16_supported(False) else "32-true"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Lightning's adverts, and warnings that are not for our user, off the screen."""
    names = ("pytorch_lightning", "lightning_fabric", "lightning.pytorch")
    with silenced(*names, below=logging.ERROR), warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(pytorch_lightning|lightning_fabric|torchmetrics)")
        warnings.filterwarnings("ignore", message=r".*(does not have many workers|No positive samples|LeafSpec).*")
        yield


@contextlib.contextmanager
def not_ended() -> Iterator[None]:
    """Say whose code ends the program: a command would end as if all were done, and without a model."""
    try:
        yield
    except SystemExit as ended:
        error = ended.__context__ if isinstance(ended.__context__, KeyboardInterrupt) else ended
        if isinstance(error, SIGTERMException) or is_of_user(error):
            raise  # how Lightning ends at a signal
        known = PluginError(
            f"the program is ended while training: {describe(error)}",
            "trainer.should_stop = True in a callback ends a run as if its last step were done",
        )
        raise (plugin_error(error) or known) from error


@contextlib.contextmanager
def _idle_weights() -> Iterator[None]:
    """Say in our words that DDP waits for a gradient that never comes."""
    try:
        yield
    except RuntimeError as error:
        if "finished reduction in the prior iteration" not in str(error):
            raise
        raise PluginError(
            "the loss reaches not every weight of the model, which several processes need",
            "trainer.devices=1; check_task of nlpkit.testing says which weights they are",
        ) from error


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """Turn memory that runs out into an error of ours, with smaller batches as the hint."""
    hint = "use smaller batches: trainer.batch_tokens=1024 trainer.accumulate=4"
    try:
        yield
    except MemoryError as error:
        raise ResourceError("memory ran out while training", hint) from error
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise ResourceError("memory ran out while training", hint) from error
        raise
