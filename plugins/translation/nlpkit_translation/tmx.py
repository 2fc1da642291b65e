"""Translation memories: TMX 1.1 to 1.4b, read as a stream."""

from __future__ import annotations

import codecs
import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from xml.parsers import expat

from nlpkit import Example
from nlpkit.errors import DataError, UsageError
from nlpkit.limits import LONGEST_LINE
from nlpkit.readers.encodings import check_encoding, detect_encoding
from nlpkit.readers.examples import Errors
from nlpkit.readers.paths import NO_ROWS, shown
from nlpkit.readers.streams import ByteStream, open_bytes
from nlpkit_translation.fields import FIELDS
from nlpkit_translation.sides import refuse_one_sided

_CODES = {"bpt", "ept", "it", "ph", "ut"}
"""Elements of a segment that hold markup of the document, no text of its sentence."""
_DECLARED = re.compile(rb"(?:\xef\xbb\xbf)?\s*<\?xml[^>]*?\sencoding\s*=\s*[\"']([\w.-]+)")
_NO_XML = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_NAME_THEM = "name two with data.source=LANGUAGE data.target=LANGUAGE"
_log = logging.getLogger("nlpkit")


def read(
    path: str, *, columns: Mapping[str, str] | None = None, encoding: str | None = None, errors: Errors = "strict"
) -> Iterator[Example]:
    """Read the units of a translation memory, at most one in memory at a time.

    Of a segment, what codes of the document hold (``bpt``, ``ept``, ``it``, ``ph``, ``ut``) is left out, and so is the
    ``sub`` within them: it is text, but of another flow, such as a footnote. What ``hi`` marks is part of the sentence
    and stays. White space at the ends of a segment is none of it (TMX 1.4b).

    A unit may have several variants in a language, of which the first is taken; one that lacks a side is left out, and
    both are counted in the log. No entity is expanded but the five of XML, and no other file is read.

    Args:
        path: a file, plain or gzip, or ``-`` for standard input.
        columns: ``source`` and ``target`` -> a language; en is en-US and en-GB, too. None: the two of the file, in the
            order of its first unit.
        encoding: None: what the file says, or detected.
        errors: ``replace`` puts U+FFFD in place of bytes that cannot be decoded and of characters that XML forbids.

    Returns:
        Examples ``{"source": str, "target": str}``; ``where`` is the line of the unit.

    Raises:
        DataError: broken, an entity is declared, more than two languages and none named, or no pair; with the place.
        UsageError: no such encoding.
    """
    name = shown(path)
    return refuse_one_sided(_read(path, columns or {}, encoding, errors), dict.fromkeys(FIELDS, name))


def _read(path: str, columns: Mapping[str, str], encoding: str | None, errors: Errors) -> Iterator[Example]:
    name = shown(path)
    languages = _Languages(name, {side: columns[side] for side in FIELDS if columns.get(side)})
    counts: Counter[str] = Counter()
    with open_bytes(path) as stream:
        for unit in _units(stream, name, encoding, errors):
            texts = languages.sides(unit)
            if len(texts) < len(FIELDS):
                counts["without one of the two"] += 1
                continue
            counts["pairs"] += 1
            counts["further variants"] += sum(len(variants) - 1 for variants in texts.values())
            yield Example({side: variants[0] for side, variants in texts.items()}, f"{name}:{unit.line}")
    if not counts:
        raise DataError(f"{name}: no rows", NO_ROWS)
    if not counts["pairs"]:
        raise DataError(f"{name}: no unit in two languages{languages.asked}; it has {languages.listed}", _NAME_THEM)
    left_out = [f"{counts[what]:,} {what}" for what in ("without one of the two", "further variants") if counts[what]]
    if left_out:
        _log.info("%s: %s pairs; left out: %s", name, f"{counts['pairs']:,}", ", ".join(left_out))


@dataclass
class _Unit:
    """One ``tu``.

    Args:
        line: of its start.
        variants: language and text of each ``tuv``.
    """

    line: int
    variants: list[tuple[str, str]] = field(default_factory=list)


