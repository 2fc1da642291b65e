"""Legal tags: the rules, and that the best legal sequence is found whatever the scores."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from nlpkit_ner.transitions import allowed, allowed_first, allowed_inside, going_on, viterbi
from torch import Tensor

from nlpkit.errors import DivergedError

HINT = "fit again with a lower optim.learning_rate"
Problem = tuple[Tensor, Tensor, Tensor, Tensor]


def names(types: int) -> list[str]:
    return ["O", *(f"{prefix}-{i}" for i in range(types) for prefix in "BI")]


def is_legal(path: Sequence[str], inside: Sequence[bool]) -> bool:
    for place, tag in enumerate(path):
        before = path[place - 1] if place else "O"
        if tag[0] == "I" and before[1:] != tag[1:]:
            return False
        if place and inside[place] and (tag[0] == "B" or (tag == "O" and before != "O")):
            return False
    return True


def legal_paths(types: int, inside: Sequence[bool]) -> list[tuple[int, ...]]:
    tags = names(types)
    paths = itertools.product(range(len(tags)), repeat=len(inside))
    return [path for path in paths if is_legal([tags[tag] for tag in path], inside)]


def total(path: Sequence[int], scores: Tensor, costs: Tensor) -> float:
    steps = sum(float(costs[a, b]) for a, b in itertools.pairwise(path))
    return steps + sum(float(scores[place, tag]) for place, tag in enumerate(path))


def random_problem(seed: int) -> Problem:
    """Scores (B, T, C), lengths (B,), costs (C, C) and inside (B, T)."""
    torch.manual_seed(seed)
    batch, length, types = (int(torch.randint(low, high, ())) for low, high in ((1, 4), (1, 5), (0, 3)))
    scores, costs = (10 * torch.randn(*shape, 1 + 2 * types) for shape in ((batch, length), (1 + 2 * types,)))
    return scores, torch.randint(0, length + 1, (batch,)), costs, torch.rand(batch, length) < 0.3


@st.composite
def odd_problems(draw: st.DrawFn) -> Problem:
    """The same with huge, tiny and infinite scores, and often equal ones."""
    batch, length, tags = draw(st.integers(1, 3)), draw(st.integers(1, 7)), 1 + 2 * draw(st.integers(0, 2))
    elements = st.floats(width=32, allow_nan=False)
    scores, costs = (
        torch.from_numpy(draw(arrays(np.float32, shape, elements=elements)))
        for shape in ((batch, length, tags), (tags, tags))
    )
    lengths = draw(st.lists(st.integers(0, length), min_size=batch, max_size=batch))
    return scores, torch.tensor(lengths), costs, torch.from_numpy(draw(arrays(bool, (batch, length))))


def assert_best(tags: Tensor, problem: Problem) -> None:
    scores, lengths, costs, inside = problem
    for row, length in enumerate(lengths.tolist()):
        paths = legal_paths(scores.size(2) // 2, inside[row, :length].tolist())
        found = tuple(tags[row, :length].tolist())
        assert found in paths
        best = max(total(path, scores[row], costs) for path in paths)
        assert total(found, scores[row], costs) == pytest.approx(best, rel=1e-5, abs=1e-3)
        assert not tags[row, length:].any()


def test_tables_equal_the_rules_of_the_names() -> None:
    tags = names(3)
    for (i, before), (j, after) in itertools.product(enumerate(tags), repeat=2):
        begun = ["B" + before[1:], before] if before[0] == "I" else [before]
        unglued = [False] * len(begun)
        assert allowed(3)[i, j] == is_legal([*begun, after], [*unglued, False])
        assert allowed_inside(3)[i, j] == is_legal([*begun, after], [*unglued, True])
    assert allowed_first(3).tolist() == [is_legal([tag], [False]) for tag in tags]


def test_the_best_by_legality_alone_equals_that_of_trying_all() -> None:
    for scores, lengths, costs, inside in map(random_problem, range(60)):
        assert_best(viterbi(scores, lengths, None, inside), (scores, lengths, torch.zeros_like(costs), inside))


def test_the_best_with_transitions_equals_that_of_trying_all() -> None:
    for scores, lengths, costs, inside in map(random_problem, range(60)):
        assert_best(viterbi(scores, lengths, costs, inside), (scores, lengths, costs, inside))


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(odd_problems(), st.booleans(), st.booleans())
def test_the_answer_is_legal_whatever_the_scores(problem: Problem, with_costs: bool, with_words: bool) -> None:
    scores, lengths, costs, inside = problem
    inside = inside & with_words
    found = viterbi(scores, lengths, costs if with_costs else None, inside if with_words else None)
    tags = names(scores.size(2) // 2)
    for row, length in enumerate(lengths.tolist()):
        assert is_legal([tags[tag] for tag in found[row, :length]], inside[row, :length].tolist())
        assert not found[row, length:].any()


def test_a_long_batch_by_legality_alone_equals_transitions_of_zero() -> None:
    torch.manual_seed(0)
    scores, lengths, inside = torch.randn(6, 200, 9), torch.randint(1, 201, (6,)), torch.rand(6, 200) < 0.3
    alone, with_zeros = (viterbi(scores, lengths, costs, inside) for costs in (None, torch.zeros(9, 9)))
    assert torch.equal(alone, with_zeros)
    assert len(alone.unique()) == 9


def test_pieces_of_a_word_stay_together_though_each_alone_says_otherwise() -> None:
    scores = torch.tensor([[[0.0, 3, 0], [2.0, 0, 1], [0.0, 9, 0]]])  # O B-x I-x; alone: B O B
    inside = torch.tensor([[False, True, True]])
    assert viterbi(scores, torch.tensor([3])).tolist() == [[1, 0, 1]]
    assert viterbi(scores, torch.tensor([3]), inside=inside).tolist() == [[1, 2, 2]]


def test_the_first_token_is_never_inside() -> None:
    scores, first = torch.tensor([[[0.0, 1, 5], [0.0, 1, 5]]]), torch.tensor([[True, False]])
    assert viterbi(scores, torch.tensor([2]), inside=first).tolist() == [[1, 2]]


@pytest.mark.parametrize("costs", [None, torch.zeros(5, 5)])
def test_infinite_scores_choose_and_rule_out(costs: Tensor | None) -> None:
    scores = torch.zeros(1, 3, 5)
    scores[0, 0, 3] = scores[0, 2, 1] = torch.inf
    scores[0, 1, [0, 1, 3]] = -torch.inf
    assert viterbi(scores, torch.tensor([3]), costs).tolist() == [[3, 4, 1]]


def test_nan_is_refused() -> None:
    scores = torch.zeros(2, 3, 5)
    scores[1, 2, 0] = torch.nan
    with pytest.raises(DivergedError) as error:
        viterbi(scores, torch.tensor([3, 3]))
    assert error.value.message == "the score of a tag is nan, expected a number"
    assert error.value.hint == HINT
    assert viterbi(scores, torch.tensor([3, 2])).tolist() == [[0, 0, 0]] * 2  # behind the length nothing is read


def test_nan_in_the_transitions_is_refused() -> None:
    with pytest.raises(DivergedError) as error:
        viterbi(torch.zeros(1, 2, 3), torch.tensor([2]), torch.full((3, 3), torch.nan))
    assert error.value.message == "the score of a transition is nan, expected a number"
    assert error.value.hint == HINT


def test_bfloat16_is_summed_without_loss() -> None:
    torch.manual_seed(0)
    scores, lengths = (torch.randn(1, 2000, 5) + 8).bfloat16(), torch.tensor([2000])  # 16000 in steps of 64 in bfloat16
    assert torch.equal(viterbi(scores, lengths), viterbi(scores.float(), lengths))


@pytest.mark.parametrize("shape", [(0, 4, 5), (2, 0, 5), (0, 0, 5)])
def test_nothing_has_no_tags(shape: tuple[int, int, int]) -> None:
    tags = viterbi(torch.zeros(shape), torch.zeros(shape[0], dtype=torch.int64))
    assert tags.shape == shape[:2]
    assert tags.dtype == torch.int64


def test_scores_stay_as_they_are_and_may_be_of_training_or_inference() -> None:
    training = torch.randn(1, 4, 3, requires_grad=True)
    before = training.detach().clone()
    tags = viterbi(training, torch.tensor([4]))
    assert torch.equal(training.detach(), before)
    with torch.inference_mode():
        assert torch.equal(viterbi(before.clone(), torch.tensor([4]), torch.zeros(3, 3)), tags)


@given(st.integers(0, 1000))
def test_pieces_of_a_word_go_on_as_its_first(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    tags = torch.randint(0, 7, (3, 8), generator=generator)
    inside = torch.rand(3, 8, generator=generator) < 0.5
    found = going_on(tags, inside).tolist()
    for row, words in zip(found, inside.tolist(), strict=True):
        for place in range(1, 8):
            if words[place]:
                assert row[place] == {0: 0}.get(row[place - 1], (row[place - 1] + 1) // 2 * 2)
    kept = ~inside | (torch.arange(8) == 0)
    assert torch.equal(torch.tensor(found)[kept], tags[kept])
