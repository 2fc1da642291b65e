"""Words without case, punctuation and markup, and the n-grams that they make."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpkit.ngrams import LENGTH, is_telling, ngrams, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's GREAT, really!", ["it", "s", "great", "really"]),
        ("a<br /><br />b &quot;c&quot; 1&2", ["a", "b", "c", "1", "2"]),
        ("“Naïve” — no_no", ["naïve", "no", "no"]),
        ("ＦＵＬＬ ﬁne Straße", ["full", "fine", "strasse"]),
        ("很好 ok的", ["很", "好", "ok", "的"]),
        ("ดีมาก", ["ด", "ี", "ม", "า", "ก"]),
        ("", []),
        ("... !?", []),
    ],
)
def test_words_are_free_of_case_punctuation_and_markup(text: str, words: list[str]) -> None:
    assert [word.decode() for word in words_of(text)] == words


@given(st.text(st.characters(max_codepoint=127, exclude_characters="<>&")))
def test_words_of_ascii_text_are_found_as_those_of_any_text(text: str) -> None:
    assert words_of(text) == words_of(f"{text} é")[:-1]


def test_text_of_fewer_than_eight_words_tells_nothing() -> None:
    assert not is_telling("great product -- one two three four five!")
    assert is_telling("great product -- one two three four five six!")


@given(st.lists(st.lists(st.sampled_from([b"a", b"b", b"c", b"unknown"]), max_size=20), max_size=6))
def test_ngrams_are_equal_where_their_words_are(texts: list[list[bytes]]) -> None:
    hashes, owner = ngrams(texts, {b"a": 1, b"b": 2, b"c": 3})
    expected = [
        (i, tuple(words[start : start + LENGTH]))
        for i, words in enumerate(texts)
        for start in range(len(words) - LENGTH + 1)
        if b"unknown" not in words[start : start + LENGTH]
    ]
    assert owner.tolist() == [i for i, _ in expected]
    names = dict(zip(hashes.tolist(), [gram for _, gram in expected], strict=True))
    assert [names[h] for h in hashes.tolist()] == [gram for _, gram in expected]
    assert len(names) == len({gram for _, gram in expected})
