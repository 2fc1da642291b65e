"""Files and standard input as blocks of bytes, unpacked when they are gzip; memory is that of a block."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import BufferedReader
from typing import cast

from nlpkit.errors import DataError
from nlpkit.limits import BLOCK, ENCODING_PREFIX, LONGEST_LINE
from nlpkit.readers.paths import STDIN, missing, shown

_GZIP = b"\x1f\x8b"


@dataclass
class ByteStream:
    """The bytes of one file, its start at hand for detection.

    Args:
        path: as given.
        compressed: whether it was gzip.
        prefix: the first bytes, unpacked, about ``ENCODING_PREFIX`` of them.
        ended: the prefix is the whole file.
        rest: the blocks after the prefix.
    """

    path: str
    compressed: bool
    prefix: bytes
    ended: bool
    rest: Iterator[bytes]

    def complete_line(self) -> None:
        """Make the prefix longer until it holds a whole line, within `LONGEST_LINE`."""
        if b"\n" not in self.prefix and not self.ended:
            more, self.ended = _take(self.rest, lambda block, size: b"\n" in block or size > LONGEST_LINE)
            self.prefix += more
            if len(self.prefix) > LONGEST_LINE and b"\n" not in self.prefix:
                raise too_long(self.path, 1)

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self.prefix), BLOCK):
            yield self.prefix[start : start + BLOCK]
        yield from self.rest


def too_long(path: str, line: int) -> DataError:
    """The error for a line above `LONGEST_LINE`."""
    found = f"a line longer than {LONGEST_LINE >> 20} MiB"
    return DataError(f"{shown(path)}:{line}: {found}", "put each text on a line of its own")


@contextlib.contextmanager
def open_bytes(path: str) -> Iterator[ByteStream]:
    """Open a file or ``-``; gzip is known by its first bytes, whatever the name.

    Raises:
        DataError: missing, a folder, not readable; while reading: truncated or corrupt gzip.
    """
    with _opened(path) as file:
        blocks = _blocks(file, path)
        first = next(blocks, b"")
        compressed = first.startswith(_GZIP)
        if first and not compressed and path.lower().endswith(".gz"):
            raise DataError(f"{shown(path)}: not gzip, as its ending says", "rename it without .gz if it is plain text")
        joined = itertools.chain((first,), blocks)
        unpacked = _unpack(joined, path) if compressed else joined
        prefix, ended = _take(unpacked, lambda _, size: size >= ENCODING_PREFIX)
        yield ByteStream(path, compressed, prefix, ended, unpacked)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[BufferedReader]:
    if path == STDIN:
        yield cast(BufferedReader, sys.stdin.buffer)
        return
    if os.path.isdir(path):
        raise DataError(f"{shown(path)}: a folder, expected a file", f"name a file: ls {shown(path)}")
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below; errors of the caller's body are not ours to explain
    except FileNotFoundError:
        raise missing(path) from None
    except (OSError, ValueError) as error:  # ValueError: NUL in the name
        raise _unreadable(path, error) from None
    with file:
        yield file


def _blocks(file: BufferedReader, path: str) -> Iterator[bytes]:
    while True:
        try:
            block = file.read1(BLOCK)  # what a pipe has by now: it may stay open for long
        except OSError as error:
            raise _unreadable(path, error) from None
        if not block:
            return
        yield block


def _unreadable(path: str, error: Exception) -> DataError:
    reason = getattr(error, "strerror", None) or str(error)
    return DataError(f"{shown(path)}: cannot be read: {reason.lower()}", f"ls -l {shown(path)} tells more")


def _take(blocks: Iterator[bytes], enough: Callable[[bytes, int], bool]) -> tuple[bytes, bool]:
    """The first blocks until there is enough, and whether they are all."""
    taken, size = [], 0
    for block in blocks:
        taken.append(block)
        size += len(block)
        if enough(block, size):
            return b"".join(taken), False
    return b"".join(taken), True


def _unpack(blocks: Iterable[bytes], path: str) -> Iterator[bytes]:
    """Unpack one or more gzip members, at most a block at a time however well they were packed."""
    member = zlib.decompressobj(wbits=31)
    try:
        for block in blocks:
            while block:
                if member.eof:
                    block = block.lstrip(b"\0")  # padding of tapes, ignored by gzip too
                    if not block:
                        break
                    member = zlib.decompressobj(wbits=31)
                if piece := member.decompress(block, BLOCK):
                    yield piece
                block = member.unused_data if member.eof else member.unconsumed_tail
        if piece := member.flush():
            yield piece
    except zlib.error:
        raise DataError(f"{shown(path)}: corrupt gzip data", _gzip_hint(path)) from None
    if not member.eof:
        raise DataError(f"{shown(path)}: truncated gzip data", _gzip_hint(path))


def _gzip_hint(path: str) -> str:
    return f"gzip -t {shown(path)} tells more; get the file again"
