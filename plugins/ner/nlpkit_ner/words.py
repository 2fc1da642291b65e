"""The words of a text, and whether entities are made of whole ones."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nlpkit_ner.characters import Parts, is_edge, visible

RUN = re.compile(r"[^ \t\r\n\f\v]+")
"""What stands between blanks, as in CoNLL and plain text; a no-break space holds a word together."""


def words(text: str, seen: Parts) -> Parts:
    """The words of a text, without the punctuation, symbols, emoji and invisible marks around them.

    Args:
        text: any.
        seen: its `visible` characters.
    """
    found = list(_words(text, seen))
    return Parts([start for start, _ in found], [end for _, end in found])


def cut_entity(text: str, entities: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The first entity that begins or ends inside of a word; None where all have whole words."""
    if not entities:
        return None
    found = words(text, visible(text))
    return next((e for e in entities if found.cuts(e["start"]) or found.cuts(e["end"])), None)


def _words(text: str, seen: Parts) -> Iterator[tuple[int, int]]:
    """Start and end of each word."""
    for match in RUN.finditer(text):
        first, last = (bisect_left(seen.starts, edge) for edge in match.span())
        while first < last and is_edge(text[seen.starts[first] : seen.ends[first]]):
            first += 1
        while first < last and is_edge(text[seen.starts[last - 1] : seen.ends[last - 1]]):
            last -= 1
        if first < last:
            yield seen.starts[first], seen.ends[last - 1]
