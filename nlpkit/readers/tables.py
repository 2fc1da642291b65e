"""Text to rows of cells: csv, tsv and plain lines. Line numbers are those of the file, also where cells span lines."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from nlpkit.errors import DataError
from nlpkit.limits import LONGEST_LINE, TABLE_PREFIX

_QUOTES = 'write a quote inside a text twice ("") and put quotes round the whole text'
Row = tuple[int, list[str]]


def split_lines(pieces: Iterable[str]) -> Iterator[str]:
    """Lines of decoded pieces, each with its LF; nothing else ends a line.

    Args:
        pieces: text in pieces that end with LF (the last may not).
    """
    return itertools.chain.from_iterable(io.StringIO(piece, newline="\n") for piece in pieces)


class _Feed:
    """Pieces on their way to a CSV parser, which would collect one endless row without end."""

    def __init__(self, pieces: Iterable[str]) -> None:
        self.size = 0
        self.lines = split_lines(map(self._count, pieces))

    def _count(self, piece: str) -> str:
        self.size += len(piece)
        if self.size > 2 * LONGEST_LINE:
            raise csv.Error("field larger")
        return piece

    def row_ends(self) -> None:
        self.size = 0


def plain_lines(pieces: Iterable[str]) -> Iterator[Row]:
    """One row of one cell for each line, without its LF or CRLF; empty lines are rows unless all are.

    Returns:
        Line number and cell; nothing at all for a file of empty lines.
    """
    number = held = 0
    for piece in pieces:
        lines = piece.split("\n")
        if not lines[-1]:
            lines.pop()
        for line in lines:
            number += 1
            cell = line.removesuffix("\r")
            if held + 1 == number:  # nothing but empty lines so far
                if not cell:
                    held += 1
                    continue
                yield from ((empty, [""]) for empty in range(1, number))
            yield number, [cell]


def table(pieces: Iterable[str], delimiter: str, name: str) -> Iterator[Row]:
    """Rows of a csv or tsv, the header first, with the line in which each begins.

    A line without anything on it is no row, except in a table of one column, where it is an empty text.

    Args:
        pieces: text in pieces that end with LF (the last may not).
        delimiter: between cells.
        name: of the file, for messages.

    Raises:
        DataError: a row wider or narrower than the header, or quotes that do not fit; with file and line.
    """
    feed = _Feed(pieces)
    rows = _tsv(feed, name) if delimiter == "\t" else _csv(feed.lines, feed, delimiter, name)
    width = 0
    for number, cells in rows:
        if not cells:
            if width != 1:
                continue
            cells = [""]
        if len(cells) != (width := width or len(cells)):
            raise _uneven(f"{name}:{number}", len(cells), width, delimiter)
        yield number, cells


def records(lines: Iterable[str], delimiter: str) -> Any:
    """The standard library's CSV reader, strict, with room for our longest cell."""
    if csv.field_size_limit() < LONGEST_LINE:
        csv.field_size_limit(LONGEST_LINE)
    return csv.reader(lines, delimiter=delimiter, strict=True)


def header(cells: Sequence[str], where: str) -> list[str]:
    """Column names of a header: stripped, ``column3`` for a third one without a name.

    Raises:
        DataError: a name that stands twice.
    """
    names = [cell.strip() or f"column{number}" for number, cell in enumerate(cells, 1)]
    for number, name in enumerate(names):
        if name in names[:number]:
            places = f"columns {names.index(name) + 1} and {number + 1}"
            raise DataError(f"{where}: {places} are both called '{name}'", "give each column a name of its own")
    return names


def _csv(lines: Iterable[str], feed: _Feed, delimiter: str, name: str, before: int = 0) -> Iterator[Row]:
    """Rows by the standard library; ``before`` is the number of lines already read."""
    reader = records(lines, delimiter)
    line = before
    try:
        for cells in reader:
            yield line + 1, cells
            line = before + reader.line_num
            feed.row_ends()
    except csv.Error as error:
        raise _damaged(str(error), name, line + 1, before + reader.line_num) from None


def _tsv(feed: _Feed, name: str) -> Iterator[Row]:
    """TSV of both kinds: cells quoted as spreadsheets do, and quotes that mean nothing.

    The first cell that opens a quote and does not close it decides for the rest of the file: where all the lines
    that follow are as wide as the header, each line is a row and a lone quote a character of the text; else quoted
    cells span tabs and lines. The wrong way would soon meet a row that does not fit, and say so.
    """
    width = 0
    for number, line in enumerate(feed.lines):
        if '"' in line and any(map(_opens, _tabbed(line))):
            ahead = _ahead(line, feed.lines)
            rest = itertools.chain(ahead, feed.lines)
            literal = width > 1 and all(len(_tabbed(one)) == width for one in ahead if one.strip("\r\n"))
            yield from _literal(rest, feed, number) if literal else _csv(rest, feed, "\t", name, number)
            return
        cells = _cells(line)
        width = width or len(cells)
        yield number + 1, cells
        feed.row_ends()


def _literal(lines: Iterable[str], feed: _Feed, before: int) -> Iterator[Row]:
    for number, line in enumerate(lines, before + 1):
        yield number, _cells(line)
        feed.row_ends()


def _ahead(line: str, lines: Iterator[str]) -> list[str]:
    taken, size = [line], len(line)
    while size < TABLE_PREFIX and (following := next(lines, None)):
        taken.append(following)
        size += len(following)
    return taken


def _tabbed(line: str) -> list[str]:
    return line.removesuffix("\n").removesuffix("\r").split("\t")


def _cells(line: str) -> list[str]:
    cells = _tabbed(line)
    if '"' in line:
        return [_unquoted(cell) for cell in cells]
    return [] if cells == [""] else cells


def _opens(cell: str) -> bool:
    return cell.startswith('"') and _unquoted(cell) is cell


def _unquoted(cell: str) -> str:
    """A cell without the quotes of a spreadsheet; the very same cell where it has none from end to end."""
    if len(cell) < 2 or cell[0] != '"' or cell[-1] != '"':
        return cell
    inner = cell[1:-1]
    return cell if '"' in inner.replace('""', "") else inner.replace('""', '"')


def _uneven(where: str, found: int, width: int, delimiter: str) -> DataError:
    cells = "1 cell" if found == 1 else f"{found} cells"
    mark = "a tab" if delimiter == "\t" else f"'{delimiter}'"
    hint = f"put quotes round a text that holds {mark}" if found > width else "fill the row up, or mend its quotes"
    return DataError(f"{where}: {cells} in this row; expected {width} as in the header", hint)


def _damaged(reason: str, name: str, first: int, last: int) -> DataError:
    where = f"{name}:{first}"
    if reason.startswith("field larger"):
        limit = f"{LONGEST_LINE >> 20} MiB"
        return DataError(f"{where}: the row that begins here is longer than {limit}", "look for a quote left open")
    if reason.startswith("unexpected end"):
        return DataError(f"{where}: a quote opens in this row and is never closed", _QUOTES)
    if reason.startswith("new-line"):
        return DataError(f"{where}: a lone carriage return outside quotes", "tr '\\r' '\\n' < FILE > NEW mends it")
    until = "" if last == first else f" (line {last})"
    return DataError(f"{where}: a closing quote in this row{until} is followed by more text", _QUOTES)
