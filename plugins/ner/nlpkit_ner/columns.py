"""Which columns a CoNLL file has, told by its first lines: how they are divided, and where word and tag are."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from nlpkit.errors import DataError, UsageError, nearest
from nlpkit.readers.paths import NO_ROWS
from nlpkit_ner import schemes
from nlpkit_ner.schemes import shortened

_DOCUMENT = "-DOCSTART-"
_HEADER = re.compile(r"#\s*global\.columns\s*=\s*(.+)")
_CELLS = re.compile(r"[^ \t]+")
_SHAPE = "expected CoNLL columns: a word a line, as many columns on every line, a blank line after each sentence"
_OTHER_READERS = "a line is like 'Berlin B-LOC'; csv, jsonl and txt files have readers of their own"
Line = tuple[int, str]
"""Number in the file, and text."""
Row = tuple[int, list[str]]
"""Number in the file, and cells."""


@dataclass(frozen=True)
class Columns:
    """How the lines of a file are divided.

    Args:
        tabs: by tabs, else by blanks.
        width: number of columns.
        word: the column of the words.
        tag: the column of the tags; None: the file has none.
        filled: number of columns before those that hold nothing, as tabs at the ends of all lines make them.
        number: the column of CoNLL-U's ID, where there is one.
        header: the line that names the columns, where there is one.
    """

    tabs: bool
    width: int
    word: int
    tag: int | None
    filled: int
    number: int | None = None
    header: int = 0

    def cells(self, line: str) -> list[str]:
        """The cells of a line, without blanks at their ends."""
        return _cells(line, self.tabs)

    def is_comment(self, line: str, cells: Sequence[str]) -> bool:
        """Whether a line that begins with ``#`` is no word: by its columns, and ``# so`` among blanks by its tag."""
        if len(cells) != self.width:
            return True
        return not self.tabs and self.tag is not None and cells[0] == "#" and not schemes.is_tag(cells[self.tag])


def _cells(line: str, tabs: bool) -> list[str]:
    return [cell.strip(" ") for cell in line.split("\t")] if tabs else _CELLS.findall(line)


def is_document(line: str) -> bool:
    """Whether a line says that a document begins, with any columns."""
    return line[: len(_DOCUMENT) + 1].rstrip() == _DOCUMENT


def find_columns(head: list[Line], name: str, tags: int | str | None) -> Columns:
    """Tell the columns from the first lines.

    Args:
        head: of the file.
        name: of the file, for messages.
        tags: number or name of the column with the tags; None: the last, those that are empty on every line aside.

    Raises:
        DataError: no words, another format, or a column of tags without a tag; with the first line that shows it.
        UsageError: no such column, or none beside it for the words; with the line that names or has the columns.
    """
    written = [(number, line) for number, line in head if line.strip() and not is_document(line)]
    looked_at = [(number, line) for number, line in written if not line.startswith("#")] or written
    if not looked_at:
        raise DataError(f"{name}: no word in the file", NO_ROWS)
    _refuse_json(looked_at[0], name)
    tabs = 2 * sum("\t" in line for _, line in looked_at) > len(looked_at)
    header, names = _names(written, tags)
    cut = [(number, _cells(line, tabs)) for number, line in looked_at]
    widths = Counter(len(cells) for _, cells in cut)
    width = len(names) or widths.most_common(1)[0][0]
    if not names and 2 * widths[width] < len(cut):
        raise _ragged(cut, name)
    if width == 1:
        _refuse_csv(looked_at, name)
    rows = [(number, cells) for number, cells in cut if len(cells) == width]
    filled = max((i for i in range(width) if any(cells[i] for _, cells in rows)), default=width - 1) + 1
    if tags is not None or filled == 1:  # which is asked for; or words whose column of tags is empty
        filled = width
    where = f"{name}:{header or rows[0][0]}"  # without names there are rows
    tag = _tag_column(tags, width, filled, names, where)
    number = names.index("ID") if "ID" in names else None
    columns = Columns(tabs, width, _word_column(names, width, tag, number, where), tag, filled, number, header)
    if tag is not None and rows and not any(schemes.is_tag(cells[tag]) for _, cells in rows):
        raise _no_tags(rows, tag, columns, name)
    return columns


def _names(written: list[Line], tags: int | str | None) -> tuple[int, list[str]]:
    """The line that names the columns, and their names; without one 0 and none."""
    for number, line in written:
        if not line.startswith("#"):
            break
        if match := _HEADER.match(line):
            return number, match[1].split()
    number, line = written[0]
    names = line.lstrip("# \t").split()
    named = isinstance(tags, str) and tags in names
    return (number, names) if line.startswith("#") and named else (0, [])


