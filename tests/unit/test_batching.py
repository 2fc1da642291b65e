"""Every example once an epoch, under the budget, with little padding, in an order that (seed, epoch) alone decide."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nlpkit.batching import BatchPlan, by_length, cut, padded, sorted_batches

DATA = Path(os.environ.get("NLPKIT_DATA", Path(__file__).parents[3] / "shared/data"))
SINGLE = st.lists(st.integers(1, 300), min_size=1, max_size=400).map(lambda values: np.array(values, np.int64))
PAIRS = st.lists(st.tuples(st.integers(1, 90), st.integers(0, 90)), min_size=1, max_size=300).map(
    lambda values: np.array(values, np.int64)
)
LENGTHS = SINGLE | PAIRS
PLANS = st.builds(BatchPlan, LENGTHS, tokens=st.integers(1, 2000), rows=st.integers(1, 64), seed=st.integers(0, 2**32))


def padding_share(batches: list[NDArray[np.int64]], lengths: NDArray[np.int64]) -> float:
    return 1 - float(lengths.sum()) / sum(padded(lengths[b]) for b in batches)


def flat(batches: list[NDArray[np.int64]]) -> list[int]:
    return [int(i) for batch in batches for i in batch]


@settings(max_examples=60, deadline=None)
@given(PLANS, st.integers(0, 50))
def test_every_example_stands_in_an_epoch_exactly_once(plan: BatchPlan, epoch: int) -> None:
    assert sorted(flat(plan.epoch(epoch))) == list(range(len(plan.lengths)))


@settings(max_examples=60, deadline=None)
@given(PLANS, st.integers(0, 50))
def test_no_batch_is_over_the_budget_but_a_single_long_example(plan: BatchPlan, epoch: int) -> None:
    for batch in plan.epoch(epoch):
        assert len(batch) <= plan.rows
        assert len(batch) == 1 or len(batch) * plan.lengths[batch].max(0).sum() <= plan.tokens


@settings(max_examples=30, deadline=None)
@given(PLANS, st.lists(st.integers(0, 5), min_size=1, max_size=6))
def test_an_epoch_is_a_pure_function_of_seed_and_number(plan: BatchPlan, visited: list[int]) -> None:
    for epoch in visited:
        fresh = BatchPlan(plan.lengths.copy(), plan.tokens, plan.rows, plan.seed)
        assert [b.tolist() for b in plan.epoch(epoch)] == [b.tolist() for b in fresh.epoch(epoch)]


@pytest.mark.parametrize("other", [(0, 1), (1, 0)])
def test_another_epoch_or_seed_gives_another_order_and_other_company(other: tuple[int, int]) -> None:
    lengths = np.random.default_rng(0).integers(5, 60, 500)
    one = BatchPlan(lengths, 512, 64, seed=0).epoch(0)
    two = BatchPlan(lengths, 512, 64, seed=other[0]).epoch(other[1])
    assert flat(one) != flat(two)
    assert not {frozenset(b.tolist()) for b in one} & {frozenset(b.tolist()) for b in two}


def test_batches_of_an_epoch_are_not_sorted_by_length() -> None:
    lengths = np.random.default_rng(0).integers(5, 60, 2000)
    means = [lengths[b].mean() for b in BatchPlan(lengths, 512, 64).epoch(0)]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.2


def test_lengths_like_a_review_corpus_are_padded_by_less_than_5_percent() -> None:
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(3.0, 0.5, 7000).astype(np.int64), 3, 256)
    assert padding_share(BatchPlan(lengths, 1024, 512).epoch(0), lengths) < 0.05


def test_lengths_of_sst2_are_padded_by_less_than_5_percent() -> None:
    path = DATA / "sst2" / "train.tsv"
    if not path.exists():
        pytest.skip(f"{path}: no such file; set NLPKIT_DATA")
    lengths = np.array([2 + len(line.split()) for line in path.read_text("utf-8").splitlines()[1:]], np.int64)
    plan = BatchPlan(lengths, round(16 * lengths.mean()), 10_000)
    assert padding_share(plan.epoch(0), lengths) < 0.05


def test_no_examples_make_no_batches() -> None:
    nothing = np.zeros(0, np.int64)
    assert BatchPlan(nothing, 100, 10).epoch(0) == []
    assert cut(nothing, nothing, 100, 10) == []
    assert list(sorted_batches([], 100, 10)) == []


@settings(max_examples=40, deadline=None)
@given(SINGLE, st.integers(1, 2000), st.integers(1, 64))
def test_sorted_batches_hold_every_example_once_longest_first(
    lengths: NDArray[np.int64], tokens: int, rows: int
) -> None:
    order = flat(list(sorted_batches(lengths.tolist(), tokens, rows)))
    assert sorted(order) == list(range(len(lengths)))
    assert (np.diff(lengths[order]) <= 0).all()


def test_pairs_of_lengths_have_little_padding() -> None:
    rng = np.random.default_rng(0)
    first = rng.poisson(14, 29_000) + 2
    pairs = np.stack([first, np.maximum(2, first + rng.normal(0, 3, len(first)).round().astype(np.int64))], 1)
    plan = BatchPlan(pairs, 2048, 2048)
    assert padding_share(plan.epoch(0), pairs) < 0.1
    by_sum = cut(np.argsort(pairs.sum(1), kind="stable"), pairs, 2048, 2048)
    assert padding_share(plan.epoch(0), pairs) < padding_share(by_sum, pairs)


@given(PAIRS)
def test_an_order_by_pairs_of_lengths_rises_in_the_last_and_turns_in_the_first(pairs: NDArray[np.int64]) -> None:
    ordered = pairs[by_length(pairs)].tolist()
    assert sorted(ordered) == sorted(pairs.tolist())
    for (first, last), (first_after, last_after) in itertools.pairwise(ordered):
        assert last < last_after or (
            last == last_after and (first <= first_after if last % 2 else first >= first_after)
        )
