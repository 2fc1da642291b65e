"""The CRF against the sum over all sequences, one by one."""

from __future__ import annotations

import itertools

import pytest
import torch
from nlpkit_ner.crf import CRF
from nlpkit_ner.transitions import allowed, allowed_first, allowed_inside
from torch import Tensor

TYPES, TAGS = 2, 5
LENGTHS = torch.tensor([4, 2, 1])
INSIDE = torch.tensor([[False, True, False, True], [False, True, False, False], [True, False, False, False]])
both_ways = pytest.mark.parametrize("inside", [None, INSIDE], ids=["tokens", "words"])


@pytest.fixture
def crf() -> CRF:
    torch.manual_seed(0)
    crf = CRF(TYPES).double()
    with torch.no_grad():
        for parameter in crf.parameters():
            parameter.normal_()
    return crf


@pytest.fixture
def scores() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(3, 4, TAGS, dtype=torch.float64)


def all_paths(length: int) -> Tensor:
    """Every sequence, legal or not: (C ** length, length)."""
    return torch.tensor(list(itertools.product(range(TAGS), repeat=length)))


def weights(crf: CRF, scores: Tensor, row: int, inside: Tensor | None) -> Tensor:
    """exp of the score of every sequence of a row, 0 of an illegal one."""
    length, found = int(LENGTHS[row]), []
    for path in all_paths(length).tolist():
        legal = bool(allowed_first(TYPES)[path[0]])
        total = crf.start[path[0]] + crf.end[path[-1]] + sum(scores[row, t, tag] for t, tag in enumerate(path))
        for place, (a, b) in enumerate(itertools.pairwise(path), 1):
            glued = inside is not None and bool(inside[row, place])
            legal &= bool((allowed_inside if glued else allowed)(TYPES)[a, b])
            total = total + crf.transitions[a, b]
        found.append(total.exp() * legal)
    return torch.stack(found).detach()


@both_ways
def test_probabilities_equal_those_of_trying_all(crf: CRF, scores: Tensor, inside: Tensor | None) -> None:
    for row, length in enumerate(LENGTHS.tolist()):
        paths = all_paths(length)
        expected = weights(crf, scores, row, inside)
        found = crf.log_likelihood(
            scores[row, :length].expand(len(paths), -1, -1),
            paths,
            torch.full((len(paths),), length),
            None if inside is None else inside[row, :length].expand(len(paths), -1),
        ).exp()
        torch.testing.assert_close(found.detach(), expected / expected.sum())
        assert float(found.detach().sum()) == pytest.approx(1)
        assert not found[expected == 0].any()


@both_ways
def test_a_tag_that_is_not_given_may_be_any(crf: CRF, scores: Tensor, inside: Tensor | None) -> None:
    tags = torch.tensor([[-100, -100, 0, -100], [0, -100, -100, -100], [-100] * 4])
    found = crf.log_likelihood(scores, tags, LENGTHS, inside)
    for row, length in enumerate(LENGTHS.tolist()):
        each, paths, given = weights(crf, scores, row, inside), all_paths(length), tags[row, :length]
        fits = ((paths == given) | (given < 0)).all(1)
        torch.testing.assert_close(found[row].exp(), each[fits].sum() / each.sum())


@both_ways
def test_decode_gives_the_likeliest(crf: CRF, scores: Tensor, inside: Tensor | None) -> None:
    tags = crf.decode(scores, LENGTHS, inside)
    for row, length in enumerate(LENGTHS.tolist()):
        best = all_paths(length)[weights(crf, scores, row, inside).argmax()]
        assert tags[row].tolist() == [*best.tolist(), *[0] * (4 - length)]


@both_ways
def test_marginals_equal_those_of_trying_all(crf: CRF, scores: Tensor, inside: Tensor | None) -> None:
    found = crf.marginals(scores, LENGTHS, inside)
    for row, length in enumerate(LENGTHS.tolist()):
        each = weights(crf, scores, row, inside)
        ones = torch.nn.functional.one_hot(all_paths(length), TAGS).double()  # (paths, T, C)
        expected = torch.einsum("p,ptc->tc", each / each.sum(), ones)
        torch.testing.assert_close(found[row, :length], expected)
        assert not found[row, length:].any()


