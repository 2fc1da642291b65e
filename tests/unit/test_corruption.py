"""Spans cut out of texts: nothing is lost, and as much is cut as asked."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nlpkit.objectives.corruption import Corruption

SENTINELS = tuple(range(1000, 1400))
END = 1
T5 = Corruption(0.15, 3.0, SENTINELS, END)


def put_together(inputs: list[int], targets: list[int]) -> list[int]:
    """The text of an input and its target, by reading both from the left."""
    assert inputs[-1] == targets[-1] == END
    spans, found = iter(targets[:-1]), []
    following = next(spans, None)
    for token in inputs[:-1]:
        if token not in SENTINELS:
            found.append(token)
            continue
        assert token == following
        while (following := next(spans, None)) is not None and following not in SENTINELS:
            found.append(following)
    assert following is None
    return found


@given(
    st.lists(st.integers(0, 999), max_size=200),
    st.floats(0.01, 0.99),
    st.floats(1, 12),
    st.integers(0, 2**62),
)
def test_input_and_target_put_together_are_the_text(
    tokens: list[int], rate: float, mean_span: float, seed: int
) -> None:
    corruption = Corruption(rate, mean_span, SENTINELS, END)
    inputs, targets = corruption.corrupt(tokens, seed)
    assert put_together(inputs, targets) == tokens
    assert corruption.fill(inputs[:-1], targets[:-1], targets[:-1]) == tokens
    assert (len(inputs), len(targets)) == corruption.lengths(len(tokens))
    used = [token for token in inputs if token in SENTINELS]
    assert used == list(SENTINELS[: len(used)])


@given(st.integers(2, 400), st.integers(0, 2**62))
def test_no_span_is_empty_and_none_touches_another(length: int, seed: int) -> None:
    inputs, targets = T5.corrupt(range(length), seed)
    for row in (inputs, targets):
        assert not any(a in SENTINELS and b in SENTINELS for a, b in pairwise(row))
    assert targets[0] in SENTINELS and targets[-2] not in SENTINELS


@pytest.mark.parametrize(("rate", "mean_span"), [(0.15, 3.0), (0.5, 5.0)])
def test_share_and_length_of_spans_are_those_asked_for(rate: float, mean_span: float) -> None:
    corruption, gone, spans = Corruption(rate, mean_span, SENTINELS, END), 0, 0
    for length in range(100, 300):
        targets = corruption.corrupt(range(length), length)[1][:-1]
        spans += sum(token in SENTINELS for token in targets)
        gone += sum(token not in SENTINELS for token in targets)
    assert gone / sum(range(100, 300)) == pytest.approx(rate, abs=0.002)
    assert gone / spans == pytest.approx(mean_span, rel=0.03)


def test_spans_are_of_many_lengths_and_at_all_places() -> None:
    lengths, places = [], np.zeros(60)
    for seed in range(1000):
        targets = T5.corrupt(range(60), seed)[1]
        starts = [i for i, token in enumerate(targets[:-1]) if token in SENTINELS]
        lengths += np.diff([*starts, len(targets) - 1]).tolist()
        places[[token for token in targets[:-1] if token not in SENTINELS]] += 1
    counts = np.bincount(np.array(lengths) - 1, minlength=8)
    assert counts[0] == 0 and (counts[1:7] > 0).all() and counts[1] > counts[3] > counts[5]
    assert places[5:55].min() > 50 and places[5:55].max() < 300


def test_lengths_are_those_of_t5() -> None:
    """Of the original code, with 512 tokens of input: 568 tokens of text and 114 of target."""
    assert T5.longest(512) == 568
    assert T5.lengths(568) == (512, 114)


@given(st.integers(1, 600), st.floats(0.01, 0.9), st.floats(1, 10))
def test_a_stretch_fills_the_room_and_one_token_more_would_not_fit(room: int, rate: float, mean_span: float) -> None:
    corruption = Corruption(rate, mean_span, SENTINELS, END)
    length = corruption.longest(room)
    assume(room > 1)
    assert max(corruption.lengths(length)) <= room < max(corruption.lengths(length + 1))


@pytest.mark.parametrize("tokens", [[], [7]])
def test_nothing_is_cut_out_of_less_than_two_tokens(tokens: list[int]) -> None:
    assert T5.corrupt(tokens, 3) == ([*tokens, END], [END])


def test_the_seed_alone_decides() -> None:
    assert T5.corrupt(range(99), 5) == T5.corrupt(range(99), 5)
    assert len({str(T5.corrupt(range(99), seed)) for seed in range(50)}) == 50