def _word_column(names: list[str], width: int, tag: int | None, number: int | None, where: str) -> int:
    """That of CoNLL-U's FORM, else the first that has neither tags nor numbers of words."""
    form = names.index("FORM") if "FORM" in names else None
    others = (column for column in range(width) if column not in (tag, number))
    word = form if form not in (None, tag) else next(others, None)
    if word is None:
        raise UsageError(
            f"{where}: no column is left for the words; it has {_counted(width)}", "write word and tag on every line"
        )
    return word


def _tag_column(tags: int | str | None, width: int, filled: int, names: list[str], where: str) -> int | None:
    if tags is None:
        return filled - 1 if width > 1 else None
    if isinstance(tags, str) and tags in names:
        return names.index(tags)
    try:
        number = int(tags)
    except ValueError:
        known = f"it has {', '.join(names)}" if names else "no line before this one names columns"
        raise UsageError(
            f"{where}: no column '{tags}'; {known}", f"{nearest(str(tags), names)}give its number, -1 for the last"
        ) from None
    if not 1 <= abs(number) <= width:
        raise UsageError(
            f"{where}: no column {number}; it has {_counted(width)}", "columns count from 1, from the end from -1"
        )
    return number - 1 if number > 0 else number + width


def _no_tags(rows: list[Row], tag: int, columns: Columns, name: str) -> DataError:
    """The error for a column without tags; its hint names the last one where all are tags, if there is one."""
    found = ", ".join(f"'{shortened(value)}'" for value in list(dict.fromkeys(cells[tag] for _, cells in rows))[:3])
    tagged = [i for i in range(columns.width) if all(schemes.is_tag(cells[i]) for _, cells in rows)]
    first = columns.word + 1
    words = f"cut -f{first}" if columns.tabs else f"awk '{{print ${first}}}'"
    hint = f"data.entities={tagged[-1] + 1}" if tagged else f"words alone are read without tags: {words} FILE > NEW"
    what = f"column {tag + 1} of {columns.width} has no tags but {found}"
    return DataError(f"{name}:{rows[0][0]}: {what}; expected {schemes.FORMS}", hint)


def _ragged(rows: list[Row], name: str) -> DataError:
    """The error for lines that hardly ever have as many columns as others: it shows the first two that differ."""
    first, cells = rows[0]
    number, others = next(row for row in rows if len(row[1]) != len(cells))
    found = f"{_counted(len(others))}, where line {first} has {len(cells)}"
    return DataError(f"{name}:{number}: {found}; {_SHAPE}", _OTHER_READERS)


def _counted(width: int) -> str:
    return "1 column" if width == 1 else f"{width} columns"


def _refuse_json(first: Line, name: str) -> None:
    number, line = first
    if line.lstrip()[:2] not in ('{"', '["', "[{", "[["):
        return
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return
    raise DataError(f"{name}:{number}: JSON; {_SHAPE}", _OTHER_READERS)


def _refuse_csv(head: list[Line], name: str) -> None:
    for mark in ",;|":
        counts = {line.count(mark) for _, line in head}
        if len(head) > 1 and len(counts) == 1 and counts != {0}:
            raise DataError(f"{name}:{head[0][0]}: cells divided by '{mark}'; {_SHAPE}", _OTHER_READERS)


def uneven(where: str, cells: Sequence[str], columns: Columns) -> DataError:
    """The error for a line with more or fewer columns than the file."""
    mark = "tabs" if columns.tabs else "blanks"
    word = f"'{shortened(cells[min(columns.word, len(cells) - 1)])}': "
    if len(cells) < columns.width:
        hint = "put a tab between columns" if columns.tabs else "write the columns that are missing"
    else:
        hint = (
            "delete the tabs that are too many" if columns.tabs else "put tabs between all columns if words hold blanks"
        )
    other = f"as named in line {columns.header}" if columns.header else "as on other lines"
    return DataError(
        f"{where}: {word}{_counted(len(cells))}; expected {columns.width}, divided by {mark}, {other}", hint
    )


def unexpected(where: str, cells: Sequence[str], columns: Columns) -> DataError:
    """The error for a line with something in a column that the first lines leave empty."""
    number, cell = next((i, cell) for i, cell in enumerate(cells[columns.filled :], columns.filled + 1) if cell)
    found = f"'{shortened(cells[columns.word])}': '{shortened(cell)}' in column {number}"
    return DataError(
        f"{where}: {found}, which is empty on the lines before", "name the column of the tags: data.entities=N"
    )
