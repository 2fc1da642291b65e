"""Pairs in one file: tsv, csv and jsonl."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from nlpkit import Example
from nlpkit.errors import DataError
from nlpkit.readers import STDIN, format_of, open_text
from nlpkit.readers.columns import listed
from nlpkit.readers.encodings import Text
from nlpkit.readers.examples import Errors
from nlpkit.readers.objects import objects
from nlpkit.readers.paths import NO_ROWS, shown
from nlpkit.readers.source import sniff_delimiter
from nlpkit.readers.tables import Row, header, split_lines, table
from nlpkit_translation.fields import FIELDS
from nlpkit_translation.lines import lines
from nlpkit_translation.sides import NAME_THEM, choose_sides, named_sides, refuse_one_sided

_NESTED = "translation"
_LOOKED_AT = 1 << 16  # bytes at the start of a file by which its format and delimiter are told
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_log = logging.getLogger("nlpkit")


def read(
    path: str, *, columns: Mapping[str, str] | None = None, encoding: str | None = None, errors: Errors = "strict"
) -> Iterator[Example]:
    """Read pairs from a table, or from JSON lines.

    tsv: cells between tabs, as they stand; quotes mean nothing. The first line is a header where it names both sides,
    or has the codes of two languages, or where columns are named; else every line is a pair, of two columns or of
    those that ``columns`` counts. One that names a single side may be either, and is refused. csv: as RFC 4180 has it,
    with a header unless ``columns`` counts. jsonl: ``{"source": ..., "target": ...}``, likewise with codes of
    languages, or such an object under ``translation``. A file that is called otherwise is told by its first line.

    Args:
        path: a file, plain or gzip, or ``-`` for standard input.
        columns: ``source`` and ``target`` -> a column or key, or the number of a column from 1; else they are told by
            their names (`choose_sides`).
        encoding: None: detected.
        errors: ``replace`` puts U+FFFD where a byte cannot be decoded.

    Returns:
        Examples ``{"source": str, "target": str}``, without the target where a file has none.

    Raises:
        DataError: what cannot be read as it should, with file and line.
        UsageError: no such encoding.
    """
    name, chosen = shown(path), {side: column for side, column in (columns or {}).items() if side in FIELDS and column}
    return refuse_one_sided(_read(path, chosen, encoding, errors), dict.fromkeys(FIELDS, name))


def _read(path: str, chosen: Mapping[str, str], encoding: str | None, errors: Errors) -> Iterator[Example]:
    name = shown(path)
    with open_text(path, encoding, errors) as text:
        start = text.stream.prefix[:_LOOKED_AT].decode(text.encoding, "ignore").removeprefix("\ufeff")
        kind = None if path == STDIN else format_of(path)
        kind = kind if kind in ("csv", "tsv", "jsonl") else _told_by(start, name)
        if kind == "jsonl":
            yield from _objects(text, chosen, name)
        elif kind == "tsv":
            yield from _table(_tabbed(text, name), chosen, name, "tsv")
        else:
            delimiter = sniff_delimiter(start)
            yield from _table(table(text, delimiter, name), chosen, name, f"csv, delimiter {delimiter!r}")


def _told_by(start: str, name: str) -> str:
    first = start.lstrip("\r\n").split("\n", 1)[0]
    if first.lstrip().startswith("{"):
        return "jsonl"
    if "\t" in first:
        return "tsv"
    raise DataError(
        f"{name}: neither tabs nor JSON in its first line, so that there is no target beside the source",
        "two files of lines are given as --source FILE --target FILE; end the name of a csv in .csv",
    )


def _tabbed(text: Text, name: str) -> Iterator[Row]:
    """Line number and cells; a line without anything on it is none, except in a table of one column.

    Raises:
        DataError: a row that is wider or narrower than the first.
    """
    width = 0
    for number, line in enumerate(lines(text), 1):
        if not line and width != 1:
            continue
        cells = line.split("\t")
        width = width or len(cells)
        if len(cells) != width:
            found = f"{len(cells)} cell{'s' * (len(cells) > 1)} in this row; expected {width} as in the first"
            hint = "no text may hold a tab, and quotes mean nothing in tsv; a csv has quotes"
            raise DataError(f"{name}:{number}: {found}", hint)
        yield number, cells


def _table(rows: Iterator[Row], chosen: Mapping[str, str], name: str, about: str) -> Iterator[Example]:
    """Pairs of a table, whose first row may be a header."""
    first = next(rows, None)
    if first is None:
        raise DataError(f"{name}: no rows", NO_ROWS)
    number, cells = first
    counted = bool(chosen) and all(column.isdecimal() for column in chosen.values())
    named = named_sides(cells)
    alone = not chosen and len(cells) == len(named) == 1  # of texts to translate: hardly one of them is such a name
    if len(named) == 1 and not (chosen or alone) and about == "tsv":
        raise _header_or_not(named, f"{name}:{number}")
    has_header = alone or len(named) == len(FIELDS) or (not counted and (bool(chosen) or about != "tsv"))
    if counted or not has_header:
        places = _by_number(chosen, len(cells), name)
        told = {side: f"column {place + 1}" for side, place in places.items()}
    else:
        names = header(cells, f"{name}:{number}")
        keys = choose_sides(names, chosen, name)
        places = {side: names.index(key) for side, key in keys.items()}
        told = {side: repr(key) for side, key in keys.items()}
    if has_header and (first := next(rows, None)) is None:
        raise DataError(f"{name}: a header and no rows", NO_ROWS)
    sides = ", ".join(f"{side} = {column}" for side, column in told.items())
    _log.info("%s: %s, %s; %s", name, about, "header" if has_header else "no header", sides)
    for number, cells in chain([first], rows):
        yield Example({side: cells[place] for side, place in places.items()}, f"{name}:{number}")


def _header_or_not(named: Mapping[str, str], where: str) -> DataError:
    ((side, name),) = named.items()
    other = next(other for other in FIELDS if other != side)
    return DataError(
        f"{where}: '{name}' may be the name of the {side} or a text, for nothing in this line names the {other}",
        f"of a header name the columns, data.{side}='{name}'; of texts count them, data.source=1 data.target=2",
    )


def _by_number(chosen: Mapping[str, str], width: int, name: str) -> dict[str, int]:
    """Side -> index of its column, in a table that is counted.

    Raises:
        DataError: no such column, or more than two and no number to choose by.
    """
    count_them = "count the columns from 1: data.source=1 data.target=2"
    numbers = {side: int(column) for side, column in chosen.items()}
    if not numbers:
        if width > 2:
            raise DataError(f"{name}: {width} columns and no header that names the sides", count_them)
        numbers = dict(zip(FIELDS, range(1, width + 1), strict=False))
    elif len(numbers) == 1 and width == 2:
        ((side, number),) = numbers.items()
        numbers = {side: number, next(other for other in FIELDS if other != side): 3 - number}
    if "source" not in numbers:
        raise DataError(f"{name}: {width} columns, of which none is named for the source", count_them)
    for number in numbers.values():
        if not 1 <= number <= width:
            raise DataError(f"{name}: no column {number}; it has {width}", count_them)
    return {side: numbers[side] - 1 for side in FIELDS if side in numbers}


def _objects(text: Text, chosen: Mapping[str, str], name: str) -> Iterator[Example]:
    keys: dict[str, str] = {}
    for number, row in objects(split_lines(text), name, text.errors):
        where = f"{name}:{number}"
        sides = row[_NESTED] if isinstance(row.get(_NESTED), dict) else row
        if not keys:
            keys = choose_sides(list(sides), chosen, name)
            _log.info("%s: jsonl; %s", name, ", ".join(f"{side} = {key!r}" for side, key in keys.items()))
        pair = Example({}, where)
        for side, key in keys.items():
            if (value := sides.get(key)) is not None:
                pair[side] = _text(value, key, where)
        if "source" not in pair:
            what = f"'{keys['source']}' is null" if keys["source"] in sides else f"no '{keys['source']}' in row"
            raise DataError(f"{where}: {what}; it has {listed(list(sides))}", NAME_THEM)
        yield pair
    if not keys:
        raise DataError(f"{name}: no rows", NO_ROWS)


def _text(value: Any, key: str, where: str) -> str:
    if not isinstance(value, str):
        kind = "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else "true or false"
        raise DataError(f"{where}: '{key}' is {kind}; expected a text", "write it as one string")
    if bad := _NO_TEXT.search(value):  # what the core has not seen: it looks at the outermost object
        what = "a NUL character" if bad[0] == "\0" else "half a surrogate pair"
        raise DataError(f"{where}: {what} in '{key}'", "delete it from the text")
    return value
