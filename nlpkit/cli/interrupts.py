"""Signals outside of training: one line and the signal's exit code, whatever was going on."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

from nlpkit import signals
from nlpkit.cli.failures import plugin_fault
from nlpkit.errors import Interrupted


@contextlib.contextmanager
def interruptible(message: str = "interrupted") -> Iterator[None]:
    """Raise where a signal comes: everything on the way is closed and cleared away, then the command ends.

    What is imported in it should be little; see `nlpkit.signals.ending_at_once`.

    Args:
        message: what the user is told, unless the library has more to say.

    Raises:
        Interrupted: with the signal's exit code.
    """
    taken = signals.take(_Raise())
    try:
        yield
    except KeyboardInterrupt as error:
        if plugin_fault(error):
            raise
        raise Interrupted(message, signal_number=error.args[0] if error.args else signal.SIGINT) from None
    finally:
        signals.give_back(taken)


class _Raise:
    """Raises a signal as KeyboardInterrupt, in this process alone."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.received = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self.process:  # a worker that was forked from us
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif number != signal.SIGHUP or not self.received:  # of a closed terminal several may come
            self.received = number
            signals.leave_terminal()
            raise KeyboardInterrupt(number)
