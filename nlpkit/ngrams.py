"""Texts as sets of word n-grams, which edits, punctuation and markup change little (Broder 1997)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain, repeat

import numpy as np
from numpy.typing import NDArray

from nlpkit.randomness import mix
from nlpkit.splits import fold

LENGTH = 8
"""Words of an n-gram; a text with fewer is too short to say where it comes from."""
_MARKUP = re.compile(r"<[^<>]{0,100}>|&#?\w{1,8};")
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"  # Thai to Chinese
_WORD = re.compile(rf"[^\W_{_UNSPACED}]+|[{_UNSPACED}]")
_ASCII = bytes(ord(chr(c).lower()) if c < 128 and chr(c).isalnum() else ord(" ") for c in range(256))
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def words_of(text: str) -> list[bytes]:
    """The words of a text without case, punctuation and markup; each character, where a script has no blanks."""
    if "<" in text or "&" in text:
        text = _MARKUP.sub(" ", text)
    if text.isascii():
        return text.encode().translate(_ASCII).split()
    return [word.encode("utf-8", "surrogatepass") for word in _WORD.findall(fold(text))]


def is_telling(text: str) -> bool:
    """Whether a text is long enough to be found twice by more than chance, unlike "great product"."""
    return len(words_of(text)) >= LENGTH


def count(words: Sequence[bytes]) -> int:
    """N-grams of a text, repeats included."""
    return max(0, len(words) - LENGTH + 1)


def ngrams(texts: Sequence[Sequence[bytes]], numbers: dict[bytes, int]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Hashes of the n-grams of many texts.

    Args:
        texts: their words.
        numbers: of words, from 1; n-grams with any other word are left out.

    Returns:
        Hashes (N,), and for each the index of its text (N,), rising.
    """
    lengths = [len(words) for words in texts]
    size = sum(lengths) - LENGTH + 1
    if size < 1:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    found = np.fromiter(map(numbers.get, chain.from_iterable(texts), repeat(0)), np.int64, sum(lengths))
    owner = np.repeat(np.arange(len(texts)), lengths)
    values, hashes = mix(found.astype(np.uint64)), np.zeros(size, np.uint64)
    for place in range(LENGTH):
        hashes = hashes * _FACTOR + values[place : place + size]
    unknown = np.concatenate([[0], np.cumsum(found == 0)])
    whole = (owner[:size] == owner[LENGTH - 1 :]) & (unknown[LENGTH:] == unknown[:size])
    return mix(hashes[whole]), owner[:size][whole]
