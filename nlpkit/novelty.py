"""How much of a text stands in a corpus word for word: the longest span, where, and the share of new n-grams.

The measures are those of RAVEN (McCoy et al. 2023), on tokens. The spans of the texts are numbered by length; then all
places of a stretch of the corpus grow at once, token by token, as long as what stands there is a span of some text.
Matches are exact, and memory is that of a stretch and of a group of texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nlpkit.plain_text import token_ids
from nlpkit.token_store import TokenStore

NGRAMS = (4, 8)
STRETCH = 1 << 20  # places of the corpus that are walked at a time
_TOGETHER = 1 << 16  # tokens of the texts that one pass over the corpus looks for
NOWHERE = np.iinfo(np.int64).max
_AROUND = 12  # tokens on each side of a copied span that are shown
_BITS = 18  # of the table that turns most places away before the search


@dataclass(frozen=True)
class Copied:
    """The longest span of a text that stands in the corpus.

    Args:
        tokens: its length; 0: no token of the text stands there.
        text: of the span.
        document: number of the first document that has it, from 1.
        excerpt: of that document, the span with what stands around it.
    """

    tokens: int = 0
    text: str = ""
    document: int = 0
    excerpt: str = ""


@dataclass(frozen=True)
class Novelty:
    """What of a text is new.

    Args:
        longest: span that is not.
        new: n -> share of its n-grams that stand nowhere in the corpus; None where the text is shorter.
    """

    longest: Copied = field(default_factory=Copied)
    new: dict[int, float | None] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        span = self.longest
        longest = {"tokens": span.tokens, "text": span.text, "document": span.document, "excerpt": span.excerpt}
        return {"longest_copied": longest, **{f"new_{n}grams": share for n, share in self.new.items()}}


def compare(texts: Iterable[str], store: TokenStore, tokenizer: Any) -> Iterator[Novelty]:
    """Look for the spans of texts in a corpus, its held-out documents included; many take several passes over it.

    Args:
        texts: as the model wrote them.
        store: the tokens of the corpus.
        tokenizer: that made them.
    """
    for group in _groups(np.array(token_ids(tokenizer, text), np.int64) for text in texts):
        spans = _Spans(group, store.header.vocabulary)
        spans.look_up(store)
        yield from (_report(spans, number, store, tokenizer) for number in range(len(group)))


def _groups(rows: Iterable[NDArray[np.int64]]) -> Iterator[list[NDArray[np.int64]]]:
    """Rows of tokens together, as long as one pass has room for them."""
    group: list[NDArray[np.int64]] = []
    for row in rows:
        if group and sum(map(len, group)) + len(row) > _TOGETHER:
            yield group
            group = []
        group.append(row)
    if group:
        yield group


class _Spans:
    """All spans of some texts by length, and the first place of the corpus where each stands.

    Args:
        rows: token ids of each text.
        vocabulary: of the corpus.
    """

    def __init__(self, rows: Sequence[NDArray[np.int64]], vocabulary: int) -> None:
        lengths = np.array([len(row) for row in rows], np.int64)
        self.starts = np.concatenate([[0], np.cumsum(lengths)])  # of each text among the tokens, (T + 1)
        self.tokens = np.concatenate([*rows, np.empty(0, np.int64)])  # (N)
        self.room = np.repeat(self.starts[1:], lengths) - np.arange(len(self.tokens))  # from there to the text's end
        known, codes = np.unique(self.tokens, return_inverse=True)
        self.code = np.zeros(max(vocabulary, int(known.max(initial=0)) + 1), np.int64)
        self.code[known] = np.arange(1, len(known) + 1)  # 0: a token of no text
        self.width = len(known) + 1
        self.levels = [_Level(codes, np.arange(len(codes)), len(codes))]

    def level(self, length: int) -> _Level:
        """The spans of so many tokens."""
        while len(self.levels) < length:
            last, size = self.levels[-1], len(self.levels)
            places = np.flatnonzero(self.room > size)
            keys = last.numbers[places] * self.width + self.code[self.tokens[places + size]]
            self.levels.append(_Level(keys, places, len(self.tokens)))
        return self.levels[length - 1]

    def look_up(self, store: TokenStore) -> None:
        """Walk through the corpus."""
        longest = int(self.room.max(initial=0))
        for start in range(0, len(store), STRETCH):
            tokens = store.read(start, STRETCH + longest)
            codes = np.zeros(len(tokens) + longest, np.int64)  # behind the end of the corpus stands no text
            codes[: len(tokens)] = self.code[tokens]
            self._walk(codes, start, min(STRETCH, len(tokens)))

    def _walk(self, codes: NDArray[np.int64], start: int, count: int) -> None:
        places = np.flatnonzero(codes[:count])
        numbers, length = codes[places] - 1, 1
        while len(places):
            self.level(length).see(numbers, places + start)
            there, numbers = self.level(length + 1).find(numbers * self.width + codes[places + length])
            places, length = places[there], length + 1

    def found(self, text: int, length: int) -> NDArray[np.int64]:
        """Where in the corpus the spans of a text stand, (spans); `NOWHERE` where they do not."""
        level = self.level(length)
        numbers = level.numbers[self.starts[text] : self.starts[text + 1]]
        return level.first[numbers[numbers >= 0]]


class _Level:
    """The different spans of one length: each is known by the number of the span before its last token, and that."""

    def __init__(self, keys: NDArray[np.int64], places: NDArray[np.int64], size: int) -> None:
        self.keys, numbers = np.unique(keys, return_inverse=True)
        self.numbers = np.full(size, -1, np.int64)  # of the span that begins at each place of the texts
        self.numbers[places] = numbers
        self.first = np.full(len(self.keys), NOWHERE)
        self._likely = np.zeros(1 << _BITS, np.bool_)
        self._likely[_slots(self.keys)] = True

    def find(self, keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which of the keys are spans, and the number of each that is."""
        likely = np.flatnonzero(self._likely[_slots(keys)])
        numbers = np.searchsorted(self.keys, keys[likely])
        right = np.append(self.keys, -1)[numbers] == keys[likely]
        return likely[right], numbers[right]

    def see(self, numbers: NDArray[np.int64], places: NDArray[np.int64]) -> None:
        """Note where spans stand."""
        np.minimum.at(self.first, numbers, places)


def _slots(keys: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Fibonacci hashing (Knuth, vol. 3, 6.4)."""
    return (keys.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - _BITS)


def _report(spans: _Spans, text: int, store: TokenStore, tokenizer: Any) -> Novelty:
    new: dict[int, float | None] = {}
    for n in NGRAMS:
        found = spans.found(text, n)
        new[n] = float((found == NOWHERE).mean()) if len(found) else None
    length = 0
    while (spans.found(text, length + 1) < NOWHERE).any():
        length += 1
    return Novelty(_copied(spans, text, length, store, tokenizer) if length else Copied(), new)


def _copied(spans: _Spans, text: int, length: int, store: TokenStore, tokenizer: Any) -> Copied:
    place = int(spans.found(text, length).min())
    number, begin, end = store.document_at(place)
    around = store.read(start := max(begin, place - _AROUND), min(end, place + length + _AROUND) - start)
    return Copied(
        tokens=length,
        text=tokenizer.decode(store.read(place, length), skip_special_tokens=True).strip(),
        document=number + 1,
        excerpt=tokenizer.decode(around, skip_special_tokens=True).strip(),
    )
