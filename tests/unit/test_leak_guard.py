"""What repeats a test set stays out of a corpus: compared with sets of words, pair by pair."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from nlpkit import corpus
from nlpkit.errors import DataError
from nlpkit.leak_guard import LeakGuard

REVIEW = (
    "I bought this coat in March. It kept me warm all winter, the zip never stuck, and the pockets are deep enough "
    "for a book. After six months one seam came loose; the shop mended it within a week and asked for nothing."
)
OTHER = "The kettle boils fast but it is so loud that the dog hides under the table each time I make tea for us."


def near(text: str, *test: str) -> bool:
    return bool(LeakGuard(test, "test.csv").near([text])[0])


def test_exact_repeats_differ_in_case_white_space_and_compatibility_forms_at_most() -> None:
    guard = LeakGuard(["Great product", "ﬁne"], "test.csv")
    assert guard.exact(["great\n  PRODUCT ", "fine", "great product!", "a great product"]).tolist() == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    "text",
    [
        REVIEW.replace(".", "!").replace(",", " --"),
        REVIEW.replace(". ", ".<br /><br />"),
        re.sub(r"'", "&#39;", REVIEW.upper()),
        REVIEW.replace("March", "April").replace("a week", "two weeks"),
        f"Before: {OTHER} Here is what my sister wrote: {REVIEW} And so on, {OTHER}",
        REVIEW[: len(REVIEW) * 2 // 3],
        " ".join(reversed(REVIEW.split(". "))),
    ],
    ids=["punctuation", "markup", "case", "edits", "within a longer one", "a part", "sentences moved"],
)
def test_near_repeat_is_found(text: str) -> None:
    assert near(text, OTHER, REVIEW)


@pytest.mark.parametrize(
    "text",
    [
        OTHER,
        " ".join(sorted(REVIEW.split())),
        f"I bought this coat in March. It kept me warm all winter, {OTHER}",
        " ".join(word for word in REVIEW.split() for word in (word, "so")),
        "It kept me warm all winter",
    ],
    ids=["another", "the same words", "one sentence of it", "a word put between", "fewer than eight words"],
)
def test_text_that_is_no_repeat_is_not_near(text: str) -> None:
    assert not near(text, REVIEW)


def test_short_texts_are_no_near_repeats_of_longer_ones() -> None:
    assert not near("A great product, I would buy it again. " + OTHER, "great product")


def test_a_book_is_near_where_half_of_a_text_stands_in_it_and_not_for_a_phrase() -> None:
    book = " ".join(f"w{i * i % 1009}" for i in range(3000))
    phrase = "at the end of the day it was"
    assert near(f"w1 {phrase} w2", phrase)
    assert not near(f"{book} {phrase} {book}", phrase, f"{phrase} all")
    assert not near(f"{book} {REVIEW[:60]} {book}", REVIEW)
    assert near(f"{book} {REVIEW[: len(REVIEW) * 2 // 3]} {book}", OTHER, REVIEW)


def test_phrases_of_many_test_texts_make_no_near_repeat() -> None:
    form = "Thank you for taking part in this survey of our customers. Your answer was: "
    test = [form + f"number {i} " + " ".join(f"w{i}x{j}" for j in range(12)) for i in range(30)]
    assert not near(form + "none of these", *test)
    assert near(test[3] + " by the way", *test)


def grams(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[i : i + 8]) for i in range(len(words) - 7)}


WORDS = st.lists(st.sampled_from(["a", "b", "c"]), max_size=40).map(" ".join)


@given(st.lists(WORDS.filter(bool), min_size=1, max_size=4), st.lists(WORDS, min_size=1, max_size=4), st.data())
def test_near_is_half_of_the_ngrams_of_the_shorter_one(test: list[str], texts: list[str], data: st.DataObject) -> None:
    texts = [t + " " + data.draw(st.sampled_from(test))[: data.draw(st.integers(0, 80))] for t in texts]
    expected = []
    for text in texts:
        count = max(0, len(text.split()) - 7)
        shared = [(len(grams(text) & grams(other)), min(count, len(grams(other)))) for other in test]
        expected.append(any(n and n >= 0.5 * of for n, of in shared))
    assert LeakGuard(test, "test.csv").near(texts).tolist() == expected


def test_repeats_are_left_out_of_a_stream_in_order_and_counted() -> None:
    kept = LeakGuard([REVIEW, "ok"], "test.csv").keep(["one", "OK", OTHER, REVIEW + " Yes.", "two", REVIEW])
    assert list(kept) == ["one", OTHER, "two"]
    assert kept.counts() == {"exact": 2, "near": 1}


def test_a_stream_is_read_little_by_little() -> None:
    read: list[int] = []

    def texts() -> Iterator[str]:
        for number in range(1000):
            read.append(number)
            yield OTHER * 100

    next(iter(LeakGuard([REVIEW], "test.csv").keep(texts())))
    assert len(read) < 200


def test_guard_of_blank_texts_is_refused() -> None:
    with pytest.raises(DataError, match=r"^test\.csv: no text to exclude\n"):
        LeakGuard(["", " \n"], "test.csv")


def test_nothing_left_of_a_corpus_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        list(LeakGuard([REVIEW, "ok"], "test.csv").keep([REVIEW, "OK", REVIEW + " yes"]))
    assert caught.value.message == "all 3 texts of the corpus repeat texts of test.csv; none is left"


def test_key_is_that_of_the_texts_in_any_order() -> None:
    keys = [LeakGuard(texts, "x").key for texts in ([REVIEW, OTHER], [OTHER, REVIEW, OTHER], [OTHER])]
    assert keys[0] == keys[1] != keys[2]


def test_store_keeps_the_counts_for_those_who_open_it_later(tmp_path: Path, words: PreTrainedTokenizerBase) -> None:
    texts = ["one coat", REVIEW, OTHER]
    for _ in range(2):
        kept = LeakGuard([REVIEW], "test.csv").keep(texts)
        store = corpus.build(kept, words, tmp_path / "store", key="key", facts=kept.counts)
        assert store.header.facts == {"exact": 1, "near": 0}
    assert store.documents == 2
