"""How the texts of both sides are encoded, with the token of a language beside each where a model knows many."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from nlpkit.errors import ModelError, UsageError, nearest
from nlpkit.plain_text import plain_backend

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

_NAME_THEM = "task.source_language=eng_Latn task.target_language=deu_Latn, as the model calls them"


class Sides(NamedTuple):
    """How both sides are encoded.

    Args:
        source: ids of a source, special tokens around it included.
        target: likewise of a target.
        begin: the token that a translation begins with; None: any.
    """

    source: Callable[[str], list[int]]
    target: Callable[[str], list[int]]
    begin: int | None


def knows_languages(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether it is one of a model of many languages."""
    return hasattr(tokenizer, "src_lang")


def sides(tokenizer: PreTrainedTokenizerBase, source: str, target: str) -> Sides:
    """Set the languages of a tokenizer that has some.

    Args:
        tokenizer: it keeps them, so that a saved one encodes sources alike.
        source: name of a language; of no use to a tokenizer that knows none.
        target: likewise.

    Raises:
        ModelError: a Marian with a vocabulary for each side.
        UsageError: a language is missing, or not known.
    """
    words: Any = tokenizer
    if getattr(words, "separate_vocabs", False):
        raise ModelError("this Marian has a vocabulary for each side", "use one with a vocab.json for both")
    begin = None
    if knows_languages(tokenizer):
        begin = _set_languages(words, source, target)
    if not hasattr(words, "backend_tokenizer"):
        return Sides(partial(_slowly, words, "text"), partial(_slowly, words, "text_target"), begin)
    of_source = plain_backend(words)
    if begin is None:
        return Sides(partial(_ids, of_source), partial(_ids, of_source), None)
    words._switch_to_target_mode()
    of_target = plain_backend(words)
    words._switch_to_input_mode()
    return Sides(partial(_ids, of_source), partial(_ids, of_target), begin)


def _set_languages(words: Any, source: str, target: str) -> int:
    """The token that a translation begins with."""
    # A piece of a word may be spelled like a language, so only tokens that were added are; M2M100 calls __en__ en.
    tokens = getattr(words, "lang_code_to_token", None) or {token: token for token in words.get_added_vocab()}
    for key, language in (("source_language", source), ("target_language", target)):
        if not language:
            raise UsageError(f"this model knows many languages, and task.{key} names none", _NAME_THEM)
        if language not in tokens:
            hint = f"{nearest(language, tokens)}{_NAME_THEM}"
            raise UsageError(f"task.{key} is '{language}', which is no language of this model", hint)
    words.src_lang, words.tgt_lang = source, target
    begin: int = words.convert_tokens_to_ids(tokens[target])
    return begin


def _ids(backend: Tokenizer, text: str) -> list[int]:
    ids: list[int] = backend.encode(text).ids
    return ids


def _slowly(tokenizer: PreTrainedTokenizerBase, side: str, text: str) -> list[int]:
    """The same of a tokenizer without a fast form, as it is called; special tokens that a text spells are text."""
    encoded: Any = tokenizer(**{side: text}, split_special_tokens=True, verbose=False)
    ids: list[int] = encoded["input_ids"]
    return ids
