"""Whether somebody listens at a module or has changed it: then it is computed as its author wrote it."""

from __future__ import annotations

from torch import nn


def is_heard(*modules: nn.Module) -> bool:
    """Whether one of the modules has hooks, or another way to compute than its class has."""
    return any(map(_is_heard, modules))


def _is_heard(module: nn.Module) -> bool:
    before_and_after = module._forward_pre_hooks or module._forward_hooks
    on_the_way_back = module._backward_pre_hooks or module._backward_hooks
    compiled = vars(module).get("_compiled_call_impl") is not None
    return bool(before_and_after or on_the_way_back or compiled or "forward" in vars(module))
