"""The signals that end a command: Ctrl-C, SIGTERM, and the end of its terminal or session."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
Receiver = Callable[[int, FrameType | None], None]
Taken = dict[int, Any]


def take(receive: Receiver) -> Taken:
    """Let a function receive them; those that are ignored, as SIGHUP is under ``nohup``, stay ignored.

    Returns:
        What received them before, for `give_back`; nothing outside of the main thread, where none can be taken.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    wanted = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    return {number: signal.signal(number, receive) for number in wanted}


def give_back(taken: Taken) -> None:
    """Let them be received as before."""
    for number, handler in taken.items():
        signal.signal(number, handler)


@contextlib.contextmanager
def ending_at_once() -> Iterator[None]:
    """End where a signal comes: for the time in which nothing is written, and libraries are imported.

    An exception that is raised in the middle of their import may be lost in them, or abort them.
    """
    taken = take(_end)
    try:
        yield
    finally:
        give_back(taken)


def _end(number: int, frame: FrameType | None) -> None:
    with contextlib.suppress(OSError):
        os.write(2, b"interrupted\n")
    os._exit(128 + number)


def leave_terminal() -> None:
    """Write to nowhere what would go to a terminal that was closed: it would raise, in the middle of a save."""
    for descriptor in (1, 2):
        try:
            os.write(descriptor, b"")
        except OSError as error:
            if error.errno == errno.EIO:
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
