"""What one file is: format, encoding, delimiter and columns, told by its name and its start."""

from __future__ import annotations

import contextlib
import csv
import io
from dataclasses import dataclass

from nlpkit.errors import DataError, UsageError
from nlpkit.limits import TABLE_PREFIX
from nlpkit.readers.documents import LINES, Documents
from nlpkit.readers.encodings import check_encoding, detect_encoding
from nlpkit.readers.objects import objects
from nlpkit.readers.paths import NO_ROWS, STDIN, format_of, shown
from nlpkit.readers.streams import ByteStream
from nlpkit.readers.tables import header, records, split_lines, table

_DELIMITERS = ",;\t|"
_FORMATS = ("csv", "tsv", "jsonl", "txt")


@dataclass(frozen=True)
class Source:
    """What was detected about one file.

    Args:
        path: as given; ``-`` is standard input.
        format: csv, tsv, jsonl or txt.
        encoding: Python's name of it; ``utf-8-sig`` is UTF-8 with a byte order mark.
        delimiter: between the cells of csv and tsv.
        compressed: the file is gzip.
        columns: header of csv and tsv, keys of the first rows of jsonl, ``text`` for txt.
        guessed: nothing in the file proves the encoding.
        documents: what of a txt is one text; never ``auto``.
    """

    path: str
    format: str
    encoding: str
    delimiter: str | None
    compressed: bool
    columns: list[str]
    guessed: bool = False
    documents: Documents = LINES


def detect(
    stream: ByteStream,
    format: str | None,
    encoding: str | None,
    delimiter: str | None,
    documents: Documents = LINES,
) -> Source:
    """Tell what a file is from its name and its start; what the caller names is taken as it is.

    Raises:
        DataError: empty, blank, binary, of unknown encoding, or with a header that cannot be used.
        UsageError: no such format or encoding, or a delimiter of several characters.
    """
    name, guessed = (check_encoding(encoding), False) if encoding else detect_encoding(stream)
    kind = _check_format(format) or _told_by_name(stream.path)
    if kind != "txt":
        stream.complete_line()
    start = _start(stream, name)
    kind = kind or _sniff_format(start)
    mark = None
    if kind in ("csv", "tsv"):
        mark = _check_delimiter(delimiter) or ("\t" if kind == "tsv" else sniff_delimiter(start))
    columns = _columns(start, kind, mark, shown(stream.path))
    texts = documents.of(start) if kind == "txt" else LINES
    return Source(stream.path, kind, name, mark, stream.compressed, columns, guessed, texts)


def _start(stream: ByteStream, encoding: str) -> str:
    """The first characters, in whole lines where there are several."""
    size = max(4 * TABLE_PREFIX, stream.prefix.find(b"\n") + 2)
    text = stream.prefix[:size].decode(encoding, "replace").removeprefix("\ufeff")
    whole = stream.ended and len(stream.prefix) <= size
    if not text.strip("\r\n"):
        found = "empty file" if not text else "only blank lines" if whole else "begins with blank lines"
        raise DataError(f"{shown(stream.path)}: {found}", NO_ROWS)
    return text if whole or "\n" not in text else text[: text.rindex("\n") + 1]


def _columns(start: str, kind: str, delimiter: str | None, name: str) -> list[str]:
    if kind == "txt":
        return ["text"]
    if delimiter:
        line, cells = next(table([start], delimiter, name))
        return header(cells, f"{name}:{line}")
    keys: dict[str, None] = {}
    try:
        for _, row in objects(split_lines([start]), name):
            keys.update(dict.fromkeys(row))
    except DataError:  # a damaged row further on: the reader says so when it comes to it
        if not keys:
            raise
    return list(keys)


def _told_by_name(path: str) -> str | None:
    return None if path == STDIN else format_of(path)


def _check_format(name: str | None) -> str | None:
    if name and name not in _FORMATS:
        raise UsageError(f"no format '{name}'; expected one of {', '.join(_FORMATS)}")
    return name or None


def _check_delimiter(delimiter: str | None) -> str | None:
    named = {"\\t": "\t", "tab": "\t"}.get(delimiter or "", delimiter)
    if named and (len(named) != 1 or named in '"\r\n'):
        raise UsageError(f"data.delimiter: '{named}' cannot be a delimiter; expected one character", "data.delimiter=;")
    return named or None


def _sniff_format(start: str) -> str:
    """Plain lines, unless the first one is a JSON object."""
    try:
        return "jsonl" if next(objects(split_lines([start]), ""), None) else "txt"
    except DataError:
        return "txt"


def sniff_delimiter(start: str) -> str:
    """The delimiter that stands in the header and cuts most rows to the header's width; else a comma."""
    return max(_DELIMITERS, key=lambda mark: (_evenness(start, mark), -_DELIMITERS.index(mark)))


def _evenness(start: str, delimiter: str) -> float:
    """Share of the first rows that are as wide as the header; 0 where the header is one cell."""
    widths = []
    with contextlib.suppress(csv.Error):  # the last row is cut, or one is damaged: the reader names its line
        for row in records(io.StringIO(start[:TABLE_PREFIX].lstrip("\r\n"), newline="\n"), delimiter):
            widths += [len(row)] if row else []
    if not widths:
        return 0.5 if delimiter in start.lstrip("\r\n").split("\n", 1)[0] else 0.0
    return widths.count(widths[0]) / len(widths) if widths[0] > 1 else 0.0
