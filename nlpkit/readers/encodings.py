"""Bytes to text: which encoding a file is in, and decoding that names file, line and byte when it fails."""

from __future__ import annotations

import codecs
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from nlpkit.errors import DataError, UsageError, nearest
from nlpkit.limits import LONGEST_LINE
from nlpkit.readers.paths import NO_ROWS, shown
from nlpkit.readers.streams import ByteStream, too_long

Errors = Literal["strict", "replace"]
"""What to do where a byte cannot be decoded; ``replace`` puts U+FFFD in its place."""
_MARKS = (  # the longer first: UTF-32 begins like UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_KINDS = (
    (b"PK\x03\x04", "a zip archive or a spreadsheet", "export it as CSV"),
    (b"PAR1", "a parquet file", "export it as CSV or JSONL"),
    (b"%PDF-", "a PDF", "extract its text first"),
    (b"\x89PNG", "an image", "give a csv, tsv, jsonl or txt file"),
    (b"\xff\xd8\xff", "an image", "give a csv, tsv, jsonl or txt file"),
    (b"\xd0\xcf\x11\xe0", "an old Office document", "export it as CSV"),
    (b"SQLite format 3\x00", "an SQLite database", "export it as CSV"),
    (b"BZh91AY&SY", "bzip2 data", "unpack it first: bunzip2 FILE"),
    (b"\xfd7zXZ\x00", "xz data", "unpack it first: unxz FILE"),
    (b"\x28\xb5\x2f\xfd", "zstandard data", "unpack it first: unzstd FILE"),
    (b"\x1f\x8b", "gzip data inside gzip", "unpack it once: gunzip FILE"),
)
_NOT_OF_FILES = {"idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape"}
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\v\b\x1b"))
_REPLACEMENT = "\ufffd"
_NEITHER = (
    "data.encoding=NAME if you know it; "
    "data.encoding=utf-8 data.errors=replace goes on with U+FFFD in place of what is not"
)
_NAME_IT = "name the encoding: data.encoding=NAME, for example cp1252 or utf-16-le"


def check_encoding(name: str) -> str:
    """Python's name of a text encoding.

    Raises:
        UsageError: no such encoding.
    """
    try:
        found = codecs.lookup(name)
        if not found._is_text_encoding or found.name in _NOT_OF_FILES:
            raise LookupError
    except (LookupError, ValueError):
        known = ("utf-8", "utf-16", "cp1252", "latin-1", "ascii", "gb18030", "shift_jis", "koi8-r", "cp1251")
        hint = f"{nearest(name, known)}data.encoding=cp1252, for example"
        raise UsageError(f"data.encoding: no encoding '{name}'", hint) from None
    return found.name


def detect_encoding(stream: ByteStream) -> tuple[str, bool]:
    """The encoding of a file, and whether it is a guess.

    A byte order mark decides; then UTF-8 when the prefix is, or when it mostly is (the damage is named on reading);
    then UTF-16 by its zeros; else CP1252, the superset of Latin-1, as a guess.

    Raises:
        DataError: empty, binary, or none of these.
    """
    prefix = stream.prefix
    for mark, name in _MARKS:
        if prefix.startswith(mark):
            return name, False
    if wide := _without_mark(prefix):
        return wide, True
    if not prefix:
        raise DataError(f"{shown(stream.path)}: empty file", NO_ROWS)
    valid, invalid = _utf8_share(prefix, stream.ended)
    _refuse_binary(stream, limit=0.02 if invalid else 0.3)
    if valid >= invalid:
        return "utf-8", False
    try:
        prefix.decode("cp1252")
    except UnicodeDecodeError:
        raise _neither(stream) from None
    return "cp1252", True


def _neither(stream: ByteStream) -> DataError:
    """What to say of a file that is neither UTF-8 nor CP1252, with the first place where it is not UTF-8."""
    start = _first_not_utf8(stream.prefix)
    line, byte = _place(stream.prefix, start)
    where = f"{shown(stream.path)}:{line + 1}:{byte}"
    return DataError(f"{where}: byte 0x{stream.prefix[start]:02x} is not UTF-8, and the file is not CP1252", _NEITHER)


def _first_not_utf8(prefix: bytes) -> int:
    try:
        prefix.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start
    return len(prefix)


def _without_mark(prefix: bytes) -> str | None:
    if b"\0" not in prefix or len(prefix) < 4:
        return None
    even, odd = prefix[::2].count(0) * 2 / len(prefix), prefix[1::2].count(0) * 2 / len(prefix)
    if odd > 0.4 and even < 0.05:
        return "utf-16-le"
    return "utf-16-be" if even > 0.4 and odd < 0.05 else None


