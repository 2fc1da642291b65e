"""Documents in rows: every token once, little padding, and as many rows as the slow way needs."""

from __future__ import annotations

import csv
import gzip
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nlpkit.objectives.packing import Plan, plan

DATA = Path(os.environ.get("NLPKIT_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
REAL = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data at {DATA}; set NLPKIT_DATA")
Lengths = NDArray[np.int64]


def pack(lengths: Any, room: int, lead: int = 1) -> Plan:
    return plan(np.cumsum(np.asarray(lengths, np.int64)), room, lead)


def rows_of(packed: Plan) -> list[list[tuple[int, int]]]:
    """Start and length of the pieces of each row."""
    ends = packed.ends.tolist()
    pairs = list(zip(packed.start.tolist(), packed.length.tolist(), strict=True))
    return [pairs[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def padding(packed: Plan, room: int, lead: int = 1) -> float:
    rows = rows_of(packed)
    return 1 - sum(length + lead for row in rows for _, length in row) / (room * len(rows))


def slow_best_fit(sizes: list[int], room: int) -> int:
    """Rows that best fit needs, item by item, the longest first."""
    left: list[int] = []
    for size in sorted(sizes, reverse=True):
        fitting = [i for i, gap in enumerate(left) if gap >= size]
        place = min(fitting, key=lambda i: left[i], default=None)
        if place is None:
            left.append(room - size)
        else:
            left[place] -= size
    return len(left)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(lengths=st.lists(st.integers(1, 70), min_size=1, max_size=60), room=st.integers(8, 40), lead=st.integers(1, 3))
def test_every_token_is_in_one_row_and_every_piece_in_one_document(lengths: list[int], room: int, lead: int) -> None:
    document = np.repeat(np.arange(len(lengths)), lengths)
    found = []
    for row in rows_of(pack(lengths, room, lead)):
        assert row and sum(length + lead for _, length in row) <= room
        for start, length in row:
            assert length > 0 and len(set(document[start : start + length])) == 1
            found += range(start, start + length)
    assert sorted(found) == list(range(sum(lengths)))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(lengths=st.lists(st.integers(1, 80), min_size=1, max_size=80))
def test_documents_stay_whole_and_need_the_rows_of_slow_best_fit_unless_they_are_cut(lengths: list[int]) -> None:
    room = 40
    packed = pack(lengths, room)
    windows = [min(room - 1, length - at) for length in lengths for at in range(0, length, room - 1)]
    rows = slow_best_fit([window + 1 for window in windows], room)
    if rows * room - sum(windows) - len(windows) < room:  # less than a row is empty: nothing to gain
        assert sorted(packed.length.tolist()) == sorted(windows)
        assert len(packed.ends) == rows
    assert len(packed.ends) <= rows


def test_rows_without_room_for_a_piece_are_left_alone() -> None:
    assert pack([14] * 500, 16).length.tolist() == [14] * 500


DISTRIBUTIONS: dict[str, Callable[[Any, int, int], Any]] = {
    "reviews": lambda draw, room, n: draw.lognormal(4.3, 0.6, n),
    "any": lambda draw, room, n: draw.integers(1, room, n),
    "tweets": lambda draw, room, n: draw.geometric(0.05, n),
    "books": lambda draw, room, n: draw.integers(20 * room, 40 * room, n // 20),
    "equal": lambda draw, room, n: np.full(n, 0.6 * room),
    "more than half": lambda draw, room, n: draw.integers(room // 2 + 1, room, n),
    "a row and a bit": lambda draw, room, n: np.full(n, 1.6 * room),
    "nearly a row": lambda draw, room, n: np.full(n, room - 4),
}


@pytest.mark.parametrize("room", [128, 512])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_padding_is_below_one_percent(name: str, room: int) -> None:
    lengths = DISTRIBUTIONS[name](np.random.default_rng(0), room, 20_000)
    lengths = np.maximum(1, lengths).astype(np.int64)
    packed = pack(lengths, room)
    assert padding(packed, room) < 0.01
    if name in ("reviews", "any", "tweets", "books"):
        assert len(packed.start) == sum(-(-length // (room - 1)) for length in lengths.tolist()), (
            "none is cut needlessly"
        )


@REAL
@pytest.mark.parametrize("room", [128, 256])
def test_padding_of_real_reviews_is_below_one_percent(room: int) -> None:
    with open(DATA / "womens_clothing_reviews" / "Womens Clothing E-Commerce Reviews.csv", newline="") as file:
        clothing = [len(row["Review Text"].split()) + 1 for row in csv.DictReader(file) if row["Review Text"]]
    with gzip.open(DATA / "imdb" / "unlabelled_25k.txt.gz", "rt", newline="\n") as file:
        films = [len(line.split()) + 1 for line in file]
    assert padding(pack(clothing, room), room) < 0.01
    assert padding(pack(films, room), room) < 0.01


def test_a_million_documents_take_seconds() -> None:
    lengths = np.maximum(1, np.random.default_rng(0).lognormal(4.3, 0.6, 1_000_000)).astype(np.int64)
    began = time.process_time()
    pack(lengths, 512)
    assert time.process_time() - began < 5


def test_nothing_makes_no_rows() -> None:
    assert len(pack([], 16).ends) == 0
    assert len(pack([], 16).sizes(1)) == 0
