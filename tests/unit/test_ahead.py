"""Batches made ahead are those made in place, and a process that makes them may die, fail or hang: R23."""

from __future__ import annotations

import gc
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytorch_lightning as pl
import torch
from tiny_runs import examples, mlm, run, sentiment

from nlpkit import ahead, checkpoints
from nlpkit.data import TaskDataModule
from nlpkit.errors import Interrupted, ResourceError
from nlpkit.folder import RunFolder
from nlpkit.task import Example

HINT = "trainer.workers=0, in config.yaml if the run has one, makes batches in the training process"


def loader(task: Any, workers: int, given: list[Example] | None = None) -> Any:
    return TaskDataModule(task, given or examples(), batch_tokens=160, epochs=2, workers=workers).train_dataloader()


BEFORE: set[int] = set()
"""Processes of other tests, such as the one of the kit that starts others."""


@pytest.fixture(autouse=True)
def _note_other_processes() -> None:
    BEFORE.update(process.pid for process in psutil.Process().children())


def children() -> list[psutil.Process]:
    return [process for process in psutil.Process().children() if process.pid not in BEFORE]


@pytest.mark.parametrize("make", [sentiment, mlm], ids=["sentiment", "mlm"])
def test_batches_and_state_are_those_without_workers(make: Any) -> None:
    one, two = loader(make(), 0), loader(make(), 2)
    for first, second in zip(one, two, strict=True):
        assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
        assert one.state_dict() == two.state_dict(), "the state moves with the batch that is used, not the one made"
    assert children() == []


def test_pass_that_is_left_early_leaves_no_process() -> None:
    source = iter(loader(sentiment(), 2))
    next(source)
    assert len(children()) == 2
    source.close()
    assert children() == []


class Broken(type(sentiment())):  # type: ignore[misc]
    """Cannot collate one text."""

    def collate(self, features: Any) -> Any:
        if self.marked in [f["input_ids"] for f in features]:
            raise ValueError("what is this")
        return super().collate(features)


@pytest.mark.parametrize("workers", [0, 2])
def test_error_of_a_task_is_the_same_and_names_the_batch(workers: int) -> None:
    """R23."""
    task = Broken(sentiment().config, sentiment().tokenizer)
    given = [Example(example, f"reviews.csv:{i + 2}") for i, example in enumerate(examples())]
    source = loader(task, workers, given)
    rows = source.plan.epoch(0)[2]
    task.marked = task.encode(given[rows[0]])["input_ids"]
    with pytest.raises(ValueError, match=r"^what is this") as caught:
        list(source)
    (note,) = caught.value.__notes__
    assert note.startswith(f"in the batch of reviews.csv:{rows[0] + 2}")
    assert children() == []


class Kill(pl.Callback):
    """Kill a process that makes batches."""

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, index: int) -> None:
        if index == 3:
            os.kill(children()[0].pid, signal.SIGKILL)
            time.sleep(10)  # at most: torch interrupts it


def test_killed_process_ends_the_run_which_can_go_on(tmp_path: Path) -> None:
    """R23."""
    straight = run(tmp_path / "straight", mlm(), epochs=2)
    with pytest.raises(ResourceError) as caught:
        run(tmp_path / "run", mlm(), epochs=2, workers=2, callbacks=[Kill()])
    died = r"a process that makes batches \(pid \d+\) (is killed by signal: Killed|exited unexpectedly)"
    assert re.fullmatch(rf"{died}; perhaps memory ran out", caught.value.message)
    assert caught.value.hint == HINT
    assert children() == []
    start = checkpoints.newest(tmp_path / "run/checkpoints")
    assert start.name == "step-00000003"
    resumed = run(tmp_path / "run", mlm(), epochs=2, workers=1, resume_from=start)
    ours, theirs = resumed.module.state_dict(), straight.module.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


class Signal(pl.Callback):
    """Send a signal to every process that makes batches, and SIGTERM to the training process."""

    def __init__(self, number: int) -> None:
        self.number = number

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, index: int) -> None:
        if index == 3:
            for child in children():
                child.send_signal(self.number)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10 if self.number == signal.SIGKILL else 0.5)


def test_signal_to_all_processes_of_a_job_is_an_interruption(tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match=r"^interrupted; saved at step 4 in ") as caught:
        run(tmp_path, mlm(), epochs=2, workers=2, callbacks=[Signal(signal.SIGTERM)])
    assert caught.value.exit_code == 143
    del caught  # it holds on to the loader
    gc.collect()
    assert children() == []


def test_interruption_that_ended_others_too_is_one(tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match=r"^interrupted; not saved: a process that makes batches") as caught:
        run(tmp_path, mlm(), epochs=2, workers=2, callbacks=[Signal(signal.SIGKILL)])
    assert (caught.value.exit_code, caught.value.hint) == (143, "again")


def test_death_is_noticed_at_once_in_a_second_run_too(tmp_path: Path) -> None:
    for name in ("first", "second"):
        with pytest.raises(ResourceError):
            run(tmp_path / name, mlm(), epochs=2, workers=2, callbacks=[Kill()])
        assert checkpoints.newest(tmp_path / name / "checkpoints").name == "step-00000003"


def test_process_that_hangs_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """R23."""
    monkeypatch.setattr(ahead, "_PATIENCE", 0.5)
    training = os.getpid()

    def make(place: int) -> int:
        if place == 2 and os.getpid() != training:
            time.sleep(1000)
        return place

    found = ahead.made_ahead(make, range(9), 1, lambda place: f"a.csv:{place}")
    assert [next(found), next(found)] == [(0, 0), (1, 1)]
    with pytest.raises(ResourceError) as caught:
        next(found)
    assert (caught.value.message, caught.value.hint) == ("no batch in 0.5 seconds, of a.csv:2", HINT)
    assert children() == []


def test_forked_process_does_not_hold_the_lock_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a kill -9 of the training process the run can be gone on with at once, not when its workers notice."""
    folder = RunFolder.create(str(tmp_path / "run"), "mlm")
    folder.write_facts({})
    source = iter(loader(sentiment(), 1))
    next(source)
    folder.unlock()
    (child,) = children()
    assert not [file for file in child.open_files() if file.path.endswith(".lock")]
    RunFolder.open_existing(str(tmp_path / "run")).unlock()
    source.close()
