"""Writing a token store: files that grow, a journal of what is safe on the disk, and going on after a kill."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from nlpkit.errors import ResourceError
from nlpkit.files import explain_os_errors, write_bytes
from nlpkit.token_store import DOCUMENT, DOCUMENTS, HEADER, TOKENS

logger = logging.getLogger("nlpkit")

JOURNAL, LOCK = "journal.jsonl", ".lock"
ELSEWHERE = "keep token stores on another disk: NLPKIT_CACHE=DIR"


@dataclass(frozen=True)
class State:
    """How far a build has come; a line of the journal."""

    texts: int = 0
    text_bytes: int = 0
    documents: int = 0
    skipped: int = 0
    tokens: int = 0
    tokens_crc: int = 0
    documents_crc: int = 0
    content: str = ""


@dataclass(frozen=True)
class Chunk:
    """Encoded texts: ids of all documents as bytes, and an index whose ends count from the chunk's first token."""

    tokens: bytes
    index: NDArray[Any]
    texts: int

    @property
    def length(self) -> int:
        """Number of tokens."""
        return int(self.index["end"][-1]) if len(self.index) else 0


@dataclass(frozen=True)
class Seen:
    """What was read of the texts up to a place."""

    texts: int
    text_bytes: int
    content: str


class Output:
    """The two growing files and the journal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: list[IO[bytes]] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Output:
        with _disk(self.folder):
            for name in (TOKENS, DOCUMENTS, JOURNAL):
                self._files.append(self._stack.enter_context(open(self.folder / name, "ab", buffering=0)))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def append(self, chunk: Chunk, state: State) -> State:
        """Write a chunk after what is there, and return the state with its checksums."""
        tokens, index = chunk.tokens, chunk.index.copy()
        index["end"] += state.tokens - chunk.length
        with _disk(self.folder):
            _write(self._files[0], tokens)
            _write(self._files[1], index.tobytes())
        return replace(
            state,
            tokens_crc=zlib.crc32(tokens, state.tokens_crc),
            documents_crc=zlib.crc32(index.tobytes(), state.documents_crc),
        )

    def commit(self, state: State) -> None:
        """Put the data on the disk, then a line in the journal: a kill loses nothing before it."""
        with _disk(self.folder):
            for file in self._files[:2]:
                os.fsync(file.fileno())
            _write(self._files[2], _line(asdict(state)))
            os.fsync(self._files[2].fileno())


def after(state: State, chunk: Chunk, seen: Seen) -> State:
    """Count a chunk; its checksums are added when it is written."""
    return replace(
        state,
        texts=seen.texts,
        text_bytes=seen.text_bytes,
        content=seen.content,
        documents=state.documents + len(chunk.index),
        skipped=state.skipped + chunk.texts - len(chunk.index),
        tokens=state.tokens + chunk.length,
    )


def recover(folder: Path, names: dict[str, str]) -> State:
    """Find the last commit of the same build and cut the files to it; begin anew where there is none."""
    state = _last_commit(folder, names) or State()
    with _disk(folder):
        (folder / HEADER).unlink(missing_ok=True)
        for name, size in _sizes(names["dtype"], state).items():
            with open(folder / name, "ab") as file:
                file.truncate(size)
        write_bytes(folder / JOURNAL, _line({"format_version": 1, **names}) + _line(asdict(state)))
    if state.texts:
        logger.info("token store: going on after %d texts of an interrupted build", state.texts)
    return state


def forget(folder: Path) -> None:
    """Remove the journal: the store is finished, or the next build begins anew."""
    (folder / JOURNAL).unlink(missing_ok=True)


def _last_commit(folder: Path, names: dict[str, str]) -> State | None:
    """Read the newest whole line of the journal whose bytes are all there."""
    try:
        lines = (folder / JOURNAL).read_bytes().split(b"\n")[:-1]
        if not lines or json.loads(lines[0]) != {"format_version": 1, **names}:
            return None
        state = State(**json.loads(lines[-1]))
        there = all((folder / name).stat().st_size >= size for name, size in _sizes(names["dtype"], state).items())
    except (OSError, ValueError, TypeError):
        return None
    return state if there else None


def _sizes(dtype: str, state: State) -> dict[str, int]:
    return {TOKENS: np.dtype(dtype).itemsize * state.tokens, DOCUMENTS: DOCUMENT.itemsize * state.documents}


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _write(file: IO[bytes], content: bytes) -> None:
    """Write all of it: an unbuffered file may take a part and say so."""
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]


@contextlib.contextmanager
def _disk(folder: Path) -> Iterator[None]:
    try:
        with explain_os_errors(folder, ELSEWHERE):
            yield
    except ResourceError as error:
        raise ResourceError(
            f"{folder}: the disk is full; the token store is not finished",
            "free some space and run the command again: it goes on from here",
        ) from error


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Let one process at a time write; the system lets go of the lock when a process dies.

    Yields:
        Whether another process was waited for.
    """
    with explain_os_errors(folder, ELSEWHERE):
        file = open(folder / LOCK, "ab")  # noqa: SIM115 errors of the body are not the lock's
    with file:
        waited = False
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("%s: another process builds this token store; waiting for it", folder)
            fcntl.flock(file, fcntl.LOCK_EX)
            waited = True
        yield waited
