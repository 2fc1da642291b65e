"""Windows answer each piece once, where it has most text around it."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from nlpkit_ner.windows import Frame, Window, frame_of, windows
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.processors import TemplateProcessing


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.integers(0, 400), st.integers(1, 60), st.integers(0, 80))
def test_every_piece_is_answered_once_and_inside_its_window(pieces: int, size: int, stride: int) -> None:
    made = windows(pieces, size, stride)
    answered = [piece for window in made for piece in range(window.first, window.last)]
    assert answered == list(range(pieces))
    for window in made:
        assert 0 <= window.start <= window.first <= window.last <= window.end <= pieces
        assert window.end - window.start == min(size, pieces)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.integers(0, 400), st.integers(2, 60), st.integers(0, 80))
def test_neighbours_share_the_stride_and_answer_away_from_their_edges(pieces: int, size: int, stride: int) -> None:
    made = windows(pieces, size, stride)
    shared = min(stride, size // 2)
    for one, two in pairwise(made):
        assert one.end - two.start >= shared
        assert one.end - one.last >= shared // 2
        assert two.first - two.start >= shared // 2


def test_a_short_text_is_one_window() -> None:
    assert windows(3, 8, 4) == [Window(0, 3, 0, 3)]
    assert windows(0, 8, 4) == [Window(0, 0, 0, 0)]


def test_the_last_window_ends_with_the_text() -> None:
    made = windows(20, 8, 4)
    assert made == [Window(0, 8, 0, 6), Window(4, 12, 6, 10), Window(8, 16, 10, 14), Window(12, 20, 14, 20)]


def _tokenizer(template: str) -> Tokenizer:
    made = Tokenizer(WordLevel({"a": 0, "[CLS]": 1, "[SEP]": 2}, unk_token="a"))
    made.post_processor = TemplateProcessing(single=template, special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    return made


def test_the_frame_is_what_stands_around_a_text() -> None:
    assert frame_of(_tokenizer("[CLS] $A [SEP]")) == Frame([1], [2])
    assert frame_of(_tokenizer("$A [SEP] [SEP]")) == Frame([], [2, 2])
