"""Whether somebody listens at a module or has changed it: then it is computed as its author wrote it."""

from __future__ import annotations

from torch import nn


def is_heard(*modules: nn.Module) -> bool:
    """Whether one of the modules has hooks, or another way to compute than its class has."""
    return any(
        m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks or "forward" in vars(m)
        for m in modules
    )