class _Languages:
    """Which two languages are the sides: named, or those of the first unit that has two.

    Args:
        name: of the file, for messages.
        named: side -> language.
    """

    def __init__(self, name: str, named: Mapping[str, str]) -> None:
        self.name, self.named = name, named
        self.chosen = dict(named) if len(named) == len(FIELDS) else {}
        self.all: dict[str, None] = {}

    def sides(self, unit: _Unit) -> dict[str, list[str]]:
        """Side -> the texts of a unit in its language, where there are any."""
        self.all.update(dict.fromkeys(language for language, _ in unit.variants))
        if not self.chosen:
            self._choose(unit)
        texts: dict[str, list[str]] = {}
        for language, text in unit.variants:
            side = next((side for side, wanted in self.chosen.items() if _is(language, wanted)), "")
            if side:
                texts.setdefault(side, []).append(text)
            elif self.chosen and len(self.named) < len(FIELDS):
                raise self._too_many(unit.line)
        return {side: texts[side] for side in FIELDS if side in texts}

    def _choose(self, unit: _Unit) -> None:
        tags = list(dict.fromkeys(language for language, _ in unit.variants))
        primary = list(dict.fromkeys(_parts(tag)[0] for tag in tags))
        found = tags if len(primary) == 1 else primary  # en-US and en-GB are two languages where there are no others
        if len(found) > len(FIELDS):
            raise self._too_many(unit.line)
        if len(found) < len(FIELDS):
            return
        others = [language for language in found if not any(_is(language, named) for named in self.named.values())]
        free = [side for side in FIELDS if side not in self.named]
        if len(others) != len(free):
            return
        self.chosen = {**self.named, **dict(zip(free, others, strict=True))}
        about = ", ".join(f"{side} = '{self.chosen[side]}'" for side in FIELDS)
        _log.info("%s: tmx; %s, in the order of its first unit", self.name, about)

    @property
    def listed(self) -> str:
        """The languages of the file so far."""
        return ", ".join(f"'{language}'" for language in self.all) or "none"

    @property
    def asked(self) -> str:
        """The languages that were named, for a message."""
        return f", '{self.chosen['source']}' and '{self.chosen['target']}'" if self.chosen else ""

    def _too_many(self, line: int) -> DataError:
        return DataError(f"{self.name}:{line}: more than two languages: {self.listed}", _NAME_THEM)


def _parts(language: str) -> list[str]:
    return language.lower().replace("_", "-").split("-")


def _is(language: str, wanted: str) -> bool:
    """Whether a language is the wanted one, or a variety of it (RFC 4647, basic filtering)."""
    parts = _parts(wanted)
    return _parts(language)[: len(parts)] == parts


def _units(stream: ByteStream, name: str, encoding: str | None, errors: Errors) -> Iterator[_Unit]:
    handler = _Handler(name)
    for text in _decoded(stream, name, encoding, errors):
        yield from handler.feed(text)
    yield from handler.feed("", final=True)


