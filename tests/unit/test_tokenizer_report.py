"""Counts of a tokenizer, beside counts by decoding."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from nlpkit import tokenizer
from nlpkit.errors import DataError
from nlpkit.tokenizer_report import report, token_bytes

TEXTS = [f"the coat number {i} is soft and warm, naïve and 100% wool" for i in range(50)]


def trained(kind: str) -> PreTrainedTokenizerBase:
    return tokenizer.train(TEXTS, kind=kind, vocabulary=400, lowercase=False, max_length=64)  # type: ignore[arg-type]


BPE = trained("bpe")


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), max_size=40))
def test_bytes_of_byte_level_tokens_add_up_to_the_text(text: str) -> None:
    normal = BPE.backend_tokenizer.normalizer.normalize_str(text)
    prefixed = normal if not normal or normal.startswith(" ") else f" {normal}"
    sizes = token_bytes(BPE)
    ids = BPE.backend_tokenizer.encode(text, add_special_tokens=False).ids
    specials = sum(text.count(name) * len(name) for name in tokenizer.SPECIAL_TOKENS)
    assert specials or sum(sizes[i] for i in ids) == len(prefixed.encode())


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_bytes_of_words_count_one_space_before_each(kind: str) -> None:
    words = trained(kind)
    sizes = token_bytes(words)
    ids = words.backend_tokenizer.encode("soft and warm", add_special_tokens=False).ids
    assert sum(sizes[i] for i in ids) == len(" soft and warm")


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_report_counts_what_encoding_one_by_one_gives(kind: str) -> None:
    words = trained(kind)
    texts = [*TEXTS, "", "日本 unknown ☃", "long " * 100]
    found = report(words, iter(texts), 64)
    encoded = [words(text, add_special_tokens=False, truncation=False)["input_ids"] for text in texts]
    assert (found.texts, found.words) == (53, sum(len(text.split()) for text in texts))
    assert (found.tokens, found.bytes) == (sum(map(len, encoded)), len("".join(texts).encode()))
    assert found.unknown == sum(ids.count(words.unk_token_id) for ids in encoded)
    assert found.cut == sum(len(ids) + 2 > 64 for ids in encoded) == 1
    assert found.scores()["tokens_per_word"] == found.tokens / found.words


def test_report_of_no_text_is_refused() -> None:
    with pytest.raises(DataError):
        report(BPE, [], 64)
