"""What is left out of the training data."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nlpkit_translation.filters import Filters, keep, why_not

from nlpkit import Example
from nlpkit.errors import DataError


def pairs(*sides: tuple[str, str]) -> list[Example]:
    return [Example({"source": a, "target": b}, f"a.en:{n}") for n, (a, b) in enumerate(sides, 1)]


GOOD = [(f"sentence {n}", f"Satz {n}") for n in range(20)]


def test_pairs_are_left_out_by_reason_and_counted_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "nlpkit")
    bad = [("", "x"), ("x", " \t"), ("Paris", " paris"), ("no", "x" * 19), ("x" * 100_000, "y" * 90_000)]
    kept = list(keep(pairs(*GOOD, *bad), Filters()))
    assert [(pair["source"], pair["target"]) for pair in kept] == GOOD
    assert [record.getMessage() for record in caplog.records] == [
        "a.en: 5 of 25 pairs are left out: 2 with an empty side (the first at a.en:21), "
        "1 with the same text on both sides (the first at a.en:23), "
        "1 with a side more than 9 times as long as the other (the first at a.en:24), "
        "1 longer than 2,000 characters (the first at a.en:25)"
    ]


def test_nothing_is_said_where_nothing_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "nlpkit")
    assert len(list(keep(pairs(*GOOD), Filters()))) == 20
    assert not caplog.records


@pytest.mark.parametrize(
    ("pair", "filters", "reason"),
    [
        (("a", "a"), Filters(copies="keep"), ""),
        (("a", ""), Filters(copies="keep", max_ratio=0, max_length=0), "with an empty side"),
        (("ab", "c" * 9), Filters(max_ratio=4), "with a side more than 4 times as long as the other"),
        (("ab", "c" * 8), Filters(max_ratio=4), ""),
        (("a", "b" * 5000), Filters(max_ratio=0, max_length=0), ""),
        (("a" * 30, "b" * 31), Filters(max_length=30), "longer than 30 characters"),
        (("a" * 30, " b " + " " * 40), Filters(max_length=30, max_ratio=0), ""),
    ],
)
def test_settings_decide(pair: tuple[str, str], filters: Filters, reason: str) -> None:
    assert why_not(pairs(pair)[0], filters) == reason


@pytest.mark.parametrize("copies", ["drop", "keep"])
def test_files_that_are_the_same_are_warned_of(copies: str, caplog: pytest.LogCaptureFixture) -> None:
    filters = Filters(copies="keep" if copies == "keep" else "drop")
    list(keep(pairs(*GOOD, *(("x", "x"),) * 30), filters))
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING] == [
        "a.en: 30 of 50 pairs have the same text on both sides; are the files the same, or in one language?"
    ]


def test_data_of_which_nothing_is_left_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        list(keep(pairs(("a", "a"), ("b", "B"), ("", "c")), Filters()))
    assert caught.value.message == (
        "a.en: no pair is left to learn from: 2 with the same text on both sides (the first at a.en:1), "
        "1 with an empty side (the first at a.en:3)"
    )


TEXT = st.text(max_size=20)


@given(sides=st.lists(st.tuples(TEXT, TEXT), max_size=8), ratio=st.floats(2, 5), length=st.integers(4, 20))
def test_what_is_kept_is_within_the_limits_and_in_order(
    sides: list[tuple[str, str]], ratio: float, length: int
) -> None:
    made = [*pairs(("good", "gut")), *pairs(*sides)]
    kept = list(keep(made, Filters(max_ratio=ratio, max_length=length)))
    assert kept[0] is made[0]
    assert kept == [pair for pair in made if pair in kept]
    for pair in kept:
        sizes = [len(" ".join(pair[side].split())) for side in ("source", "target")]
        assert min(sizes) > 0 and max(sizes) <= min(length, ratio * min(sizes))
        assert pair["source"].lower() != pair["target"].lower()
