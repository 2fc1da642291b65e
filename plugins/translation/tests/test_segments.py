"""Texts in parts: nothing is lost between them, and each is as long as can be read or cannot be divided."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nlpkit_translation.segments import as_bytes, filled, places, segments

PIECES = [
    "a",
    "bc",
    " ",
    "  ",
    "\n",
    "\r\n",
    "\r",
    "\u2028",
    "\t",
    ".",
    "!",
    "?",
    "…",
    "。",
    "？",
    ",",
    ";",
    '"',
    "»",
    ")",
]
TEXTS = st.lists(st.sampled_from(PIECES) | st.characters(exclude_categories=["Cs"]), max_size=60).map("".join)


def at_most(length: int) -> Callable[[str], bool]:
    return lambda text: len(text) <= length


@settings(max_examples=300)
@given(TEXTS, st.integers(1, 30))
def test_parts_and_what_stands_behind_them_are_the_text(text: str, most: int) -> None:
    assert "".join(part + behind for part, behind in segments(text, at_most(most))) == text


@settings(max_examples=100)
@given(TEXTS.map(lambda text: text.replace("\ufffd", "x")), st.integers(1, 30))
def test_a_text_whose_places_are_filled_with_its_own_words_is_the_text(text: str, most: int) -> None:
    parts = segments(text, at_most(most))
    assert filled(as_bytes(text), places(parts), iter([part.strip() for part, _ in parts])) == text
    shouted = filled(as_bytes(text), places(parts), iter(["Ж"] * len(parts)))
    assert shouted.count("Ж") - text.count("Ж") == sum(bool(p.strip()) - p.count("Ж") for p, _ in parts)


@settings(max_examples=300)
@given(TEXTS, st.integers(1, 30))
def test_every_part_fits_or_is_one_word(text: str, most: int) -> None:
    assert all(len(part) <= most or len(part.split()) <= 1 for part, _ in segments(text, at_most(most)))


@settings(max_examples=300)
@given(TEXTS, st.integers(1, 30))
def test_no_part_goes_over_the_end_of_a_line_and_only_white_space_stands_behind(text: str, most: int) -> None:
    found = segments(text, at_most(most))
    assert not any(end in part for part, _ in found for end in "\r\n")
    assert not any(behind.strip() for _, behind in found)


@pytest.mark.parametrize(
    ("text", "most", "expected"),
    [
        ("", 9, [("", "")]),
        ("One. Two.", 9, [("One. Two.", "")]),
        ("One. Two. Three.", 9, [("One. Two.", " "), ("Three.", "")]),
        ("One.\nTwo.", 99, [("One.", "\n"), ("Two.", "")]),
        ("One.\r\n\r\n  Two.\n", 99, [("One.", "\r\n"), ("", "\r\n"), ("  Two.", "\n")]),
        ('"Go!"  He went.', 9, [('"Go!"', "  "), ("He went.", "")]),
        ("一。二。三。", 4, [("一。二。", ""), ("三。", "")]),
        ("at 3.5 or so", 4, [("at", " "), ("3.5", " "), ("or", " "), ("so", "")]),
        ("if so, then no more", 12, [("if so,", " "), ("then no more", "")]),
        ("Donaudampfschiff", 4, [("Donaudampfschiff", "")]),
    ],
)
def test_lines_then_sentences_then_clauses_are_kept_whole(
    text: str, most: int, expected: list[tuple[str, str]]
) -> None:
    assert segments(text, at_most(most)) == expected


def test_a_long_text_is_read_a_few_times_not_once_for_each_word() -> None:
    read = 0

    def fits(text: str) -> bool:
        nonlocal read
        read += len(text)
        return len(text) <= 200

    text = "word " * 20_000
    assert "".join(part + behind for part, behind in segments(text, fits)) == text
    assert read < 30 * len(text)
