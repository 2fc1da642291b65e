"""Dropout on a CPU from a quicker source of random bits: the same distribution, in a fraction of torch's time.

torch draws one number of its Mersenne Twister for each value, which costs a tenth of a step of fine-tuning a small
encoder. Here numpy's SFC64 gives four values at once; it starts from torch's generator, so seeds repeat as ever.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nlpkit.listening import runs_as_written

_PARTS = 1 << 16  # shares are rounded to these: by less than a thousandth of a percent


def quick_dropout(*parts: nn.Module) -> contextlib.AbstractContextManager[Any]:
    """Dropout, and attention with dropout, of whatever is computed on a CPU in float32 while the ``with`` block lasts.

    Nothing changes in evaluation, with compiled layers, and with gradient checkpointing, which runs parts again after
    the block.

    Args:
        parts: what is computed; the first has weights.
    """
    plain = all(part.training and runs_as_written(part) for part in parts) and not torch.is_autocast_enabled("cpu")
    on_cpu = plain and next(parts[0].parameters()).device.type == "cpu"
    return _Quick() if on_cpu else contextlib.nullcontext()


class _Quick(TorchFunctionMode):
    """Takes the place of torch's functions, whoever calls them, in the thread that has entered it."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        instead = _INSTEAD.get(function)
        return (instead or function)(*args, **(kwargs or {}))


def _dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    if not (training and 0 < p < 1 and _is_plain(input)) or inplace:
        return nn.functional.dropout(input, p, training, inplace)
    return input * _mask(input, p)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    plain = _is_plain(query, key, value) and query.dim() == key.dim() == value.dim() == 4
    if not (plain and 0 < dropout_p < 1) or is_causal or enable_gqa:
        return nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    scores = (query * (query.size(-1) ** -0.5 if scale is None else scale)) @ key.mT  # (B, heads, L, S)
    if attn_mask is not None:
        scores += _added(attn_mask)
    return _dropout(scores.softmax(-1), dropout_p) @ value


def _added(mask: Tensor) -> Tensor:
    least = torch.finfo(torch.float32).min  # not -inf, which makes NaN of a row that may look at nothing
    if mask.dtype != torch.bool:
        return mask.clamp(min=least)
    return torch.zeros(mask.shape, dtype=torch.float32, device="cpu").masked_fill_(~mask, least)


def _is_plain(*tensors: Tensor) -> bool:
    # who changes how tensors are saved, or saves none, may compute them again outside of the block
    again = not torch.is_grad_enabled() or torch._C._autograd._top_saved_tensors_default_hooks(False) is not None
    return not again and all(type(t) is Tensor and t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors)


def _mask(like: Tensor, p: float) -> Tensor:
    """0 in a share ``p`` of the places, each by itself, and elsewhere what keeps the mean of a sum."""
    dropped = min(round(p * _PARTS), _PARTS - 1)
    words = np.random.SFC64(int(torch.randint(1 << 62, (), device="cpu"))).random_raw(like.numel() // 4 + 1)
    drawn = torch.from_numpy(words).view(torch.int16)[: like.numel()].view(like.shape)
    mask = torch.empty(like.shape, dtype=torch.float32, device="cpu")
    torch.ge(drawn, dropped - _PARTS // 2, out=mask)
    return mask.mul_(_PARTS / (_PARTS - dropped))


_INSTEAD: dict[Any, Callable[..., Tensor]] = {
    nn.functional.dropout: _dropout,
    nn.functional.scaled_dot_product_attention: _attention,
}
