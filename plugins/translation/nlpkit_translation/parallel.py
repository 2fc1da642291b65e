"""Two files whose lines are translations of each other."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import zip_longest

from nlpkit import Example
from nlpkit.errors import DataError
from nlpkit.readers import open_text
from nlpkit.readers.encodings import Text
from nlpkit.readers.examples import Errors
from nlpkit.readers.paths import shown
from nlpkit_translation.lines import lines
from nlpkit_translation.shift import first_shift
from nlpkit_translation.sides import refuse_one_sided

_REMEMBERED = 2_000_000
"""Lines whose lengths are kept, 8 bytes each, to tell where the files begin to differ."""


def read(
    source: str, target: str | None, *, encoding: str | None = None, errors: Errors = "strict"
) -> Iterator[Example]:
    """Read pairs, line by line; LF and CRLF end a line and nothing else, and a last line may lack its end.

    Args:
        source: a file, plain or gzip.
        target: likewise; None: there is none, as of texts that are to be translated.
        encoding: of both; None: detected for each.
        errors: ``replace`` puts U+FFFD where a byte cannot be decoded.

    Returns:
        Examples ``{"source": str, "target": str}``; ``where`` is the line of the source.

    Raises:
        DataError: files of unequal length, one without any text, or what cannot be read; with file and line.
        UsageError: no such encoding.
    """
    pairs = _alone(source, encoding, errors) if target is None else _pairs(source, target, encoding, errors)
    return refuse_one_sided(pairs, {"source": shown(source), "target": shown(target or source)})


def _alone(source: str, encoding: str | None, errors: Errors) -> Iterator[Example]:
    with open_text(source, encoding, errors) as text:
        for number, line in enumerate(lines(text), 1):
            yield Example({"source": line}, f"{shown(source)}:{number}")


def _pairs(source: str, target: str, encoding: str | None, errors: Errors) -> Iterator[Example]:
    name = shown(source)
    lengths = array("I"), array("I")
    with open_text(source, encoding, errors) as one, open_text(target, encoding, errors) as two:
        here, there = lines(one), lines(two)
        for number, (text, translation) in enumerate(zip_longest(here, there), 1):
            if text is None or translation is None:
                more = number + sum(1 for _ in (here if translation is None else there))
                counts = (number - 1, more) if text is None else (more, number - 1)
                raise _unequal((one, two), counts, lengths)
            if number <= _REMEMBERED:
                lengths[0].append(len(text))
                lengths[1].append(len(translation))
            yield Example({"source": text, "target": translation}, f"{name}:{number}")


def _unequal(texts: tuple[Text, Text], counts: tuple[int, int], lengths: tuple[array[int], array[int]]) -> DataError:
    names = [shown(text.stream.path) for text in texts]
    longer, fewer = names[counts[0] < counts[1]], min(counts)
    message = (
        f"{longer}:{fewer + 1}: no partner for this line; "
        f"{names[0]} has {counts[0]:,} lines and {names[1]} {counts[1]:,}"
    )
    hint = "line N of one file must be the translation of line N of the other"
    if found := first_shift(*lengths):
        hint += (
            f"; by their lengths (a guess) they fit up to about line {found[0]}, and no more from line {found[1]} on"
        )
    return DataError(message, hint)