class _Handler:
    """Builds units from the events of the standard library's parser.

    Args:
        name: of the file, for messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.parser = parser = expat.ParserCreate("utf-8")
        parser.buffer_text = True
        parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
        parser.CharacterDataHandler = self._characters
        parser.EntityDeclHandler = self._entity  # of both kinds, whether used or not: nothing is expanded or fetched
        parser.SkippedEntityHandler = self._undeclared
        self.done: list[_Unit] = []
        self.unit: _Unit | None = None
        self.language = ""
        self.text: list[str] | None = None  # of a segment, within one
        self.codes = 0  # elements that are open from the outermost code on
        self.fed = self.size = 0
        self.is_tmx = False

    def feed(self, text: str, *, final: bool = False) -> list[_Unit]:
        """The units that end in a piece of text.

        Raises:
            DataError: not well formed, an entity, or one unit or tag that is too long.
        """
        data = text.encode()
        self.fed += len(data)
        try:
            self.parser.Parse(data, final)
        except expat.ExpatError as error:
            what = expat.ErrorString(error.code)
            hint = "data.errors=replace puts U+FFFD in place of control characters; xmllint --noout FILE tells more"
            raise DataError(f"{self.name}:{error.lineno}:{error.offset + 1}: broken XML: {what}", hint) from None
        if self.fed - self.parser.CurrentByteIndex > LONGEST_LINE:
            raise self._too_long()
        done, self.done = self.done, []
        return done

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if not self.is_tmx:
            if name != "tmx":
                raise DataError(f"{self._where}: <{name}>, expected <tmx>", "other XML: write it as tsv or jsonl")
            self.is_tmx = True
        if self.text is not None:
            self.codes += bool(self.codes or name in _CODES)
        elif name == "tu":
            self.unit, self.size = _Unit(self.parser.CurrentLineNumber), 0
        elif name == "tuv":
            self.language = attributes.get("xml:lang") or attributes.get("lang") or ""  # lang until TMX 1.3
            if not self.language:
                raise DataError(f"{self._where}: <tuv> without its language", 'write <tuv xml:lang="en">')
        elif name == "seg":
            self.text = []

    def _characters(self, text: str) -> None:
        if self.text is not None and not self.codes:
            self.size += len(text)
            if self.size > LONGEST_LINE:
                raise self._too_long()
            self.text.append(text)

    def _end(self, name: str) -> None:
        if name == "seg" and self.text is not None and self.unit is not None:
            self.unit.variants.append((self.language, "".join(self.text).strip()))
            self.text = None
        elif self.codes:
            self.codes -= 1
        elif name == "tu" and self.unit is not None:
            self.done.append(self.unit)
            self.unit = None

    def _entity(self, entity: str, *_: object) -> None:
        raise DataError(
            f"{self._where}: the entity '{entity}' is declared; none is expanded, and no other file is read",
            "write what it stands for in its place, and take out its declaration",
        )

    def _undeclared(self, entity: str, *_: object) -> None:
        raise DataError(f"{self._where}: '&{entity};' is no entity of XML", "write the character itself")

    @property
    def _where(self) -> str:
        return f"{self.name}:{self.parser.CurrentLineNumber}"

    def _too_long(self) -> DataError:
        return DataError(
            f"{self._where}: a unit or a tag longer than {LONGEST_LINE >> 20} MiB", "look for one not closed"
        )


def _decoded(stream: ByteStream, name: str, encoding: str | None, errors: Errors) -> Iterator[str]:
    """Text block by block, for such a file may be one line."""
    chosen = check_encoding(encoding) if encoding else _encoding_of(stream, name)
    decoder = codecs.getincrementaldecoder("utf-8-sig" if chosen == "utf-8" else chosen)(errors)
    line, replaced = 1, 0
    for block in stream:
        try:
            text = decoder.decode(block)
        except UnicodeDecodeError as error:
            line += error.object[: error.start].count(b"\n")
            byte = error.object[error.start]
            raise DataError(
                f"{name}:{line}: byte 0x{byte:02x} is not {chosen}",
                "data.encoding=NAME names another encoding; data.errors=replace goes on with U+FFFD in its place",
            ) from None
        line += text.count("\n")
        if errors == "replace":
            text = _NO_XML.sub("\ufffd", text)
            replaced += text.count("\ufffd")
        yield text
    if replaced:
        _log.warning("%s: %d characters replaced by U+FFFD", name, replaced)


def _encoding_of(stream: ByteStream, name: str) -> str:
    """What the XML declaration says, where it can be read as ASCII; else as of any text.

    Raises:
        DataError: no such encoding; empty or binary.
    """
    match = _DECLARED.match(stream.prefix)
    if not match or match[1].lower().startswith((b"utf-16", b"utf-32")):
        return detect_encoding(stream)[0]
    try:
        return check_encoding(match[1].decode())
    except UsageError:
        raise DataError(
            f"{name}:1: no encoding '{match[1].decode()}'", "data.encoding=NAME names the right one"
        ) from None
