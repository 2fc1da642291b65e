"""Ctrl-C and SIGTERM outside of training: one line and the signal's exit code, whatever was going on."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from nlpkit.errors import Interrupted


@contextlib.contextmanager
def interruptible(message: str = "interrupted") -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C: everything on the way is closed and cleared away, then the command ends.

    Args:
        message: what the user is told, unless the library has more to say.

    Raises:
        Interrupted: with the signal's exit code.
    """
    before = None
    if threading.current_thread() is threading.main_thread():
        before = signal.signal(signal.SIGTERM, _raise_here(os.getpid()))
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(message, signal_number=error.args[0] if error.args else signal.SIGINT) from None
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _raise_here(process: int):  # type: ignore[no-untyped-def]
    def receive(number: int, frame: FrameType | None) -> None:
        if os.getpid() == process:
            raise KeyboardInterrupt(number)
        signal.signal(number, signal.SIG_DFL)  # a worker that was forked from us
        os.kill(os.getpid(), number)

    return receive