def _utf8_share(prefix: bytes, ended: bool) -> tuple[int, int]:
    """Characters of two and more bytes that are good UTF-8, and bytes that are not."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(prefix, ended)
        return 1, 0
    except UnicodeDecodeError:
        text = prefix.decode("utf-8", "ignore")
    good = len(text) - len(text.encode("ascii", "ignore"))
    return good, len(prefix) - len(text.encode())


def _refuse_binary(stream: ByteStream, limit: float) -> None:
    for start, kind, hint in _KINDS:
        if stream.prefix.startswith(start):
            raise DataError(f"{shown(stream.path)}: {kind}, expected text", hint)
    controls = len(stream.prefix) - len(stream.prefix.translate(None, _CONTROLS))
    if controls > limit * len(stream.prefix):
        raise DataError(f"{shown(stream.path)}: binary data, expected text", _NAME_IT)


@dataclass
class Text:
    """The text of a stream in pieces that end with LF (the last may not); LF is the only line end.

    Args:
        stream: opened bytes.
        encoding: as detected or named.
        errors: ``strict``, or ``replace`` for U+FFFD in place of what cannot be decoded and of NUL.

    Attributes:
        replaced: characters replaced so far.
    """

    stream: ByteStream
    encoding: str
    errors: str = "strict"
    replaced: int = 0
    _line: int = 1

    def __iter__(self) -> Iterator[str]:
        """Decode piece by piece.

        Raises:
            DataError: a byte that cannot be decoded, NUL, or a line above ``LONGEST_LINE``; with file and line.
        """
        encoding = self.encoding
        blocks: Iterable[bytes] = self.stream
        if encoding in ("utf-8", "utf-8-sig"):
            blocks, encoding = _drop_mark(blocks), "utf-8"
        elif not _holds_ascii(encoding):
            blocks, encoding = self._recode(blocks), "utf-8"
        for piece in self._pieces(blocks):
            yield self._decode(piece, encoding)
            self._line += piece.count(b"\n")

    def _pieces(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        parts: list[bytes] = []
        size = 0
        for block in blocks:
            first = block.find(b"\n")
            if size + (first if first >= 0 else len(block)) > LONGEST_LINE:
                raise too_long(self.stream.path, self._line)
            cut = block.rfind(b"\n") + 1
            if cut:
                yield b"".join((*parts, block[:cut]))
                parts, size = [], 0
            if cut < len(block):
                parts.append(block[cut:])
                size += len(block) - cut
        if parts:
            yield b"".join(parts)

    def _decode(self, piece: bytes, encoding: str) -> str:
        try:
            text = piece.decode(encoding)
        except UnicodeDecodeError as error:
            if self.errors != "replace":
                raise self._undecodable(piece, error) from None
            text = piece.decode(encoding, "replace")
            self.replaced += text.count(_REPLACEMENT) - piece.count(_REPLACEMENT.encode()) * (encoding == "utf-8")
        return self._without_nul(piece, text) if b"\0" in piece else text

    def _without_nul(self, piece: bytes, text: str) -> str:
        if self.errors == "replace":
            self.replaced += text.count("\0")
            return text.replace("\0", _REPLACEMENT)
        line, byte = _place(piece, piece.index(b"\0"))
        where = self._where(self._line + line)
        raise DataError(f"{where}:{byte}: a NUL byte, expected text", "data.errors=replace puts U+FFFD in its place")

    def _undecodable(self, piece: bytes, error: UnicodeDecodeError) -> DataError:
        line, byte = _place(piece, error.start)
        return self._bad_byte(f"{self._where(self._line + line)}:{byte}", error)

    def _bad_byte(self, where: str, error: UnicodeDecodeError) -> DataError:
        name = self.encoding.removesuffix("-sig")
        other = "latin-1" if name == "cp1252" else "cp1252"
        hint = f"data.encoding={other} if the file is in that; data.errors=replace goes on with U+FFFD in its place"
        return DataError(f"{where}: byte 0x{error.object[error.start]:02x} is not {name}", hint)

    def _recode(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """UTF-8 in place of encodings whose line ends are not the byte LF; errors name the byte of the file."""
        decoder = codecs.getincrementaldecoder(self.encoding)(self.errors)
        line, done = 1, 0
        for block in itertools.chain(blocks, (b"",)):
            try:
                text = decoder.decode(block, not block)
            except UnicodeDecodeError as error:
                line += error.object[: error.start].decode(error.encoding, "ignore").count("\n")
                offset = done + len(block) - len(error.object) + error.start
                raise self._bad_byte(f"{self._where(line)}: in byte {offset + 1} of the file", error) from None
            except UnicodeError as error:  # UTF-16 named by the user, and no mark says which of the two
                raise DataError(f"{shown(self.stream.path)}: {str(error).lower()}", _NAME_IT) from None
            text = text if done else text.removeprefix("\ufeff")
            done += len(block)
            line += text.count("\n")
            self.replaced += text.count(_REPLACEMENT) if self.errors == "replace" else 0
            yield text.encode("utf-8", "surrogatepass")

    def _where(self, line: int) -> str:
        return f"{shown(self.stream.path)}:{line}"


def _place(piece: bytes, offset: int) -> tuple[int, int]:
    """Lines before an offset, and the byte in its line, from 1."""
    return piece.count(b"\n", 0, offset), offset - piece.rfind(b"\n", 0, offset)


def _holds_ascii(encoding: str) -> bool:
    """Whether the byte LF is a line end and nothing else; not so in UTF-16, EBCDIC and encodings with shifts."""
    plain = bytes(range(128))
    return plain.decode(encoding, "replace") == plain.decode("ascii")


def _drop_mark(blocks: Iterable[bytes]) -> Iterator[bytes]:
    for number, block in enumerate(blocks):
        yield block.removeprefix(codecs.BOM_UTF8) if number == 0 else block
