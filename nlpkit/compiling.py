"""Layers as compiled code, which a GPU runs through in fewer and larger steps: torch.compile, layer by layer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from nlpkit.errors import ResourceError


@contextlib.contextmanager
def compiled(module: nn.Module, wanted: bool) -> Iterator[None]:
    """The layers of transformers in a module run as compiled code while the ``with`` block lasts.

    Each is compiled by itself: layers that are alike share their code, which is ready in seconds, not minutes. The
    module's weights and their names stay as they are.

    Args:
        module: its layers are those that could be computed again for gradient checkpointing.
        wanted: False: nothing is compiled.

    Raises:
        ResourceError: torch could not make the code; mostly because there is no C compiler.
    """
    if not wanted:
        yield
        return
    from torch._dynamo.exc import TorchDynamoException

    layers = [part for part in module.modules() if isinstance(part, GradientCheckpointingLayer)]
    for layer in layers:
        layer.compile()
    try:
        yield
    except TorchDynamoException as error:
        reason = str(error).strip().partition("\n")[0]
        raise ResourceError(f"torch.compile failed: {reason}", "trainer.compile=false, or install gcc") from error
    finally:
        for layer in layers:
            layer._compiled_call_impl = None


def is_compiled(module: nn.Module) -> bool:
    """Whether a module runs as compiled code."""
    return module._compiled_call_impl is not None


@contextlib.contextmanager
def as_written(module: nn.Module) -> Iterator[None]:
    """A module runs as its class is written, compiled or not, while the ``with`` block lasts."""
    made, module._compiled_call_impl = module._compiled_call_impl, None
    try:
        yield
    finally:
        module._compiled_call_impl = made
