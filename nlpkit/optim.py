"""Parameter groups, the optimiser and the schedule of the learning rate."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from nlpkit import row_adamw
from nlpkit.config import OptimConfig

_LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.")


def parameter_groups(
    backbone: nn.Module, head: nn.Module, optim: OptimConfig, *, layerwise: bool
) -> list[dict[str, Any]]:
    """Group what is trained by rate and weight decay.

    Biases, norms and other vectors are not decayed. ``layerwise`` multiplies the rate by ``layer_decay`` for each
    layer below the head (ULMFiT's discriminative fine-tuning, Howard and Ruder 2018); what the backbone has above its
    layers, such as a last norm, goes with the top layer. With Muon the matrices of layers, those of a decoder in the
    head too, form groups of their own; tables of which rows are looked up are no such matrices.
    """
    rate = _needed(optim.learning_rate)
    depth = 1 + max((int(m[1]) for n, _ in backbone.named_parameters() if (m := _LAYER.search(n))), default=-1)
    groups: dict[tuple[float, float, bool], list[Tensor]] = {}
    seen: set[int] = set()
    tables = {m.weight for part in (backbone, head) for m in part.modules() if isinstance(m, nn.Embedding)}
    for name, parameter, below, in_head in _numbered(backbone, head):
        layer = _LAYER.search(name)
        if not parameter.requires_grad or id(parameter) in seen:
            continue
        seen.add(id(parameter))
        muon = optim.name == "muon" and parameter.ndim == 2 and layer is not None and parameter not in tables
        scale = optim.layer_decay ** (depth - below) if layerwise and not in_head else 1.0
        own = optim.muon_learning_rate if muon else (optim.head_learning_rate or rate) if in_head else rate
        decay = optim.weight_decay if parameter.ndim >= 2 else 0.0
        groups.setdefault((own * scale, decay, muon), []).append(parameter)
    return [
        {"params": p, "lr": lr, "weight_decay": decay, "muon": muon}
        for (lr, decay, muon), p in sorted(groups.items(), key=lambda g: g[0])
    ]


def _numbered(backbone: nn.Module, head: nn.Module) -> Iterator[tuple[str, Tensor, int, bool]]:
    """Name, weight, number of the layer last met, -1 before the first, and whether it is of the head."""
    below = -1
    for in_head, part in enumerate((backbone, head)):
        for name, parameter in part.named_parameters():
            layer = _LAYER.search(name)
            below = int(layer[1]) if layer else below
            yield name, parameter, below, bool(in_head)


def lower_part(backbone: nn.Module) -> list[Tensor]:
    """The weights of the embeddings and of the lower third of the layers, rounded down."""
    numbers = [(p, below) for _, p, below, _ in _numbered(backbone, nn.Module())]
    layers = 1 + max((below for _, below in numbers), default=-1)
    return [p for p, below in numbers if below < layers // 3]


def build_optimizer(groups: list[dict[str, Any]]) -> Optimizer:
    """AdamW (Loshchilov and Hutter 2019), fused; with Muon for the groups that ask for it."""
    return MuonAdamW(groups)


class MuonAdamW(Optimizer):
    """Muon (Jordan et al. 2024) for matrices of groups that ask for it, AdamW for the rest, as one optimiser.

    A parameter whose gradient is sparse is stepped by `row_adamw`.

    Muon replaces the gradient's singular values by one, through five Newton-Schulz steps on the momentum. They run
    in bfloat16 only where the device multiplies in it: torch's own form, which always does, can be a hundred times
    slower on a CPU. Matrices of one shape are orthogonalised together.

    Args:
        groups: parameter groups with the key ``muon``.
        momentum: of Muon, with Nesterov's look-ahead.
    """

    def __init__(self, groups: list[dict[str, Any]], momentum: float = 0.95) -> None:
        super().__init__(groups, {"momentum": momentum, "betas": (0.9, 0.98), "eps": 1e-8})
        self._adamw = _of_any()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Of a copy, or one that was pickled."""
        super().__setstate__(state)
        self._adamw = _of_any()

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; returns the closure's loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._step_adamw()
        for group in self.param_groups:
            if group["muon"]:
                self._step_muon(group)
        return loss

    def _step_adamw(self) -> None:
        # the same dicts, not copies: the schedule sets the rates in them and a resume replaces them
        template = self._adamw.defaults
        self._adamw.param_groups = [g for g in self.param_groups if not g["muon"]]
        tables = []
        for group in self._adamw.param_groups:
            for key, value in template.items():
                group.setdefault(key, value)
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    row_adamw.step(parameter, self.state[parameter], group)
                    tables.append((parameter, parameter.grad))
                    parameter.grad = None
                elif parameter in self.state:
                    row_adamw.as_table(parameter, self.state[parameter])
        self._adamw.state = self.state
        if self._adamw.param_groups:
            self._adamw.step()
        for parameter, gradient in tables:
            parameter.grad = gradient

    def _step_muon(self, group: dict[str, Any]) -> None:
        by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
        for parameter in group["params"]:
            if parameter.grad is not None:
                by_shape.setdefault(parameter.shape, []).append((parameter, parameter.grad))
        for shape, pairs in by_shape.items():
            updates = []
            for parameter, gradient in pairs:
                state = self.state[parameter]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].lerp_(gradient, 1 - group["momentum"])
                updates.append(gradient.lerp(state["momentum"], group["momentum"]))
            rate = group["lr"] * math.sqrt(max(1.0, shape[0] / shape[1]))
            for (parameter, _), update in zip(pairs, orthogonalise(torch.stack(updates)), strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-rate)


