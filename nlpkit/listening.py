"""Whether somebody listens at a module or has changed it: then it is computed as its author wrote it."""

from __future__ import annotations

from torch import nn

from nlpkit.compiling import is_compiled


def is_heard(*modules: nn.Module) -> bool:
    """Whether one of the modules has hooks, or another way to compute than its class has."""
    return any(map(_is_heard, modules))


def runs_as_written(body: nn.Module) -> bool:
    """Whether the parts of a body run once, line by line: not compiled, nor again on the way back to save memory."""
    return not any(getattr(part, "gradient_checkpointing", False) or is_compiled(part) for part in body.modules())


def _is_heard(module: nn.Module) -> bool:
    before_and_after = module._forward_pre_hooks or module._forward_hooks
    on_the_way_back = module._backward_pre_hooks or module._backward_hooks
    compiled = vars(module).get("_compiled_call_impl") is not None
    return bool(before_and_after or on_the_way_back or compiled or "forward" in vars(module))
