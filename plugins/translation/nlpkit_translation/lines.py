"""Lines that stand side by side with those of another file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nlpkit.readers import split_lines


def lines(text: Iterable[str]) -> Iterator[str]:
    """Lines without their LF or CRLF; no other character ends a line, or sides would no longer stand side by side.

    Args:
        text: as `nlpkit.readers.open_text` gives it.
    """
    return (line.removesuffix("\n").removesuffix("\r") for line in split_lines(text))
