"""What happens between the steps of a run: seeds, records, checkpoints, signals."""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import pytorch_lightning as pl
from torch import Tensor

from nlpkit import checkpoints
from nlpkit.errors import DivergedError, Interrupted
from nlpkit.files import explain_os_errors, write_bytes
from nlpkit.randomness import seed_of

log = logging.getLogger("nlpkit")
_FLUSH_SECONDS = 2.0
_SAVE_SECONDS = 600.0


class Progress(Protocol):
    """Something that shows how far a run is."""

    def start(self, name: str, total: int, done: int) -> None:
        """A run of ``total`` optimiser steps begins, ``done`` of them before."""

    def step(self, step: int, tokens: int, loss: float | None) -> None:
        """A step is done; ``tokens`` is the number since the run began, the loss is of a recent step."""

    def scores(self, step: int, scores: dict[str, float], best: bool) -> None:
        """The dev part was scored."""

    def end(self) -> None:
        """The run is over, in whatever way."""


class CounterSeeds(pl.Callback):
    """Seed torch before each training batch from (run seed, batch): dropout needs no stored state."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, index: int) -> None:
        """Seed for this batch."""
        import torch

        torch.manual_seed(seed_of(self.seed, 3, index, trainer.global_rank))


class Recorder(pl.Callback):
    """Write the loss of each step and every score to metrics.jsonl, show progress, and stop at a loss that is no number.

    Args:
        path: append-only; cut back to the restored step on a resume.
        name: of the run, for the progress.
        total: optimiser steps of the run.
        progress: may be None.
    """

    def __init__(self, path: Path, name: str, total: int, progress: Progress | None) -> None:
        self.path, self.name, self.total, self.progress = path, name, total, progress
        self.tokens = 0
        self._pending: list[tuple[int, Tensor]] = []
        self._flushed = 0.0
        self._loss: float | None = None

    def state_dict(self) -> dict[str, Any]:
        """Tokens seen."""
        return {"tokens": self.tokens}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Tokens seen."""
        self.tokens = int(state_dict["tokens"])

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Cut the log back to where the run goes on."""
        cut_back(self.path, trainer.global_step)
        if self.progress:
            self.progress.start(self.name, self.total, trainer.global_step)

    def on_before_backward(self, trainer: pl.Trainer, module: pl.LightningModule, loss: Tensor) -> None:
        """Refuse a loss that is not finite before it reaches the weights; on a GPU a little later, to keep it busy."""
        if loss.device.type == "cpu":
            self._check(float(loss.detach()), trainer.global_step)

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Count tokens, keep the loss."""
        self.tokens += batch["input_ids"].numel()
        self._pending.append((trainer.global_step, outputs["loss"].detach()))
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self.flush()
        if self.progress:
            self.progress.step(trainer.global_step, self.tokens, self._loss)

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Write the scores."""
        self.flush()
        self._write([{"step": trainer.global_step, **dev_scores(trainer)}])

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Write what is left."""
        self.flush()

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        """Write what is left."""
        self._pending = [p for p in self._pending if math.isfinite(float(p[1]))]
        self.flush()

    def flush(self) -> None:
        """Write the losses of the last steps."""
        rows = [{"step": step, "train/loss": float(loss)} for step, loss in self._pending]
        self._pending, self._flushed = [], time.monotonic()
        for row in rows:
            self._check(row["train/loss"], int(row["step"]))
        if rows:
            self._loss = rows[-1]["train/loss"]
            self._write(rows)

    def _write(self, rows: list[dict[str, Any]]) -> None:
        with explain_os_errors(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)

    def _check(self, loss: float, step: int) -> None:
        if not math.isfinite(loss):
            raise DivergedError(
                f"the loss is {loss} at step {step}; the weights of the last checkpoint are kept",
                "lower optim.learning_rate (or optim.muon_learning_rate), or raise optim.warmup",
            )


