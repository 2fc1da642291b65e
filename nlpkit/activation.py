"""GPT-2's GELU as one operation in training: transformers writes eight, which keep seven tensors for the way back."""

from __future__ import annotations

from torch import Tensor, nn
from transformers.activations import NewGELUActivation


class FusedGELU(NewGELUActivation):
    """GELU by tanh (Hendrycks and Gimpel 2016); in training with torch's own form of it, which rounds differently."""

    def forward(self, input: Tensor) -> Tensor:
        """As `NewGELUActivation`."""
        return nn.functional.gelu(input, approximate="tanh") if self.training else super().forward(input)


def fuse(body: nn.Module) -> None:
    """Put it in the place of the other; the configuration keeps its name, so a saved model is what it was.

    Args:
        body: changed in place.
    """
    for module in body.modules():
        for name, child in module.named_children():
            if type(child) is NewGELUActivation:
                setattr(module, name, FusedGELU().train(child.training))
