"""Lines of a file in any encoding, plain or gzip, or of standard input."""

from __future__ import annotations

from collections.abc import Iterator

from nlpkit.readers import open_text, split_lines
from nlpkit.readers.examples import Errors


def lines(path: str, encoding: str | None = None, errors: Errors = "strict") -> Iterator[str]:
    """Lines without their LF or CRLF, of which CR may stand twice; no other character ends a line.

    Args:
        path: a file, or ``-`` for standard input.
        encoding: None: detected; a guess is logged.
        errors: ``replace`` puts U+FFFD where a byte cannot be decoded, and logs how often.

    Raises:
        DataError: missing, empty, binary, damaged, or not in this encoding; with file and, where there is one, line.
        UsageError: no such encoding.
    """
    with open_text(path, encoding, errors) as text:
        for line in split_lines(text):
            yield line.removesuffix("\n").rstrip("\r")
