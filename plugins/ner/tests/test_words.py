"""Words without what stands around them, and entities that cut them."""

from __future__ import annotations

import pytest
from nlpkit_ner import Ner, NerConfig
from nlpkit_ner.characters import visible
from nlpkit_ner.words import cut_entity, words

from nlpkit import Example


@pytest.mark.parametrize(
    ("text", "start", "end", "expected"),
    [
        ("a Bay", 2, 5, False),
        ("(a Bay).", 3, 6, False),
        ("Anna's", 0, 4, True),
        ("Harrow-Bay", 7, 10, True),
        ("\u00a0Bay", 1, 4, False),
        ("C++ now", 0, 3, False),
    ],
)
def test_entities_that_cut_words_are_told_from_others(text: str, start: int, end: int, expected: bool) -> None:
    entity = {"start": start, "end": end}
    assert cut_entity(text, [{"start": 0, "end": len(text)}, entity]) is (entity if expected else None)


@pytest.mark.parametrize(
    "text",
    [
        "Oslo❤\ufe0f",
        "❤\ufe0fOslo",
        "(\u200bOslo)",
        "\u200f(Oslo)",
        "Oslo.\u200e",
        '\ufeff"Oslo"',
        "👩\u200d💻Oslo",
        "Oslo👍🏽🇳🇴",
        "5\ufe0f\u20e3Oslo",
        "\u202bOslo\u202c",
        "\u2067Oslo\u2069!",
        "Oslo\u00a0\u200b",
    ],
)
def test_marks_and_emoji_around_a_word_are_none_of_it(text: str) -> None:
    found = words(text, visible(text))
    assert [text[start:end] for start, end in zip(found.starts, found.ends, strict=True)] == ["Oslo"]


@pytest.mark.parametrize("text", ["می\u200cخواهم", "क्\u200dष", "Os\u00adlo", "a\u200bb", "ক্", "e\u0301", "AT&T"])
def test_marks_within_a_word_stay_in_it(text: str) -> None:
    found = words(f"({text})", visible(f"({text})"))
    assert list(zip(found.starts, found.ends, strict=True)) == [(1, len(text) + 1)]


def test_a_text_with_many_entities_is_read_once() -> None:
    text = "日本 " * 20_000
    entities = [{"start": 3 * i, "end": 3 * i + 2, "label": "x"} for i in range(20_000)]
    assert Ner.prepare(NerConfig(), [Example({"text": text, "entities": entities})]).unit == "word"
