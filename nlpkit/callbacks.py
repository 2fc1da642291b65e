"""What happens between the steps of a run: seeds, records, checkpoints."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from torch import Tensor

from nlpkit import checkpoints
from nlpkit.errors import DivergedError, NlpkitError, PluginError
from nlpkit.files import explain_os_errors
from nlpkit.folder import RunFolder
from nlpkit.metrics_log import cut_back
from nlpkit.owners import named
from nlpkit.processes import largest, place, total
from nlpkit.randomness import seed_all, seed_of
from nlpkit.scores import finite

log = logging.getLogger("nlpkit")
_FLUSH_SECONDS = 2.0
_SAVE_SECONDS = 600.0
_LOWER = "lower optim.learning_rate (or optim.muon_learning_rate), or raise optim.warmup"


class Progress(Protocol):
    """Something that shows how far a run is."""

    def start(self, name: str, total: int, done: int) -> None:
        """A run of ``total`` optimiser steps begins, ``done`` of them before."""

    def step(self, step: int, tokens: int, loss: float | None) -> None:
        """A step is done; ``tokens`` is the number since the run began, the loss is of a recent step."""

    def scores(self, step: int, scores: dict[str, float], best: bool) -> None:
        """The dev part was scored, and the text that is watched."""

    def end(self) -> None:
        """The run is over, in whatever way."""


class CounterSeeds(pl.Callback):
    """Seed torch, numpy and random before each batch from (run seed, batch): dropout needs no stored state."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, index: int) -> None:
        """Seed for this batch."""
        seed_all(seed_of(self.seed, 3, index, trainer.global_rank))


class Recorder(pl.Callback):
    """Write the loss of each step and every score to metrics.jsonl, show progress, stop at a loss that is no number.

    A step has one row, whatever the number of its batches: the mean of their losses. An error of a loss or gradient
    that is no number gets to know which samples its batches held.

    Args:
        folder: its log is append-only; cut back to the restored step on a resume.
        total: optimiser steps of the run.
        progress: may be None.
        whence: tells of a batch, by its number, where its samples come from.
    """

    def __init__(self, folder: RunFolder, total: int, progress: Progress | None, whence: Callable[[int], str]) -> None:
        self.folder, self.path, self.total, self.progress, self.whence = folder, folder.metrics, total, progress, whence
        self.tokens = 0
        self._step = 0
        self._window: list[Tensor] = []
        self._batches: list[int] = []  # of the present step
        self._pending: list[tuple[int, Tensor, list[int]]] = []
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
        self._step, self._window, self._batches = trainer.global_step, [], []
        if place().first:
            cut_back(self.path, trainer.global_step)
        if self.progress:
            self.progress.start(self.folder.path.name, self.total, trainer.global_step)

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, index: int) -> None:
        """Note the batch."""
        self._batches.append(index)

    def on_before_backward(self, trainer: pl.Trainer, module: pl.LightningModule, loss: Tensor) -> None:
        """Refuse a loss that is not finite before it reaches the weights; on a GPU a little later, to keep it busy."""
        if loss.device.type == "cpu":
            self._check(float(loss.detach()), trainer.global_step, self._batches)

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Count tokens, keep the loss."""
        self.tokens += int(total(batch["input_ids"].numel()))
        if "loss" in outputs:
            self._window.append(outputs["loss"].detach())  # Lightning has divided it by the batches of a step
        if trainer.global_step == self._step:
            return
        if self._window:
            self._pending.append((trainer.global_step, torch.stack(self._window).sum(), self._batches))
        self._step, self._window, self._batches = trainer.global_step, [], []
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self.flush()
        if self.progress:
            self.progress.step(trainer.global_step, self.tokens, self._loss)

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Write the scores."""
        if trainer.sanity_checking:
            return
        self.flush()
        scores = {**validation_scores(trainer, "dev"), **validation_scores(trainer, "watch")}
        self.write([{"step": trainer.global_step, **finite(scores)}])

    def on_save_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Write what is left: a resumed run goes on behind these rows; and no checkpoint follows a loss of NaN."""
        self.flush()
        if place().first:
            self.folder.check_in_place()  # a save would make it anew
        if self.path.exists():  # a checkpoint must not outlive, in a power cut, the scores that its results are made of
            with open(self.path, "rb+") as file:
                os.fsync(file.fileno())

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Write what is left."""
        self.flush()

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        """Write what is left, and tell which samples a step that failed was about."""
        if isinstance(exception, DivergedError) and self._batches:
            exception.message += "; in the batch of " + " and that of ".join(map(self.whence, self._batches))
        ours = isinstance(exception, NlpkitError) or not isinstance(exception, Exception)
        if self._batches and not ours and not hasattr(exception, "__notes__"):
            exception.add_note(f"in the batch of {self.whence(self._batches[-1])}")
        self._pending = [p for p in self._pending if math.isfinite(float(p[1]))]
        self.flush()

    def flush(self) -> None:
        """Write the losses of the last steps."""
        rows = []
        for step, loss, batches in self._pending:
            self._check(float(loss), step, batches)
            rows.append({"step": step, "train/loss": float(loss)})
        self._pending, self._flushed = [], time.monotonic()
        if rows:
            self._loss = rows[-1]["train/loss"]
            self.write(rows)

    def write(self, rows: list[dict[str, Any]]) -> None:
        """Add rows to the log; the first process does."""
        if not place().first:
            return
        self.folder.check_in_place()
        with explain_os_errors(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)

    def _check(self, loss: float, step: int, batches: list[int]) -> None:
        if not math.isfinite(loss):
            self._batches = batches
            raise DivergedError(f"the loss is {loss} at step {step}; these weights are not saved", _LOWER)


