"""More words for a tokenizer that there is: those that save the most tokens on a corpus, each a token of its own.

A text without these words keeps its tokens. In WordPiece and Unigram, which cut words by their beginnings, a longer
word that begins with a new one may be cut behind it; decoding gives the same text either way.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer, decoders

from nlpkit.errors import ModelError
from nlpkit.plain_text import content_of, plain_backend
from nlpkit.tokenizer import vocabulary_size

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LETTERS = re.compile(r"\u2581?\w+")
_SEEN = 2  # times a word must be met: what stands once is a slip of the pen, or nothing to learn from


@dataclass(frozen=True)
class Word:
    """A word that is worth a token.

    Args:
        text: as the vocabulary writes it, with its marker of a space.
        pieces: ids of the tokens that it is made of so far.
        saved: tokens saved on the corpus, count x (pieces - 1).
    """

    text: str
    pieces: tuple[int, ...]
    saved: int


def choose(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], most: int) -> list[Word]:
    """The words of texts that would save the most tokens, the best first; equal ones by the alphabet.

    Args:
        tokenizer: byte-level BPE, WordPiece or Unigram.
        texts: of the corpus.
        most: words, at most.

    Raises:
        ModelError: a tokenizer of another kind.
    """
    backend = plain_backend(tokenizer)
    model, known = _model(backend), tokenizer.get_vocab()
    counts = _count(backend, texts, with_punctuation=model["type"] == "Unigram")
    found = []
    for text, count in counts.items():
        pieces = tuple(token.id for token in backend.model.tokenize(text))
        new = len(pieces) > 1 and text not in known and tokenizer.unk_token_id not in pieces
        if count >= _SEEN and new and not _is_glued(_written(text, model["type"])):
            found.append(Word(text, pieces, count * (len(pieces) - 1)))
    if model["type"] == "WordPiece":
        found = [word for word in found if len(word.text) <= model["max_input_chars_per_word"]]
    return sorted(found, key=lambda word: (-word.saved, word.text))[:most]


def extend(tokenizer: PreTrainedTokenizerBase, words: list[Word]) -> PreTrainedTokenizerBase:
    """The same tokenizer with a token for each word, numbered from behind the last one on.

    Raises:
        ModelError: see `choose`; or a tokenizer whose ids leave no room for more.
    """
    content = json.loads(content_of(tokenizer))
    first = next_id(tokenizer)
    _ADD[_model(plain_backend(tokenizer))["type"]](content["model"], words, first)
    return _as(tokenizer, Tokenizer.from_str(json.dumps(content)))


def next_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id behind the last token."""
    return vocabulary_size(tokenizer)


def _count(backend: Tokenizer, texts: Iterable[str], with_punctuation: bool) -> Counter[str]:
    """How often each word is met, as the model sees it: in lower case, with a marker of the space before it.

    Args:
        backend: cuts texts into words.
        texts: of the corpus.
        with_punctuation: whether it leaves commas and the like at their words; here they are cut off.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        normal = backend.normalizer.normalize_str(text) if backend.normalizer else text
        units = (unit for unit, _ in backend.pre_tokenizer.pre_tokenize_str(normal))
        counts.update(chain.from_iterable(map(_LETTERS.findall, units)) if with_punctuation else units)
    return counts


def _written(text: str, kind: str) -> str:
    """A word as it stands in a text, without the space before it."""
    plain = decoders.ByteLevel().decode([text]) if kind == "BPE" else text
    return str(plain).removeprefix(" ").removeprefix("\u2581")


def _is_glued(word: str) -> bool:
    """Whether other signs hang on letters or digits, as the bracket where a tokenizer takes ``(word`` as a whole."""
    kinds = {unicodedata.category(character)[0] for character in word}
    return bool(kinds & set("LN")) and bool(kinds & set("PSZ"))


def _model(backend: Tokenizer) -> dict[str, Any]:
    """The model of a backend, without its vocabulary.

    Raises:
        ModelError: it has no words, or keeps them in a way of its own.
    """
    content = json.loads(backend.to_str())
    model, cuts = content["model"], json.dumps(content["pre_tokenizer"])
    kind = model["type"]
    plain = {
        "WordPiece": '"BertPreTokenizer"' in cuts,
        "BPE": '"ByteLevel"' in cuts and not model["end_of_word_suffix"] and not model["continuing_subword_prefix"],
        "Unigram": '"Metaspace"' in cuts,
    }
    if not plain.get(kind):
        raise ModelError(
            f"the tokenizer is {kind} of another kind, whose words cannot be extended",
            "WordPiece as in BERT, byte-level BPE as in GPT-2 or Unigram as in T5 can",
        )
    return {name: value for name, value in model.items() if name not in {"vocab", "merges"}}


def _add_entries(model: dict[str, Any], words: list[Word], first: int) -> None:
    """WordPiece takes the longest entry that a word begins with: the whole word where there is one."""
    model["vocab"] |= {word.text: first + i for i, word in enumerate(words)}


def _add_whole_words(model: dict[str, Any], words: list[Word], first: int) -> None:
    """BPE looks a whole word up before it merges (as in Llama 3), so that no merge, and no other word, changes."""
    _add_entries(model, words, first)
    model["ignore_merges"] = True


def _add_scores(model: dict[str, Any], words: list[Word], first: int) -> None:
    """Unigram takes the likeliest pieces: the whole word is a little likelier than its pieces together."""
    vocabulary = model["vocab"]
    if len(vocabulary) != first:
        raise ModelError(
            f"the tokenizer has {first} tokens, {len(vocabulary)} of them in its model: others stand behind these",
            "use another model",
        )
    scores = [score for _, score in vocabulary]
    vocabulary += [[word.text, sum(scores[i] for i in word.pieces) + 1e-3] for word in words]


_ADD: dict[str, Callable[[dict[str, Any], list[Word], int], None]] = {
    "WordPiece": _add_entries,
    "BPE": _add_whole_words,
    "Unigram": _add_scores,
}


def _as(tokenizer: PreTrainedTokenizerBase, backend: Tokenizer) -> PreTrainedTokenizerBase:
    """A tokenizer with another backend, in the class that reads a backend as it is; others make theirs anew."""
    from transformers import PreTrainedTokenizerFast

    made = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=tokenizer.model_max_length,
        model_input_names=tokenizer.model_input_names,
        padding_side=tokenizer.padding_side,
        truncation_side=tokenizer.truncation_side,
        clean_up_tokenization_spaces=tokenizer.clean_up_tokenization_spaces,
        **tokenizer.special_tokens_map,
    )
    made.chat_template = tokenizer.chat_template
    return made
