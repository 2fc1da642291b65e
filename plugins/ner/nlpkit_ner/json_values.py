"""JSON of a file, one value a line or in one array, with the lines they begin in."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

from nlpkit.errors import DataError

_SHAPE = "write one JSON object a line, or one array of them"


def values(source: Iterator[str], name: str) -> Iterator[tuple[int, Any]]:
    """JSON values with the line in which each begins: one a line, or those of arrays; blank lines hold none.

    An array that goes on over lines is read whole, and nothing may follow it. A list that begins with a string is a
    value, as spaCy writes rows.

    Args:
        source: the lines of a file, from its first.
        name: of the file, for messages.

    Raises:
        DataError: what is no JSON, has a key twice in one object, or a number that is too long; with file and line.
    """
    for number, line in enumerate(source, 1):
        if not line.strip():
            continue
        try:
            value = _DECODER.decode(line)
        except (ValueError, RecursionError) as error:
            if not _ARRAY.match(line):
                raise _no_json(error, name, number) from None
            yield from _array("\n".join((line, *source)), number, name)
            return
        if isinstance(value, list) and not (value and isinstance(value[0], str)):
            yield from ((number, item) for item in value)
        else:
            yield number, value


def _array(text: str, first: int, name: str) -> Iterator[tuple[int, Any]]:
    """The values of an array that goes on over lines, ``first`` the number of its first line."""
    place = _skip(text, text.index("[") + 1)
    line, counted = first, 0
    try:
        while not text.startswith("]", place):
            line += text.count("\n", counted, place)
            counted = place
            value, place = _DECODER.raw_decode(text, place)
            yield line, value
            place = _skip(text, place)
            if text.startswith(",", place):
                place = _skip(text, place + 1)
                if text.startswith("]", place):
                    raise json.JSONDecodeError("a value has to follow ','", text, place)
            elif not text.startswith("]", place):
                raise json.JSONDecodeError("expecting ',' or ']'", text, place)
        if (place := _skip(text, place + 1)) < len(text):
            raise json.JSONDecodeError("more after the end of the array", text, place)
    except (ValueError, RecursionError) as error:
        raise _no_json(error, name, first if isinstance(error, json.JSONDecodeError) else line) from None


def _skip(text: str, place: int) -> int:
    while text[place : place + 1] in (" ", "\t", "\n", "\r"):
        place += 1
    return place


def _no_json(error: Exception, name: str, first: int) -> DataError:
    if isinstance(error, json.JSONDecodeError):
        where = f"{name}:{first + error.lineno - 1}: not JSON at character {error.colno}"
        return DataError(f"{where}: {error.msg.lower()}", _SHAPE)
    if isinstance(error, RecursionError):
        return DataError(f"{name}:{first}: JSON nested too deeply", _SHAPE)
    if isinstance(error, _KeyTwiceError):
        return DataError(f"{name}:{first}: {error}", "keep one of the two")
    digits = f"more than {sys.get_int_max_str_digits():,} digits"
    return DataError(f"{name}:{first}: a number of {digits}", "delete it, or write it in quotes if it is a name")


class _KeyTwiceError(ValueError):
    """A key that stands twice in one object."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        keys = [key for key, _ in pairs]
        raise _KeyTwiceError(f"the key '{next(key for key in keys if keys.count(key) > 1)}' stands twice in one object")
    return row


_ARRAY = re.compile(r"\s*\[\s*([\[{]|$)")
_DECODER = json.JSONDecoder(object_pairs_hook=_unique, strict=False)
