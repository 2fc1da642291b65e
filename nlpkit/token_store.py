"""The token store: a corpus as one flat file of token ids with an index of its documents, read by memory map."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nlpkit.errors import DataError, UsageError
from nlpkit.randomness import ranked

TOKENS, DOCUMENTS, HEADER = "tokens.bin", "documents.bin", "store.json"
FORMAT_VERSION = 3  # 1 took [SEP] in a text for the separator, 2 where a Unigram cut it
DOCUMENT = np.dtype([("end", "<i8"), ("hash", "<u8")])  # where a document ends in tokens; fingerprint of its text
_CHECKED_DOCUMENTS = 1000
_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Header:
    """What store.json says; written last, so that a folder with it is complete."""

    key: str
    tokenizer: str
    content: str
    dtype: str
    vocabulary: int
    separator: int
    tokens: int
    documents: int
    skipped: int
    text_bytes: int
    tokens_crc: int
    documents_crc: int
    format_version: int = FORMAT_VERSION
    facts: dict[str, int] = field(default_factory=dict)  # of the texts, from who gave them


class View:
    """Documents of a store in their order, read as one stream; holds runs of neighbours, not tokens.

    Args:
        tokens: the memory map of all token ids.
        documents: the memory map of the index.
        first: number of each run's first document.
        last: number after each run's last document.
    """

    def __init__(
        self, tokens: NDArray[Any], documents: NDArray[Any], first: NDArray[np.int64], last: NDArray[np.int64]
    ) -> None:
        self._tokens, self._documents, self._first = tokens, documents, first
        ends = documents["end"]
        self._starts = np.where(first > 0, ends[np.maximum(first, 1) - 1], 0).astype(np.int64)
        lengths = np.asarray(ends[last - 1], dtype=np.int64) - self._starts if len(last) else self._starts
        self._token_ends = np.cumsum(lengths)
        self._document_ends = np.cumsum(last - first)

    def __len__(self) -> int:
        return int(self._token_ends[-1]) if len(self._token_ends) else 0

    @property
    def documents(self) -> int:
        """Number of documents."""
        return int(self._document_ends[-1]) if len(self._document_ends) else 0

    def blocks(self, length: int) -> int:
        """Count the whole blocks of so many tokens; the remainder is in none."""
        return len(self) // length

    def block(self, index: int, length: int) -> NDArray[np.int64]:
        """Read a block of the concatenated documents, (L).

        Raises:
            IndexError: there is no such block.
        """
        if not 0 <= index < self.blocks(length):
            raise IndexError(f"block {index} of {self.blocks(length)}")
        return self.read(index * length, length)

    def read(self, start: int, length: int) -> NDArray[np.int64]:
        """Read tokens from any place of the concatenated documents; fewer at the end."""
        length = max(0, min(length, len(self) - start))
        block = np.empty(length, dtype=np.int64)
        run, done = int(np.searchsorted(self._token_ends, start, side="right")), 0
        while done < length:
            left = int(self._token_ends[run]) - (start + done)  # tokens of this run from here on
            stop = self._run_end(run)
            count = min(left, length - done)
            block[done : done + count] = self._tokens[stop - left : stop - left + count]
            done, run = done + count, run + 1
        return block

    def where(self, start: int, length: int) -> str:
        """Which documents of the store some tokens are of, counted from 1."""
        first, last = self._number(start), self._number(start + max(1, length) - 1)
        return f"document {first}" if first == last else f"documents {first} to {last}"

    def _number(self, place: int) -> int:
        run = int(np.searchsorted(self._token_ends, place, side="right"))
        there = self._run_end(run) - (int(self._token_ends[run]) - place)  # in tokens.bin
        return 1 + int(np.searchsorted(self._documents["end"], there, side="right"))

    def _run_end(self, run: int) -> int:
        before = int(self._token_ends[run - 1]) if run else 0
        return int(self._starts[run]) + int(self._token_ends[run]) - before

    def document_ends(self) -> NDArray[np.int64]:
        """Where each document ends in the concatenated documents (N)."""
        counts = np.diff(self._document_ends, prepend=0)
        within = np.arange(self.documents) - np.repeat(self._document_ends - counts, counts)
        ends: NDArray[np.int64] = self._documents["end"][np.repeat(self._first, counts) + within].astype(np.int64)
        moved = self._starts - np.append(0, self._token_ends[:-1])  # by so much each run comes earlier
        return ends - np.repeat(moved, counts)

    def document(self, index: int) -> NDArray[np.int64]:
        """Read the token ids of a document with its separator, (L).

        Raises:
            IndexError: there is no such document.
        """
        if not 0 <= index < self.documents:
            raise IndexError(f"document {index} of {self.documents}")
        run = int(np.searchsorted(self._document_ends, index, side="right"))
        before = int(self._document_ends[run - 1]) if run else 0
        number = int(self._first[run]) + index - before
        start = int(self._documents[number - 1]["end"]) if number else 0
        return self._tokens[start : int(self._documents[number]["end"])].astype(np.int64)


class TokenStore(View):
    """All documents of a corpus on disk. Open one with `TokenStore.open`, make one with `nlpkit.corpus.build`.

    Attributes:
        folder: where it lies.
        header: what store.json says.
    """

    def __init__(self, folder: Path, header: Header) -> None:
        self.folder, self.header = folder, header
        tokens = np.memmap(folder / TOKENS, dtype=header.dtype, mode="r", shape=(header.tokens,))
        documents = np.memmap(folder / DOCUMENTS, dtype=DOCUMENT, mode="r", shape=(header.documents,))
        super().__init__(tokens, documents, np.array([0]), np.array([header.documents]))

    @classmethod
    def open(cls, folder: str | Path, *, verify: bool = False) -> TokenStore:
        """Open a finished store and check its sizes.

        Args:
            folder: of the store.
            verify: read all of it and compare the checksums, too.

        Raises:
            DataError: it was never finished, or it is damaged.
        """
        folder = Path(folder)
        header = _read_header(folder)
        for name, size in (
            (TOKENS, header.tokens * np.dtype(header.dtype).itemsize),
            (DOCUMENTS, header.documents * DOCUMENT.itemsize),
        ):
            found = (folder / name).stat().st_size if (folder / name).is_file() else 0
            if found != size:
                raise _damaged(folder / name, f"{found} bytes, expected {size}")
        store = cls(folder, header)
        store._check_index()
        if verify:
            store.verify()
        return store

    def verify(self) -> None:
        """Read all of the store and compare the checksums.

        Raises:
            DataError: a byte differs.
        """
        for name, expected in ((TOKENS, self.header.tokens_crc), (DOCUMENTS, self.header.documents_crc)):
            if checksum(self.folder / name) != expected:
                raise _damaged(self.folder / name, "its checksum differs from store.json")

    def fingerprints(self) -> NDArray[np.uint64]:
        """Those of all documents (see `splits.fingerprint`), (N,)."""
        return np.array(self._documents["hash"])

    def document_at(self, place: int) -> tuple[int, int, int]:
        """The number of the document in which a token stands, and where it begins and ends among all tokens."""
        number = int(np.searchsorted(self._documents["end"], place, side="right"))
        begin = int(self._documents["end"][number - 1]) if number else 0
        return number, begin, int(self._documents["end"][number])

    def holdout(self, share: float, seed: int) -> tuple[View, View]:
        """Split by document into a part to train on and a held-out part.

        Documents of equal text are on one side. The choice depends on texts and seed alone, not on their order.

        Args:
            share: of the tokens to hold out, kept to as near as whole documents allow; never all, and 0 holds out none.
            seed: another one gives another part.

        Returns:
            The two views; the second is empty where all documents are equal.

        Raises:
            UsageError: a share below 0, or 1 and more.
        """
        if not 0 <= share < 1:
            raise UsageError(f"data.dev_share is {share}, expected 0 or more and less than 1", "data.dev_share=0.05")
        held_out = self._choose(share, seed)
        return self._view(~held_out), self._view(held_out)

    def _choose(self, share: float, seed: int) -> NDArray[np.bool_]:
        ranks, group = np.unique(ranked(np.asarray(self._documents["hash"]), seed), return_inverse=True)
        if share == 0 or len(ranks) < 2:
            return np.zeros(self.documents, dtype=np.bool_)
        lengths = np.diff(self._documents["end"], prepend=0)
        return _fill(np.bincount(group, weights=lengths), share * len(self))[group]

    def _view(self, mask: NDArray[np.bool_]) -> View:
        edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0))
        return View(self._tokens, self._documents, edges[0::2].astype(np.int64), edges[1::2].astype(np.int64))

    def _check_index(self) -> None:
        sample = np.unique(np.linspace(0, self.documents - 1, min(self.documents, _CHECKED_DOCUMENTS)).astype(np.int64))
        ends = np.asarray(self._documents["end"][sample])
        rising = ends[0] > 0 and bool((np.diff(ends) > 0).all()) and ends[-1] == self.header.tokens
        if not rising or not bool((self._tokens[ends - 1] == self.header.separator).all()):
            raise _damaged(self.folder / DOCUMENTS, "its entries do not fit tokens.bin")


def _fill(sizes: NDArray[Any], budget: float) -> NDArray[np.bool_]:
    """Take groups in their order while they fit the budget, passing over a few that do not; at least one."""
    taken, start = np.zeros(len(sizes), dtype=np.bool_), 0
    for _ in range(100):
        end = start + int(np.searchsorted(np.cumsum(sizes[start:]), budget, side="right"))
        taken[start:end] = True
        budget, start = budget - sizes[start:end].sum(), end + 1
        if start >= len(sizes):
            break
    if not taken.any():
        taken[np.argmin(sizes)] = True
    return taken


def _read_header(folder: Path) -> Header:
    path = folder / HEADER
    try:
        values = json.loads(path.read_text("utf-8"))
        version = values.get("format_version")
        if version != FORMAT_VERSION:
            raise _damaged(path, f"format {version}, expected {FORMAT_VERSION}")
        header = Header(**{f.name: values[f.name] for f in fields(Header) if f.name != "facts" or "facts" in values})
    except FileNotFoundError:
        raise DataError(f"{folder}: no finished token store", "run the command again: it goes on from here") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _damaged(path, "it is not a description of a token store") from None
    counts = (header.tokens, header.documents, header.separator, header.vocabulary)
    if header.dtype not in ("<u2", "<u4") or not all(isinstance(n, int) and n >= 0 for n in counts):
        raise _damaged(path, "it is not a description of a token store")
    if not header.tokens or not header.documents:
        raise _damaged(path, "it has no tokens")
    return header


def checksum(path: Path) -> int:
    """CRC-32 of a file."""
    value = 0
    for part in _parts(path):
        value = zlib.crc32(part, value)
    return value


def _parts(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while part := file.read(_READ_BYTES):
            yield part


def _damaged(path: Path, found: str) -> DataError:
    return DataError(f"{path}: {found}; the token store is damaged", f"rm -r {path.parent}, then run the command again")
