"""Texts as text alone: special tokens that are spelled in one, ``[SEP]`` or ``</s>``, are as any other characters."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from tokenizers import Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_backends: WeakKeyDictionary[PreTrainedTokenizerBase, tuple[int, Tokenizer]] = WeakKeyDictionary()


def content_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """The JSON of a tokenizer, without what earlier texts left in it: it neither cuts nor pads."""
    return _whole(Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())).to_str()


def plain_backend(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """Copy the backend of a tokenizer as `backend_from` makes it."""
    return backend_from(tokenizer.backend_tokenizer.to_str())


def backend_from(content: str) -> Tokenizer:
    """Make a backend from its JSON that neither cuts nor pads, and takes ``[SEP]`` in a text for text."""
    backend = _whole(Tokenizer.from_str(_unspelled(content)))
    backend.encode_special_tokens = True
    return backend


def token_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of a text alone, as a token store has them."""
    added = len(tokenizer.backend_tokenizer.get_added_tokens_decoder())
    known, backend = _backends.get(tokenizer, (-1, None))
    if backend is None or known != added:
        _backends[tokenizer] = added, (backend := plain_backend(tokenizer))
    ids: list[int] = backend.encode(text, add_special_tokens=False).ids
    return ids


def _whole(backend: Tokenizer) -> Tokenizer:
    backend.no_truncation()
    backend.no_padding()
    return backend


def _unspelled(content: str) -> str:
    """Take from a Unigram, which cuts a text into any pieces it has, the spelling of those that are special tokens.

    Other models keep theirs: they read words, from which punctuation is cut, so that none is ``[SEP]``; where
    they are cut at white space alone, one may be.
    """
    values = json.loads(content)
    if values["model"]["type"] != "Unigram":
        return content
    special = {token["content"] for token in values["added_tokens"] if token["special"]}
    pieces = values["model"]["vocab"]
    values["model"]["vocab"] = [["" if piece in special else piece, score] for piece, score in pieces]
    # One that stands in the vocabulary would else be added to it anew, behind the others.
    kept = special - {piece for piece, _ in pieces}
    values["added_tokens"] = [t for t in values["added_tokens"] if t["content"] in kept or not t["special"]]
    return json.dumps(values)
