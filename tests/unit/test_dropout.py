"""Quick dropout has torch's distribution, repeats with the seed, and leaves alone what it does not know."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nlpkit.dropout import quick_dropout
from tests.support import tiny_runs

BODY = nn.Linear(1, 1)


def _drop(x: Tensor, p: float) -> Tensor:
    with quick_dropout(BODY):
        return nn.functional.dropout(x, p)


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5, 0.9])
def test_the_share_of_zeros_and_the_scale_are_those_of_dropout(p: float) -> None:
    torch.manual_seed(0)
    made = _drop(torch.ones(1000, 1000), p)
    zeros = float((made == 0).double().mean())
    assert zeros == pytest.approx(p, abs=5 * (p * (1 - p) / 1e6) ** 0.5 + 1e-5)
    assert made.unique().tolist() == pytest.approx([0, 1 / (1 - p)], rel=1e-4)


def test_places_are_dropped_by_themselves() -> None:
    torch.manual_seed(0)
    kept = (_drop(torch.ones(400, 2048), 0.3) != 0).double() - 0.7
    for distance in (1, 2, 3, 4, 64, 512):
        assert abs(float((kept[:, distance:] * kept[:, :-distance]).mean())) < 5 * 0.21 / 8e5**0.5
    assert abs(float((kept[1:] * kept[:-1]).mean())) < 5 * 0.21 / 8e5**0.5


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 7), max_size=4), st.floats(0.001, 0.999), st.integers(0, 1000))
def test_any_shape_and_share_repeats_with_the_seed(shape: list[int], p: float, seed: int) -> None:
    x = torch.full(shape, 2.0)
    torch.manual_seed(seed)
    one = _drop(x, p)
    torch.manual_seed(seed)
    assert one.shape == x.shape
    torch.testing.assert_close(_drop(x, p), one, rtol=0, atol=0)
    assert bool(((one == 0) | ((one * (1 - p) - 2).abs() < 0.05)).all())


def test_the_gradient_has_the_mask_of_the_value() -> None:
    x = torch.ones(50, 50, requires_grad=True)
    made = _drop(x.t(), 0.4)
    made.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, made.detach().t(), rtol=0, atol=0)


@pytest.mark.parametrize("p", [0.0, 1.0])
@pytest.mark.parametrize("training", [True, False])
def test_none_and_all_are_torchs(p: float, training: bool) -> None:
    x = torch.randn(5, 5)
    with quick_dropout(BODY):
        torch.testing.assert_close(nn.functional.dropout(x, p, training), x * (0.0 if p and training else 1.0))


@pytest.mark.parametrize("change", [{"dtype": torch.float64}, {"inplace": True}])
def test_what_is_not_plain_is_drawn_as_ever(change: dict[str, Any]) -> None:
    x, inplace = torch.ones(100, dtype=change.get("dtype")), change.get("inplace", False)
    torch.manual_seed(0)
    expected = nn.functional.dropout(x.clone(), 0.5)
    torch.manual_seed(0)
    with quick_dropout(BODY):
        torch.testing.assert_close(nn.functional.dropout(x.clone(), 0.5, inplace=inplace), expected)


MASKS = {
    "none": None,
    "true": torch.tensor([[True, True, False], [True, False, False]])[:, None, None],
    "added": torch.randn(2, 1, 4, 3, generator=torch.Generator().manual_seed(1)),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("scale", [None, 0.3])
def test_attention_drops_probabilities_and_has_the_mean_of_attention(mask: str, scale: float | None) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 5, n, 8, generator=generator, requires_grad=True) for n in (4, 3, 3))
    attend = nn.functional.scaled_dot_product_attention
    expected = attend(query, key, value, MASKS[mask], scale=scale)
    torch.manual_seed(0)
    with quick_dropout(BODY):
        some = [attend(query, key, value, MASKS[mask], 0.2, scale=scale) for _ in range(2000)]
    mean = torch.stack(some).mean(0)
    spread = torch.stack(some).std(0).mean()
    assert float((mean - expected).detach().abs().mean()) < 2 * float(spread) / 2000**0.5
    for ours, theirs in zip(
        *(torch.autograd.grad(m.sum(), (query, key, value)) for m in (mean, expected)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=0.1, atol=0.08)


@pytest.mark.parametrize("mask", MASKS)
def test_attention_without_a_drop_in_its_mask_is_torchs(mask: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nlpkit.dropout._mask", lambda like, _: torch.ones(like.shape))
    query, key, value = (torch.randn(2, 5, n, 8) for n in (4, 3, 3))
    attend = nn.functional.scaled_dot_product_attention
    with quick_dropout(BODY):
        found = attend(query, key, value, MASKS[mask], 0.2)
    torch.testing.assert_close(found, attend(query, key, value, MASKS[mask]))


def test_causal_attention_is_torchs() -> None:
    query, key, value = (torch.randn(1, 2, 4, 8) for _ in range(3))
    outcomes = []
    for quick in (True, False):
        torch.manual_seed(0)
        with quick_dropout(BODY if quick else BODY.eval()):
            outcomes.append(nn.functional.scaled_dot_product_attention(query, key, value, None, 0.3, True))
        BODY.train()
    torch.testing.assert_close(*outcomes)


@pytest.mark.parametrize("mask", [torch.zeros(1, 1, 1, 3, dtype=torch.bool), torch.full((1, 1, 1, 3), -torch.inf)])
def test_a_row_that_may_look_at_nothing_gives_numbers(mask: Tensor) -> None:
    query, key, value = (torch.randn(1, 1, 3, 4, requires_grad=True) for _ in range(3))
    with quick_dropout(BODY):
        made = nn.functional.scaled_dot_product_attention(query, key, value, mask, 0.1)
    made.sum().backward()
    assert made.isfinite().all() and query.grad is not None and query.grad.isfinite().all()


@pytest.mark.parametrize("reentrant", [True, False])
def test_what_is_computed_again_outside_has_the_gradient_of_its_mask(reentrant: bool) -> None:
    x = torch.ones(100, 100, requires_grad=True)
    with quick_dropout(BODY):
        made = checkpoint(lambda x: nn.functional.dropout(x, 0.5) * x, x, use_reentrant=reentrant)
    made.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, 2 * made.detach())


def test_training_drops_quickly_and_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    from nlpkit import dropout

    task, drawn, mask = tiny_runs.sentiment(), [], dropout._mask
    monkeypatch.setattr(dropout, "_mask", lambda *given: drawn.append(1) or mask(*given))
    module = tiny_runs.make_module(task)
    batch = task.collate([task.encode(example) for example in tiny_runs.examples()[:4]])
    losses = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        losses.append(float(module.loss_of(batch)))
    layers = module.backbone.config.num_hidden_layers
    assert len(drawn) >= 3 * 3 * layers
    assert losses[0] == losses[1] != losses[2]
    drawn.clear()
    module.eval().loss_of(batch)
    assert not drawn


def test_what_runs_again_on_the_way_back_has_torchs_dropout() -> None:
    task = tiny_runs.sentiment()
    module = tiny_runs.make_module(task)
    module.backbone.gradient_checkpointing_enable({"use_reentrant": False})
    batch = task.collate([task.encode(example) for example in tiny_runs.examples()[:4]])
    torch.manual_seed(0)
    module.loss_of(batch).backward()
    weight = next(p for n, p in module.backbone.named_parameters() if n.endswith("weight") and p.grad is not None)
    found = weight.grad.clone()
    module.zero_grad()
    module.backbone.gradient_checkpointing_disable()
    torch.manual_seed(0)
    module.head.loss_from(module.hidden(batch), batch).backward()  # no quick dropout outside of the loss as a whole
    torch.testing.assert_close(found, weight.grad, rtol=1e-4, atol=1e-7)
