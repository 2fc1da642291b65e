"""What a tokenizer makes of texts: tokens in a word, bytes in a token, what it does not know."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from nlpkit.errors import DataError
from nlpkit.plain_text import content_of, plain_backend
from nlpkit.tokenizer import check_unicode

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BATCH = 1000
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


@dataclass(frozen=True)
class Report:
    """Counts over texts.

    Args:
        vocabulary: entries of the tokenizer.
        texts: number of them.
        words: stretches without white space.
        tokens: without special ones.
        bytes: of UTF-8.
        unknown: tokens for what is not in the vocabulary.
        cut: texts that are longer than ``longest``.
        longest: tokens that the model reads, special ones included.
    """

    vocabulary: int
    texts: int
    words: int
    tokens: int
    bytes: int
    unknown: int
    cut: int
    longest: int

    def scores(self) -> dict[str, float]:
        """The counts as ratios that compare tokenizers."""
        return {
            "tokens_per_word": self.tokens / max(1, self.words),
            "bytes_per_token": self.bytes / max(1, self.tokens),
            "unknown_share": self.unknown / max(1, self.tokens),
            "cut_share": self.cut / max(1, self.texts),
        }


def report(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], longest: int) -> Report:
    """Count what a tokenizer makes of texts, as a stream.

    Args:
        tokenizer: with a fast backend.
        texts: of any number.
        longest: tokens that a model is to read, special ones included.

    Raises:
        DataError: no text, or a lone surrogate.
    """
    backend, unknown_id = plain_backend(tokenizer), tokenizer.unk_token_id
    room = longest - tokenizer.num_special_tokens_to_add()
    counts = np.zeros(6, np.int64)
    iterator = iter(texts)
    while batch := list(islice(iterator, _BATCH)):
        for number, text in enumerate(batch, int(counts[0]) + 1):
            check_unicode(text, f"text {number}")
        for text, encoding in zip(batch, backend.encode_batch_fast(batch, add_special_tokens=False), strict=True):
            ids = encoding.ids
            counts += (1, len(text.split()), len(ids), len(text.encode()), ids.count(unknown_id), len(ids) > room)
    if not counts[0]:
        raise DataError("no text to count", "name files with text, one text a row")
    found, words, tokens, size, unknown, cut = counts.tolist()
    return Report(len(tokenizer), found, words, tokens, size, unknown, cut, longest)


def token_bytes(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Bytes of UTF-8 that each id of the vocabulary (V) stands for; special tokens stand for none.

    Exact for byte-level BPE. WordPiece does not say which white space there was: one byte before each word.
    """
    backend = content_of(tokenizer)
    byte_level, kind = "ByteLevel" in backend, json.loads(backend)["model"]["type"]
    vocabulary, special = tokenizer.get_vocab(), set(tokenizer.all_special_tokens)
    sizes = [0] * (max(vocabulary.values()) + 1)
    for token, number in vocabulary.items():
        if token in special:
            continue
        if byte_level or _BYTE.fullmatch(token):
            sizes[number] = len(token) if byte_level else 1  # each byte is written as one character, or in hex
        elif kind == "WordPiece":
            sizes[number] = len(token.removeprefix("##").encode()) + (not token.startswith("##"))
        else:
            sizes[number] = len(token.replace("\u2581", " ").encode())  # Metaspace
    return sizes
