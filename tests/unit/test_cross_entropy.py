"""Cross entropy in stretches, and its two forms, against torch's own in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from nlpkit.objectives import cross_entropy
from nlpkit.objectives.cross_entropy import _slope_on_cpu, _slope_on_gpu

Form = Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]


@pytest.mark.parametrize("form", [_slope_on_cpu, _slope_on_gpu])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_both_forms_give_nats_and_slope(form: Form, dtype: torch.dtype, smoothing: float) -> None:
    draw = torch.Generator().manual_seed(0)
    logits = (30 * torch.randn(8, 50, generator=draw)).to(dtype)
    targets = torch.randint(0, 50, (5,), generator=draw)
    exact = logits[:5].double().requires_grad_()
    expected = nn.functional.cross_entropy(exact, targets, reduction="sum", label_smoothing=smoothing)
    expected.backward()
    nats, slope = form(logits.clone(), targets.unsqueeze(1), smoothing)
    assert float(nats) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert exact.grad is not None
    eps = torch.finfo(slope.dtype).eps
    torch.testing.assert_close(slope[:5].double(), exact.grad, rtol=max(1e-4, eps), atol=1e-6)
    assert not slope[5:].any()


@pytest.mark.parametrize("form", [_slope_on_cpu, _slope_on_gpu])
def test_the_slope_of_an_answer_that_is_nearly_sure_is_not_rounded_away(form: Form) -> None:
    logits = torch.zeros(1, 50, dtype=torch.bfloat16)
    logits[0, 7] = 10.0
    exact = logits.double().requires_grad_()
    nn.functional.cross_entropy(exact, torch.tensor([7])).backward()
    _, slope = form(logits, torch.tensor([[7]]), 0.0)
    assert exact.grad is not None
    assert float(slope[0, 7]) == pytest.approx(float(exact.grad[0, 7]), rel=0.01)


@pytest.mark.parametrize("form", [_slope_on_cpu, _slope_on_gpu])
@pytest.mark.parametrize("bias", [True, False])
def test_the_sum_over_stretches_has_the_gradients_of_the_whole(
    form: Form, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cross_entropy, "_slope_on_cpu", form)
    torch.manual_seed(0)
    output, states = nn.Linear(6, 20, bias=bias), torch.randn(1100, 6, requires_grad=True)
    labels = torch.randint(0, 20, (1100,))
    nn.functional.cross_entropy(output(states), labels, reduction="sum").backward()
    weights = [states, *output.parameters()]
    expected = [w.grad.clone() for w in weights if w.grad is not None]
    for weight in weights:
        weight.grad = None
    cross_entropy.summed(states, output, labels).backward()
    for weight, gradient in zip(weights, expected, strict=True):
        torch.testing.assert_close(weight.grad, gradient, rtol=1e-4, atol=1e-4)