def _of_any() -> AdamW:
    """It gets the groups at each step."""
    return AdamW([nn.Parameter(torch.zeros(1))], betas=(0.9, 0.98), eps=1e-8, fused=True)


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrices, roughly: singular values between 0.7 and 1.2.

    Newton-Schulz with the quintic coefficients published with Muon (Jordan et al. 2024). A CPU takes one after the
    other: with several small ones at a time it reaches little more than half as many products a second.

    Args:
        matrices: (N, rows, columns), or one.
        steps: iterations.
    """
    if matrices.dim() == 3 and matrices.device.type == "cpu":
        return torch.stack([orthogonalise(matrix, steps) for matrix in matrices])
    add_product = torch.addmm if matrices.dim() == 2 else torch.baddbmm
    x = matrices.to(_fast_dtype(matrices.device.type))
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.size(-2) > x.size(-1)
    x = x.mT if tall else x
    for _ in range(steps):
        gram = x @ x.mT
        x = add_product(x, add_product(gram, gram, gram, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return (x.mT if tall else x).to(matrices.dtype)


@cache
def _fast_dtype(device: str) -> torch.dtype:
    """bfloat16 on a GPU and on a CPU with instructions for it, which not every version of torch can tell."""
    known = getattr(torch.cpu, "get_capabilities", dict)() if device == "cpu" else {"avx512_bf16": True}
    return torch.bfloat16 if known.get("avx512_bf16") else torch.float32


def schedule(kind: str, warmup: float, total: int) -> Callable[[int], float]:
    """Factor of the learning rate at a step: up over ``warmup`` (a share of the steps), then down.

    Args:
        kind: ``linear`` or ``cosine`` to zero, ``wsd`` (flat, then linear to zero in the last 40%), ``inverse_sqrt``
            (Vaswani et al. 2017), ``constant``.
        warmup: share of the steps.
        total: steps of the run.
    """
    first = max(1, math.ceil(warmup * total))

    def factor(step: int) -> float:
        if step < first:
            return (step + 1) / first
        done = min(1.0, (step - first) / max(1, total - first))
        if kind == "linear":
            return 1 - done
        if kind == "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))
        if kind == "wsd":
            return min(1.0, (1 - done) / 0.4)
        if kind == "inverse_sqrt":
            return math.sqrt(first / (step + 1))
        return 1.0

    return factor


def freeze(parameters: Iterable[Tensor]) -> None:
    """Train none of these."""
    for parameter in parameters:
        parameter.requires_grad_(False)


def _needed(rate: float | None) -> float:
    if rate is None:
        raise ValueError("optim.learning_rate is not set; recipes.complete chooses it")
    return rate
