"""Looking words up gives the ids of the tokenizer itself."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, trainers

from nlpkit import lookup, plain_text, tokenizer
from nlpkit.lookup import Lookup, NotKnownError, batch_ids

DATA = Path(os.environ.get("NLPKIT_DATA", Path(__file__).parents[3] / "shared" / "data"))
DTYPE = np.dtype("<u2")
SPECIAL = list(tokenizer.SPECIAL_TOKENS)
TEXTS = [
    "The dress wasn't lovely, it's 3.14 times too LARGE (again)!",
    "Größe XXL: schön, aber 40 € sind zu viel … naïve café",
    "Он сказал: «нет» – Καλημέρα, ΟΔΟΣ Ὀδυσσεύς",
    "<br /><br />10/10 -- a_b c-d e.f ''quoted'' \"twice\"",
] * 5


def ours(kind: str, lowercase: bool) -> Tokenizer:
    trained = tokenizer.train(iter(TEXTS), kind=kind, vocabulary=400, lowercase=lowercase, max_length=64)  # type: ignore[arg-type]
    return plain_text.plain_backend(trained)


def byte_level(normalizer: normalizers.Normalizer | None, **changes: bool) -> Tokenizer:
    backend = Tokenizer(models.BPE())
    if normalizer is not None:
        backend.normalizer = normalizer
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(**changes)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(TEXTS, trainer)
    return backend


def like_modernbert() -> Tokenizer:
    backend = byte_level(normalizers.NFC(), add_prefix_space=False)
    backend.add_tokens([AddedToken("  ", normalized=True), AddedToken("|||EMAIL|||", normalized=True)])
    backend.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    return backend


def uncased_bert() -> Tokenizer:
    backend = ours("wordpiece", True)
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)  # strips accents
    return backend


MAKERS: dict[str, Callable[[], Tokenizer]] = {
    "wordpiece": lambda: ours("wordpiece", True),
    "wordpiece cased": lambda: ours("wordpiece", False),
    "bpe": lambda: ours("bpe", True),
    "bpe cased": lambda: ours("bpe", False),
    "bert uncased": uncased_bert,
    "roberta": lambda: byte_level(None, add_prefix_space=False),
    "modernbert": like_modernbert,
    "compatibility forms": lambda: byte_level(
        normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]),
        add_prefix_space=True,
    ),
}
PIECES = [" ", "  ", "\t", "\n", "\r\n", "'s", "'S", "n't", "[SEP]", "[MASK]", "<mask>", "|||EMAIL|||", "Σ", "ΑΣ", "İ"]
PIECES += [
    "a",
    "THE",
    "the",
    "Größe",
    "é",
    "e\u0301",
    "42",
    "²",
    "½",
    "…",
    "--",
    "!",
    "€",
    "¨",
    "´",
    "\u00a0",
    "\u00ad",
]
PIECES += ["\0", "\x1c", "\u200b", "\u2028", "👗", "漢字", "\ufffd", "ǅ", "ﬁ", "K", "_", "$"]
NATURAL = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


@cache
def made(name: str) -> tuple[Tokenizer, Lookup]:
    backend = MAKERS[name]()
    return backend, Lookup(backend, DTYPE)


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(texts=st.lists(st.one_of(NATURAL, st.text(max_size=20)), max_size=8))
def test_known_texts_have_the_ids_of_the_tokenizer(name: str, texts: list[str]) -> None:
    backend, table = made(name)
    known = [text for text, is_known in zip(texts, table.known(texts), strict=True) if is_known]
    assert table.encode(known) == batch_ids(backend, known, DTYPE) if known else not any(table.known(texts))


@pytest.mark.parametrize("name", MAKERS)
def test_ordinary_text_is_known(name: str) -> None:
    _, table = made(name)
    assert table.known(["The dress wasn't lovely!", "Größe 40 € – schön", "Он сказал: «нет»", ""]) == [True] * 4


def test_added_tokens_and_unusual_characters_are_not_known() -> None:
    _, table = made("modernbert")
    texts = ["a [MASK] b", "two  spaces", "mail |||EMAIL|||", "a <mask>", "漢字", "👗", "a\0b", "e\u0301", "plain"]
    assert table.known(texts) == [False] * 8 + [True]


@pytest.mark.parametrize("name", ["wordpiece", "bpe"])
def test_the_memory_for_words_is_bounded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "REMEMBERED_CHARACTERS", 1000)
    backend, _ = made(name)
    table = Lookup(backend, DTYPE)
    for start in range(0, 20_000, 100):
        texts = [f"word{number} again" for number in range(start, start + 100)]
        assert table.encode(texts) == batch_ids(backend, texts, DTYPE)
        assert sum(map(len, table._ids)) < 1000 + 2 * sum(map(len, texts))


def test_tokenizers_of_another_kind_are_left_alone() -> None:
    metaspace = byte_level(None)
    metaspace.pre_tokenizer = pre_tokenizers.Metaspace()
    random = byte_level(None)
    random.model.dropout = 0.1
    replacing = byte_level(normalizers.Replace("dress", "skirt"))
    whole = byte_level(None, use_regex=False)
    for backend in (metaspace, random, replacing, whole):
        with pytest.raises(NotKnownError):
            Lookup(backend, DTYPE)


@pytest.mark.parametrize("name", MAKERS)
def test_real_reviews_have_the_ids_of_the_tokenizer(name: str) -> None:
    path = DATA / "imdb" / "unlabelled_25k.txt.gz"
    if not path.is_file():
        pytest.skip("no reviews: set NLPKIT_DATA")
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
        texts = [next(file).rstrip("\n") for _ in range(400)]
    backend, table = made(name)
    known = [text for text, is_known in zip(texts, table.known(texts), strict=True) if is_known]
    assert len(known) > 200
    assert table.encode(known) == batch_ids(backend, known, DTYPE)