class Checkpoints(pl.Callback):
    """Save the last and the best state, and stop when the dev part no longer gets better; alike in all processes.

    A save happens only where the optimiser has stepped: gradients of a half-done accumulation are in no checkpoint.
    Where the dev part is scored, the save comes after it: Lightning never makes up for a validation that was due.

    Args:
        folder: of the checkpoints.
        score: name of the dev score that chooses, higher is better, and of equal ones the lower loss; ``loss``
            chooses the lowest.
        patience: validations without a better score, or a lower loss, before the run ends; 0: never. A score that
            counts only whole answers may stay at zero for long while the loss shows that they come.
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
        self.best_loss, self.best_step = math.inf, -1
        self.lowest, self.waited = math.inf, 0
        self._saved_step, self._saved_at = -1, time.monotonic()
        self._kept: set[int] = set()

    def state_dict(self) -> dict[str, Any]:
        """Best score, its loss and step, the lowest loss, and validations waited."""
        return {name: getattr(self, name) for name in ("best", "best_loss", "best_step", "lowest", "waited")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them."""
        self.best, self.best_step, self.waited = (state_dict[k] for k in ("best", "best_step", "waited"))
        self.best_loss = state_dict.get("best_loss", -math.inf)  # none in those from before it was kept
        self.lowest = state_dict.get("lowest", math.inf)  # likewise

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """A resumed run has its checkpoint already, and perhaps its end."""
        self._saved_step, self._saved_at = trainer.global_step, time.monotonic()
        self._kept = {trainer.global_step, self.best_step}
        self._stop_when_waited(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Save when it is time and the optimiser has stepped."""
        step = trainer.global_step
        if (index + 1) % self.accumulate or step == self._saved_step or validates_now(trainer, index):
            return
        if self._due(step):
            self.save(trainer)

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Keep the best; stop after too many validations that show no progress."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        scores = validation_scores(trainer, "dev")
        value, loss = self._chosen(scores, module), scores.get("dev/loss", 0.0)
        for name, found in ((self.score, value), ("loss", loss)):
            if not math.isfinite(found):
                raise DivergedError(f"dev/{name} is {found} at step {trainer.global_step}", _LOWER)
        signed = -value if self.score == "loss" else value
        higher = self.best is None or signed > (-self.best if self.score == "loss" else self.best)
        better = higher or (value == self.best and loss < self.best_loss)
        self.waited = 0 if higher or loss < self.lowest else self.waited + 1
        self.lowest = min(self.lowest, loss)
        if better:
            self.best, self.best_loss, self.best_step = value, loss, trainer.global_step
        if self.progress:
            self.progress.scores(trainer.global_step, {**scores, **validation_scores(trainer, "watch")}, better)
        if better or not self.every_steps or self._due(trainer.global_step) or trainer.should_stop:
            self.save(trainer)  # a run that its time has ended would go on elsewhere without its end
        self._stop_when_waited(trainer)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Keep the last and the best only: the one before was there for a save that fails."""
        self._prune({self._saved_step, self.best_step})

    def save(self, trainer: pl.Trainer) -> Path:
        """Save the present state, then delete all but this, the best, and what the save before kept.

        Raises:
            DivergedError: the weights are not finite; nothing is saved.
        """
        step = trainer.global_step
        if not all(bool(torch.isfinite(p).all()) for p in trainer.lightning_module.parameters()):
            raise DivergedError(f"the weights are not finite at step {step}; they are not saved", _LOWER)
        path = checkpoints.path_of(self.folder, step)
        trainer.save_checkpoint(path)
        self._saved_step, self._saved_at = step, time.monotonic()
        keep = {step, self.best_step}
        self._prune(keep | self._kept)
        self._kept = keep
        return path

    def saved(self, trainer: pl.Trainer) -> Path:
        """The checkpoint of the present state, which may be there already."""
        if self._saved_step == trainer.global_step:
            return checkpoints.path_of(self.folder, self._saved_step)
        return self.save(trainer)

    def _prune(self, keep: set[int]) -> None:
        if place().first:
            checkpoints.prune(self.folder, keep)

    def _due(self, step: int) -> bool:
        if self.every_steps:
            return step % self.every_steps == 0
        return bool(largest(time.monotonic() - self._saved_at > _SAVE_SECONDS))

    def _chosen(self, scores: dict[str, float], module: pl.LightningModule) -> float:
        if f"dev/{self.score}" not in scores:
            known = ", ".join(sorted(name.removeprefix("dev/") for name in scores))
            plugin = named(type(getattr(module, "task", None)))
            what = f"{plugin}the task chooses by '{self.score}', which is none of its scores ({known})"
            raise PluginError(what, "set Task.score to one")
        return scores[f"dev/{self.score}"]

    def _stop_when_waited(self, trainer: pl.Trainer) -> None:
        if self.patience and self.waited >= self.patience:
            of_loss = "" if self.score == "loss" else " and no lower dev/loss"
            log.info("no better dev/%s%s in %d validations: stopping", self.score, of_loss, self.waited)
            trainer.should_stop = True


def validates_now(trainer: pl.Trainer, index: int) -> bool:
    """Whether the dev part is scored right after this batch."""
    if not sum(trainer.num_val_batches):
        return False
    every = trainer.val_check_batch
    return trainer.should_stop or (every is not None and (index + 1) % every == 0)


def validation_scores(trainer: pl.Trainer, part: str) -> dict[str, float]:
    """The scores of a part at the last validation as plain numbers; ``dev``, or ``watch`` if there is one."""
    return {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith(f"{part}/")}
