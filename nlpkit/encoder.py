"""Chunks of texts to what the token store writes for them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from nlpkit.control import bare
from nlpkit.errors import ModelError
from nlpkit.lookup import Lookup, NotKnownError, batch_ids
from nlpkit.splits import fingerprints
from nlpkit.token_store import DOCUMENT
from nlpkit.token_writer import Chunk
from nlpkit.tokenizer import pieces

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LONG_CHARACTERS = 1 << 18


class Encoder:
    """Turns texts into the ids and index entries of a chunk; safe to call from several threads.

    Args:
        backend: without truncation and padding.
        separator: id that ends each document.
        dtype: of the ids in the store.
        columns: whose values stand before the texts.
    """

    def __init__(self, backend: Tokenizer, separator: int, dtype: np.dtype[Any], columns: Sequence[str] = ()) -> None:
        self.backend, self.dtype, self.bare = backend, dtype, bare(columns)
        self.separator = np.array([separator], dtype).tobytes()
        self.lookup: Lookup | None
        try:
            self.lookup = Lookup(backend, dtype)
        except NotKnownError:
            self.lookup = None

    def __call__(self, texts: list[str]) -> Chunk:
        """Encode a chunk; texts without a token get no entry.

        Raises:
            ModelError: the tokenizer fails on a text.
        """
        long = len(texts) == 1 and len(texts[0]) > LONG_CHARACTERS
        encoded = [self._long(texts[0])] if long else self.encode(texts)
        kept = [text for text, ids in zip(texts, encoded, strict=True) if ids]
        documents = [ids for ids in encoded if ids]
        index = np.empty(len(kept), DOCUMENT)
        index["end"] = np.cumsum([len(ids) // self.dtype.itemsize + 1 for ids in documents])
        index["hash"] = fingerprints([self.bare(text) for text in kept])
        return Chunk(self.separator.join([*documents, b""]), index, len(texts))

    def _long(self, text: str) -> bytes:
        """Encode a text in pieces, so that memory stays flat however long its line is."""
        parts: list[bytes] = []
        cut = pieces(text)
        while batch := list(islice(cut, 4)):
            parts += self.encode(batch)
        return b"".join(parts)

    def encode(self, texts: list[str]) -> list[bytes]:
        """Encode texts by look-up where that gives the same ids, else by the tokenizer; ids as bytes of the dtype."""
        try:
            if self.lookup is None:
                return batch_ids(self.backend, texts, self.dtype)
            known = self.lookup.known(texts)
            found = iter(self.lookup.encode([text for text, is_known in zip(texts, known, strict=True) if is_known]))
            others = [text for text, is_known in zip(texts, known, strict=True) if not is_known]
            rest = iter(batch_ids(self.backend, others, self.dtype))
            return [next(found if is_known else rest) for is_known in known]
        except Exception as error:  # the library raises bare Exception
            raise ModelError(f"the tokenizer fails: {error}", "use the tokenizer saved with the model") from error
