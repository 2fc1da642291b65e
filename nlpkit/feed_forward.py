"""Feed-forward layers on a CPU, in training, a slice of places at a time: the same sums in less memory, and faster.

A layer widens each place fourfold, and plain torch keeps the widened states of a whole batch twice, before and after
the activation. Here a slice stays in the processor's cache, and only what was before the activation is kept.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.activations import GELUActivation
from transformers.pytorch_utils import Conv1D

from nlpkit.activation import FusedGELU
from nlpkit.listening import is_heard, runs_as_written

_SLICE = 1024


@contextlib.contextmanager
def sliced(body: nn.Module) -> Iterator[None]:
    """In training, feed-forward layers of a known kind work by slices while the ``with`` block lasts.

    A layer is computed as ever on other devices, in other types than float32, with other activations than GELU, with
    weights that are frozen or no plain matrices with a bias (LoRA's), and where somebody listens at a part of it or has
    changed it; so are all with gradient checkpointing, which runs them again after the block, and compiled ones.

    Args:
        body: a transformers model without its head.
    """
    usual = not body.training or torch.is_autocast_enabled("cpu") or not runs_as_written(body)
    known = [] if usual else list(_known(body))
    for module, name, forward in known:
        setattr(module, name, partial(forward, module, getattr(module, name)))
    try:
        yield
    finally:
        for module, name, _ in known:
            delattr(module, name)


def _known(body: nn.Module) -> Iterator[tuple[nn.Module, str, Callable[..., Tensor]]]:
    for module in body.modules():
        kind = _KINDS.get(type(module).__name__)
        if kind and _of_transformers(module) and kind[0] not in vars(module):
            yield module, *kind


def _bert(layer: Any, usual: Callable[[Tensor], Tensor], hidden: Tensor) -> Tensor:
    parts = layer.intermediate.dense, layer.intermediate.intermediate_act_fn, layer.output.dense
    around = layer.intermediate, layer.output
    if not _plain(hidden, *parts) or is_heard(*parts, *around) or not all(map(_of_transformers, around)):
        return usual(hidden)
    made = _apply(hidden, *parts)
    return layer.output.LayerNorm(layer.output.dropout(made) + hidden)


def _gpt2(layer: Any, usual: Callable[[Tensor], Tensor], hidden: Tensor) -> Tensor:
    parts = layer.c_fc, layer.act, layer.c_proj
    if not _plain(hidden, *parts) or is_heard(*parts):
        return usual(hidden)
    return layer.dropout(_apply(hidden, *parts))


def _plain(hidden: Tensor, up: Any, activation: Any, down: Any) -> bool:
    """Whether the states are float32 on a CPU, and the parts torch's own, with weights that learn."""
    gelu = type(activation) is GELUActivation and activation.act is nn.functional.gelu
    maps = (type(m) in (nn.Linear, Conv1D) and m.bias is not None and m.weight.requires_grad for m in (up, down))
    fits = hidden.device.type == "cpu" and hidden.dtype == torch.float32
    return fits and (gelu or type(activation) is FusedGELU) and all(maps)


def _of_transformers(module: nn.Module) -> bool:
    return type(module).__module__.startswith("transformers.models.")


def _apply(hidden: Tensor, up: Any, activation: Any, down: Any) -> Tensor:
    flat = hidden.reshape(-1, hidden.size(-1))
    approximate = "tanh" if type(activation) is FusedGELU else "none"
    made = _Slices.apply(flat, _matrix(up), up.bias, _matrix(down), down.bias, approximate)
    return made.view(hidden.shape)


def _matrix(part: Any) -> Tensor:
    """The weights as (in, out)."""
    return part.weight if type(part) is Conv1D else part.weight.t()


class _Slices(torch.autograd.Function):
    """A linear map, GELU and another linear map of (N, D), wide (D, F) and back (F, D)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, up: Tensor, up_bias: Tensor, down: Tensor, bias: Tensor, approximate: str
    ) -> Tensor:
        """Returns (N, D)."""
        made, wide = x.new_empty(len(x), down.size(1)), []
        for part, into in zip(x.split(_SLICE), made.split(_SLICE), strict=True):
            wide.append(torch.addmm(up_bias, part, up))
            after = nn.functional.gelu(wide[-1], approximate=approximate)
            torch.addmm(bias, after, down, out=into)
        if len(wide) == 1:  # of a single slice it is little memory, and worth the time
            wide.append(after)
        ctx.save_for_backward(x, up, down, *wide)
        ctx.approximate = approximate
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The activation of several slices is worked out again."""
        x, up, down, *wide = ctx.saved_tensors
        gradient = gradient.contiguous()
        to_x = torch.empty_like(x)
        # laid out as the weights are, or each would be copied once more; nothing is read from them at first
        to_up, to_up_bias, to_down = torch.empty_like(up), up.new_zeros(up.size(1)), torch.empty_like(down)
        kept = wide.pop() if len(x) <= _SLICE else None
        slices = (x.split(_SLICE), to_x.split(_SLICE), gradient.split(_SLICE), wide)
        for i, (part, to_part, back, before) in enumerate(zip(*slices, strict=True)):
            after = nn.functional.gelu(before, approximate=ctx.approximate) if kept is None else kept
            torch.addmm(to_down, after.t(), back, beta=min(i, 1), out=to_down)
            to_after = torch.mm(back, down.t(), out=after if kept is None else None)
            to_before = torch.ops.aten.gelu_backward(to_after, before, approximate=ctx.approximate)
            torch.addmm(to_up, part.t(), to_before, beta=min(i, 1), out=to_up)
            to_up_bias += to_before.sum(0)
            torch.mm(to_before, up.t(), out=to_part)
        return to_x, to_up, to_up_bias, to_down, gradient.sum(0), None


_KINDS: dict[str, tuple[str, Callable[..., Tensor]]] = {
    "BertLayer": ("feed_forward_chunk", _bert),
    "RobertaLayer": ("feed_forward_chunk", _bert),
    "XLMRobertaLayer": ("feed_forward_chunk", _bert),
    "ElectraLayer": ("feed_forward_chunk", _bert),
    "GPT2MLP": ("forward", _gpt2),
}
