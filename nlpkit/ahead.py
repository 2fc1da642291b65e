"""Batches made ahead of their use by other processes: the same ones in the same order, and a death is named."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import tee
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data._utils import signal_handling

from nlpkit import signals
from nlpkit.errors import ResourceError

_PATIENCE = 300.0  # seconds for a batch
_HINT = "trainer.workers=0, in config.yaml if the run has one, makes batches in the training process"
TurnT = TypeVar("TurnT")


def made_ahead(
    make: Callable[[TurnT], Any], turns: Iterable[TurnT], workers: int, name: Callable[[TurnT], str]
) -> Iterator[tuple[TurnT, Any]]:
    """Make things in processes, a few ahead; what fails there is made here, so that its error is the same.

    Args:
        make: gives the same for the same turn, whoever runs it.
        turns: what to make, in order.
        workers: processes; they are forked, so nothing is copied that they only read.
        name: of a turn, for messages.

    Raises:
        ResourceError: a process took too long. Where one died, torch interrupts the main thread, wherever it is: see
            `explain_death`.
    """
    shown, sent = tee(turns)
    loader: DataLoader[Any] = DataLoader(
        _Maker(make),
        sampler=sent,
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=workers,
        timeout=_PATIENCE,
        worker_init_fn=_alone,
        multiprocessing_context="fork",
        generator=torch.Generator(),
    )
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL:  # a Trainer's end takes away what torch sets but once
        signal_handling._SIGCHLD_handler_set = False
    with _held_back():
        made: Any = iter(loader)
    end = atexit.register(partial(_kill, made))
    try:
        for turn in shown:
            try:
                batch = next(made)
            except RuntimeError as error:
                if "timed out" not in str(error):
                    raise
                raise ResourceError(f"no batch in {_PATIENCE:g} seconds, of {name(turn)}", _HINT) from None
            yield turn, make(turn) if batch is None else batch
    finally:
        made._shutdown_workers()
        end()
        atexit.unregister(end)


def _kill(made: Any) -> None:
    """End processes that are left: torch, and multiprocessing at the exit, send them SIGTERM, which they ignore."""
    for worker in made._workers:
        worker.kill()
        worker.join()


@contextlib.contextmanager
def explain_death() -> Iterator[None]:
    """Turn what torch raises when a process of `made_ahead` dies into an error of ours.

    Raises:
        ResourceError: naming the process, and the signal where torch learnt of it in time.
    """
    try:
        yield
    except RuntimeError as error:
        text = str(error).partition(".")[0]
        if not text.startswith("DataLoader worker"):
            raise
        text = text.replace("DataLoader worker", "a process that makes batches").replace("pid(s)", "pid")
        raise ResourceError(f"{text}; perhaps memory ran out", _HINT) from error


class _Maker(Dataset[Any], Generic[TurnT]):
    """What torch's loader asks, in a worker."""

    def __init__(self, make: Callable[[TurnT], Any]) -> None:
        self.make = make

    def __getitem__(self, turn: TurnT) -> Any:
        try:
            return self.make(turn)
        except BaseException:  # the training process tries again, and has the error
            return None


def _as_it_is(batch: Any) -> Any:
    return batch


def _alone(worker: int) -> None:
    """Signals are for the training process to handle, also those to all processes of a job: it ends the others."""
    os.setsid()
    for number in signals.ENDING:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.ENDING)


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """Let signals wait, here and in processes that are forked meanwhile, until `_alone`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals.ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
