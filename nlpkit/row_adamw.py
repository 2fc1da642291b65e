"""AdamW for tables of which a batch looks up few rows: the rows that were ever looked up cost time and memory alone.

In fine-tuning a small encoder the table of its vocabulary is half of the weights, and some thousand texts have a
fifth of its pieces. The rows that no text has shown keep their values, as their gradient is zero at each step; weight
decay alone would change them, and is left out.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from nlpkit.listening import is_heard

_MANY = 4096  # rows of a table for which it pays
_MOMENTS = ("exp_avg", "exp_avg_sq")


def look_up_by_rows(*parts: nn.Module) -> None:
    """Let tables of many rows have sparse gradients, where nothing but the looking-up uses their weights.

    Args:
        parts: body and head; their modules are changed in place.
    """
    modules = list(dict.fromkeys(module for part in parts for module in part.modules()))
    for table in modules:
        if type(table) is nn.Embedding and table.num_embeddings >= _MANY and not is_heard(table):
            users = [m for m in modules if any(p is table.weight for p in m.parameters(recurse=False))]
            table.sparse = table.weight.requires_grad and len(users) == 1 and not table.weight._backward_hooks


def step(parameter: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    """One step of AdamW on the rows that this gradient or one before it has.

    Args:
        parameter: (V, D), with a sparse gradient.
        state: of the parameter. ``rows`` (N,) were looked up; the moments are theirs, (N, D).
        group: rate, betas, eps and weight decay.
    """
    gradient = parameter.grad.coalesce()  # type: ignore[union-attr]
    by_rows(parameter, state)
    known = state["rows"].long()  # a checkpoint gives them back in the type of the weights
    place = torch.full((len(parameter),), -1)
    place[known] = torch.arange(len(known))
    now = gradient.indices()[0]
    if len(new := now[place[now] < 0]):
        place[new] = torch.arange(len(known), len(known) + len(new))
        state["rows"] = torch.cat([known, new])
        state |= {n: torch.cat([state[n], parameter.new_zeros(len(new), parameter.size(1))]) for n in _MOMENTS}
    rows = state["rows"].long()
    values, slopes = parameter.index_select(0, rows), torch.zeros_like(state["exp_avg"])
    slopes.index_copy_(0, place[now], gradient.values())
    adamw(
        [values],
        [slopes],
        [state["exp_avg"]],
        [state["exp_avg_sq"]],
        [],
        [state["step"]],
        fused=True,
        amsgrad=False,
        beta1=group["betas"][0],
        beta2=group["betas"][1],
        lr=group["lr"],
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        maximize=False,
    )
    parameter.index_copy_(0, rows, values)


def by_rows(parameter: Tensor, state: dict[str, Any]) -> None:
    """The state of a parameter in this form, whatever form it has."""
    if not state:
        state |= {"step": torch.zeros(()), **{name: parameter.new_zeros(parameter.shape) for name in _MOMENTS}}
    if "rows" not in state:
        state["rows"] = state["exp_avg_sq"].any(1).nonzero().squeeze(1)
        state |= {name: state[name][state["rows"]] for name in _MOMENTS}


def as_table(parameter: Tensor, state: dict[str, Any]) -> None:
    """The state of a parameter as torch's AdamW has it, whatever form it has."""
    if "rows" in state:
        rows = state.pop("rows").long()
        state |= {name: parameter.new_zeros(parameter.shape).index_copy_(0, rows, state[name]) for name in _MOMENTS}
