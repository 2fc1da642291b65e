"""Why a run ends before its last step: a signal, or its time is over."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from types import FrameType
from typing import Any

import pytorch_lightning as pl

from nlpkit.callbacks import Checkpoints, validates_now
from nlpkit.errors import Interrupted
from nlpkit.processes import largest

log = logging.getLogger("nlpkit")


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

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Listen again: Lightning has put a handler of its own in between, which stops inside an accumulation."""
        self.listen()
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
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                before = signal.signal(number, self._receive)
                self._before.setdefault(number, before)

    def restore(self) -> None:
        """Put the earlier handlers back; after the Trainer, which at its end puts back those that it found."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _leave(self, trainer: pl.Trainer) -> None:
        if trainer.should_stop or trainer.global_step >= trainer.max_steps:
            return  # a run that has done its last step ends as it would have
        if number := self._received_by_any():
            path = self.saver.save(trainer)
            raise Interrupted(
                f"interrupted; saved at step {trainer.global_step} in {path}", self.resume, signal_number=number
            )

    def _received_by_any(self) -> int:
        """The signal that this or another process of the run has received; 0: none."""
        return int(largest(self.received or 0))

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            os._exit(128 + number)
        self.received = number
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
