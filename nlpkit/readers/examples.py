"""The public readers: rows under their own names, and examples under the names of a task's fields."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from nlpkit.errors import DataError
from nlpkit.readers.columns import choose_columns, find_columns, listed, pick_column
from nlpkit.readers.documents import LINES, Documents
from nlpkit.readers.encodings import Errors as Errors
from nlpkit.readers.encodings import Text
from nlpkit.readers.objects import objects
from nlpkit.readers.paths import NO_ROWS, STDIN, shown
from nlpkit.readers.source import Source, detect
from nlpkit.readers.streams import open_bytes
from nlpkit.readers.tables import plain_lines, split_lines, table
from nlpkit.task import Example, Field

_log = logging.getLogger("nlpkit")


def inspect(
    path: str, *, format: str | None = None, encoding: str | None = None, delimiter: str | None = None
) -> Source:
    """Detect what a file is, from its name and its start.

    Raises:
        DataError: missing, empty, binary, of unknown encoding; or standard input, which can be read only once.
    """
    if path == STDIN:
        raise DataError("stdin: can be read only once, so it cannot be looked at before", "save it to a file first")
    with open_bytes(path) as stream:
        return detect(stream, format, encoding, delimiter)


def read_rows(
    path: str,
    *,
    format: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    errors: Errors = "strict",
) -> Iterator[Example]:
    """Read a file row by row, column name -> cell; ``where`` of each row is ``file:line``.

    Every cell is the string in the file: ``NA`` and ``007`` stay. Numbers and booleans of jsonl keep their
    spelling; its nulls are None, its lists and objects are left. Each line of a txt is a row with a ``text``.

    Args:
        path: a file, or ``-`` for standard input.
        format: csv, tsv, jsonl or txt; None: by the name.
        encoding: None: detected.
        delimiter: None: detected.
        errors: ``replace`` puts U+FFFD where a byte cannot be decoded instead of raising.

    Raises:
        DataError: anything in the file that cannot be read as it should, with its line.
    """
    with open_bytes(path) as stream:
        source = detect(stream, format, encoding, delimiter)
        for line, row in _rows(source, Text(stream, source.encoding, errors)):
            values = row if isinstance(row, dict) else zip(source.columns, row, strict=True)
            yield Example(dict(values), f"{shown(path)}:{line}")


def read_examples(
    paths: Sequence[str],
    fields: Mapping[str, Field],
    columns: Mapping[str, str] | None = None,
    *,
    need: Collection[str] = (),
    encoding: str | None = None,
    delimiter: str | None = None,
    errors: Errors = "strict",
    on_source: Callable[[Source, dict[str, str]], None] | None = None,
    extra: Mapping[str, str] | None = None,
    wanted: Collection[str] = (),
    preferred: Mapping[str, str] | None = None,
    documents: Documents = LINES,
    others: Callable[[], Sequence[str]] = list,
) -> Iterator[Example]:
    """Read files row by row under the names of a task's fields.

    Args:
        paths: files as `expand` lists them.
        fields: of the task.
        columns: field -> column, where the user named it; the others are guessed (`choose_columns`).
        need: optional fields that must be there this time: ``("label",)`` when fitting.
        encoding: None: detected for each file.
        delimiter: None: detected for each file.
        errors: ``replace`` puts U+FFFD where a byte cannot be decoded, and logs how often.
        on_source: called for each file, before its rows, with what was detected and the column of each field.
        extra: further columns to carry along under their own names -> the setting that names them, for messages.
        wanted: the same, but only where a file has them.
        preferred: field -> column, taken where a file has it, before any guess.
        documents: what of a txt is a row.
        others: names of further readers, for the message where plain text has too few columns.

    Raises:
        DataError: anything in a file that cannot be read as it should, with its line.
    """
    for path in paths:
        with open_bytes(path) as stream:
            source = detect(stream, None, encoding, delimiter, documents)
            mapping = _mapping(source, fields, columns or {}, need, preferred, others)
            if on_source:
                on_source(source, mapping)
            text = Text(stream, source.encoding, errors)
            keys = find_columns(wanted, source.columns) | mapping
            keys |= {name: _extra(name, setting, source, mapping) for name, setting in (extra or {}).items()}
            must = {f for f in mapping if f in need or fields[f].required}
            loose = {f for f in mapping if fields[f].structured}
            yield from _examples(_rows(source, text), keys, must, loose, source)
            if text.replaced:
                _log.warning("%s: %d characters replaced by U+FFFD", shown(path), text.replaced)


def describe(source: Source, mapping: Mapping[str, str]) -> str:
    """One line that says what was detected: ``reviews.csv: csv, utf-8, delimiter ','; text = 'Review Text'``."""
    encoding = f"{source.encoding} (a guess; data.encoding=NAME sets it)" if source.guessed else source.encoding
    parts = [source.format, *(["gzip"] if source.compressed else []), encoding]
    if source.delimiter:
        parts.append("tabs" if source.delimiter == "\t" else f"delimiter '{source.delimiter}'")
    chosen = ", ".join(f"{field} = '{column}'" for field, column in mapping.items())
    about = str(source.documents) if source.format == "txt" else chosen
    return f"{shown(source.path)}: {', '.join(parts)}; {about}"


def _rows(source: Source, text: Text) -> Iterator[tuple[int, Any]]:
    """Line number with cells or, for jsonl, with the object; a file without rows is an error."""
    name = shown(source.path)
    if source.format == "txt":
        rows: Iterator[tuple[int, Any]] = source.documents.gather(plain_lines(text))
    elif source.delimiter:
        rows = table(text, source.delimiter, name)
        next(rows, None)
    else:
        rows = objects(split_lines(text), name, text.errors)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{name}: a header and no rows" if source.delimiter else f"{name}: no rows", NO_ROWS)
    yield first
    yield from rows


def _mapping(
    source: Source,
    fields: Mapping[str, Field],
    chosen: Mapping[str, str],
    need: Collection[str],
    preferred: Mapping[str, str] | None,
    named: Callable[[], Sequence[str]],
) -> dict[str, str]:
    if source.format != "txt":
        return choose_columns(source.columns, fields, chosen, path=source.path, need=need, preferred=preferred)
    required = [f for f, known in fields.items() if known.required or f in need] or list(fields)[:1]
    if len(required) != 1:
        others = ", ".join(f"'{f}'" for f in required if f != "text")
        more = " or ".join(f"data.reader={name}" for name in named())
        raise DataError(
            f"{shown(source.path)}: plain text has no column for {others}",
            "use csv, tsv or jsonl" + (f"; or say what it is by {more}" if more else ""),
        )
    return {required[0]: "text"}


def _extra(name: str, setting: str, source: Source, mapping: Mapping[str, str]) -> str:
    if source.format == "txt":
        raise DataError(f"{shown(source.path)}: plain text has no column '{name}' ({setting})", "use csv, tsv or jsonl")
    column = pick_column(name, source.columns, source.path, setting)
    if mapping.get(name, column) != column:
        found = f"the field '{name}' is read from '{mapping[name]}', so the column '{column}' has no name left"
        raise DataError(f"{shown(source.path)}: {found}", f"rename the column '{column}'")
    return column


def _examples(
    rows: Iterator[tuple[int, Any]],
    keys: Mapping[str, str],
    must: Collection[str],
    loose: Collection[str],
    source: Source,
) -> Iterator[Example]:
    name = shown(source.path)
    if source.format == "jsonl":
        for line, row in rows:
            yield _from_object(row, keys, must, loose, f"{name}:{line}")
        return
    places = [(key, source.columns.index(column)) for key, column in keys.items()]
    for line, cells in rows:
        yield Example({key: cells[place] for key, place in places}, f"{name}:{line}")


def _from_object(
    row: dict[str, Any], keys: Mapping[str, str], must: Collection[str], loose: Collection[str], where: str
) -> Example:
    example = Example({}, where)
    for key, column in keys.items():
        value = row.get(column)
        if isinstance(value, str) or (value is not None and key in loose):
            example[key] = value
        elif value is not None:
            kind = "a list" if isinstance(value, list) else "an object"
            raise DataError(f"{where}: '{column}' is {kind}; expected a string", "write it as one string")
        elif key in must:
            found = f"'{column}' is null" if column in row else f"no '{column}' in row; it has {listed(list(row))}"
            raise DataError(f"{where}: {found}", f"name another column with data.{key}=COLUMN")
    return example
