"""A text cut into word pieces that know their characters, and entities as tags of pieces."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from nlpkit_ner.offsets import cuts

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_WORD = re.compile(r"[^ \t\r\n\f\v]+")  # as in CoNLL and plain text; a no-break space holds a word together


class Pieces(NamedTuple):
    """The T pieces of a text, without special tokens.

    Args:
        ids: token ids.
        starts: the first character of each piece, white space left aside.
        ends: the character behind it; for a piece of white space alone that behind the piece before it.
        inside: 1 where a piece belongs to the piece before it, and no entity may begin or end between them.
        attached: 1 where a piece stands behind a word or a sign of punctuation without a blank between them, as the
            name in ``@marta`` and the comma in ``Oslo,``; with whole words only.
    """

    ids: list[int]
    starts: list[int]
    ends: list[int]
    inside: list[int]
    attached: list[int]


def cut(backend: Tokenizer, text: str, *, whole_words: bool) -> Pieces:
    """Cut a text; no border of an entity lies inside of a character, whatever the tokenizer makes of it.

    Args:
        backend: neither cuts off nor pads, and gives offsets in characters.
        text: any.
        whole_words: an entity has all of a word or nothing of it, punctuation around it aside. Characters of a word
            that the tokenizer drops belong to the word all the same.
    """
    encoding = backend.encode(text, add_special_tokens=False)
    words = list(_words(text)) if whole_words else []
    word_starts = [start for start, _ in words]
    run_starts = [match.start() for match in _WORD.finditer(text)]
    starts: list[int] = []
    ends: list[int] = []
    inside: list[int] = []
    attached: list[int] = []
    run = -1
    owners: list[int | None] = []
    for raw_start, raw_end in encoding.offsets:
        start, end = _whole(text, *_trimmed(text, raw_start, raw_end))
        blank, behind = start == end, ends[-1] if ends else 0
        owner = _word_at(words, word_starts, raw_start if blank else start, raw_end if blank else end)
        goes_on = bool(owners) and owner is not None and owner == owners[-1]
        inside.append(int(goes_on or (not blank and start < behind)))
        before, run = run, bisect_right(run_starts, start)
        follows = whole_words and not blank and run == before
        attached.append(int(follows and (attached[-1] or not inside[-1])))
        starts.append(start if owner is None or goes_on else min(start, words[owner][0]))
        ends.append(behind if blank else end)
        owners.append(owner if owner is not None or not blank or not owners else owners[-1])
    for place, owner in enumerate(owners):
        if owner is not None and (place + 1 == len(owners) or owners[place + 1] != owner):
            ends[place] = max(ends[place], words[owner][1])
    return Pieces(encoding.ids, starts, ends, inside, attached)


def tags(pieces: Pieces, entities: Sequence[Mapping[str, Any]], types: Mapping[str, int]) -> list[int]:
    """IOB2 tags of the pieces: 0 outside, 1 + 2e the first piece of an entity of type e, 2 + 2e the others.

    A piece that belongs to the one before it goes on as that does, also where an entity begins or ends between them.

    Args:
        pieces: of the text.
        entities: ``start``, ``end`` and ``label`` of each, none over another, sorted.
        types: label -> e.
    """
    found: list[int] = []
    last = -1
    starts = [entity["start"] for entity in entities]
    for start, end, inside in zip(pieces.starts, pieces.ends, pieces.inside, strict=True):
        place = _entity_at(start, end, entities, starts)
        if inside and found:
            found.append(found[-1] + found[-1] % 2)
        elif place is None:
            found.append(0)
        else:
            found.append(1 + 2 * types[entities[place]["label"]] + (place == last))
            last = place
    return found


def taught(tags: Sequence[int], pieces: Pieces) -> list[int]:
    """The tags that a model learns from: -100 for what is attached, where no entity is between two blanks.

    Files of words and tags leave ``@marta`` in one piece, outside of any entity. Were each part of it taught, a model
    would learn from thousands of such names that names are none: on WNUT 2017 that cost some 4 points of F1.
    """
    found, start = list(tags), 0
    for end in range(1, len(found) + 1):
        if end == len(found) or not (pieces.attached[end] or pieces.inside[end]):
            if not any(found[start:end]):
                found[start:end] = [-100 if attached else 0 for attached in pieces.attached[start:end]]
            start = end
    return found


def _entity_at(start: int, end: int, entities: Sequence[Mapping[str, Any]], starts: Sequence[int]) -> int | None:
    """The first entity that a piece overlaps; a piece of white space is in one that goes on behind it."""
    place = max(0, bisect_right(starts, start) - 1)
    for index in range(place, min(place + 2, len(entities))):
        first, behind = entities[index]["start"], entities[index]["end"]
        if (first < end and start < behind) if end > start else first < start < behind:
            return index
    return None


def cuts_a_word(text: str, entity: Mapping[str, Any]) -> bool:
    """Whether an entity begins or ends inside of a word; between it and the punctuation around it is not inside."""
    edges = (entity["start"], entity["end"])
    return any(start < edge < end for start, end in _words(text) for edge in edges)


def _words(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each word, without the punctuation and symbols around it."""
    for match in _WORD.finditer(text):
        start, end = match.span()
        while start < end and _is_edge(text[start]):
            start += 1
        while end > start and _is_edge(text[end - 1]):
            end -= 1
        if end > start:
            yield start, end


def _is_edge(character: str) -> bool:
    if character.isalnum() or character == "\ufffd":  # which stands for anything
        return False
    return character.isspace() or unicodedata.category(character)[0] in "PS"


def _word_at(words: Sequence[tuple[int, int]], starts: Sequence[int], start: int, end: int) -> int | None:
    """The first word that a piece has a part of."""
    place = bisect_right(starts, start) - 1
    if place >= 0 and start < words[place][1]:
        return place
    return place + 1 if place + 1 < len(words) and words[place + 1][0] < end else None


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def _whole(text: str, start: int, end: int) -> tuple[int, int]:
    """The same with all of its first and last character."""
    if start == end or text.isascii():
        return start, end
    while cuts(text, start):
        start -= 1
    while cuts(text, end):
        end += 1
    return start, end
