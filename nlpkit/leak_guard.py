"""Keeps the texts of a test set out of a corpus: equal ones, and near ones by their word n-grams."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from nlpkit.errors import DataError
from nlpkit.ngrams import count, ngrams, words_of
from nlpkit.splits import fingerprints

_SHARED = 0.5  # in two sets of reviews, no pair above was there by chance, and hardly any stood between 0.3 and 0.5
_LONG, _FEWEST = 1000, 8  # n-grams of a document that has some by chance; so many are none (as 15 words in a row have)
_COMMON = 20  # test texts that have an n-gram in common: more is a form that they were written by
_BATCH = 1 << 20  # characters that are compared at a time


class LeakGuard:
    """Finds documents that repeat a text of a test set; holds the words and n-grams of the test set alone.

    A document is an *exact* repeat where its fingerprint is that of a text (see `splits.fingerprint`). It is a *near*
    one where it has half of the word 8-grams of a text, or the text half of the document's: containment in the
    shorter one (Broder 1997, On the resemblance and containment of documents). Of a long document that is 8 n-grams at
    least, for in a book some phrase of 8 words stands by chance.

    Args:
        texts: of the test set.
        name: of it, for messages.
        bare: takes from a document of the corpus what is no text of it.

    Raises:
        DataError: no text but blank ones.
    """

    def __init__(self, texts: Iterable[str], name: str, bare: Callable[[str], str] = str) -> None:
        written = [text for text in texts if text.strip()]
        if not written:
            raise DataError(f"{name}: no text to exclude", "name the column with data.text=COLUMN, or another file")
        self.name, self.bare = name, bare
        self.fingerprints, first = np.unique(fingerprints(written), return_index=True)
        words = [words_of(written[i]) for i in first]
        self._numbers: dict[bytes, int] = {}
        for text in words:
            for word in text:
                self._numbers.setdefault(word, len(self._numbers) + 1)
        self._index(*ngrams(words, self._numbers), len(words))

    @property
    def key(self) -> str:
        """Names the texts, whatever their order, and what is held to be near."""
        limits = repr((_SHARED, _LONG, _FEWEST, _COMMON)).encode()
        return hashlib.sha256(self.fingerprints.tobytes() + limits).hexdigest()

    def keep(self, texts: Iterable[str]) -> Kept:
        """The texts of a corpus, as a stream, without those that repeat one of the test set."""
        return Kept(self, texts)

    def exact(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Which of the texts are equal to one of the test set, (T,)."""
        return np.isin(fingerprints(texts), self.fingerprints)

    def near(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Which of the texts share half of their n-grams, or half of its, with one of the test set, (T,)."""
        words = [words_of(text) for text in texts]
        document, text, shared = self._shared(*ngrams(words, self._numbers))
        sizes = np.array([count(of) for of in words])
        needed = _SHARED * np.minimum(sizes[document], self._sizes[text])
        leaks = shared >= np.where(sizes[document] > _LONG, np.maximum(needed, _FEWEST), needed)
        return np.isin(np.arange(len(texts)), document[leaks])

    def _index(self, hashes: NDArray[np.uint64], text: NDArray[np.int64], texts: int) -> None:
        """For each n-gram, in order of its hash, the texts that have it; those of very many texts are left out."""
        order = np.lexsort((text, hashes))
        hashes, text = hashes[order], text[order]
        if len(hashes):
            new = (np.diff(hashes, prepend=~hashes[:1]) != 0) | (np.diff(text, prepend=-1) != 0)
            hashes, text = hashes[new], text[new]
        _, group, sizes = np.unique(hashes, return_inverse=True, return_counts=True)
        rare = sizes[group] <= _COMMON
        self._text = text[rare]
        self._hashes, self._start, self._length = np.unique(hashes[rare], return_index=True, return_counts=True)
        self._sizes = np.bincount(self._text, minlength=texts)
        bits = max(10, (16 * len(self._hashes)).bit_length())  # about one in 16 that is not there passes
        self._shift = np.uint64(64 - bits)
        self._perhaps = np.zeros(1 << bits, np.bool_)
        self._perhaps[self._hashes >> self._shift] = True

    def _shared(
        self, hashes: NDArray[np.uint64], document: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Pairs of documents and test texts that share n-grams, and how many different ones: (P,) each."""
        perhaps = self._perhaps[hashes >> self._shift]
        hashes, document = hashes[perhaps], document[perhaps]
        place = np.searchsorted(self._hashes, hashes)
        there = self._hashes[np.minimum(place, len(self._hashes) - 1)] == hashes if len(self._hashes) else place < 0
        once = np.unique(np.stack([document[there], place[there]]), axis=1)
        document, length = once[0], self._length[once[1]]
        within = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
        text = self._text[np.repeat(self._start[once[1]], length) + within]
        pairs, shared = np.unique(np.stack([np.repeat(document, length), text]), axis=1, return_counts=True)
        return pairs[0], pairs[1], shared


class Kept:
    """One pass over the texts of a corpus that leaves out repeats and counts them.

    Args:
        guard: finds them.
        texts: the corpus.

    Raises:
        DataError: nothing is left.
    """

    def __init__(self, guard: LeakGuard, texts: Iterable[str]) -> None:
        self.guard, self.texts = guard, texts
        self.exact = self.near = 0

    def __iter__(self) -> Iterator[str]:
        kept = 0
        for batch in _batches(self.texts):
            texts = list(map(self.guard.bare, batch))
            exact = self.guard.exact(texts)
            near = self.guard.near(texts) & ~exact
            self.exact, self.near = self.exact + int(exact.sum()), self.near + int(near.sum())
            for text, leaks in zip(batch, exact | near, strict=True):
                if not leaks:
                    kept += 1
                    yield text
        if not kept and self.exact + self.near:
            raise DataError(
                f"all {self.exact + self.near:,} texts of the corpus repeat texts of {self.guard.name}; none is left",
                "give text besides that of the test set, or exclude another file",
            )

    def counts(self) -> dict[str, int]:
        """How many were left out so far."""
        return {"exact": self.exact, "near": self.near}


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    characters = 0
    for text in texts:
        batch.append(text)
        characters += len(text) + 1
        if characters >= _BATCH:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
