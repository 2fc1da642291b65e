"""Lines of a file in any encoding, plain or gzip, or of standard input."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from nlpkit.readers.encodings import Text, check_encoding, detect_encoding
from nlpkit.readers.examples import Errors
from nlpkit.readers.paths import shown
from nlpkit.readers.streams import open_bytes
from nlpkit.readers.tables import split_lines

_log = logging.getLogger("nlpkit")


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
    with open_bytes(path) as stream:
        name, guessed = (check_encoding(encoding), False) if encoding else detect_encoding(stream)
        if guessed:
            _log.info("%s: %s (a guess)", shown(path), name)
        text = Text(stream, name, errors)
        for line in split_lines(text):
            yield line.removesuffix("\n").rstrip("\r")
        if text.replaced:
            _log.warning("%s: %d characters replaced by U+FFFD", shown(path), text.replaced)
