"""Cross entropy over a vocabulary from the states that are projected to it: never all logits at once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from nlpkit.listening import is_heard

ROWS = 512  # states whose logits exist at a time: 1.3 times as fast as all of them, and a fraction of the memory
_LOGITS = 2**28  # on a GPU, which wants more at a time: 2 GB with their slopes
_WHOLE = 64  # in bfloat16 oneDNN keeps a kernel and memory for each number of rows it meets: gigabytes in the end


def summed(states: Tensor, output: nn.Linear, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Summed cross entropy in nats.

    Args:
        states: what the output layer gets, (N, D).
        output: D to V.
        labels: the right class of each state, (N,).
        smoothing: share that is spread over all classes (label smoothing, Szegedy et al. 2016).
    """
    device = states.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    total: Tensor = _InStretches.apply(states, output.weight, output.bias, labels, dtype, smoothing)
    return total


def is_plain(output: Any) -> bool:
    """Whether an output layer is torch's own, and nobody listens at it or has changed it."""
    return type(output) is nn.Linear and not is_heard(output)


@contextlib.contextmanager
def passing(output: nn.Linear) -> Iterator[None]:
    """Let the output layer give what it gets while the ``with`` block lasts, so that a class gives the states."""
    output.forward = lambda input: input  # type: ignore[method-assign]
    try:
        yield
    finally:
        del output.forward


def in_whole_rows(project: Callable[[Tensor], Tensor], places: Tensor) -> Tensor:
    """Project places (N, D) to (N, V) with N filled up to a multiple of 64, so that few sizes are met."""
    return project(_filled(places))[: len(places)]


def _filled(rows: Tensor) -> Tensor:
    return nn.functional.pad(rows, (0, 0, 0, -len(rows) % _WHOLE)) if len(rows) % _WHOLE else rows


def _slope_on_cpu(logits: Tensor, targets: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """Summed cross entropy of logits (N or more, V) with N targets (N, 1), and its gradient; overwrites the logits."""
    whole = logits.float()
    logits, rest = whole[: len(targets)], whole[len(targets) :]
    answers = logits.gather(1, targets)
    if smoothing:
        answers = torch.lerp(answers, logits.mean(1, keepdim=True), smoothing)
    top = logits.amax(1, keepdim=True)
    norm = logits.sub_(top).exp_().sum(1, keepdim=True)  # of what were the logits, to save memory and time
    nats = (norm.log() + top - answers).sum()
    logits.div_(norm).scatter_add_(1, targets, torch.full_like(answers, smoothing - 1))
    if smoothing:
        logits.sub_(smoothing / logits.size(1))
    rest.zero_()
    return nats, whole


def _slope_on_gpu(logits: Tensor, targets: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """The same with as few passes through memory as torch's own operations allow; twice as slow on a CPU."""
    some, rest = logits[: len(targets)], logits[len(targets) :]
    likely = torch.log_softmax(some, 1, dtype=torch.float32)
    answers = likely.gather(1, targets)
    slope = (answers.expm1() + smoothing).to(some.dtype)  # p - 1, before it is rounded
    torch.exp(likely, out=some).scatter_(1, targets, slope)
    if smoothing:
        some.sub_(smoothing / some.size(1))
        answers = torch.lerp(answers, likely.mean(1, keepdim=True), smoothing)
    rest.zero_()
    return -answers.sum(), logits


class _InStretches(torch.autograd.Function):
    """Gradients are made on the way, while the logits of a stretch exist."""

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        dtype: torch.dtype | None,
        smoothing: float,
    ) -> Tensor:
        needs, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        weight_as, bias_as = weight.to(dtype or weight.dtype), None if bias is None else bias.to(dtype or bias.dtype)
        total = states.new_zeros((), dtype=torch.float32)
        of_states, of_weight = torch.empty_like(states), torch.zeros_like(weight) if needs_weight else None
        of_bias = torch.zeros_like(bias) if needs_bias and bias is not None else None
        rows = max(ROWS, _LOGITS // len(weight)) if states.is_cuda else ROWS
        for some, right, into in zip(states.split(rows), labels.split(rows), of_states.split(rows), strict=True):
            filled = _filled(some.to(weight_as.dtype))
            logits = nn.functional.linear(filled, weight_as, bias_as)
            nats, slope = (_slope_on_gpu if logits.is_cuda else _slope_on_cpu)(logits, right.unsqueeze(1), smoothing)
            total += nats
            if of_bias is not None:
                of_bias += slope.sum(0, dtype=of_bias.dtype)
            slope = slope.to(weight_as.dtype)
            if needs:
                into.copy_((slope @ weight_as)[: len(some)])
            if of_weight is not None and of_weight.dtype == slope.dtype:
                of_weight.addmm_(slope.T, filled)
            elif of_weight is not None:
                of_weight += slope.T @ filled
        ctx.save_for_backward(of_states, of_weight, of_bias)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return *(None if of is None else of * gradient for of in ctx.saved_tensors), None, None, None
