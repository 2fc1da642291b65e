"""Token ids by looking words up, where that is known to give what the tokenizer gives."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from tokenizers import Tokenizer, pre_tokenizers

REMEMBERED_CHARACTERS = 1 << 20  # of words whose ids are kept; bounds the memory
_END = "\0"
_BLOCKS = ((0x20, 0x7F), (0xA0, 0x250), (0x370, 0x530), (0x2010, 0x2060), (0x20A0, 0x20C0), (0x2100, 0x2150))
_NORMALISERS = {"BertNormalizer", "NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents"}
_PROBES = (
    "It's I'LL we'd 'twas don't",
    " a  b   c ",
    "x\ty\n\nz \r\n",
    "a-b--c ... (d) [e] 3.14 1,000 A1b2",
    "  ",
    "\n",
    "",
)


class NotKnownError(Exception):
    """The tokenizer works in a way that cannot be taken apart."""


class Lookup:
    """Encodes like a tokenizer of the BERT or the byte-level kind, each different word once.

    The text is normalised and cut into words by an expression that says in Python what the tokenizer does, over a
    set of characters (Latin, Greek, Cyrillic, common signs). What it does is not taken on trust: at the start
    each of these characters is tried on the tokenizer itself in several surroundings, and only those with equal ids
    are used. Texts with any other character, or with an added token such as [MASK], are not `known`.

    Args:
        backend: without truncation and padding.
        dtype: of the ids.

    Raises:
        NotKnownError: a tokenizer of another kind.
    """

    def __init__(self, backend: Tokenizer, dtype: np.dtype[Any]) -> None:
        content = json.loads(backend.to_str())
        self._check(content)
        self.dtype = dtype
        self._prefix = bool(content["pre_tokenizer"].get("add_prefix_space"))
        self._model = _model_alone(backend, content["pre_tokenizer"]["type"])
        self._normaliser = _Normaliser(backend)
        added = content["added_tokens"]
        self._added = [token["content"] for token in added if not token["normalized"]]
        self._added_normal = [self._normaliser(token["content"]) for token in added if token["normalized"]]
        self._pattern = _pattern(content["pre_tokenizer"]["type"], self._normaliser.alphabet)
        self._ids: dict[str, bytes] = {}
        self._remembered = 0
        self._unknown = self._try_characters(backend)

    @staticmethod
    def _check(content: dict[str, Any]) -> None:
        kind = content["pre_tokenizer"] or {}
        byte_level = kind.get("type") == "ByteLevel" and kind.get("use_regex")
        if not byte_level and kind.get("type") != "BertPreTokenizer":
            raise NotKnownError(f"pre-tokenizer {kind.get('type')}")
        if not set(_steps(content["normalizer"])) <= _NORMALISERS or content["model"].get("dropout"):
            raise NotKnownError("normaliser or dropout")

    def _try_characters(self, backend: Tokenizer) -> re.Pattern[str]:
        """Return the expression that finds a character outside the ones that proved equal."""
        letters = self._normaliser.letters
        probes = [self._probe(c) for c in letters]
        general = [text for text in _PROBES if not self._has_added(text)]
        texts = [*general, *probes]
        expected = [e.ids for e in backend.encode_batch_fast(texts, add_special_tokens=False)]
        found = [np.frombuffer(ids, self.dtype).tolist() for ids in self.encode(texts)]
        if found[: len(general)] != expected[: len(general)]:
            raise NotKnownError("it splits words in its own way")
        pairs = zip(letters, found[len(general) :], expected[len(general) :], strict=True)
        return re.compile(f"[^{_characters(c for c, ours, theirs in pairs if ours == theirs)}]")

    def _probe(self, character: str) -> str:
        """Put a character in many surroundings, or in few where the many would make an added token."""
        many = f"{character}a{character}B {character} 1{character}2 {character}{character}x {character}"
        return f"a{character}b{character}1" if self._has_added(many) else many

    def known(self, texts: list[str]) -> list[bool]:
        """Tell which texts can be encoded here."""
        everything = "\n".join(texts)
        if not self._odd(everything):
            return [True] * len(texts)
        return [not self._odd(text) for text in texts]

    def _odd(self, text: str) -> bool:
        return self._unknown.search(text) is not None or self._has_added(text)

    def _has_added(self, text: str) -> bool:
        normal = self._normaliser(text) if self._added_normal else ""
        return any(token in text for token in self._added) or any(token in normal for token in self._added_normal)

    def encode(self, texts: list[str]) -> list[bytes]:
        """Encode known texts; ids as bytes of the dtype."""
        if self._prefix:
            texts = [f" {text}" if text and text[0] != " " else text for text in texts]
        words = self._pattern.findall(self._normaliser(_END.join(texts)))
        table = self._look_up(words)
        stream = b"".join(map(table.__getitem__, words))
        size = self.dtype.itemsize
        ends = (np.flatnonzero(np.frombuffer(stream, self.dtype) == np.iinfo(self.dtype).max) * size).tolist()
        return [stream[start + size : end] for start, end in pairwise([-size, *ends, len(stream)])]

    def _look_up(self, words: list[str]) -> dict[str, bytes]:
        """Return a table with the ids of every word."""
        different, table = set(words), self._ids
        if self._remembered > REMEMBERED_CHARACTERS or not table:  # other threads go on with the old table
            table = {word: table[word] for word in different if word in table}
            # An id that no token has: see the choice of the dtype.
            table[_END] = np.array([np.iinfo(self.dtype).max], self.dtype).tobytes()
            self._ids, self._remembered = table, sum(map(len, table))
        if missing := list(different.difference(table)):
            table.update(zip(missing, batch_ids(self._model, missing, self.dtype), strict=True))
            self._remembered += sum(map(len, missing))
        return table


class _Normaliser:
    """A tokenizer's normaliser for the characters that it treats one by one."""

    def __init__(self, backend: Tokenizer) -> None:
        normalise = backend.normalizer.normalize_str if backend.normalizer else str
        self._lower = normalise("A") == "a"
        self.letters = [c for c in _candidates() if not (self._lower and c == "Σ")]  # str.lower looks at its neighbours
        result = {c: normalise(c) for c in self.letters}
        self._changed = {}
        for character, normal in result.items():
            lowered = character.lower() if self._lower else character
            if lowered != normal and len(lowered) == 1:
                self._changed[lowered] = normal
        self._find = re.compile(f"[{_characters(self._changed)}]") if self._changed else None
        self.alphabet = sorted(set("".join(result.values())))

    def __call__(self, text: str) -> str:
        if self._lower:
            text = text.lower()
        return self._find.sub(lambda match: self._changed[match[0]], text) if self._find else text


