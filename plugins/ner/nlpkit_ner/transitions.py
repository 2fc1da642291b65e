"""Which tag may follow which, and the best sequence of tags that keeps to it. B batch, T tokens, C tags.

Tags are IOB2 over some entity types: 0 is O, 1 + 2 * e is B of type e, 2 + 2 * e is I of type e. I goes on with an
entity, so it follows B or I of its own type and nothing else; O and B follow anything. Within a word (between
word pieces) a tag must go on: O after O, I after B or I of its type.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nlpkit.errors import DivergedError

_Array = NDArray[Any]


def allowed(types: int) -> Tensor:
    """Whether a tag may follow another: (C, C), from row to column."""
    rule = allowed_inside(types)
    rule[:, 0] = rule[:, 1::2] = True
    return rule


def allowed_inside(types: int) -> Tensor:
    """The same between the pieces of one word: (C, C), from row to column."""
    rule = torch.zeros(1 + 2 * types, 1 + 2 * types, dtype=torch.bool)
    rule[0, 0] = True
    rule[1::2, 2::2] = rule[2::2, 2::2] = torch.eye(types, dtype=torch.bool)
    return rule


def allowed_first(types: int) -> Tensor:
    """Whether a text may begin with a tag: (C,); not with I."""
    rule = torch.ones(1 + 2 * types, dtype=torch.bool)
    rule[2::2] = False
    return rule


def going_on(tags: Tensor, inside: Tensor) -> Tensor:
    """Tags (B, T) in which the further pieces of a word go on as its first piece begins; I may stand behind anything.

    Args:
        tags: (B, T).
        inside: (B, T), true where a token is a further piece of the word of the token before; not read of the first.
    """
    places = torch.arange(tags.size(1), device=tags.device)
    further = inside & (places > 0)
    first = tags.gather(1, places.masked_fill(further, 0).cummax(1).values)
    return torch.where(further, first + first % 2, tags)


def precise(values: Tensor) -> Tensor:
    """In float32, or in float64 where they are: sums over a text are too coarse in less."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def viterbi(scores: Tensor, lengths: Tensor, transitions: Tensor | None = None, inside: Tensor | None = None) -> Tensor:
    """The legal sequence of tags with the highest sum of scores (Viterbi 1967); of equal ones any.

    It runs on the CPU whatever the scores' device: a step is a few operations on so little data that their start is
    all that they cost, and NumPy's start fastest. Infinite scores count as the largest finite ones whose sum is
    still finite, so the answer is legal whatever the scores.

    Args:
        scores: of each tag of each token, (B, T, C), of any float type.
        lengths: of the texts, in tokens, (B,); scores behind them are not read.
        transitions: added for a tag (row) that another (column) follows, (C, C); illegal ones are not read. None:
            nothing, which takes O(T * C) rather than O(T * C * C).
        inside: (B, T), true where a token is a further piece of the word of the token before; not read of the first.

    Returns:
        Tags (B, T), int64, on the device of the scores; 0 behind the length.

    Raises:
        DivergedError: a score that is read is NaN.
    """
    batch, length = scores.shape[:2]
    if not scores.numel():
        return torch.zeros(batch, length, dtype=torch.int64, device=scores.device)
    behind = torch.arange(length).unsqueeze(1) >= lengths.cpu()  # (T, B)
    glued = np.zeros((length, batch), bool) if inside is None else inside.T.cpu().numpy()
    local = precise(scores.detach()).transpose(0, 1).cpu().masked_fill(behind.unsqueeze(2), 0)  # (T, B, C)
    totals = _bounded(local, length, "the score of a tag")
    totals[0, :, 2::2] = -np.inf  # no text begins with I
    if transitions is None:
        before = _follow_rules(totals, glued)
    else:
        costs = _bounded(transitions.detach().to("cpu", local.dtype), length, "the score of a transition")
        before = _follow_costs(totals, glued, costs)
    return torch.from_numpy(_walk_back(totals, before, behind.numpy())).T.to(scores.device)


def _bounded(values: Tensor, length: int, what: str) -> _Array:
    """The same scores, of which 2 * ``length`` can be added up."""
    if values.isnan().any():
        raise DivergedError(f"{what} is nan, expected a number", "fit again with a lower optim.learning_rate")
    limit = torch.finfo(values.dtype).max / (4 * length)
    return values.clamp(-limit, limit).contiguous().numpy()


# Both fill totals in place: from the scores of single tags to those of the best path that ends there; a path that
# would be illegal has -inf. They return the tag before on that path (T - 1, B, C). Every token has a legal tag.


def _follow_rules(totals: _Array, glued: _Array) -> _Array:
    totals[1:, :, 1::2][glued[1:]] = -np.inf  # no entity begins within a word
    gain = np.empty_like(totals[0])  # (B, C)
    for last, now, within in zip(totals[:-1], totals[1:], glued[1:], strict=True):
        top = last.max(axis=1)  # (B,)
        gain[:] = top[:, None]
        gain[:, 0] = np.where(within, last[:, 0], top)
        np.maximum(last[:, 1::2], last[:, 2::2], out=gain[:, 2::2])
        now += gain
    last = totals[:-1]
    before = np.repeat(last.argmax(axis=2)[..., None], last.shape[2], axis=2)  # (T - 1, B, C)
    before[..., 0][glued[1:]] = 0
    before[..., 2::2] = np.arange(1, last.shape[2], 2) + (last[..., 2::2] > last[..., 1::2])
    return before


def _follow_costs(totals: _Array, glued: _Array, transitions: _Array) -> _Array:
    types = len(transitions) // 2
    between = np.where(allowed(types).numpy(), transitions, -np.inf)  # (C, C)
    within = np.where(allowed_inside(types).numpy(), transitions, -np.inf)
    before = np.empty((len(totals) - 1, *totals.shape[1:]), np.int64)
    for step in range(1, len(totals)):
        costs = np.where(glued[step][:, None, None], within, between)  # (B, C, C)
        paths = totals[step - 1][:, :, None] + costs
        before[step - 1] = paths.argmax(axis=1)
        totals[step] += paths.max(axis=1)
    return before


def _walk_back(totals: _Array, before: _Array, behind: _Array) -> _Array:
    """The tags (T, B) of the best paths."""
    last = totals.argmax(axis=2)  # (T, B)
    before[behind[1:]] = last[:-1][behind[1:]][:, None]  # so that the walk enters a text by its best last tag
    tags = np.empty_like(last)
    tags[-1] = last[-1]
    rows = np.arange(last.shape[1])
    for step in range(len(tags) - 1, 0, -1):
        tags[step - 1] = before[step - 1][rows, tags[step]]
    tags[behind] = 0
    return tags