@both_ways
def test_gradients_equal_differences(crf: CRF, scores: Tensor, inside: Tensor | None) -> None:
    tags = torch.tensor([[1, 2, 3, 4], [3, 4, -100, -100], [1, -100, -100, -100]])
    inputs = (scores.requires_grad_(), crf.transitions, crf.start, crf.end)
    assert torch.autograd.gradcheck(lambda scores, *_: crf.log_likelihood(scores, tags, LENGTHS, inside), inputs)


@both_ways
def test_padding_changes_nothing(crf: CRF, scores: Tensor, inside: Tensor | None) -> None:
    tags = torch.tensor([[1, 2, 3, 4], [3, 4, -100, -100], [1, -100, -100, -100]])
    real = torch.arange(4) < LENGTHS.unsqueeze(1)
    odd = torch.where(real.unsqueeze(2), scores, torch.nan).requires_grad_()
    together = crf.log_likelihood(odd, tags, LENGTHS, inside)
    together.sum().backward()
    assert odd.grad is not None and odd.grad.isfinite().all() and not odd.grad[~real].any()
    for row, length in enumerate(LENGTHS.tolist()):
        kept = slice(row, row + 1), slice(length)
        words = None if inside is None else inside[kept]
        lone = crf.log_likelihood(scores[kept], tags[kept], LENGTHS[kept[0]], words)
        torch.testing.assert_close(together[row], lone[0])
        for method in (crf.decode, crf.marginals):
            several, one = method(odd, LENGTHS, inside), method(scores[kept], LENGTHS[kept[0]], words)
            torch.testing.assert_close(several[row, :length], one[0])


def test_a_text_without_tokens_is_certain(crf: CRF, scores: Tensor) -> None:
    none = torch.zeros(3, dtype=torch.int64)
    assert crf.log_likelihood(scores, torch.full((3, 4), -100), none).tolist() == [0, 0, 0]
    assert not crf.marginals(scores, none).any()
    assert not crf.decode(scores, none).any()


def test_marginals_work_where_autograd_is_off(crf: CRF, scores: Tensor) -> None:
    expected = crf.marginals(scores, LENGTHS, INSIDE)
    with torch.inference_mode():
        assert torch.equal(crf.marginals(scores.clone(), LENGTHS.clone(), INSIDE.clone()), expected)
    assert not expected.requires_grad


def test_a_long_text_in_bfloat16_has_finite_gradients_and_none_for_what_is_illegal() -> None:
    torch.manual_seed(0)
    crf, length = CRF(TYPES), torch.tensor([300])
    scores, inside = torch.randn(1, 300, TAGS).bfloat16(), torch.rand(1, 300) < 0.5
    tags = crf.decode(scores, length, inside)
    found = crf.log_likelihood(scores, tags, length, inside)
    found.sum().backward()
    assert found.dtype == torch.float32
    assert -3 * 300 < float(found.detach()) < 0
    for parameter in crf.parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any()
    assert crf.transitions.grad is not None and not crf.transitions.grad[~allowed(TYPES)].any()


def test_it_learns_what_follows_what() -> None:
    """Scores say nothing, yet the order of tags is learnt: B I O again and again."""
    crf, tags, lengths = CRF(TYPES), torch.tensor([[1, 2, 0] * 3]), torch.tensor([9])
    scores = torch.zeros(1, 9, TAGS)
    optimiser = torch.optim.Adam(crf.parameters(), lr=0.3)
    for _ in range(30):
        optimiser.zero_grad()
        (-crf.log_likelihood(scores, tags, lengths).sum()).backward()
        optimiser.step()
    assert torch.equal(crf.decode(scores, lengths), tags)


def test_only_its_parameters_are_saved() -> None:
    assert set(CRF(1).state_dict()) == {"transitions", "start", "end"}