def _candidates() -> Iterator[str]:
    yield from "\t\n\r"
    for first, end in _BLOCKS:
        yield from (c for c in map(chr, range(first, end)) if unicodedata.category(c)[0] not in "CM")


def _characters(characters: Any) -> str:
    return "".join(map(re.escape, characters))


def _pattern(kind: str, alphabet: list[str]) -> re.Pattern[str]:
    """Say in Python how the tokenizer cuts a text; the end of a text is a word of its own."""

    def of(*categories: str) -> str:
        return _characters(c for c in alphabet if unicodedata.category(c).startswith(categories))

    space = _characters(c for c in alphabet if c.isspace()) or " "
    if kind == "BertPreTokenizer":
        punctuation = of("P") + _characters("$+<=>^`|~")
        return re.compile(f"{_END}|[{punctuation}]|[^{space}{punctuation}{_END}]+")
    letter, number = of("L"), of("N")
    return re.compile(  # as in GPT-2, the likeliest first
        f" ?[{letter}]+| ?[{number}]+|'s|'t|'re|'ve|'m|'ll|'d| ?[^{space}{letter}{number}{_END}]+"
        f"|[{space}]+(?![^{space}{_END}])|[{space}]+|{_END}"
    )


def _model_alone(backend: Tokenizer, kind: str) -> Tokenizer:
    """Make a tokenizer that takes a word as it is."""
    alone = Tokenizer(backend.model)
    if kind == "ByteLevel":
        alone.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return alone


def _steps(normaliser: dict[str, Any] | None) -> Iterator[str]:
    if normaliser is not None and normaliser["type"] != "Sequence":
        yield normaliser["type"]
    for step in (normaliser or {}).get("normalizers", []):
        yield from _steps(step)


def batch_ids(backend: Tokenizer, texts: list[str], dtype: np.dtype[Any]) -> list[bytes]:
    """Encode texts by the tokenizer itself; ids as bytes of the dtype."""
    ids: list[int] = []
    ends = [0]
    for encoding in backend.encode_batch_fast(texts, add_special_tokens=False):
        ids += encoding.ids
        ends.append(len(ids) * dtype.itemsize)
    content = np.array(ids, dtype).tobytes()
    return [content[start:end] for start, end in pairwise(ends)]
