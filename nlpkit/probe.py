"""A few real steps of a run that is only planned: what they take in time and memory. The model is thrown away."""

from __future__ import annotations

import contextlib
import resource
import signal
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import SIGTERMException

from nlpkit import checkpoints, signals, trainer
from nlpkit.callbacks import CounterSeeds
from nlpkit.compiling import compiled
from nlpkit.config import RunConfig
from nlpkit.data import TaskDataModule
from nlpkit.module import TaskModule
from nlpkit.row_adamw import as_table

_STEPS = 12  # at most
_FIRST, _FIRST_COMPILED = 1, 4  # of them that are not counted: memory is claimed in them, and code is made
_SECONDS = 10.0  # of those that are, after which no further step is begun
_DEV_BATCHES = 4


@dataclass(frozen=True)
class Probe:
    """What was measured.

    Args:
        steps: optimiser steps that were done.
        step_seconds: of a step, as a median.
        score_seconds: of a batch of the dev part.
        memory: bytes of the process at its peak.
        gpu_memory: bytes of the GPU at their peak; 0 on a CPU.
        state: bytes of weights and optimiser in a checkpoint.
    """

    steps: int
    step_seconds: float
    score_seconds: float
    memory: int
    gpu_memory: int
    state: int


def probe(module: TaskModule, data: TaskDataModule, config: RunConfig, length: trainer.Length) -> Probe:
    """Train a few steps and score a few batches, with the very trainer of a run, and save nothing.

    Raises:
        KeyboardInterrupt: a signal; its argument may be the number.
        ResourceError: memory ran out.
    """
    clock = _Clock(config.trainer.accumulate, _FIRST_COMPILED if config.trainer.compile else _FIRST)
    short = trainer.Length(min(_STEPS, length.steps), length.validate_every)
    before: signals.Taken = {number: signal.getsignal(number) for number in signals.ENDING}
    with (
        trainer.quiet(),
        trainer.memory_errors(),
        _signals_raised(),
        trainer.not_ended(),
        compiled(module, config.trainer.compile),
        trainer.by_rows(module, config),
    ):
        runner = trainer.build(config, short, [CounterSeeds(config.seed), clock])
        runner.limit_val_batches = 0
        try:
            runner.fit(module, datamodule=data)
            for parameter, moments in runner.optimizers[0].state.items():
                as_table(parameter, moments)  # which those of rows may become
            kept = {"state_dict": module.state_dict(), "optimizer": runner.optimizers[0].state_dict()}
            state = checkpoints.size_of(kept | ({"average": module.state_dict()} if config.optim.average else {}))
            batches = runner.limit_val_batches = min(_DEV_BATCHES, len(data.val_dataloader()))
            if config.trainer.compile:  # the code for scoring is made here
                runner.validate(module, datamodule=data, verbose=False)
            began = time.perf_counter()
            runner.validate(module, datamodule=data, verbose=False)
            scored = time.perf_counter() - began
        finally:
            signals.give_back(before)
    gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return Probe(len(clock.seconds), clock.typical(), scored / max(1, batches), _peak_memory(), gpu, state)


@contextlib.contextmanager
def _signals_raised() -> Iterator[None]:
    """Undo what Lightning makes of SIGTERM, and of a KeyboardInterrupt."""
    try:
        yield
    except SystemExit as ended:
        raised = getattr(ended.__context__, "args", ())
        raise KeyboardInterrupt(*((signal.SIGTERM,) if isinstance(ended, SIGTERMException) else raised)) from None


class _Clock(pl.Callback):
    """The seconds of each optimiser step."""

    def __init__(self, accumulate: int, first: int) -> None:
        self.accumulate, self.first = accumulate, first
        self.seconds: list[float] = []
        self._began = time.perf_counter()

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """The first step begins."""
        self._began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """A step is over, and perhaps the probe."""
        if (index + 1) % self.accumulate:
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.seconds.append(now - self._began)
        self._began = now
        if sum(self.seconds[self.first :]) > _SECONDS:
            trainer.should_stop = True

    def typical(self) -> float:
        """Of a step but the first ones."""
        return statistics.median(self.seconds[self.first :] or self.seconds)


def _peak_memory() -> int:
    """Bytes of this process so far, at most."""
    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found if sys.platform == "darwin" else found * 1024
