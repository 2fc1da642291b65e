"""Characters as people see them, of texts of any length."""

from __future__ import annotations

import pytest
from nlpkit_ner.characters import Parts, characters, is_edge, visible
from nlpkit_ner.offsets import CharacterSpan, checked
from nlpkit_ner.pieces import cut
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

MANY = 50_000


def _bytes() -> Tokenizer:
    """A tokenizer with a piece for each byte."""
    made = Tokenizer(BPE({sign: i for i, sign in enumerate(sorted(ByteLevel.alphabet()))}, []))
    made.pre_tokenizer = ByteLevel(add_prefix_space=False)
    return made


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("ab\n", ["a", "b", "\n"]),
        ("a\r\nb", ["a", "\r\n", "b"]),
        ("e\u0301a", ["e\u0301", "a"]),
        (" \u0301a", [" ", "\u0301", "a"]),
        ("\u200b\u0301a", ["\u200b", "\u0301", "a"]),
        ("a\u200d\u200fb", ["a\u200d", "\u200f", "b"]),
        ("می\u200cخ", ["م", "ی", "\u200c", "خ"]),
        ("👩\u200d💻👍🏽", ["👩\u200d💻", "👍🏽"]),
        ("🇩🇪🇫🇷🇳", ["🇩🇪", "🇫🇷", "🇳"]),
        ("🇩 🇪🇫", ["🇩", " ", "🇪🇫"]),
    ],
)
def test_a_text_falls_into_the_characters_that_are_seen(text: str, expected: list[str]) -> None:
    parts = characters(text)
    assert [text[start:end] for start, end in zip(parts.starts, parts.ends, strict=True)] == expected


def test_nothing_is_seen_of_white_space_and_marks() -> None:
    text = "a\u200b \u200fe\u0301\u00a0\ufeff❤\ufe0f\u2060"
    parts = visible(text)
    assert [text[start:end] for start, end in zip(parts.starts, parts.ends, strict=True)] == ["a", "e\u0301", "❤\ufe0f"]


@pytest.mark.parametrize(
    "character", [".", "€", "❤\ufe0f", "👩\u200d💻", "👍🏽", "🇩🇪", "5\ufe0f\u20e3", "\u2139\ufe0f", "(\u0301"]
)
def test_signs_are_no_part_of_a_word_at_its_edge(character: str) -> None:
    assert is_edge(character)


@pytest.mark.parametrize("character", ["a", "5", "e\u0301", "東", "\ufffd", "o\ufe0f", "न\u200d"])
def test_letters_and_digits_are_part_of_a_word_at_its_edge(character: str) -> None:
    assert not is_edge(character)


def test_a_span_grows_by_the_parts_that_its_edges_cut() -> None:
    parts = Parts([0, 4, 9], [3, 6, 12])
    assert [parts.around(s, e) for s, e in ((1, 5), (3, 4), (4, 6), (7, 10), (5, 5))] == [
        (0, 6),
        (3, 4),
        (4, 6),
        (7, 12),
        (4, 6),
    ]
    assert [parts.over(s, e) for s, e in ((1, 5), (3, 4), (6, 9), (0, 20), (5, 5), (4, 4))] == [
        (0, 6),
        None,
        None,
        (0, 12),
        (4, 6),
        None,
    ]


@pytest.mark.parametrize("text", ["e" + "\u0301" * MANY, "🇩" * MANY, "a" + "\u200d" * MANY, "\u200b" * MANY + "a"])
def test_time_grows_with_the_text_alone(text: str) -> None:
    pieces = cut(_bytes(), text, whole_words=True)
    assert (pieces.starts[0], pieces.ends[-1]) == ((MANY, MANY + 1) if text[-1] == "a" else (0, len(text)))
    assert len(pieces.ids) == len(text.encode())


def test_time_does_not_grow_with_spans_times_text() -> None:
    spans = [CharacterSpan(2 * i, 2 * i + 2, "flag") for i in range(MANY // 2)]
    assert checked(spans, "🇩🇪" * (MANY // 2), "a.jsonl:1") == spans


def test_marks_that_are_not_seen_are_taken_off_a_span_that_has_more_than_these() -> None:
    text = "\u200fOslo\u200e \u200b"
    found = checked([CharacterSpan(0, 6, "place"), CharacterSpan(7, 8, "none")], text, "a.jsonl:1")
    assert found == [CharacterSpan(1, 5, "place"), CharacterSpan(7, 8, "none")]
