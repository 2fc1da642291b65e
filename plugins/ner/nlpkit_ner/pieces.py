"""A text cut into word pieces that know their characters, and entities as tags of pieces."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BETWEEN_WORDS = " \t\r\n\f\v"  # of CoNLL and plain text; a no-break space holds a word together


class Pieces(NamedTuple):
    """The T pieces of a text, without special tokens.

    Args:
        ids: token ids.
        starts: the first character of each piece, white space left aside.
        ends: the character behind it; for a piece of white space alone that behind the piece before it.
        inside: 1 where a piece goes on with the word of the piece before it.
    """

    ids: list[int]
    starts: list[int]
    ends: list[int]
    inside: list[int]


def cut(backend: Tokenizer, text: str, *, whole_words: bool) -> Pieces:
    """Cut a text.

    Args:
        backend: neither cuts off nor pads, and gives offsets in characters.
        text: any.
        whole_words: words are what stands between white space, and an entity has all of a word or nothing of it;
            else each piece stands for itself.
    """
    encoding = backend.encode(text, add_special_tokens=False)
    spans = [_trimmed(text, start, end) for start, end in encoding.offsets]
    words = _word_starts(text) if whole_words else []
    inside, ends, before, behind = [], [], 0, 0
    for start, end in spans:
        word = bisect_right(words, start) if end > start else 0  # counted from 1
        inside.append(int(word > 0 and word == before))
        before, behind = (word, end) if end > start else (before, behind)
        ends.append(behind)
    return Pieces(encoding.ids, [start for start, _ in spans], ends, inside)


def tags(pieces: Pieces, entities: Sequence[Mapping[str, Any]], types: Mapping[str, int]) -> list[int]:
    """IOB2 tags of the pieces: 0 outside, 1 + 2e the first piece of an entity of type e, 2 + 2e the others.

    Args:
        pieces: of the text.
        entities: ``start``, ``end`` and ``label`` of each, none over another, sorted.
        types: label -> e.
    """
    found, last = [], -1
    starts = [entity["start"] for entity in entities]
    for start, end in zip(pieces.starts, pieces.ends, strict=True):
        place = _entity_at(start, end, entities, starts)
        if place is None:
            found.append(0)
            continue
        found.append(1 + 2 * types[entities[place]["label"]] + (place == last))
        last = place
    return found


def _entity_at(start: int, end: int, entities: Sequence[Mapping[str, Any]], starts: Sequence[int]) -> int | None:
    """The first entity that a piece overlaps; a piece of white space is in one that goes on behind it."""
    place = max(0, bisect_right(starts, start) - 1)
    for index in range(place, min(place + 2, len(entities))):
        first, behind = entities[index]["start"], entities[index]["end"]
        if (first < end and start < behind) if end > start else first < start < behind:
            return index
    return None


def at_words(text: str, entities: Sequence[Mapping[str, Any]]) -> bool:
    """Whether every entity begins and ends where a word does."""
    padded = f" {text} "
    return all(padded[e["start"]] in _BETWEEN_WORDS and padded[e["end"] + 1] in _BETWEEN_WORDS for e in entities)


def _word_starts(text: str) -> list[int]:
    before = " "
    found = []
    for place, character in enumerate(text):
        if before in _BETWEEN_WORDS and character not in _BETWEEN_WORDS:
            found.append(place)
        before = character
    return found


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end
