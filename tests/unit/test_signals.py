"""Which signals are taken, how often one save is made of one, and what a closed terminal leaves."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from tiny_runs import run, sentiment

from nlpkit import signals
from nlpkit.errors import Interrupted


def test_signals_that_are_ignored_stay_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        taken = signals.take(lambda number, frame: None)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert sorted(taken) == [signal.SIGINT, signal.SIGTERM]
        signals.give_back(taken)
    finally:
        signal.signal(signal.SIGHUP, before)


class InValidation(pl.Callback):
    """Send a signal in the second validation, and count the saves of each step."""

    def __init__(self) -> None:
        self.saves: Counter[int] = Counter()
        self.validations = 0

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.validations += 1
        if self.validations == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    def on_save_checkpoint(self, trainer: pl.Trainer, *_: Any) -> None:
        self.saves[trainer.global_step] += 1


@pytest.mark.parametrize("every", [0, 1000])
def test_signal_in_a_validation_saves_once(every: int, tmp_path: Path) -> None:
    seen = InValidation()
    with pytest.raises(Interrupted) as caught:
        run(tmp_path, sentiment(), every=every, callbacks=[seen])
    last = max(seen.saves)
    assert caught.value.message == f"interrupted; saved at step {last} in {tmp_path}/checkpoints/step-{last:08d}"
    assert set(seen.saves.values()) == {1}
