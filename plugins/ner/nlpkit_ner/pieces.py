"""A text cut into word pieces that know their characters, and entities as tags of pieces."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

from nlpkit_ner.characters import Parts, visible
from nlpkit_ner.words import RUN, words

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Pieces(NamedTuple):
    """The T pieces of a text, without special tokens.

    Args:
        ids: token ids.
        starts: the first character of each piece, white space and invisible marks left aside; for a piece of these
            alone that of the piece behind it.
        ends: the character behind it; for a piece of white space or marks alone that behind the piece before it.
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
    """Cut a text so that what entities may be made of neither overlaps nor has a border inside of a character.

    Args:
        backend: neither cuts off nor pads, and gives offsets in characters.
        text: any.
        whole_words: an entity has all of a word or nothing of it, punctuation around it aside. Characters of a word
            that the tokenizer drops belong to the word all the same.
    """
    encoding = backend.encode(text, add_special_tokens=False)
    seen = visible(text)
    whole = words(text, seen) if whole_words else Parts([], [])
    spans = [seen.over(*raw) for raw in encoding.offsets]  # None: a blank piece
    grown = [whole.around(*(span or raw)) for span, raw in zip(spans, encoding.offsets, strict=True)]
    own_reach = _reach(span[1] if span else 0 for span in spans)
    reach = _reach(end if span else 0 for span, (_, end) in zip(spans, grown, strict=True))
    inside = [int(start < before) for (start, _), before in zip(grown, [0, *reach], strict=False)]
    starts, ends = [len(text)] * len(spans), reach
    ahead, goes_on = len(text), 0
    for place in reversed(range(len(spans))):
        if goes_on:
            ends[place] = own_reach[place]
        if (span := spans[place]) is None:
            inside[place] |= goes_on  # between two pieces that belong together it does, too
        else:
            ahead = span[0] if inside[place] else grown[place][0]
        starts[place], goes_on = ahead, inside[place]
    attached = _attached(text, spans, inside) if whole_words else [0] * len(spans)
    return Pieces(encoding.ids, starts, ends, inside, attached)


def _reach(ends: Iterable[int]) -> list[int]:
    """How far the pieces up to each one reach."""
    return list(accumulate(ends, max))


def _attached(text: str, spans: Iterable[tuple[int, int] | None], inside: Iterable[int]) -> list[int]:
    """`Pieces.attached`; a blank piece stands between two words, not behind one."""
    runs = [match.start() for match in RUN.finditer(text)]
    found: list[int] = []
    run = -1
    for span, goes_on in zip(spans, inside, strict=True):
        before, run = run, bisect_right(runs, span[0]) if span else run
        found.append(int(run == before and bool(found[-1] if goes_on else span)))
    return found


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
