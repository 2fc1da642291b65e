"""Text for the benchmarks of pre-training: books, reviews, and words drawn at random where there must be much of it."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from typing import Any

import side

HELD_OUT = "austen-emma"


def paragraphs(*, held_out: bool = False) -> Iterator[str]:
    """Paragraphs of the Gutenberg books of $NLPKIT_DATA, each on one line; or those of the one book held out."""
    for book in sorted((side.DATA / "gutenberg").glob("*.txt.gz")):
        if book.name.startswith(HELD_OUT) == held_out:
            text = gzip.decompress(book.read_bytes()).decode("utf-8", "replace")
            yield from filter(None, (" ".join(part.split()) for part in text.replace("\r", "").split("\n\n")))


def reviews(*, held_out: bool = False) -> Iterator[str]:
    """Reviews of clothes of $NLPKIT_DATA; or every twentieth, held out."""
    (table,) = (side.DATA / "womens_clothing_reviews").glob("*.csv")
    with open(table, encoding="utf-8", newline="") as file:
        texts = (" ".join(row["Review Text"].split()) for row in csv.DictReader(file))
        yield from (text for number, text in enumerate(filter(None, texts)) if (number % 20 == 0) == held_out)


def generated(megabytes: float, seed: int = 0) -> Iterator[str]:
    """Texts of 20 to 400 words, drawn as often as words are in a language (Zipf 1949), so many megabytes together."""
    import numpy as np

    draw = np.random.default_rng(seed)
    words = np.array(_made_up(20_000, np.random.default_rng(0)), dtype=object)
    chances = 1 / np.arange(1, len(words) + 1)
    rising = np.cumsum(chances / chances.sum())
    left = megabytes * 1e6
    while left > 0:
        drawn = words[np.searchsorted(rising[:-1], draw.random(100_000))]
        ends = np.cumsum(draw.integers(20, 401, 250))
        for part in np.split(drawn, ends[ends < len(drawn)]):
            text = " ".join(part) + "."
            left -= len(text) + 1
            yield text
            if left <= 0:
                return


def _made_up(count: int, draw: Any) -> list[str]:
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join(syllables[i] for i in draw.integers(0, len(syllables), draw.integers(1, 5)))] = None
    return list(found)
