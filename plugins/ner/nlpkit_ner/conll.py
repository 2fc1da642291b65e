"""CoNLL columns to examples and back: a word a line with its tag, a blank line after each sentence."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TextIO

from nlpkit import Example
from nlpkit.errors import DataError, UsageError, nearest
from nlpkit.readers.paths import NO_ROWS, shown
from nlpkit_ner import schemes
from nlpkit_ner.lines import Errors, lines
from nlpkit_ner.schemes import Scheme, TagError, shortened

_DOCUMENT = "-DOCSTART-"
_HEADER = re.compile(r"#\s*global\.columns\s*=\s*(.+)")
_LOOKED_AT = 2_000
"""Lines at the start of a file by which its columns are told."""
_CELLS = re.compile(r"[^ \t]+")
_WORDS = re.compile(r"[^ \t\r\n]+")
_SHAPE = "expected CoNLL columns: a word a line, as many columns on every line, a blank line after each sentence"
_OTHER_READERS = "a line is like 'Berlin B-LOC'; csv, jsonl and txt files have readers of their own"
_Line = tuple[int, str]
_log = logging.getLogger("nlpkit")


def read(
    path: str, *, tags: int | str | None = None, encoding: str | None = None, errors: Errors = "strict"
) -> Iterator[Example]:
    """Read sentences as texts with entities: words joined by one space, offsets in characters (code points).

    Columns are divided by tabs, or in a file without tabs by blanks; the word is the first (FORM where a line
    ``# global.columns = ID FORM ...`` names the columns, as in CoNLL-U Plus). A file of one column has no tags: its
    examples have a ``text`` and no ``entities``. Left out are ``-DOCSTART-`` lines, comments (lines that begin with
    ``#`` and have not as many columns as the others), and in files with an ID the ranges and empty nodes of CoNLL-U.

    The scheme is that of the whole file, so the file is read before the first example is given, in a few times its
    size of memory.

    Args:
        path: a file, plain or gzip, or ``-`` for standard input.
        tags: the column that has the tags: its number from 0, or from the end if negative, or its name in
            ``# global.columns`` or in a first line that begins with ``#``; None: the last.
        encoding: None: detected.
        errors: ``replace`` puts U+FFFD where a byte cannot be decoded.

    Returns:
        Examples ``{"text": str, "entities": [{"start": int, "end": int, "label": str}]}``; ``where`` is the line of
        the first word.

    Raises:
        DataError: what cannot be read as it should, with file, line and word.
        UsageError: no such column or encoding.
    """
    numbered = enumerate(lines(path, encoding, errors), 1)
    name = shown(path)
    head = list(islice(numbered, _LOOKED_AT))
    columns = _columns(head, name, tags)
    sentences = list(_sentences(_chained(head, numbered), columns, name))
    if not sentences:
        raise DataError(f"{name}: no word in the file", NO_ROWS)
    words = sum(len(sentence.lines) for sentence in sentences)
    counted = f"{len(sentences):,} sentences, {words:,} words"
    if columns.tag is None:
        _log.info("%s: conll, %s, no tags", name, counted)
        for sentence in sentences:
            yield Example({"text": sentence.text}, f"{name}:{sentence.lines[0]}")
        return
    scheme = _scheme(sentences, name)
    _log.info("%s: conll, %s, %s, tags in column %d of %d", name, scheme, counted, columns.tag + 1, columns.width)
    for sentence in sentences:
        yield Example({"text": sentence.text, "entities": sentence.entities(scheme)}, f"{name}:{sentence.lines[0]}")


def write(examples: Iterable[Example], file: TextIO, scheme: Scheme = "IOB2") -> None:
    """Write texts and their entities as two columns, divided by a tab.

    Words end at blanks and at both ends of an entity. Texts that were read from CoNLL columns without blanks inside
    words come out as they were.

    Args:
        examples: with ``text`` and ``entities`` that do not overlap; texts without a word are left out.
        file: opened for writing text.
        scheme: of the tags.
    """
    for example in examples:
        entities = sorted(example["entities"], key=lambda entity: entity["start"])
        words, spans = _cut(example["text"], entities)
        for word, tag in zip(words, schemes.tags(spans, len(words), scheme), strict=True):
            file.write(f"{word}\t{tag}\n")
        if words:
            file.write("\n")


def _cut(text: str, entities: Sequence[dict[str, Any]]) -> tuple[list[str], list[schemes.Span]]:
    """The words of a text, and the words of each entity."""
    words: list[str] = []
    spans = []
    place = 0
    for entity in entities:
        words += _WORDS.findall(text, place, entity["start"])
        first = len(words)
        words += _WORDS.findall(text, entity["start"], entity["end"])
        spans.append((first, len(words), entity["label"]))
        place = entity["end"]
    return words + _WORDS.findall(text, place), spans


@dataclass(slots=True)
class _Sentence:
    """Words with their tags, as small as they can be kept: a file may have millions.

    Args:
        words: divided by LF, which no word holds.
        tags: of each word; none in a file without tags.
        lines: of each word.
    """

    words: str
    tags: tuple[str, ...]
    lines: Sequence[int]

    @property
    def text(self) -> str:
        return self.words.replace("\n", " ")

    def word(self, position: int) -> str:
        return self.words.split("\n")[position]

    def entities(self, scheme: Scheme) -> list[dict[str, Any]]:
        starts, end = [], 0
        words = self.words.split("\n")
        for word in words:
            starts.append(end)
            end += len(word) + 1
        return [
            {"start": starts[first], "end": starts[end - 1] + len(words[end - 1]), "label": kind}
            for first, end, kind in schemes.spans(self.tags, scheme)
        ]


@dataclass(frozen=True)
class _Columns:
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
        return _cells(line, self.tabs)

    def is_comment(self, line: str, cells: Sequence[str]) -> bool:
        """Whether a line that begins with ``#`` is no word: by its columns, and ``# so`` among blanks by its tag."""
        if len(cells) != self.width:
            return True
        return not self.tabs and self.tag is not None and cells[0] == "#" and not schemes.is_tag(cells[self.tag])


def _cells(line: str, tabs: bool) -> list[str]:
    return [cell.strip(" ") for cell in line.split("\t")] if tabs else _CELLS.findall(line)


def _is_document(line: str) -> bool:
    return line[: len(_DOCUMENT) + 1].rstrip() == _DOCUMENT


def _chained(head: list[_Line], rest: Iterator[_Line]) -> Iterator[_Line]:
    yield from head
    yield from rest


def _columns(head: list[_Line], name: str, tags: int | str | None) -> _Columns:
    """Tell the columns from the first lines."""
    filled = [(number, line) for number, line in head if line.strip() and not _is_document(line)]
    sure = [line for _, line in filled if not line.startswith("#")]
    looked_at = sure or [line for _, line in filled]
    if not looked_at:
        raise DataError(f"{name}: no word in the file", NO_ROWS)
    _refuse_json(looked_at[0], name)
    tabs = 2 * sum("\t" in line for line in looked_at) > len(looked_at)
    header, names = _names(filled, tags)
    widths = Counter(len(_cells(line, tabs)) for line in looked_at)
    width = len(names) or widths.most_common(1)[0][0]
    if 2 * widths[width] < len(looked_at):
        raise DataError(f"{name}: lines of {min(widths)} to {max(widths)} columns; {_SHAPE}", _OTHER_READERS)
    if width == 1:
        _refuse_csv(looked_at, name)
    tag = _tag_column(tags, width, names, name)
    columns = _Columns(
        tabs,
        width,
        names.index("FORM") if "FORM" in names else 0,
        tag,
        names.index("ID") if "ID" in names else None,
        header,
    )
    if tag is not None:
        values = [cells[tag] for line in looked_at if len(cells := columns.cells(line)) == width]
        if not any(map(schemes.is_tag, values)):
            raise _no_tags(values, columns, name)
    return columns


def _names(filled: list[_Line], tags: int | str | None) -> tuple[int, list[str]]:
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
    if not -width <= number < width:
        columns = "1 column" if width == 1 else f"{width} columns"
        raise UsageError(f"{name}: no column {number}; it has {columns}", "columns count from 0, from the end from -1")
    return number % width


def _no_tags(values: list[str], columns: _Columns, name: str) -> DataError:
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


def _sentences(numbered: Iterable[_Line], columns: _Columns, name: str) -> Iterator[_Sentence]:
    words: list[str] = []
    tags: list[str] = []
    places: list[int] = []
    known: dict[str, str] = {}  # one object for each tag, however often it stands there
    for number, line in numbered:
        if not line or line.isspace():
            if words:
                yield _sentence(words, tags, places)
                words, tags, places = [], [], []
            continue
        if _is_document(line) or number == columns.header:
            continue
        cells = columns.cells(line)
        if line.startswith("#") and columns.is_comment(line, cells):
            continue
        if len(cells) != columns.width:
            raise _uneven(f"{name}:{number}", cells, columns)
        if columns.number is not None and not cells[columns.number].isdecimal():
            continue
        word = cells[columns.word]
        if not word:
            raise DataError(f"{name}:{number}: no word in column {columns.word + 1}", "delete the line, or mend it")
        if columns.tag is not None:
            tag = cells[columns.tag]
            if tag not in known:
                _check_tag(tag, word, f"{name}:{number}", first=not places and not known)
            tags.append(known.setdefault(tag, tag))
        words.append(word)
        places.append(number)
    if words:
        yield _sentence(words, tags, places)


def _sentence(words: list[str], tags: list[str], places: list[int]) -> _Sentence:
    unbroken = places[-1] - places[0] + 1 == len(places)
    return _Sentence("\n".join(words), tuple(tags), range(places[0], places[-1] + 1) if unbroken else tuple(places))


def _check_tag(tag: str, word: str, where: str, first: bool) -> None:
    try:
        schemes.check_form(tag)
    except TagError as error:
        header = "if this line names the columns, delete it: tail -n +2 FILE > NEW; else " if first else ""
        raise DataError(f"{where}: '{shortened(word)}': {error.problem}", header + error.hint) from None


def _scheme(sentences: Sequence[_Sentence], name: str) -> Scheme:
    try:
        return schemes.detect(sentence.tags for sentence in sentences)
    except TagError as error:
        sentence = sentences[error.sentence]
        where = f"{name}:{sentence.lines[error.position]}"
        raise DataError(f"{where}: '{shortened(sentence.word(error.position))}': {error.problem}", error.hint) from None


def _uneven(where: str, cells: Sequence[str], columns: _Columns) -> DataError:
    found = "1 column" if len(cells) == 1 else f"{len(cells)} columns"
    mark = "tabs" if columns.tabs else "blanks"
    word = f"'{shortened(cells[min(columns.word, len(cells) - 1)])}': "
    if columns.tabs or len(cells) < columns.width:
        hint = "put a tab between columns" if columns.tabs else "write the columns that are missing"
    else:
        hint = "put tabs between all columns if words hold blanks"
    return DataError(f"{where}: {word}{found}; expected {columns.width}, divided by {mark}, as on other lines", hint)