class Checkpoints(pl.Callback):
    """Save the last and the best state, and stop when the dev score no longer rises.

    A save happens only where the optimiser has stepped: gradients of a half-done accumulation are in no checkpoint.

    Args:
        folder: of the checkpoints.
        score: name of the dev score that chooses, higher is better; ``loss`` chooses the lowest.
        patience: validations without a better score before the run ends; 0: never.
        every_steps: optimiser steps between two saves; 0: at validations and every ten minutes.
        accumulate: batches of one optimiser step.
        progress: told of scores.
    """

    def __init__(
        self, folder: Path, score: str, patience: int, every_steps: int, accumulate: int, progress: Progress | None
    ) -> None:
        self.folder, self.score, self.patience = folder, score, patience
        self.every_steps, self.accumulate, self.progress = every_steps, accumulate, progress
        self.best: float | None = None
        self.best_step = -1
        self.waited = 0
        self._saved_step, self._saved_at = -1, time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Best score, its step, and validations waited."""
        return {"best": self.best, "best_step": self.best_step, "waited": self.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them."""
        self.best, self.best_step, self.waited = (state_dict[k] for k in ("best", "best_step", "waited"))

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """A resumed run has its checkpoint already."""
        self._saved_step, self._saved_at = trainer.global_step, time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Save when it is time and the optimiser has stepped."""
        step = trainer.global_step
        if (index + 1) % self.accumulate or step == self._saved_step:
            return
        due = step % self.every_steps == 0 if self.every_steps else time.monotonic() - self._saved_at > _SAVE_SECONDS
        if due:
            self.save(trainer)

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Keep the best; stop after too many validations without a better one."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        scores = dev_scores(trainer)
        value = scores[f"dev/{self.score}"]
        if not math.isfinite(value):
            raise DivergedError(f"dev/{self.score} is {value} at step {trainer.global_step}", "lower the learning rate")
        signed = -value if self.score == "loss" else value
        better = self.best is None or signed > (-self.best if self.score == "loss" else self.best)
        self.waited = 0 if better else self.waited + 1
        if better:
            self.best, self.best_step = value, trainer.global_step
        if self.progress:
            self.progress.scores(trainer.global_step, scores, better)
        if better or not self.every_steps:
            self.save(trainer)
        if self.patience and self.waited >= self.patience:
            log.info("no better dev/%s in %d validations: stopping", self.score, self.waited)
            trainer.should_stop = True

    def save(self, trainer: pl.Trainer) -> Path:
        """Save the present state; older ones but the best are deleted after it is complete."""
        step = trainer.global_step
        self._saved_step, self._saved_at = step, time.monotonic()
        path = checkpoints.path_of(self.folder, step)
        trainer.save_checkpoint(path)
        checkpoints.prune(self.folder, {step, self.best_step})
        return path


class Signals(pl.Callback):
    """Ctrl-C and SIGTERM: finish the step, save, and end with the command that resumes.

    A second signal leaves at once, with the same exit code and without a save.

    Args:
        saver: writes the checkpoint.
        resume: the command that goes on.
    """

    def __init__(self, saver: Checkpoints, resume: str) -> None:
        self.saver, self.resume = saver, resume
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def setup(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        """Listen."""
        import threading

        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._receive)

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Save and leave, once the optimiser has stepped."""
        if self.received is not None and (index + 1) % self.saver.accumulate == 0:
            path = self.saver.save(trainer)
            raise Interrupted(
                f"interrupted; saved at step {trainer.global_step} in {path}", self.resume, signal_number=self.received
            )

    def teardown(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        """Stop listening."""
        self.restore()

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        """Stop listening."""
        self.restore()

    def restore(self) -> None:
        """Put the earlier handlers back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            os._exit(128 + number)
        self.received = number
        log.warning("%s: saving after this step; once more leaves at once", signal.Signals(number).name)


def dev_scores(trainer: pl.Trainer) -> dict[str, float]:
    """The scores of the last validation as plain numbers."""
    return {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("dev/")}


def cut_back(path: Path, step: int) -> None:
    """Drop the lines of a log after a step, and a half-written last line."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text("utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue
    write_bytes(path, "".join(kept).encode())
