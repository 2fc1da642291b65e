"""Several encoders at work at once: one here, the others in processes of their own.

Looking words up holds Python's lock, so threads alone gain little. The processes are started as ``python -m``, not
through multiprocessing: that would run a user's script again, or fork a process with torch's threads.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from tokenizers import Tokenizer

from nlpkit.encoder import Encoder
from nlpkit.plain_text import backend_from
from nlpkit.processes import python, python_path
from nlpkit.token_writer import Chunk

_BYTES_EACH = 2_000_000  # of text, that are worth the start of a process
_MOST = 8


class Team:
    """Encodes chunks, each by whoever is free.

    Args:
        backend: as for `Encoder`.
        separator: as for `Encoder`.
        dtype: as for `Encoder`.
        columns: as for `Encoder`.
    """

    def __init__(self, backend: Tokenizer, separator: int, dtype: Any, columns: Sequence[str] = ()) -> None:
        self._asked = (backend.to_str(), separator, dtype, tuple(columns))
        self._here = Encoder(backend, separator, dtype, columns)
        self._free: SimpleQueue[Connection | None] = SimpleQueue()  # None stands for the encoder here
        self._own = threading.local()
        self._processes: list[subprocess.Popen[bytes]] = []

    @contextlib.contextmanager
    def at_work(self, workers: int, expected_bytes: int | None) -> Iterator[ThreadPoolExecutor]:
        """A pool whose threads have an encoder each: submit `encode` to it.

        Args:
            workers: encoders, at most.
            expected_bytes: of text in all; little, or None, is encoded in this process.
        """
        processes = min(workers - 1, _MOST - 1, (expected_bytes or 0) // _BYTES_EACH)
        self._free.put(None)
        with contextlib.suppress(OSError):  # no more processes, or no Python of our own to start
            for _ in range(processes):
                self._start()
        pool = ThreadPoolExecutor(1 + len(self._processes), "encode", self._join)
        try:
            yield pool
        finally:
            for process in self._processes:  # a thread may wait for one that is still starting
                process.kill()
            pool.shutdown(cancel_futures=True)
            for process in self._processes:
                process.kill()
                process.wait()

    def encode(self, texts: list[str]) -> Chunk:
        """Encode a chunk; in a thread of the pool.

        Raises:
            ModelError: the tokenizer fails on a text.
        """
        line: Connection | None = self._own.line
        if line is not None:
            try:
                line.send(texts)
                answer = line.recv()
                if answer is not None:
                    return Chunk(*answer)
            except (OSError, EOFError):  # the process died
                self._own.line = None
        return self._here(texts)

    def _start(self) -> None:
        line, other = Pipe()
        environment = {
            **os.environ,
            **python_path(),
            "TOKENIZERS_PARALLELISM": "false",
        }
        with other:
            process = subprocess.Popen(
                [*python("nlpkit.encoder_team"), str(other.fileno())],
                env=environment,
                pass_fds=[other.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for this process to handle
            )
        self._processes.append(process)
        self._free.put(line)

    def _join(self) -> None:
        """Give a thread of the pool its encoder: the first that of this process, the others a process each."""
        line = self._free.get_nowait()
        with contextlib.suppress(OSError, EOFError):
            if line is not None:
                line.send(self._asked)
                line.recv()
            self._own.line = line
            return
        self._own.line = None  # the process did not start


def serve(line: Connection) -> None:
    """Encode what comes, until nobody is at the other end; None is the answer to what cannot be encoded."""
    content, *rest = line.recv()
    encode = Encoder(backend_from(content), *rest)
    line.send(True)
    while True:
        texts = line.recv()
        try:
            chunk = encode(texts)
            line.send((chunk.tokens, chunk.index, chunk.texts))
        except Exception:  # the asking process tries again, and has the error
            line.send(None)


if __name__ == "__main__":
    with contextlib.suppress(EOFError, OSError):
        serve(Connection(int(sys.argv[1])))
