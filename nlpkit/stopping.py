"""Why a run ends before its last step: a signal, or its time is over."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytorch_lightning as pl

from nlpkit import signals
from nlpkit.callbacks import Checkpoints, validates_now
from nlpkit.errors import Interrupted, ResourceError
from nlpkit.processes import largest

log = logging.getLogger("nlpkit")


class Signals(pl.Callback):
    """Ctrl-C, SIGTERM, SIGHUP: finish the step, save, and end with the command that resumes.

    A second signal leaves at once, with the same exit code and without a save.

    Args:
        saver: writes the checkpoint.
        resume: the command that goes on.
    """

    def __init__(self, saver: Checkpoints, resume: str) -> None:
        self.saver, self.resume = saver, resume
        self.received: int | None = None
        self._before: signals.Taken = {}

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Listen again: Lightning has put a handler of its own in between, which stops inside an accumulation."""
        self.listen()
        if threading.current_thread() is not threading.main_thread():
            log.warning("not in the main thread: Ctrl-C and SIGTERM do not save; the last checkpoint serves")
        if number := self._received_by_any():
            raise Interrupted("interrupted before the first step", self.resume, signal_number=number)

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Save and leave, once the optimiser has stepped and a validation that is due is over."""
        if (index + 1) % self.saver.accumulate == 0 and not validates_now(trainer, index):
            self._leave(trainer)

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Save and leave."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._leave(trainer)

    def listen(self) -> None:
        """Take the signals; before the Trainer starts, which makes an exit with code 1 of a Ctrl-C."""
        self._before = {**signals.take(self._receive), **self._before}

    def restore(self) -> None:
        """Put the earlier handlers back; after the Trainer, which at its end puts back those that it found."""
        signals.give_back(self._before)
        self._before = {}

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Say that a run was interrupted, where the signal has reached other processes of it, too, and ended them.

        Raises:
            Interrupted: a signal was received before one of them was missed.
        """
        try:
            yield
        except ResourceError as error:
            if self.received is None:
                raise
            raise Interrupted(
                f"interrupted; not saved: {error.message}", self.resume, signal_number=self.received
            ) from error

    def _leave(self, trainer: pl.Trainer) -> None:
        if trainer.should_stop or trainer.global_step >= trainer.max_steps:
            return  # a run that has done its last step ends as it would have
        if number := self._received_by_any():
            path = self.saver.saved(trainer)
            raise Interrupted(
                f"interrupted; saved at step {trainer.global_step} in {path}", self.resume, signal_number=number
            )

    def _received_by_any(self) -> int:
        """The signal that this or another process of the run has received; 0: none."""
        return int(largest(self.received or 0))

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            if number == signal.SIGHUP:  # of a closed terminal several may come
                return
            os._exit(128 + number)
        self.received = number
        signals.leave_terminal()
        with contextlib.suppress(RuntimeError):  # the signal came while this very stream was being written
            log.warning("%s: saving after this step; once more leaves at once", signal.Signals(number).name)


class TimeLimit(pl.Callback):
    """End the run after so many minutes as if its last step were done: scored, saved, and the best weights kept.

    Args:
        minutes: of training, those before a resume included; 0: no limit.
        accumulate: batches of one optimiser step.
    """

    def __init__(self, minutes: float, accumulate: int) -> None:
        self.seconds, self.accumulate = 60 * minutes, accumulate
        self._before, self._began = 0.0, time.monotonic()

    @property
    def _used(self) -> float:
        return self._before + time.monotonic() - self._began

    def state_dict(self) -> dict[str, Any]:
        """Seconds used; nothing without a limit: checkpoints of a resumed run are equal to those of a straight one."""
        return {"seconds": self._used} if self.seconds else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them."""
        self._before = float(state_dict["seconds"])

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Start the clock; the run may have come to its end before."""
        self._began = time.monotonic()
        self._stop_when_over(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        """Stop where the optimiser has stepped."""
        if (index + 1) % self.accumulate == 0:
            self._stop_when_over(trainer)

    def _stop_when_over(self, trainer: pl.Trainer) -> None:
        if self.seconds and largest(self._used > self.seconds):
            log.info("trainer.minutes=%g are over: stopping at step %d", self.seconds / 60, trainer.global_step)
            trainer.should_stop = True
