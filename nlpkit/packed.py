"""Linear layers laid out once for oneDNN, for prediction on a CPU: equal but for rounding, and about a fifth sooner."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import GELUActivation

_ROWS = 4096  # of a batch that the layout suits best; any number is right
_KERNELS = torch.ops.mkldnn


def pack(model: nn.Module) -> None:
    """Let the linear layers of a model on the CPU use a copy of their weights that is laid out for oneDNN.

    BERT's GELU is computed together with the layer before it. The copies serve inference alone, and only as long as
    the weights are those they were made from: trained, loaded or moved layers compute as always. Where this build of
    torch cannot do it, nothing changes.

    Args:
        model: changed in place; takes the memory of its linear layers a second time.
    """
    if not torch.backends.mkldnn.is_available():
        return
    with contextlib.suppress(AttributeError, NotImplementedError, RuntimeError):  # another build of torch
        for module in model.modules():
            if type(module) is nn.Linear and _suits(module):
                module.forward = _Packed(module, module.forward)  # type: ignore[assignment]
        for module in model.modules():
            linear = getattr(module, "dense", None)
            if type(getattr(module, "intermediate_act_fn", None)) is GELUActivation and type(linear) is nn.Linear:
                packed = linear.forward
                if isinstance(packed, _Packed):
                    module.forward = _Packed(linear, module.forward, packed.copy, "gelu", "none")


def _suits(linear: nn.Linear) -> bool:
    return linear.weight.device.type == "cpu" and linear.weight.dtype == torch.float32


class _Packed:
    """Stands in for the ``forward`` of a linear layer, or of one with its activation.

    Args:
        linear: has the weights.
        usual: what is called where the copy does not serve.
        copy: of the weights; None makes it.
        activation: oneDNN's name of what follows.
        algorithm: of the activation.
    """

    def __init__(
        self, linear: nn.Linear, usual: Any, copy: Tensor | None = None, activation: str = "none", algorithm: str = ""
    ) -> None:
        self.linear, self.usual = linear, usual
        self.copy = _KERNELS._reorder_linear_weight(linear.weight.detach(), _ROWS) if copy is None else copy
        self.activation, self.algorithm = activation, algorithm
        self.version = linear.weight._version
        with torch.no_grad():
            self(torch.zeros(1, linear.in_features))  # where this torch cannot do it, it fails here

    def __call__(self, hidden: Tensor) -> Tensor:
        weight = self.linear.weight
        same = weight._version == self.version and weight.device.type == "cpu" and hidden.dtype == torch.float32
        if torch.is_grad_enabled() or not same or torch.is_autocast_enabled("cpu") or not hidden.numel():
            return self.usual(hidden)
        return _KERNELS._linear_pointwise(hidden, self.copy, self.linear.bias, self.activation, [], self.algorithm)
