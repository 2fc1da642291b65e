"""AdamW for tables of which a batch looks up few rows: the rows that were ever looked up cost time and memory alone.

In fine-tuning a small encoder the table of its vocabulary is half of the weights, and some thousand texts have a
fifth of its pieces. The rows that no text has shown keep their values, as their gradient is zero at each step; weight
decay alone would change them, and is left out.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from nlpkit.listening import is_heard

_MANY = 4096  # rows of a table for which it pays
_MOMENTS = ("exp_avg", "exp_avg_sq")


@contextlib.contextmanager
def looked_up_by_rows(module: nn.Module, wanted: bool) -> Iterator[None]:
    """Tables of many rows have sparse gradients while the ``with`` block lasts.

    Only where the gradient is of the looking-up alone: weights that are shared, or that somebody listens at, are left.

    Args:
        module: its optimiser is one of `build_optimizer`.
        wanted: False: nothing is changed.
    """
    tables = list(_tables(module)) if wanted else []
    for table in tables:
        table.sparse = True
    hooks = [table.weight.register_post_accumulate_grad_hook(_add_up) for table in tables]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for table in tables:
            table.sparse, table.weight.grad = False, None


def _tables(module: nn.Module) -> Iterator[nn.Embedding]:
    users = Counter(weight for part in module.modules() for weight in part.parameters(recurse=False))
    for part in module.modules():
        if type(part) is nn.Embedding and part.num_embeddings >= _MANY and not (part.sparse or part.scale_grad_by_freq):
            weight: Any = part.weight
            heard = is_heard(part) or weight._backward_hooks or weight._post_accumulate_grad_hooks
            plain = weight.requires_grad and weight.dtype == torch.float32  # which holds the number of a row
            if plain and users[weight] == 1 and not heard:
                yield part


def _add_up(weight: Tensor) -> None:
    """One entry for each row, so that gradients of many batches take no more than a table."""
    assert weight.grad is not None
    weight.grad = weight.grad.coalesce()


def step(parameter: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    """One step of AdamW on the rows that this gradient or one before it has.

    Args:
        parameter: (V, D), with a sparse gradient.
        state: of the parameter. ``rows`` (N,) were looked up; the moments are theirs, (N, D).
        group: rate, betas, eps and weight decay.
    """
    gradient = parameter.grad.coalesce()  # type: ignore[union-attr]
    as_rows(parameter, state)
    known = state["rows"]
    place = known.new_full((len(parameter),), -1)
    place[known] = torch.arange(len(known), device=known.device)
    now = gradient.indices()[0]
    if len(new := now[place[now] < 0]):
        place[new] = torch.arange(len(known), len(known) + len(new), device=known.device)
        state["rows"] = torch.cat([known, new])
        state |= {n: torch.cat([state[n], parameter.new_zeros(len(new), parameter.size(1))]) for n in _MOMENTS}
    rows = state["rows"]
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


def as_rows(parameter: Tensor, state: dict[str, Any]) -> None:
    """The state of a parameter as `step` has it, whatever form it has."""
    if not state:
        state |= {"step": torch.zeros(()), **{name: parameter.new_zeros(parameter.shape) for name in _MOMENTS}}
    if "rows" not in state:
        state["rows"] = (state["exp_avg"].any(1) | state["exp_avg_sq"].any(1)).nonzero().squeeze(1)
        state |= {name: state[name][state["rows"]] for name in _MOMENTS}
    state["rows"] = state["rows"].long()  # a checkpoint gives them back in the type of the weights


def as_table(parameter: Tensor, state: dict[str, Any]) -> None:
    """The state of a parameter as torch's AdamW has it, whatever form it has."""
    if "rows" in state:
        rows = state.pop("rows").long()
        state |= {name: parameter.new_zeros(parameter.shape).index_copy_(0, rows, state[name]) for name in _MOMENTS}
