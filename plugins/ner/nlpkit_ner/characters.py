"""What people see as one character, of one code point or more; which are seen, and which may stand around a word."""

from __future__ import annotations

import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

_JOINER = "\u200d"
_APART = "\u00ad\u061c\u180e\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\ufeff" + "".join(
    map(chr, range(0x2060, 0x2070))
)
"""Marks of format, as of the direction of writing: nothing is seen of them, and they belong to no character."""
_INVISIBLE = _APART + "\u200c" + _JOINER + "".join(map(chr, range(0xFE00, 0xFE10)))
"""The same with those that say how the characters beside them look: non-joiner, joiner, variation selectors."""
_FIRST_MARK = "\u0300"
_KEYCAP, _INFORMATION, _UNREADABLE = "\u20e3", "\u2139", "\ufffd"


@dataclass(frozen=True)
class Parts:
    """Parts of a text, such as its characters or words: none empty, none over another, in order.

    Args:
        starts: offset of each.
        ends: the offset behind it.
    """

    starts: Sequence[int]
    ends: Sequence[int]

    def cuts(self, offset: int) -> bool:
        """Whether an offset lies inside of a part, not at its edge."""
        return self.around(offset, offset) != (offset, offset)

    def around(self, start: int, end: int) -> tuple[int, int]:
        """A span with all of the parts that its edges cut."""
        first, last = bisect_right(self.starts, start) - 1, bisect_left(self.starts, end) - 1
        if first >= 0 and start < self.ends[first]:
            start = self.starts[first]
        if last >= 0 and end < self.ends[last]:
            end = self.ends[last]
        return start, end

    def over(self, start: int, end: int) -> tuple[int, int] | None:
        """From the first to the last part that a span has something of; None where it has nothing of any."""
        first, last = bisect_right(self.ends, start), bisect_left(self.starts, end) - 1
        return (self.starts[first], self.ends[last]) if first <= last else None


def characters(text: str) -> Parts:
    """The characters of a text as people see them, found in one pass.

    A combining mark, variation selector, zero width joiner, skin tone, tag or Hangul vowel or final belongs to what
    is before it, and so does what follows a joiner, the line feed of CR LF, and the second half of a flag. A mark
    after white space or a mark of format stands for itself. This follows the extended grapheme clusters of Unicode
    (UAX 29) as far as people would say that a character is cut: a zero width non-joiner may stand between a word and
    its ending, so it is a character.
    """
    if text.isascii() and "\r\n" not in text:
        return Parts(range(len(text)), range(1, len(text) + 1))
    borders = [*_borders(text), len(text)]
    return Parts(borders[:-1], borders[1:])


def visible(text: str) -> Parts:
    """The `characters` without white space and those of which nothing is seen."""
    if text.isascii():
        places = [place for place, character in enumerate(text) if not character.isspace()]
        return Parts(places, [place + 1 for place in places])
    parts = characters(text)
    seen = [(start, end) for start, end in zip(parts.starts, parts.ends, strict=True) if _is_seen(text[start:end])]
    return Parts([start for start, _ in seen], [end for _, end in seen])


def is_edge(character: str) -> bool:
    """Whether a visible character at the edge of a word is none of it: punctuation, a symbol or emoji.

    The sign for what could not be read is part of a word: it stands for anything.
    """
    base = character.lstrip(_INVISIBLE)[0]
    if base == _UNREADABLE:
        return False
    # key caps and the sign for information are digits and letters to Unicode, but drawn as signs
    return unicodedata.category(base)[0] in "PS" or character.endswith(_KEYCAP) or base == _INFORMATION


def _is_seen(character: str) -> bool:
    return character.isalnum() or bool(character.lstrip(_INVISIBLE).strip())


def _borders(text: str) -> Iterator[int]:
    """Where characters begin."""
    yield 0
    halves = 0  # of flags, side by side before an offset
    for offset, (before, after) in enumerate(pairwise(text), 1):
        if before < _FIRST_MARK > after and before != "\r":  # most of most texts
            yield offset
            continue
        halves = halves + 1 if _is_flag_half(before) else 0
        if not _joined(before, after) and not (halves % 2 and _is_flag_half(after)):
            yield offset


def _joined(before: str, after: str) -> bool:
    if before == "\r":
        return after == "\n"
    if before.isspace() or before in _APART:
        return False
    return (before == _JOINER and not (after.isspace() or after in _APART)) or _continues(after)


def _continues(character: str) -> bool:
    return (
        character == _JOINER
        or unicodedata.category(character).startswith("M")
        or "\u1160" <= character <= "\u11ff"
        or "\U0001f3fb" <= character <= "\U0001f3ff"
        or "\U000e0020" <= character <= "\U000e007f"
    )


def _is_flag_half(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"
