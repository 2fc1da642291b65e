"""Pieces know their characters, whatever the tokenizer and the text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nlpkit_ner.characters import characters, visible
from nlpkit_ner.pieces import Pieces, cut, tags, taught
from nlpkit_ner.span_files import normalise
from nlpkit_ner.words import words as words_of
from transformers import PreTrainedTokenizerBase

from nlpkit.plain_text import plain_backend

KINDS = ("wordpiece", "bpe", "unigram")
ODD = ["\u0301", "\u200b", "\u200d", "\u00a0", "東", "京", "ש", "ل", "\U0001f600"]
WORDS = st.text(st.sampled_from([*"abcÅß0.,'-&@#[]_", *ODD]), min_size=1, max_size=8).filter(
    # as readers of entities give them, and not of marks and the like alone, of which a tokenizer may leave nothing
    lambda word: (
        word == word.strip() != "" and (any(map(str.isalnum, word)) or not set(word) & set("\u0301\u200b\u200d"))
    )
)
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
                assert start >= before
                before = start

    check()


@pytest.mark.parametrize("kind", KINDS)
def test_words_that_are_entities_are_found_again_by_their_tags(kind: str, words: Words) -> None:
    backend = plain_backend(words(kind))

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(st.lists(st.tuples(WORDS, st.sampled_from([None, "person", "place"])), min_size=1, max_size=8))
    def check(given_words: list[tuple[str, str | None]]) -> None:
        text, entities = "", list[dict[str, Any]]()
        for word, label in given_words:
            start = len(text) + bool(text)
            text = f"{text} {word}" if text else word
            if label:
                entities += normalise([[start, len(text), label]], "made:1", text)
        pieces = cut(backend, text, whole_words=True)
        found = _spans(tags(pieces, entities, {"person": 0, "place": 1}), pieces.starts, pieces.ends)
        held = [e for e in entities if _has_pieces(pieces.starts, pieces.ends, e)]
        types = {"person": 0, "place": 1}
        assert found == [(e["start"], e["end"], types[e["label"]]) for e in held]

    check()


def _has_pieces(starts: list[int], ends: list[int], entity: dict[str, Any]) -> bool:
    """Whether the tokenizer has left anything of a word."""
    return any(s < entity["end"] and entity["start"] < e for s, e in zip(starts, ends, strict=True) if e > s)


def _spans(found: list[int], starts: list[int], ends: list[int]) -> list[tuple[int, int, int]]:
    spans: list[list[int]] = []
    for tag, start, end in zip(found, starts, ends, strict=True):
        if tag % 2:
            spans.append([start, end, (tag - 1) // 2])
        elif tag:
            spans[-1][1] = end
    return [tuple(span) for span in spans if span[1] > span[0]]  # type: ignore[misc]


@pytest.mark.parametrize("kind", KINDS)
def test_a_word_is_one_and_the_punctuation_around_it_is_not_of_it(kind: str, words: Words) -> None:
    text = "(Lindqvistissimo),  Harrow-Town\tBay\u00a0x"
    pieces = cut(plain_backend(words(kind)), text, whole_words=True)
    spans = zip(pieces.starts, pieces.ends, pieces.inside, strict=True)
    firsts = [(s, e) for s, e, inside in spans if e > s and not inside]
    assert {0, 1, 16, 20, 32} <= {s for s, _ in firsts}
    assert not {s for s, _ in firsts} & {*range(2, 16), *range(21, 31), *range(33, 37)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("whole_words", [True, False])
def test_no_border_lies_inside_of_a_character(kind: str, whole_words: bool, words: Words) -> None:
    text = "(e\u0301 New\u00a0York \U0001f469\u200d\U0001f52c\U0001f600 \U0001f1e9\U0001f1ea"
    pieces = cut(plain_backend(words(kind)), text, whole_words=whole_words)
    parts = characters(text)
    for start, end in zip(pieces.starts, pieces.ends, strict=True):
        assert not parts.cuts(start)
        assert not parts.cuts(end)
    for before, after, inside in zip(pieces.ends, pieces.starts[1:], pieces.inside[1:], strict=False):
        assert inside or after >= before  # what shares a character is not divided


@pytest.mark.parametrize("text", ["Oslo\ufffd", "e\u0301", "Os\u200clo", "Os\u200dlo", "Os\u00adlo"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_the_tokenizer_drops_of_a_word_belongs_to_it(kind: str, text: str, words: Words) -> None:
    pieces = cut(plain_backend(words(kind)), f"a {text} b", whole_words=True)
    entity = {"start": 2, "end": 2 + len(text), "label": "x"}
    assert _spans(tags(pieces, [entity], {"x": 0}), pieces.starts, pieces.ends) == [(2, 2 + len(text), 0)]


@pytest.mark.parametrize("text", ["Oslo\u200b", "\u200bOslo", "\u200fOslo\u200e", "\ufeffOslo", "\u00a0Oslo\u00a0"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_seen_at_the_edge_of_an_entity_is_none_of_it(kind: str, text: str, words: Words) -> None:
    start = 2 + text.index("Oslo")
    pieces = cut(plain_backend(words(kind)), f"a {text} b", whole_words=True)
    entity = {"start": 2, "end": 2 + len(text), "label": "x"}
    assert _spans(tags(pieces, [entity], {"x": 0}), pieces.starts, pieces.ends) == [(start, start + 4, 0)]


def test_a_piece_that_belongs_to_another_goes_on_as_it_does(words: Words) -> None:
    pieces = cut(plain_backend(words()), "Lindqvistissimo", whole_words=True)
    assert len(pieces.ids) > 2
    half = [{"start": 0, "end": 4, "label": "x"}, {"start": 4, "end": 15, "label": "y"}]
    assert tags(pieces, half, {"x": 0, "y": 1}) == [1] + [2] * (len(pieces.ids) - 1)
    assert tags(pieces, half[1:], {"x": 0, "y": 1})[0] in (0, 3)


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


def test_what_is_attached_is_taught_only_beside_an_entity(words: Words) -> None:
    text = "@marta: hm... see (Oslo), #oslo"
    pieces = cut(plain_backend(words()), text, whole_words=True)
    found = tags(pieces, [{"start": 19, "end": 23, "label": "place"}], {"place": 0})
    learnt = taught(found, pieces)
    by_run: dict[str, list[int]] = {}
    for start, label in zip(pieces.starts, learnt, strict=True):
        run = text[text.rfind(" ", 0, start) + 1 :].split(" ")[0]
        by_run.setdefault(run, []).append(label)
    assert by_run["(Oslo),"] == [tag for tag, s in zip(found, pieces.starts, strict=True) if 18 <= s < 25]
    assert 1 in by_run["(Oslo),"]
    for run in ("@marta:", "#oslo"):
        first, *rest = by_run[run]
        assert first == 0
        assert set(rest) == {-100}
    assert by_run["see"][0] == 0 and -100 not in by_run["see"]
    assert by_run["hm..."][0] == 0 and by_run["hm..."][-3:] == [-100] * 3


def test_pieces_that_may_begin_anywhere_are_all_taught(words: Words) -> None:
    pieces = cut(plain_backend(words()), "@marta: see 東京に", whole_words=False)
    assert taught(tags(pieces, [], {}), pieces) == [0] * len(pieces.ids)


@pytest.mark.parametrize("kind", KINDS)
def test_every_run_of_signs_is_taught_and_every_entity(kind: str, words: Words) -> None:
    backend = plain_backend(words(kind))

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(st.lists(WORDS, min_size=1, max_size=8), st.integers(0, 7))
    def check(given_words: list[str], number: int) -> None:
        number %= len(given_words)
        text, start = " ".join(given_words), len("".join(f"{word} " for word in given_words[:number]))
        pieces = cut(backend, text, whole_words=True)
        found = tags(pieces, [{"start": start, "end": start + len(given_words[number]), "label": "x"}], {"x": 0})
        learnt = taught(found, pieces)
        assert all(label == tag for label, tag in zip(learnt, found, strict=True) if tag)
        assert all(label in (tag, -100) for label, tag in zip(learnt, found, strict=True))
        real = [(s, label) for s, e, label in zip(pieces.starts, pieces.ends, learnt, strict=True) if e > s]
        runs = {text.rfind(" ", 0, s) for s, _ in real}
        kept = {text.rfind(" ", 0, s) for s, label in real if label != -100}
        assert runs <= kept

    check()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("blank", [" ", "  ", "\n", " \n", "\t\t "])
def test_the_first_piece_behind_any_white_space_is_taught(blank: str, kind: str, words: Words) -> None:
    pieces = cut(plain_backend(words(kind)), f"@anna{blank}xyz-{blank}東", whole_words=True)
    real = [(s, a) for s, e, a in zip(pieces.starts, pieces.ends, pieces.attached, strict=True) if e > s]
    first_pieces = [next(a for s, a in real if s >= start) for start in (0, 5 + len(blank), 9 + 2 * len(blank))]
    assert first_pieces == [0, 0, 0]


FUZZ = st.text(
    st.sampled_from([*"aЖß0.(@", *" \t\n", *ODD, *"\u200c\u200f\ufe0f\u2764\U0001f1e9\U0001f1ea\r"]), max_size=14
)


@pytest.mark.parametrize("whole_words", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_no_entities_overlap_or_cut_whatever_the_tags(kind: str, whole_words: bool, words: Words) -> None:
    backend = plain_backend(words(kind))

    @settings(max_examples=400, deadline=None, derandomize=True)
    @given(FUZZ)
    @example("Ж\nЖa")
    @example("a\u0301\tЖ\u00a0Ж")
    def check(text: str) -> None:
        pieces = cut(backend, text, whole_words=whole_words)
        parts, units = characters(text), _units(pieces)
        whole = words_of(text, visible(text))
        for start, end in (unit for unit in units if unit[1] > unit[0]):
            assert not parts.cuts(start) and not parts.cuts(end)
            assert not whole_words or not (whole.cuts(start) or whole.cuts(end))
            assert text[start:end].strip() == text[start:end].strip("\u200b\u200f") == text[start:end]
        for place, (start, _) in enumerate(units):  # an entity may begin and end with any two
            assert all(end <= start for _, end in units[:place] if end > units[0][0])
            assert all(other >= start for other, _ in units[place:])

    check()


def _units(pieces: Pieces) -> list[tuple[int, int]]:
    """Start and end of what may be tagged by itself: a piece with all that belong to it."""
    found: list[tuple[int, int]] = []
    for start, end, inside in zip(pieces.starts, pieces.ends, pieces.inside, strict=True):
        found[-1:] = [(found[-1][0], end)] if inside else [*found[-1:], (start, end)]
    return found
