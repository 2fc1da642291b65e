"""CoNLL columns to examples and back: a word a line with its tag, a blank line after each sentence."""

from __future__ import annotations

import logging
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice, pairwise
from typing import Any, TextIO

from nlpkit import Example
from nlpkit.errors import DataError
from nlpkit.readers.examples import Errors
from nlpkit.readers.paths import NO_ROWS, shown
from nlpkit_ner import schemes
from nlpkit_ner.columns import Columns, Line, find_columns, is_document, uneven, unexpected
from nlpkit_ner.lines import lines
from nlpkit_ner.schemes import Scheme, TagError, shortened

_LOOKED_AT = 2_000
"""Lines at the start of a file by which its columns are told."""
_WORDS = re.compile(r"[^ \t\r\n]+")
_WORD_ID = re.compile(r"[0-9]+")
_OTHER_ID = re.compile(r"[0-9]+[-.][0-9]+")
"""Of CoNLL-U: a range of words that are written as one, or an empty node."""
_END_LINES = r"if CR ends the lines: tr '\r' '\n' < FILE > NEW; else delete it"
_log = logging.getLogger("nlpkit")


def read(
    path: str, *, tags: int | str | None = None, encoding: str | None = None, errors: Errors = "strict"
) -> Iterator[Example]:
    """Read sentences as texts with entities: words joined by one space, offsets in characters (code points).

    Columns are divided by tabs, or in a file without tabs by blanks; the word is in the first that has no tags (FORM
    where a line ``# global.columns = ID FORM ...`` names the columns, as in CoNLL-U Plus). A file of one column has no
    tags: its examples have a ``text`` and no ``entities``. A blank line ends a sentence, and so does ``-DOCSTART-``.
    Left out are comments (lines that begin with ``#`` and have not as many columns as the others), and in files with
    an ID the ranges and empty nodes of CoNLL-U.

    The scheme is that of the whole file, so the file is read before the first example is given, in about twice its
    size of memory.

    Args:
        path: a file, plain or gzip, or ``-`` for standard input.
        tags: the column that has the tags: its number from 1, or from the end if negative, or its name in
            ``# global.columns`` or in a first line that begins with ``#``; None: the last that is not empty.
        encoding: None: detected.
        errors: ``replace`` puts U+FFFD where a byte cannot be decoded.

    Returns:
        Examples ``{"text": str, "entities": [{"start": int, "end": int, "label": str}]}``; ``where`` is the line of
        the first word.

    Raises:
        DataError: what cannot be read as it should, with file, line and word.
        UsageError: no such column or encoding.
    """
    name = shown(path)
    numbered = _numbered(lines(path, encoding, errors), name)
    head = list(islice(numbered, _LOOKED_AT))
    columns = find_columns(head, name, tags)
    sentences = list(_sentences(chain(head, numbered), columns, name))
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
        yield Example(
            {"text": sentence.text, "entities": sentence.entities(scheme, name)}, f"{name}:{sentence.lines[0]}"
        )


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
        words, spans = words_of(example["text"], entities)
        for word, tag in zip(words, schemes.tags(spans, len(words), scheme), strict=True):
            file.write(f"{word}\t{tag}\n")
        if words:
            file.write("\n")


def words_of(
    text: str, entities: Iterable[Mapping[str, Any]], beside: Iterable[Mapping[str, Any]] = ()
) -> tuple[list[str], list[schemes.Span]]:
    """The words of a text, and the words of each entity.

    Args:
        text: its words end at blanks, and at both ends of an entity.
        entities: that do not overlap.
        beside: others, at whose ends words end too; so two answers to one text are about the same words.
    """
    entities = list(entities)
    borders = sorted({0, len(text), *(e[end] for e in (*entities, *beside) for end in ("start", "end"))})
    places = [match.span() for part in pairwise(borders) for match in _WORDS.finditer(text, *part)]
    starts = [start for start, _ in places]
    spans = [(bisect_left(starts, e["start"]), bisect_left(starts, e["end"]), e["label"]) for e in entities]
    return [text[start:end] for start, end in places], spans


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

    def entities(self, scheme: Scheme, name: str) -> list[dict[str, Any]]:
        starts, end = [], 0
        words = self.words.split("\n")
        for word in words:
            starts.append(end)
            end += len(word) + 1
        spans = schemes.spans(self.tags, scheme)
        for first, end, kind in spans:
            if not "".join(words[first:end]).strip():  # a no-break space, as others of Unicode, is a word
                codes = " ".join(f"U+{ord(character):04X}" for character in words[first][:8])
                found = f"{name}:{self.lines[first]}: {kind} on white space alone ({codes})"
                raise DataError(found, "write O, or delete the line")
        return [
            {"start": starts[first], "end": starts[end - 1] + len(words[end - 1]), "label": kind}
            for first, end, kind in spans
        ]


def _numbered(lines: Iterable[str], name: str) -> Iterator[Line]:
    """Lines with their numbers, none with CR inside of it: where that ended lines, all of them would be one."""
    for number, line in enumerate(lines, 1):
        if (place := line.find("\r")) >= 0:
            found = f"a carriage return (CR) at character {place + 1}, expected LF or CRLF at the end of each line"
            raise DataError(f"{name}:{number}: {found}", _END_LINES)
        yield number, line


def _sentences(numbered: Iterable[Line], columns: Columns, name: str) -> Iterator[_Sentence]:
    words: list[str] = []
    tags: list[str] = []
    places: list[int] = []
    known: dict[str, str] = {}  # one object for each tag, however often it stands there
    for number, line in numbered:
        if not line or line.isspace() or is_document(line):
            if words:
                yield _sentence(words, tags, places)
                words, tags, places = [], [], []
            continue
        if number == columns.header:
            continue
        cells = columns.cells(line)
        if line.startswith("#") and columns.is_comment(line, cells):
            continue
        if len(cells) != columns.width:
            raise uneven(f"{name}:{number}", cells, columns)
        if any(cells[columns.filled :]):
            raise unexpected(f"{name}:{number}", cells, columns)
        if columns.number is not None and not _is_word(cells[columns.number], f"{name}:{number}"):
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


def _is_word(identity: str, where: str) -> bool:
    """Whether a line of CoNLL-U is a word, by its ID."""
    if _WORD_ID.fullmatch(identity):
        return True
    if not _OTHER_ID.fullmatch(identity):
        found = f"{where}: ID is '{shortened(identity)}', expected a number, a range like 1-2, or 1.1 of an empty node"
        raise DataError(found, "number the words of each sentence from 1")
    return False


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
