"""Linear layers laid out once for oneDNN, for prediction on a CPU: equal but for rounding, and about a fifth sooner."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import GELUActivation

_ROWS = 4096  # of a batch that the layout suits best; any number is right
_KERNELS = torch.ops.mkldnn
# classes whose forward is the activation of the dense layer, and nothing else
_DENSE_THEN_ACTIVATION = {"BertIntermediate", "RobertaIntermediate", "XLMRobertaIntermediate", "ElectraIntermediate"}


def pack(model: nn.Module) -> None:
    """Let the linear layers of a model that only predicts compute from a copy of their weights, laid out for oneDNN.

    BERT's GELU is computed together with the layer before it. ``train()`` drops the copies; without it, do not change
    the weights: torch does not tell of every change. Where this build of torch has no such kernels, nothing changes.

    Args:
        model: in evaluation mode; takes the memory of its linear layers a second time.
    """
    if not torch.backends.mkldnn.is_available():
        return
    with contextlib.suppress(AttributeError, NotImplementedError, RuntimeError):  # another build of torch
        for module in model.modules():
            if type(module) is nn.Linear and module.weight.is_cpu and module.weight.dtype == torch.float32:
                copy = _copy_of(module)
                module.__class__ = PackedLinear
                module.packed, module.version = copy, module.weight._version  # type: ignore[assignment]
        for module in model.modules():
            if type(module).__name__ in _DENSE_THEN_ACTIVATION and type(module.intermediate_act_fn) is GELUActivation:
                module.forward = partial(_dense_then_gelu, module)


class PackedLinear(nn.Linear):
    """A linear layer with a copy of its weights for oneDNN; made from one by `pack`."""

    packed: Tensor | None = None
    version = -1

    def forward(self, input: Tensor) -> Tensor:
        """As `nn.Linear`."""
        return self.compute(input, "none", "") if self.serves(input) else super().forward(input)

    def serves(self, hidden: Tensor) -> bool:
        """Whether the copy gives what the layer would."""
        weight = self.weight
        return (
            self.packed is not None
            and not torch.is_grad_enabled()
            and not torch.is_autocast_enabled("cpu")
            and hidden.dtype == weight.dtype == torch.float32
            and weight.is_cpu
            and not weight.is_inference()
            and weight._version == self.version
            and hidden.size(-1) == self.in_features
            and hidden.numel() > 0
        )

    def compute(self, hidden: Tensor, activation: str, algorithm: str) -> Tensor:
        """The layer, and what oneDNN calls an activation behind it."""
        return _KERNELS._linear_pointwise(hidden, self.packed, self.bias, activation, [], algorithm)

    def train(self, mode: bool = True) -> PackedLinear:
        """As `nn.Module`; in training mode without the copy from then on."""
        if mode:
            self.packed = None
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "packed"}  # oneDNN's layout cannot be copied


def _copy_of(linear: nn.Linear) -> Tensor:
    """The weights in oneDNN's layout, which is tried out."""
    copy: Tensor = _KERNELS._reorder_linear_weight(linear.weight.detach(), _ROWS)
    with torch.no_grad():
        _KERNELS._linear_pointwise(torch.zeros(1, linear.in_features), copy, linear.bias, "none", [], "")
    return copy


def _dense_then_gelu(module: Any, hidden: Tensor) -> Tensor:
    dense = module.dense
    if type(dense) is PackedLinear and not dense._forward_hooks and dense.serves(hidden):
        return dense.compute(hidden, "gelu", "none")
    return type(module).forward(module, hidden)
