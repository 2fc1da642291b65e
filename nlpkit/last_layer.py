"""The last layer of a body at the places that a head reads, and nowhere else: exact, and cheaper.

What the last layer makes of one place is read by no other place, so queries, output projection and feed-forward of
unread places are work for nothing: five sixths of the layer for a classifier that reads [CLS].
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.modernbert.modeling_modernbert import apply_rotary_pos_emb

from nlpkit.compiling import as_written


@contextlib.contextmanager
def only_at(backbone: PreTrainedModel, places: Tensor | None) -> Iterator[None]:
    """Hidden states of the backbone are computed at these places alone while the ``with`` block lasts, and 0 elsewhere.

    Bodies of a family that is not known here compute all of them.

    Args:
        backbone: the body.
        places: (B, L), true where the head reads; None: everywhere.
    """
    forward = _FORWARDS.get(type(backbone).__name__)
    usual = backbone.config._attn_implementation == "sdpa" and not getattr(backbone.config, "is_decoder", False)
    if places is None or forward is None or not usual:
        yield
        return
    layer: nn.Module = _layers(backbone)[-1]
    layer.forward = partial(forward, layer, _Rows(places))
    try:
        with as_written(layer):
            yield
    finally:
        del layer.forward


class _Rows:
    """Some places of each row, as many as the row with the most has: (B, K).

    Args:
        places: (B, L), true at the places.
    """

    def __init__(self, places: Tensor) -> None:
        counts = places.sum(1)
        most = max(1, int(counts.max()))
        self.index = places.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most]  # (B, K)
        self.real = torch.arange(most, device=places.device) < counts.unsqueeze(1)

    def of(self, hidden: Tensor, dim: int = 1) -> Tensor:
        """What stands at the places along ``dim``; the batch is the first dimension."""
        shape = [1] * hidden.dim()
        shape[0], shape[dim] = self.index.shape
        index = self.index.view(shape).expand([*hidden.shape[:dim], self.index.size(1), *hidden.shape[dim + 1 :]])
        return hidden.gather(dim, index)

    def mask(self, mask: Tensor | None) -> Tensor | None:
        """The attention mask (B, 1, 1 or L, L) for the queries at the places."""
        if mask is None or mask.size(-2) == 1:
            return mask
        return self.of(mask.expand(len(self.index), -1, -1, -1), 2)

    def put(self, some: Tensor, hidden: Tensor) -> Tensor:
        """Back to (B, L, D), with 0 between the places."""
        row, column = self.real.nonzero(as_tuple=True)
        return some.new_zeros(hidden.shape).index_put((row, self.index[row, column]), some[row, column])


def _bert(layer: Any, rows: _Rows, hidden: Tensor, attention_mask: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
    attention, some = layer.attention.self, rows.of(hidden)

    def heads(projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (-1, attention.attention_head_size)).transpose(1, 2)

    context = nn.functional.scaled_dot_product_attention(
        heads(attention.query(some)),
        heads(attention.key(hidden)),
        heads(attention.value(hidden)),
        rows.mask(attention_mask),
        attention.dropout.p if layer.training else 0.0,
        scale=attention.scaling,
    )
    after = layer.attention.output(context.transpose(1, 2).flatten(2), some)
    return rows.put(layer.feed_forward_chunk(after), hidden)


def _modernbert(
    layer: Any,
    rows: _Rows,
    hidden: Tensor,
    attention_mask: Tensor | None = None,
    position_embeddings: tuple[Tensor, Tensor] | None = None,
    **_: Any,
) -> Tensor:
    attention, some = layer.attn, rows.of(hidden)
    projected = attention.Wqkv(layer.attn_norm(hidden)).unflatten(-1, (3, -1, attention.head_dim))
    query, key, value = (part.transpose(1, 2) for part in projected.unbind(-3))  # (B, heads, L, D / heads)
    assert position_embeddings is not None
    query, key = apply_rotary_pos_emb(query, key, *position_embeddings, unsqueeze_dim=1)
    context = nn.functional.scaled_dot_product_attention(
        rows.of(query, 2),
        key,
        value,
        rows.mask(attention_mask),
        attention.attention_dropout if layer.training else 0.0,
    )
    after = some + attention.out_drop(attention.Wo(context.transpose(1, 2).flatten(2)))
    return rows.put(after + layer.mlp(layer.mlp_norm(after)), hidden)


def _layers(backbone: Any) -> Any:
    return backbone.layers if hasattr(backbone, "layers") else backbone.encoder.layer


_FORWARDS = {
    "BertModel": _bert,
    "RobertaModel": _bert,
    "XLMRobertaModel": _bert,
    "ElectraModel": _bert,
    "ModernBertModel": _modernbert,
}
