"""Pieces know their characters, whatever the tokenizer and the text."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nlpkit_ner.pieces import at_words, cut, tags
from transformers import PreTrainedTokenizerBase

from nlpkit.plain_text import plain_backend

KINDS = ("wordpiece", "bpe", "unigram")
ODD = ["\u0301", "\u200b", "\u200d", "\u00a0", "東", "京", "ש", "ل", "\U0001f600"]
WORDS = st.text(st.sampled_from([*"abcÅß0.,'-&@#[]_", *ODD]), min_size=1, max_size=8)
Words = Callable[..., PreTrainedTokenizerBase]


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_stand_in_order_and_never_begin_or_end_with_white_space(kind: str, words: Words) -> None:
    backend = plain_backend(words(kind))

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(st.lists(WORDS, max_size=8).map(" ".join))
    def check(text: str) -> None:
        pieces = cut(backend, text, whole_words=True)
        before = 0
        for start, end in zip(pieces.starts, pieces.ends, strict=True):
            if end > start:
                assert not text[start].isspace()
                assert not text[end - 1].isspace()
                assert start >= 0
                assert end <= len(text)
                assert start + 1 >= before  # pieces of one character may share it
                before = end

    check()


@pytest.mark.parametrize("kind", KINDS)
def test_words_that_are_entities_are_found_again_by_their_tags(kind: str, words: Words) -> None:
    backend = plain_backend(words(kind))

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(st.lists(st.tuples(WORDS, st.sampled_from([None, "person", "place"])), min_size=1, max_size=8))
    def check(given_words: list[tuple[str, str | None]]) -> None:
        text, entities = "", []
        for word, label in given_words:
            start = len(text) + bool(text)
            text = f"{text} {word}" if text else word
            if label:
                entities.append({"start": start, "end": len(text), "label": label})
        pieces = cut(backend, text, whole_words=True)
        found = _spans(tags(pieces, entities, {"person": 0, "place": 1}), pieces.starts, pieces.ends)
        for start, end, kind_of in found:
            entity = next(e for e in entities if e["start"] <= start and end <= e["end"])
            assert ["person", "place"][kind_of] == entity["label"]
            lost = text[entity["start"] : start] + text[end : entity["end"]]
            assert not any(c.isalnum() and c.isascii() for c in lost)  # only what the tokenizer drops

    check()


def _spans(found: list[int], starts: list[int], ends: list[int]) -> list[tuple[int, int, int]]:
    spans: list[list[int]] = []
    for tag, start, end in zip(found, starts, ends, strict=True):
        if tag % 2:
            spans.append([start, end, (tag - 1) // 2])
        elif tag:
            spans[-1][1] = end
    return [tuple(span) for span in spans if span[1] > span[0]]  # type: ignore[misc]


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_of_a_word_go_on_and_the_first_does_not(kind: str, words: Words) -> None:
    text = "Lindqvistissimo  Harrow\tBay\u00a0x"
    pieces = cut(plain_backend(words(kind)), text, whole_words=True)
    first = [s for s, e, i in zip(pieces.starts, pieces.ends, pieces.inside, strict=True) if e > s and not i]
    assert first == [0, 17, 24]
    assert not any(cut(plain_backend(words(kind)), text, whole_words=False).inside)


@pytest.mark.parametrize("kind", KINDS)
def test_a_special_token_that_is_spelled_in_a_text_is_text(kind: str, words: Words) -> None:
    made = words(kind)
    pieces = cut(plain_backend(made), "Anna [SEP] Oslo", whole_words=True)
    assert made.sep_token_id not in pieces.ids
    assert pieces.starts[0] == 0
    assert pieces.ends[-1] == 15


def test_of_two_entities_in_one_piece_the_first_has_the_tag(words: Words) -> None:
    pieces = cut(plain_backend(words()), "Marta", whole_words=False)
    entities = [{"start": 0, "end": 2, "label": "person"}, {"start": 2, "end": 5, "label": "place"}]
    assert tags(pieces, entities, {"person": 0, "place": 1})[0] == 1


@pytest.mark.parametrize(
    ("text", "start", "end", "expected"),
    [
        ("a Bay", 2, 5, True),
        ("a Bay.", 2, 5, False),
        ("(Bay", 1, 4, False),
        ("Bay", 0, 3, True),
        ("a\tB\nc", 2, 3, True),
    ],
)
def test_entities_of_whole_words_are_told_from_others(text: str, start: int, end: int, expected: bool) -> None:
    assert at_words(text, [{"start": start, "end": end}]) is expected
