"""Character spans of one text: within it, on whole characters, shrunk to their words, side by side.

Offsets are those of Python: code points, the end after the last character. JavaScript counts UTF-16 units, in which a
character above U+FFFF, such as most emoji, is two; texts without such characters have the same offsets in both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from nlpkit.errors import DataError
from nlpkit_ner.characters import Parts, characters, visible
from nlpkit_ner.schemes import shortened

SHRUNK, UTF16 = "shrunk", "utf-16"
"""Keys of what is counted: spans that lost what is unseen at their ends, and texts whose offsets were UTF-16 units."""


@dataclass(frozen=True, order=True)
class CharacterSpan:
    """One entity.

    Args:
        start: offset of the first character.
        end: offset after the last.
        label: its type.
        quote: the text of the span as the file repeats it; None where it does not.
    """

    start: int
    end: int
    label: str
    quote: str | None = None

    def shown(self, text: str) -> str:
        """The span as it stands in messages: ``span 3:9 'Berlin' (LOC)``."""
        covered = shortened(text[max(self.start, 0) : max(self.end, 0)])
        return " ".join((f"span {self.start}:{self.end}", *([f"'{covered}'"] if covered else []), f"({self.label})"))


def checked(
    spans: Iterable[CharacterSpan], text: str, where: str, counts: Counter[str] | None = None
) -> list[CharacterSpan]:
    """Spans that a task can learn from, in the order of the text.

    Spans whose ``quote`` is what stands at their offsets in UTF-16 units are counted in code points, all of the text;
    white space and invisible marks at the ends of a span are left out, unless it has nothing but marks.

    Args:
        spans: in any order.
        text: they are of.
        where: ``file:line`` for messages.
        counts: of `SHRUNK` and `UTF16`, added to.

    Raises:
        DataError: a span that is empty, leaves the text, does not fit its quote or cuts a character, or two that
            overlap.
    """
    counts = Counter() if counts is None else counts
    counted = _in_code_points(list(spans), text, where, counts)
    if not counted:
        return []
    parts, seen = characters(text), visible(text)
    spaceless = [_spaceless(span, text, where) for span in counted]
    for span in spaceless:
        _check_characters(span, text, parts, where)
    shrunk = [_markless(span, seen) for span in spaceless]
    counts[SHRUNK] += sum(after != before for after, before in zip(shrunk, counted, strict=True))
    shrunk.sort(key=lambda span: (span.start, span.end, span.label))
    for before, after in pairwise(shrunk):
        if after.start < before.end:
            raise _overlap(before, after, text, where)
    return shrunk


def _in_code_points(spans: list[CharacterSpan], text: str, where: str, counts: Counter[str]) -> Sequence[CharacterSpan]:
    wrong = next((span for span in spans if not _fits(span, text)), None)
    if wrong is None:
        return spans
    units = _unit_offsets(text)
    if any(span.start not in units or span.end not in units for span in spans):
        raise _not_its_quote(wrong, text, where)
    converted = [replace(span, start=units[span.start], end=units[span.end]) for span in spans]
    if not all(_fits(span, text) for span in converted):
        raise _not_its_quote(wrong, text, where)
    counts[UTF16] += 1
    return converted


def _fits(span: CharacterSpan, text: str) -> bool:
    """Whether the quote is there; tools differ in the white space of quotes."""
    if span.quote is None or not 0 <= span.start < span.end <= len(text):
        return span.quote is None
    return span.quote.split() == text[span.start : span.end].split()


def _unit_offsets(text: str) -> dict[int, int]:
    """UTF-16 offset of each border between characters -> offset in code points."""
    units = {0: 0}
    place = 0
    for offset, character in enumerate(text, 1):
        place += 2 if character > "\uffff" else 1
        units[place] = offset
    return units


def _not_its_quote(span: CharacterSpan, text: str, where: str) -> DataError:
    """Say what is wrong with the first span that is not its quote."""
    _check_bounds(span, text, where)
    found = f"{span.shown(text)} is '{shortened(span.quote or '')}' by its own text"
    return DataError(f"{where}: {found}", "export it again; the text was changed since")


def _check_bounds(span: CharacterSpan, text: str, where: str) -> None:
    if span.end <= span.start:
        found = "is empty" if span.end == span.start else "ends before it starts"
        raise DataError(f"{where}: {span.shown(text)} {found}", "end is the offset after the last character")
    if span.start < 0 or span.end > len(text):
        found = f"{span.shown(text)} leaves the text, which has {len(text):,} characters"
        raise DataError(f"{where}: {found}", "offsets are characters (code points) from 0, not bytes")


def _spaceless(span: CharacterSpan, text: str, where: str) -> CharacterSpan:
    _check_bounds(span, text, where)
    covered = text[span.start : span.end]
    left, right = len(covered) - len(covered.lstrip()), len(covered) - len(covered.rstrip())
    if not covered.strip():
        raise DataError(f"{where}: span {span.start}:{span.end} ({span.label}) is white space", "delete the span")
    return replace(span, start=span.start + left, end=span.end - right)


def _markless(span: CharacterSpan, seen: Parts) -> CharacterSpan:
    start, end = seen.over(span.start, span.end) or (span.start, span.end)
    return replace(span, start=start, end=end)


def _check_characters(span: CharacterSpan, text: str, parts: Parts, where: str) -> None:
    for offset, verb in ((span.start, "starts"), (span.end, "ends")):
        if parts.cuts(offset):
            first, end = parts.around(offset, offset)
            codes = " ".join(f"U+{ord(code):04X}" for code in text[first:end][:8])
            found = f"{span.shown(text)} {verb} inside the character '{shortened(text[first:end])}' ({codes})"
            near = first if verb == "starts" else end
            raise DataError(f"{where}: {found}", f"{verb[:-1]} it at {near}; offsets are characters (code points)")


def _overlap(before: CharacterSpan, after: CharacterSpan, text: str, where: str) -> DataError:
    if (before.start, before.end) == (after.start, after.end):
        found, hint = "cover the same words", "keep one of the two"
    elif before.start == after.start or after.end <= before.end:
        found, hint = "overlap: one lies within the other", "keep the one that is meant, mostly the longer"
    else:
        found, hint = "overlap: they cross", "shorten one of the two"
    return DataError(f"{where}: {before.shown(text)} and {after.shown(text)} {found}", hint)
