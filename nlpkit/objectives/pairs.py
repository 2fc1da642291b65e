"""A token store as pairs of text: two parts of one document, or of two."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nlpkit.errors import DataError
from nlpkit.randomness import mix, uniform
from nlpkit.task import Features

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from nlpkit.token_store import View

log = logging.getLogger("nlpkit")
_ENDS = (".", "!", "?", "…", "。", "！", "？", "।", "؟")
_SCANNED = 1 << 20  # tokens at a time
_NEAR = 64  # windows of about one length, at least
_TRIES = 8  # windows, of which the one of the best length is taken


class Pairs:
    """[CLS] A [SEP] B [SEP], where A ends a sentence; B goes on from A, or stands elsewhere.

    Each sample is a window of whole sentences of one document, two or more, as many as there is room for. Where A ends
    and what B is are drawn anew in each epoch, from the sample's seed: B is the rest of the window (label 0), or as
    often (label 1) the rest of a window of another document, or with ``swap`` the two parts in the wrong order
    (sentence order of ALBERT, Lan et al. 2020). So that form does not tell the two apart, the other window is one of
    about this one's length, the best of several, cut where its rest comes nearest to the length of the true one.

    Args:
        view: documents.
        tokenizer: tells which tokens end a sentence.
        length: tokens of a sample, special ones included.
        swap: label 1 is the wrong order instead of another document.

    Raises:
        DataError: no document of two sentences; without ``swap`` fewer than two.
    """

    def __init__(self, view: View, tokenizer: PreTrainedTokenizerBase, length: int, *, swap: bool = False) -> None:
        self.view, self.tokenizer, self.swap = view, tokenizer, swap
        self.room = length - 3
        self._ends, document = _sentences(view, tokenizer)
        self._first, self._last = _windows(self._ends, document, self.room)
        self._document = document[self._first]
        self._check(int(document[-1]) + 1 if len(document) else 0)
        starts = np.where(self._first > 0, self._ends[np.maximum(self._first, 1) - 1], 0)
        whole = self._last == np.searchsorted(document, self._document, side="right")  # ends with the separator
        self.lengths: NDArray[np.int64] = self._ends[self._last - 1] - starts - whole + 3
        by_chance = mix(np.arange(len(self.lengths), dtype=np.uint64))  # windows of one length: neighbours at random
        self._by_length = np.lexsort((by_chance, self.lengths))
        self._rank = np.argsort(self._by_length)

    def _check(self, documents: int) -> None:
        used = len(np.unique(self._document))
        needed = 1 if self.swap else 2
        if used < needed:
            raise DataError(
                f"{used} of {documents} documents have two sentences that fit; pairs need {needed} or more",
                "use --objective mlm for texts of one sentence each",
            )
        if used < documents:
            log.info(
                "%d of %d documents have no two sentences that fit, and are in no pair", documents - used, documents
            )

    def features(self, index: int, seed: int = 0) -> Features:
        """A pair; ``labels`` is 0 where B goes on from A, else 1."""
        draws: list[float] = uniform(np.array([seed], np.uint64), 2 + _TRIES, 7)[0].tolist()
        first, second = self._cut(index, draws[0])
        label = int(draws[1] < 0.5)
        if label and self.swap:
            first, second = second, first
        elif label:
            second = self._elsewhere(index, len(second), self.room - len(first), draws[2:])
        start, end = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        return {
            "input_ids": [start, *first, end, *second, end],
            "token_type_ids": [0] * (len(first) + 2) + [1] * (len(second) + 1),
            "labels": label,
        }

    def where(self, index: int) -> str:
        """The document that a pair begins in."""
        return self.view.where(self._start(index), 1)

    def _elsewhere(self, index: int, wanted: int, room: int, draws: Sequence[float]) -> list[int]:
        """The last sentences of a window of another document; of some tried, as near to a length as they come."""
        near = min(max(_NEAR, len(self._rank) // 32), len(self._rank))
        low = min(max(int(self._rank[index]) - near // 2, 0), len(self._rank) - near)
        tried = [int(self._by_length[low + int(draw * near)]) for draw in draws]
        tried = [other for other in tried if self._document[other] != self._document[index]]
        tried = tried or [self._of_another_document(index, draws[0])]
        rests = [self._rests(other) for other in tried]
        sizes, owners = np.concatenate(rests), np.repeat(tried, [len(rest) for rest in rests])
        # where none has room, the shortest is cut
        best = int(np.where(sizes <= room, np.abs(sizes - wanted), sizes + self.room).argmin())
        return self._tokens(int(owners[best]))[1][-int(sizes[best]) :][:room]

    def _rests(self, index: int) -> NDArray[np.int64]:
        """Tokens behind each sentence of a window but the last."""
        first, last = int(self._first[index]), int(self._last[index])
        start = self._start(index)
        return self.lengths[index] - 3 - (self._ends[first : last - 1] - start)

    def _of_another_document(self, index: int, draw: float) -> int:
        """A window of another document, each as likely."""
        own = np.searchsorted(self._document, self._document[index], side="left")
        after = np.searchsorted(self._document, self._document[index], side="right")
        chosen = int(draw * (len(self._document) - (after - own)))
        return chosen if chosen < own else int(chosen + after - own)

    def _cut(self, index: int, draw: float) -> tuple[list[int], list[int]]:
        """The two parts of a window, cut behind one of its sentences but the last."""
        first, last = int(self._first[index]), int(self._last[index])
        start, tokens = self._tokens(index)
        place = int(self._ends[first + int(draw * (last - first - 1))]) - start
        return tokens[:place], tokens[place:]

    def _tokens(self, index: int) -> tuple[int, list[int]]:
        """Where a window starts in the stream, and its tokens without the document's separator."""
        start = self._start(index)
        return start, self.view.read(start, int(self.lengths[index]) - 3).tolist()

    def _start(self, index: int) -> int:
        first = int(self._first[index])
        return int(self._ends[first - 1]) if first else 0


