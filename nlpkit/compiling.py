"""Layers as compiled code, which a GPU runs through in fewer and larger steps: torch.compile, layer by layer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from nlpkit.errors import ResourceError, UsageError

_HINT = "trainer.compile=false"
_FORMS = 64  # codes of a layer, as for batches of other sizes; torch's 8 are soon used up, and then it compiles no more


@contextlib.contextmanager
def compiled(module: nn.Module, wanted: bool) -> Iterator[None]:
    """The layers of transformers in a module run as compiled code while the ``with`` block lasts.

    Each is compiled by itself: layers that are alike share their code, which is ready in seconds, not minutes. The
    module's weights and their names stay as they are.

    Args:
        module: its layers are those that could be computed again for gradient checkpointing, but for those that are
            compiled already.
        wanted: False: nothing is compiled.

    Raises:
        UsageError: there are no such layers.
        ResourceError: torch could not make the code; mostly because there is no C compiler.
    """
    if not wanted:
        yield
        return
    from torch._dynamo import config
    from torch._dynamo.exc import ShortenTraceback

    known = [part for part in module.modules() if isinstance(part, GradientCheckpointingLayer)]
    if not known:
        raise UsageError("trainer.compile: the layers of this model cannot be compiled one by one", _HINT)
    layers = [layer for layer in known if not is_compiled(layer)]
    for layer in layers:
        layer.compile()
    try:
        # layers that are alike share their code, but not with one that has a hook
        with config.patch(recompile_limit=_FORMS, skip_nnmodule_hook_guards=False):
            yield
    except ShortenTraceback as error:  # of the backend, or of what stands in its place: no Triton, too old a GPU
        reason = getattr(error, "inner_exception", error)
        if isinstance(reason, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(reason):
            raise reason from error
        raise ResourceError(
            f"torch.compile failed: {_said_by(reason)}",
            f"{_HINT}, or install what it needs: gcc for a GPU, g++ for a CPU",
        ) from error
    finally:
        for layer in layers:
            layer._compiled_call_impl = None


def _said_by(error: BaseException) -> str:
    """The line that tells what went wrong: the compiler's own, or the last of a worker's, or the first."""
    lines = [line for line in getattr(error, "output", str(error)).splitlines() if line.strip()] or [repr(error)]
    return lines[-1 if type(error).__name__ == "SubprocException" else 0]


def is_compiled(module: nn.Module) -> bool:
    """Whether a module runs as compiled code."""
    whole = type(module).__name__ == "OptimizedModule"  # what torch.compile makes of a module
    return whole or module._compiled_call_impl is not None


@contextlib.contextmanager
def as_written(module: nn.Module) -> Iterator[None]:
    """A module runs as its class is written, compiled or not, while the ``with`` block lasts."""
    made, module._compiled_call_impl = module._compiled_call_impl, None
    try:
        yield
    finally:
        module._compiled_call_impl = made
