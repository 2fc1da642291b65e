"""Words that are added to a tokenizer: chosen by what they save, one token each, and nothing else changed."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from nlpkit import plain_text, tokenizer, vocabulary
from nlpkit.errors import ModelError

LEARNT = [
    f"the coat number {i} is soft, warm, naïve; 100% wool, five big jugs, quartz vexed, playful" for i in range(50)
]
CORPUS = [
    "This unflattering sweater is itchy; unflattering AND itchy",
    "itchy. the armholes are unflattering",
    "armholes and sleeveless armholes, the coat is sleeveless",
    "once: bewildering",
] * 2 + ["only here: zipperless"]
KINDS = ["wordpiece", "bpe", "unigram", "gpt2"]


@cache
def trained(kind: str) -> PreTrainedTokenizerBase:
    if kind == "gpt2":
        return gpt2()
    return tokenizer.train(LEARNT, kind=kind, vocabulary=400, lowercase=True, max_length=64)  # type: ignore[arg-type]


def gpt2() -> PreTrainedTokenizerBase:
    """Byte-level BPE without a space before the first word, as in GPT-2."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<|end|>"], initial_alphabet=alphabet)
    backend.train_from_iterator(LEARNT, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>", model_max_length=64)


@cache
def chosen(kind: str) -> list[vocabulary.Word]:
    return vocabulary.choose(trained(kind), CORPUS, 6)


@cache
def extended(kind: str) -> PreTrainedTokenizerBase:
    return vocabulary.extend(trained(kind), chosen(kind))


def ids(words: PreTrainedTokenizerBase, text: str) -> list[int]:
    found: list[int] = words(text, add_special_tokens=False)["input_ids"]
    return found


def units(kind: str, text: str) -> list[str]:
    """The words of a text as the model sees them."""
    backend: Any = trained(kind).backend_tokenizer
    normal = backend.normalizer.normalize_str(text) if backend.normalizer else text
    return [unit for unit, _ in backend.pre_tokenizer.pre_tokenize_str(normal)]


def test_words_are_chosen_by_the_tokens_they_save() -> None:
    words = trained("wordpiece")
    counts = Counter(re.findall(r"[a-z]+", " ".join(CORPUS).lower()))
    saved = {word: count * (len(ids(words, word)) - 1) for word, count in counts.items() if count > 1}
    best = sorted((w for w in saved if saved[w]), key=lambda w: (-saved[w], w))
    assert [(w.text, w.saved) for w in chosen("wordpiece")] == [(w, saved[w]) for w in best[:6]]


@pytest.mark.parametrize("kind", KINDS)
def test_word_is_one_token_after_a_space_and_before_punctuation(kind: str) -> None:
    for text in ("the unflattering coat", "and unflattering, warm"):
        before, after = ids(trained(kind), text), ids(extended(kind), text)
        (new,) = [w for w in chosen(kind) if w.text.strip("Ġ▁") == "unflattering"]
        assert after.count(extended(kind).get_vocab()[new.text]) == 1
        assert len(after) <= len(before) - len(new.pieces) + 1


def test_word_at_the_start_of_a_text_is_one_of_its_own_where_the_space_belongs_to_it() -> None:
    assert {"itchy", "Ġitchy"} <= {word.text for word in vocabulary.choose(trained("gpt2"), CORPUS, 20)}
    more = vocabulary.extend(trained("gpt2"), vocabulary.choose(trained("gpt2"), CORPUS, 20))
    assert more.convert_ids_to_tokens(ids(more, "itchy itchy")) == ["itchy", "Ġitchy"]
    assert len(ids(extended("bpe"), "itchy")) == len(ids(extended("bpe"), "itchy itchy")) - 1 == 1


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_that_there_were_keep_their_numbers(kind: str) -> None:
    before, after = trained(kind).get_vocab(), extended(kind).get_vocab()
    new = [word.text for word in chosen(kind)]
    assert after == {**before, **{word: len(before) + i for i, word in enumerate(new)}}
    assert extended(kind).special_tokens_map == trained(kind).special_tokens_map
    assert extended(kind)("a coat", "soft") == trained(kind)("a coat", "soft")


TEXT = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "unflattering",
                "itchy",
                "ITCHY",
                "armholes",
                "unflatteringly",
                "itchyness",
                "coat",
                "number",
                "wool",
                "un",
            ]
        ),
        st.sampled_from(["sleeveless-armholes", "  ", "\n", "100%", "naïve", ",", "'s", "itchy's"]),
        st.text(max_size=5),
    ),
    max_size=8,
).map(" ".join)


@pytest.mark.parametrize("kind", KINDS)
@given(TEXT)
def test_text_is_decoded_as_before(kind: str, text: str) -> None:
    before, after = trained(kind), extended(kind)
    assert after.decode(ids(after, text)) == before.decode(ids(before, text))


@pytest.mark.parametrize("kind", ["bpe", "gpt2"])
@given(TEXT)
def test_text_without_new_words_keeps_its_tokens(kind: str, text: str) -> None:
    if not {word.text for word in chosen(kind)} & set(units(kind, text)):
        assert ids(extended(kind), text) == ids(trained(kind), text)


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
@given(TEXT)
def test_text_whose_words_begin_with_no_new_one_keeps_its_tokens(kind: str, text: str) -> None:
    if not any(unit.startswith(word.text) for unit in units(kind, text) for word in chosen(kind)):
        assert ids(extended(kind), text) == ids(trained(kind), text)


@pytest.mark.parametrize("kind", KINDS)
def test_token_store_reads_an_extended_tokenizer_as_it_reads_itself(kind: str) -> None:
    import numpy as np

    from nlpkit.encoder import Encoder

    words = extended(kind)
    encoder = Encoder(plain_text.plain_backend(words), 1, np.dtype("<u2"))
    assert (encoder.lookup is None) == (kind == "unigram")  # the fast way is kept
    found = [np.frombuffer(row, "<u2").tolist() for row in encoder.encode(CORPUS)]
    assert found == [ids(words, text) for text in CORPUS]


def test_word_with_a_sign_hanging_on_it_is_not_chosen() -> None:
    backend = Tokenizer(models.BPE())
    # as in Llama 3, where the sign before a word belongs to it
    cut = pre_tokenizers.Split(Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+"), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(False, use_regex=False)])
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(LEARNT, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet))
    words = PreTrainedTokenizerFast(tokenizer_object=backend)
    corpus = ["itchy/itchy and un-itchy, schäbig/schäbig a schäbig coat: 2024 2024"] * 3
    assert "/itchy" in [unit for unit, _ in backend.pre_tokenizer.pre_tokenize_str(corpus[0])]
    found = {backend.decoder.decode([word.text]) for word in vocabulary.choose(words, corpus, 50)}
    assert {"itchy", " schäbig", "202"} <= found
    assert not [word for word in found if re.search(r"\w", word) and re.search(r"[^\w ]", word)]


def test_tokenizer_without_words_is_refused() -> None:
    backend = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    words = PreTrainedTokenizerFast(tokenizer_object=backend)
    with pytest.raises(ModelError) as caught:
        vocabulary.choose(words, ["a b"], 1)
    assert caught.value.message == "the tokenizer is WordLevel of another kind, whose words cannot be extended"
