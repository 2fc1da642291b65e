"""Entities as spans of tokens, read from tags."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Mode = Literal["strict", "conlleval"]


def spans(tags: Tensor, lengths: Tensor, mode: Mode = "strict") -> Tensor:
    """The entities that tags spell out. N entities, B batch, T tokens.

    An entity goes on with every I of its own type that follows at once. The modes differ in how one begins:

    * ``strict``: with B alone. An I that goes on with nothing is no entity, nor are those that go on with it; it
      ends the entity before. As seqeval with ``mode="strict", scheme=IOB2``.
    * ``conlleval``: with B, and with an I after O or after another type. As the script of CoNLL-2000
      (Tjong Kim Sang and Buchholz 2000) and seqeval by default.

    Args:
        tags: (B, T), numbered as in `nlpkit_ner.transitions`.
        lengths: in tokens, (B,); tags behind them are not read.
        mode: how entities begin.

    Returns:
        (N, 4), int64, by row and place: row, first token, token behind the last, type.
    """
    places = torch.arange(tags.size(1), device=tags.device)
    tags = tags.masked_fill(places >= lengths.unsqueeze(1), 0)
    kinds = (tags + 1) // 2  # (B, T), 0: outside, else 1 + type
    is_inside = (tags > 0) & (tags % 2 == 0)
    goes_on = is_inside & (kinds == kinds.roll(1, dims=1))
    goes_on[:, :1] = False
    stays = goes_on.roll(-1, dims=1)  # the next token goes on; the first never does, so the last never stays
    heads = ((kinds > 0) & ~goes_on).nonzero()  # (N, 2)
    ends = ((kinds > 0) & ~stays).nonzero()[:, 1:] + 1  # (N, 1), one for each head, in the same order
    rows, firsts = heads.unbind(1)
    found = torch.cat([heads, ends, (kinds[rows, firsts] - 1).unsqueeze(1)], dim=1)
    return found if mode == "conlleval" else found[~is_inside[rows, firsts]]
