"""Text to rows of cells: csv, tsv and plain lines. Line numbers are those of the file, also where cells span lines."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from nlpkit.errors import DataError
from nlpkit.limits import BLOCK, LONGEST_LINE

_QUOTES = 'write a quote inside a text twice ("") and put quotes round the whole text'
Row = tuple[int, list[str]]


class Lines:
    """Lines of decoded pieces, each with its LF, and nothing else splits them.

    Args:
        pieces: text in pieces that end with LF (the last may not).

    Attributes:
        pieces_since: pieces begun since the consumer set it to 0, so that one endless row is noticed.
    """

    def __init__(self, pieces: Iterable[str]) -> None:
        self.pieces_since = 0
        self._lines = itertools.chain.from_iterable(map(self._split, pieces))

    def __iter__(self) -> Iterator[str]:
        return self._lines

    def _split(self, piece: str) -> Iterable[str]:
        self.pieces_since += 1
        if self.pieces_since > 1 + LONGEST_LINE // BLOCK:
            raise csv.Error("field larger")
        return io.StringIO(piece, newline="\n")


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


def table(lines: Iterable[str], delimiter: str, name: str) -> Iterator[Row]:
    """Rows of a csv or tsv, the header first, with the line in which each begins.

    A line without anything on it is no row, except in a table of one column, where it is an empty text.

    Raises:
        DataError: a row wider or narrower than the header, or quotes that do not fit; with file and line.
    """
    rows = _tsv(lines, name) if delimiter == "\t" else _csv(lines, delimiter, name)
    width = 0
    for number, cells in rows:
        if len(cells) != width:
            if not width and cells:
                width = len(cells)
            elif not cells and width == 1:
                cells = [""]
            elif not cells:
                continue
            else:
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


def _csv(lines: Iterable[str], delimiter: str, name: str) -> Iterator[Row]:
    reader = records(lines, delimiter)
    feed = lines if isinstance(lines, Lines) else Lines(())
    line = 0
    try:
        for cells in reader:
            yield line + 1, cells
            line = reader.line_num
            feed.pieces_since = 0
    except csv.Error as error:
        raise _damaged(str(error), name, line + 1, reader.line_num) from None


def _tsv(lines: Iterable[str], name: str) -> Iterator[Row]:
    """TSV of both kinds: cells quoted as spreadsheets do, and quotes that mean nothing.

    A line that has the header's width as it stands is one row, and a quote at the start of a cell is then a
    character of the text; otherwise a cell that opens a quote may span tabs and lines.
    """
    feed = iter(lines)
    width = number = 0
    for line in feed:
        number += 1
        cells = line.removesuffix("\n").removesuffix("\r").split("\t")
        if cells == [""]:
            yield number, []
            continue
        used = 1
        if '"' in line:
            if (len(cells) != width or width == 1) and any(_opens(cell) for cell in cells):
                cells, used = _quoted(line, feed, name, number)
            else:
                cells = [_unquoted(cell) for cell in cells]
        width = width or len(cells)
        yield number, cells
        number += used - 1
        if isinstance(lines, Lines):
            lines.pieces_since = 0


def _quoted(line: str, feed: Iterator[str], name: str, number: int) -> tuple[list[str], int]:
    """One record that begins with this line, and the lines it takes."""
    reader = records(itertools.chain((line,), feed), "\t")
    try:
        return next(reader), reader.line_num
    except csv.Error as error:
        raise _damaged(str(error), name, number, number + reader.line_num - 1) from None


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
