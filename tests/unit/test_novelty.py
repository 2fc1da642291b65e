"""What of a text stands in a corpus, beside a search that tries every span at every place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from nlpkit import corpus, novelty, tokenizer
from nlpkit.novelty import NOWHERE, _Spans

WORDS = ["the", "coat", "is", "soft", "and", "warm", "but", "it", "tore", "on", "day", "two", "so", "I", "sent", "it"]


class Flat:
    """A token store in memory."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self.tokens = np.array(tokens, np.int64)

    def __len__(self) -> int:
        return len(self.tokens)

    def read(self, start: int, length: int) -> np.ndarray[Any, Any]:
        return self.tokens[start : start + length]


def first_place(tokens: list[int], span: list[int]) -> int:
    """Where a span stands first, found the slow way."""
    places = (p for p in range(len(tokens) - len(span) + 1) if tokens[p : p + len(span)] == span)
    return next(places, NOWHERE)


few = st.lists(st.integers(0, 4), max_size=40)


@given(few, st.lists(st.lists(st.integers(0, 5), max_size=9), max_size=4), st.sampled_from([1, 3, 1 << 20]))
def test_every_span_is_found_where_it_stands_first(tokens: list[int], rows: list[list[int]], stretch: int) -> None:
    spans = _Spans([np.array(row, np.int64) for row in rows], vocabulary=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(novelty, "STRETCH", stretch)
        spans.look_up(Flat(tokens))  # type: ignore[arg-type]
    for number, row in enumerate(rows):
        for length in range(1, 11):
            expected = [first_place(tokens, row[p : p + length]) for p in range(len(row) - length + 1)]
            assert spans.found(number, length).tolist() == expected


@pytest.fixture(scope="module")
def words() -> PreTrainedTokenizerBase:
    return tokenizer.train([" ".join(WORDS)] * 9, kind="bpe", vocabulary=300, lowercase=False, max_length=64)


@pytest.fixture(scope="module")
def store(words: PreTrainedTokenizerBase, tmp_path_factory: pytest.TempPathFactory) -> corpus.TokenStore:
    texts = [" ".join(WORDS[i:] + WORDS[:i]) for i in range(0, len(WORDS), 4)]
    return corpus.build(texts, words, tmp_path_factory.mktemp("store"), key="k", processes=1)


def test_the_longest_copied_span_is_shown_in_its_document(
    store: corpus.TokenStore, words: PreTrainedTokenizerBase
) -> None:
    found = next(novelty.compare(["sent warm but it tore on day soft"], store, words))
    assert found.longest.text == "warm but it tore on day"
    assert found.longest.document == 1
    assert found.longest.excerpt.startswith("the coat is soft and warm but it tore on day two so")
    assert found.longest.tokens == len(words("warm but it tore on day", add_special_tokens=False)["input_ids"])


def test_a_copied_text_has_nothing_new_and_one_of_other_words_nothing_old(
    store: corpus.TokenStore, words: PreTrainedTokenizerBase
) -> None:
    copy, other, short, empty = novelty.compare([" ".join(WORDS), "9 9 9 9 9 9 9 9", "soft coat", ""], store, words)
    assert copy.longest.text == " ".join(WORDS)
    assert copy.new == {4: 0.0, 8: 0.0}
    assert other.new == {4: 1.0, 8: 1.0}
    assert short.new == {4: None, 8: None}
    assert (empty.longest.tokens, empty.new) == (0, {4: None, 8: None})


def test_a_span_of_two_documents_is_not_copied(store: corpus.TokenStore, words: PreTrainedTokenizerBase) -> None:
    text = f"{WORDS[-1]} {' '.join(WORDS[4:6])}"  # the end of the first document and the beginning of the second
    assert next(novelty.compare([text], store, words)).longest.text == " ".join(WORDS[4:6])


def test_many_texts_are_looked_for_in_groups(
    store: corpus.TokenStore, words: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [" ".join(WORDS[i % 7 : i % 11]) for i in range(60)]
    at_once, groups = list(novelty.compare(texts, store, words)), list[int]()
    monkeypatch.setattr(novelty, "_TOGETHER", 40)

    class Counted(_Spans):
        def look_up(self, store: corpus.TokenStore) -> None:
            groups.append(len(self.tokens))
            super().look_up(store)

    monkeypatch.setattr(novelty, "_Spans", Counted)
    assert list(novelty.compare(iter(texts), store, words)) == at_once
    assert len(groups) > 4
    assert max(groups) <= 40
