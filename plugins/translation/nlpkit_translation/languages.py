"""Models of many languages, whose tokenizers put a token of the language beside each text: NLLB, M2M100, mBART."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from nlpkit.errors import UsageError, nearest
from nlpkit.plain_text import plain_backend

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

_NAME_THEM = "task.source_language=eng_Latn task.target_language=deu_Latn, as the model calls them"


class Backends(NamedTuple):
    """How both sides are encoded.

    Args:
        source: puts special tokens around a source.
        target: likewise.
        begin: the token that a translation begins with; None: any.
    """

    source: Tokenizer
    target: Tokenizer
    begin: int | None


def knows_languages(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether it is one of a model of many languages."""
    return hasattr(tokenizer, "src_lang")


def backends(tokenizer: PreTrainedTokenizerBase, source: str, target: str) -> Backends:
    """Set the languages of a tokenizer that has some.

    Args:
        tokenizer: it keeps them, so that a saved one encodes sources alike.
        source: name of a language; of no use to a tokenizer that knows none.
        target: likewise.

    Raises:
        UsageError: a language is missing, or not known.
    """
    words: Any = tokenizer
    if not knows_languages(tokenizer):
        backend = plain_backend(tokenizer)
        return Backends(backend, backend, None)
    for key, language in (("source_language", source), ("target_language", target)):
        if not language:
            raise UsageError(f"this model knows many languages, and task.{key} names none", _NAME_THEM)
        if language not in (known := words.get_added_vocab()):  # a piece of a word may be spelled like a language
            hint = f"{nearest(language, list(known))}{_NAME_THEM}"
            raise UsageError(f"task.{key} is '{language}', which is no language of this model", hint)
    words.src_lang, words.tgt_lang = source, target
    of_source = plain_backend(tokenizer)
    words._switch_to_target_mode()
    of_target = plain_backend(tokenizer)
    words._switch_to_input_mode()
    return Backends(of_source, of_target, words.convert_tokens_to_ids(target))
