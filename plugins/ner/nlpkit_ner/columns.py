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


@dataclass(frozen=True)
class Columns:
    """How the lines of a file are divided.

    Args:
        tabs: by tabs, else by blanks.
        width: number of columns.
        word: the column of the words.
        tag: the column of the tags; None: the file has none.
        number: the column of CoNLL-U's ID, where there is one.
        header: the line that names the columns, where there is one.
    """

    tabs: bool
    width: int
    word: int = 0
    tag: int | None = None
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
        tags: number or name of the column with the tags; None: the last.

    Raises:
        DataError: no words, another format, or a column of tags without a tag.
        UsageError: no such column.
    """
    filled = [(number, line) for number, line in head if line.strip() and not is_document(line)]
    sure = [line for _, line in filled if not line.startswith("#")]
    looked_at = sure or [line for _, line in filled]
    if not looked_at:
        raise DataError(f"{name}: no word in the file", NO_ROWS)
    _refuse_json(looked_at[0], name)
    tabs = 2 * sum("\t" in line for line in looked_at) > len(looked_at)
    header, names = _names(filled, tags)
    widths = Counter(len(_cells(line, tabs)) for line in looked_at)
    width = len(names) or widths.most_common(1)[0][0]
    if not names and 2 * widths[width] < len(looked_at):
        raise DataError(f"{name}: lines of {min(widths)} to {max(widths)} columns; {_SHAPE}", _OTHER_READERS)
    if width == 1:
        _refuse_csv(looked_at, name)
    tag = _tag_column(tags, width, names, name)
    columns = Columns(
        tabs,
        width,
        names.index("FORM") if "FORM" in names else 0,
        tag,
        names.index("ID") if "ID" in names else None,
        header,
    )
    if tag is not None:
        values = [cells[tag] for line in looked_at if len(cells := columns.cells(line)) == width]
        if values and not any(map(schemes.is_tag, values)):
            raise _no_tags(values, columns, name)
    return columns


def _names(filled: list[Line], tags: int | str | None) -> tuple[int, list[str]]:
    """The line that names the columns, and their names; without one 0 and none."""
    for number, line in filled:
        if not line.startswith("#"):
            break
        if match := _HEADER.match(line):
            return number, match[1].split()
    number, line = filled[0]
    names = line.lstrip("# \t").split()
    named = isinstance(tags, str) and tags in names
    return (number, names) if line.startswith("#") and named else (0, [])


def _tag_column(tags: int | str | None, width: int, names: list[str], name: str) -> int | None:
    if tags is None:
        return width - 1 if width > 1 else None
    if isinstance(tags, str) and tags in names:
        return names.index(tags)
    try:
        number = int(tags)
    except ValueError:
        known = f"it has {', '.join(names)}" if names else "no line names its columns"
        raise UsageError(
            f"{name}: no column '{tags}'; {known}", f"{nearest(str(tags), names)}give its number, -1 for the last"
        ) from None
    if not 1 <= abs(number) <= width:
        columns = "1 column" if width == 1 else f"{width} columns"
        raise UsageError(f"{name}: no column {number}; it has {columns}", "columns count from 1, from the end from -1")
    return number - 1 if number > 0 else number + width


def _no_tags(values: list[str], columns: Columns, name: str) -> DataError:
    found = ", ".join(f"'{shortened(value)}'" for value in list(dict.fromkeys(values))[:3])
    where = f"column {(columns.tag or 0) + 1} of {columns.width} has no tags but {found}"
    return DataError(f"{name}: {where}; expected {schemes.FORMS}", "put words and tags first: cut -f1,4 FILE > NEW")


def _refuse_json(line: str, name: str) -> None:
    if line.lstrip()[:2] not in ('{"', '["', "[{", "[["):
        return
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return
    raise DataError(f"{name}: JSON; {_SHAPE}", _OTHER_READERS)


def _refuse_csv(head: list[str], name: str) -> None:
    for mark in ",;|":
        counts = {line.count(mark) for line in head}
        if len(head) > 1 and len(counts) == 1 and counts != {0}:
            raise DataError(f"{name}: cells divided by '{mark}'; {_SHAPE}", _OTHER_READERS)


def uneven(where: str, cells: Sequence[str], columns: Columns) -> DataError:
    """The error for a line with more or fewer columns than the file."""
    found = "1 column" if len(cells) == 1 else f"{len(cells)} columns"
    mark = "tabs" if columns.tabs else "blanks"
    word = f"'{shortened(cells[min(columns.word, len(cells) - 1)])}': "
    if columns.tabs or len(cells) < columns.width:
        hint = "put a tab between columns" if columns.tabs else "write the columns that are missing"
    else:
        hint = "put tabs between all columns if words hold blanks"
    other = f"as named in line {columns.header}" if columns.header else "as on other lines"
    return DataError(f"{where}: {word}{found}; expected {columns.width}, divided by {mark}, {other}", hint)
