"""A file opened as text, for readers that know its form: packed or not, in whatever encoding."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from nlpkit.readers.encodings import Errors, Text, check_encoding, detect_encoding
from nlpkit.readers.paths import shown
from nlpkit.readers.streams import open_bytes

_log = logging.getLogger("nlpkit")


@contextlib.contextmanager
def open_text(path: str, encoding: str | None, errors: Errors) -> Iterator[Text]:
    """Open a file as text, without its byte order mark.

    Args:
        path: a file, or ``-`` for standard input.
        encoding: None: detected; a guess is logged.
        errors: ``replace`` puts U+FFFD where a byte cannot be decoded, and logs how often.

    Raises:
        DataError: missing, empty or binary; while reading: damaged, or not in this encoding; with file and line.
        UsageError: no such encoding.
    """
    with open_bytes(path) as stream:
        name, guessed = (check_encoding(encoding), False) if encoding else detect_encoding(stream)
        if guessed:
            _log.info("%s: %s (a guess; data.encoding=NAME sets it)", shown(path), name)
        text = Text(stream, name, errors)
        yield text
        if text.replaced:
            _log.warning("%s: %d characters replaced by U+FFFD", shown(path), text.replaced)
