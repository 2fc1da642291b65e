"""Faults that are seen without a reference."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nlpkit_translation.faults import copies, kept, repeats

WORDS = st.lists(st.sampled_from(["der", "die", "und", "Hund", ",", "3"]), min_size=1, max_size=6)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ja ja ja", False),
        ("ja ja ja ja", True),
        ("er kam und ging und kam und ging", False),
        ("er kam " * 4, True),
        ("eins zwei drei vier fünf sechs " * 4, True),
        ("eins zwei drei vier fünf sechs sieben " * 4, False),
        ("ha ha ha ho ho ho", False),
        ("", False),
    ],
)
def test_four_times_one_to_six_words_are_a_repeat(text: str, expected: bool) -> None:
    assert repeats(text) == expected


@settings(max_examples=100)
@given(WORDS, WORDS, WORDS)
def test_a_repeat_is_found_wherever_it_stands(before: list[str], unit: list[str], behind: list[str]) -> None:
    assert repeats(" ".join([*before, *unit * 4, *behind]))


@settings(max_examples=100)
@given(st.permutations([f"w{i}" for i in range(12)]))
def test_different_words_are_no_repeat(words: list[str]) -> None:
    assert not repeats(" ".join(words))


@pytest.mark.parametrize(
    ("source", "translation", "expected"),
    [
        ("the dog sleeps", "the  dog sleeps", True),
        ("the dog sleeps", "der Hund schläft", False),
        ("New York", "New York", False),  # names may stay
        ("", "", False),
    ],
)
def test_three_words_that_came_out_as_they_went_in_are_a_copy(source: str, translation: str, expected: bool) -> None:
    assert copies(source, translation) == expected


@pytest.mark.parametrize(
    ("source", "translation", "expected"),
    [
        ("It costs 1,500.50 euros.", "Es kostet 1.500,50 Euro.", (1, 1)),
        ("at 8:30 or 9", "um 8.30 Uhr", (2, 1)),
        ("see https://example.org/a?b=1, please", "bitte (https://example.org/a?b=1) ansehen", (1, 1)),
        ("www.example.org!", "www.example.com!", (1, 0)),
        ("Hello {name}, %s and <b>3</b>", "Hallo {name}, %s und <b>drei</b>", (5, 4)),
        ("7 and 7", "7", (2, 1)),
        ("none", "3", (0, 0)),
    ],
)
def test_numbers_links_and_placeholders_that_are_kept_are_counted(
    source: str, translation: str, expected: tuple[int, int]
) -> None:
    assert kept(source, translation) == expected


@settings(max_examples=100)
@given(st.text())
def test_a_text_keeps_all_of_itself(text: str) -> None:
    asked, found = kept(text, text)
    assert asked == found
