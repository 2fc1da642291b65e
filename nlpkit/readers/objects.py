"""JSON lines to rows: one object a line, scalars as they are spelt."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

from nlpkit.errors import DataError

_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_SHAPE = 'expected one object a line, like {"text": "..."}'
_BOOLEANS = {True: "true", False: "false"}


def objects(lines: Iterable[str], name: str, errors: str = "strict") -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows of a JSON lines file; blank lines hold none.

    Numbers keep their spelling and become strings as booleans do; null is None; lists and objects stay.

    Raises:
        DataError: a line that is no JSON object, a key twice, NaN, NUL or half a surrogate pair; with file and line.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip(" \t\r\n"):
            continue
        where = f"{name}:{number}"
        row = _parse(line, where)
        escaped = "\\u" in line
        for key, value in row.items():
            if value is True or value is False:
                row[key] = _BOOLEANS[value]
            elif escaped and isinstance(value, str) and _NO_TEXT.search(value):
                row[key] = _mend(value, key, where, errors)
        yield number, row


def _parse(line: str, where: str) -> dict[str, Any]:
    try:
        row = _DECODER.decode(line)
    except _Refused as error:
        raise DataError(f"{where}: {error}", error.hint) from None
    except json.JSONDecodeError as error:
        if line.strip() in ("{", "["):
            raise DataError(f"{where}: JSON that spans lines; {_SHAPE}", "jq -c . FILE > FILE.jsonl") from None
        raise DataError(f"{where}: not JSON at character {error.pos + 1}: {error.msg.lower()}", _SHAPE) from None
    except (ValueError, RecursionError):
        raise DataError(f"{where}: JSON nested too deeply", _SHAPE) from None
    if isinstance(row, list):
        raise DataError(f"{where}: a JSON array; {_SHAPE}", "jq -c '.[]' FILE > FILE.jsonl")
    if not isinstance(row, dict):
        raise DataError(f"{where}: a JSON value that is no object; {_SHAPE}")
    return row


class _Refused(ValueError):
    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def _constant(name: str) -> NoReturn:
    raise _Refused(f"{name} is not JSON", f'write null, or "{name}" in quotes if it is a text')


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _Refused(f"the key '{twice}' stands twice in one object", "keep one of the two")
    return row


def _mend(value: str, key: str, where: str, errors: str) -> str:
    if errors == "replace":
        return _NO_TEXT.sub("\ufffd", value)
    bad = _NO_TEXT.search(value)
    what = "a NUL character" if bad and bad.group() == "\0" else "half a surrogate pair"
    raise DataError(f"{where}: {what} in '{key}'", "data.errors=replace puts U+FFFD in its place")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=str, parse_float=str, parse_constant=_constant, strict=False
)
