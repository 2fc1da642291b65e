"""A text of any length in parts that a model can read, and their translations put together again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

_END = re.compile(r"(?<=[.!?…।॥؟۔።։])[\"'»”’)\]]*\s+|(?<=[。！？])")
_CLAUSE, _WORD = re.compile(r"(?<=[,;:])\s+"), re.compile(r"\s+")
_LINE = re.compile(r"\r\n|\n|\r")
_HALF = re.compile("[\\s\ufffd]+$")  # what a decoder of bytes puts in the place of half a character, at the end


def segments(text: str, fits: Callable[[str], bool]) -> list[tuple[str, str]]:
    """Parts of a text, each with what stands behind it; all of them together are the text.

    Lines stay apart. A line that is too long is divided between sentences, as many of which stay together as fit. A
    sentence that is too long by itself is halved between clauses, or else words, until its parts fit; a single word
    never is, and cut by whoever reads it.

    Args:
        text: any.
        fits: whether a part is short enough.
    """
    found: list[tuple[str, str]] = []
    for line, end in _lines(text):
        parts = [(line, "")] if fits(line) else _together(list(_short(line, fits)), fits)
        *before, (last, space) = parts
        found += [*before, (last, space + end)]
    return found


def is_one_line(text: str) -> bool:
    """Whether no line ends in a text, not even its last."""
    return not _LINE.search(text)


def places(parts: Iterable[tuple[str, str]]) -> list[int]:
    """Where the words of each part begin and where they end, in bytes from the start of the text.

    White space around them is left aside; a part without anything else begins where it ends.

    Args:
        parts: as `segments` gives them.
    """
    found: list[int] = []
    start = 0
    for part, behind in parts:
        words = part.strip()
        begin = start + len(as_bytes(part)) - len(as_bytes(part.lstrip()))
        found += [begin, begin + len(as_bytes(words))]
        start += len(as_bytes(part + behind))
    return found


def filled(text: bytes, places: Sequence[int], said: Iterator[str]) -> str:
    """A text with something else in its `places`; where there are no words nothing is said.

    Args:
        text: as `as_bytes` gives it.
        places: in it.
        said: what comes into each, without half a character at its end.
    """
    found, behind = [], 0
    for begin, end in zip(places[::2], places[1::2], strict=True):
        words = _HALF.sub("", next(said)).lstrip()
        found += [text[behind:begin].decode(), words if begin < end else ""]
        behind = end
    return "".join([*found, text[behind:].decode()])


def as_bytes(text: str) -> bytes:
    """A text in UTF-8, with a question mark for what is no character."""
    return text.encode("utf-8", "replace")


def _lines(text: str) -> Iterator[tuple[str, str]]:
    start = 0
    for match in _LINE.finditer(text):
        yield text[start : match.start()], match[0]
        start = match.end()
    if start < len(text) or not text:
        yield text[start:], ""


def _sentences(line: str) -> list[tuple[str, str]]:
    found, start = [], 0
    for match in _END.finditer(line):
        closed = len(match[0].rstrip())  # quotes and brackets that close belong to the sentence
        if match.end() < len(line):
            found.append((line[start : match.start() + closed], match[0][closed:]))
            start = match.end()
    return [*found, (line[start:], "")]


def _short(line: str, fits: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    for sentence, space in _sentences(line):
        yield from _halves(sentence, space, fits)


def _halves(sentence: str, space: str, fits: Callable[[str], bool]) -> list[tuple[str, str]]:
    """Parts of a sentence that fit, each with what stands behind it."""
    if fits(sentence):
        return [(sentence, space)]
    for between in (_CLAUSE, _WORD):
        places = [m for m in between.finditer(sentence) if m.start() and m.end() < len(sentence)]
        if places:
            middle = min(places, key=lambda m: abs(m.start() - len(sentence) / 2))
            left, right = sentence[: middle.start()], sentence[middle.end() :]
            return [*_halves(left, middle[0], fits), *_halves(right, space, fits)]
    return [(sentence, space)]


def _together(sentences: list[tuple[str, str]], fits: Callable[[str], bool]) -> list[tuple[str, str]]:
    found = [sentences[0]]
    for sentence, space in sentences[1:]:
        before, between = found[-1]
        longer = before + between + sentence
        if fits(longer):
            found[-1] = (longer, space)
        else:
            found.append((sentence, space))
    return found