def _sentences(view: View, tokenizer: PreTrainedTokenizerBase) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each sentence ends in the stream of tokens, and the number of its document: (S,) each.

    The separator that ends a document belongs to its last sentence.
    """
    separator = tokenizer.sep_token_id
    enders = np.array([i for token, i in tokenizer.get_vocab().items() if token.endswith(_ENDS)], np.int64)
    ends, documents, before = [], [], 0
    for start in range(0, len(view), _SCANNED):
        tokens = view.read(start, _SCANNED + 1)
        following = np.append(tokens[1:], separator) if len(tokens) <= _SCANNED else tokens[1:]
        tokens = tokens[: len(following)]
        closes = tokens == separator
        ending = np.isin(tokens, enders)
        # of several marks the last ends the sentence, and never one just before the document's end
        place = np.flatnonzero(closes | (ending & ~np.isin(following, enders) & (following != separator)))
        ends.append(place + start + 1)
        documents.append(before + np.cumsum(closes)[place] - closes[place])
        before += int(closes.sum())
    if not ends:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    return np.concatenate(ends), np.concatenate(documents)


def _windows(
    ends: NDArray[np.int64], document: NDArray[np.int64], room: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Stretches of two sentences or more of one document that fit: number of the first, and after the last."""
    last_of = np.searchsorted(document, document, side="right")  # after the last sentence of the same document
    firsts, lasts, sentence = [], [], 0
    while sentence < len(ends):
        start = int(ends[sentence - 1]) if sentence else 0
        fits = int(np.searchsorted(ends, start + room + 1, side="right"))  # the document's separator needs no room
        after = min(fits, int(last_of[sentence]))
        if after < last_of[sentence] and ends[after - 1] - start > room:
            after -= 1
        if after - sentence >= 2:
            firsts.append(sentence)
            lasts.append(after)
        sentence = max(after, sentence + 1)
    return np.array(firsts, np.int64), np.array(lasts, np.int64)
