"""A training batch on a CPU in pieces, side by side: the same loss and gradient in a part of the memory, and sooner.

Threads that share each operation of a small model wait for one another thousands of times a step; here each has a
piece of the batch to itself. Gradients are added in the order of the pieces, so a run stays the same to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from nlpkit.listening import is_heard
from nlpkit.task import Batch

if TYPE_CHECKING:
    from nlpkit.module import TaskModule

_TOKENS = 2048  # of a piece, at most: with more, memory grows; with fewer, time does


class Pieces:
    """Computes the loss of a module by pieces, its gradient with it.

    Pieces that draw random numbers (dropout) are computed one after the other, so that each draws its own again when
    a run is repeated; whether they do shows when they are first computed.
    """

    def __init__(self) -> None:
        self._draw = False

    def loss(self, module: TaskModule, pieces: list[Batch]) -> Tensor:
        """The mean loss over all pieces, in nats; its way back only hands over the gradients."""
        learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
        loss: Tensor = _Computed.apply(self, module, pieces, learning, *learning)
        return loss

    def compute(self, module: TaskModule, pieces: list[Batch], learning: list[Tensor]) -> tuple[Tensor, list[Any]]:
        """The mean loss and the gradient of each parameter; None where the loss does not reach it."""
        workers = 1 if self._draw else min(torch.get_num_threads(), len(pieces))
        before = torch.get_rng_state()
        found = _added(_each(module, pieces, learning, workers))
        if workers > 1 and not torch.equal(before, torch.get_rng_state()):
            self._draw = True
            torch.set_rng_state(before)
            return self.compute(module, pieces, learning)
        return found


def in_pieces(module: TaskModule, batch: Batch) -> list[Batch]:
    """Some rows each, so many as `_TOKENS` allow; the whole batch where it is small or has to stay together.

    It stays together on a GPU, in other types than float32, with a head whose loss is not known to be made row by
    row, with gradient checkpointing, and where somebody listens at a part of the module or has changed it.
    """
    ids = batch["input_ids"]  # (B, L)
    rows = max(1, _TOKENS // ids.size(1))
    pieces = math.ceil(len(ids) / rows)
    if pieces == 1 or not _divisible(module, batch):
        return [batch]
    parts = {key: values.tensor_split(pieces) for key, values in batch.items()}
    return [{key: values[i] for key, values in parts.items()} for i in range(pieces)]


def _divisible(module: TaskModule, batch: Batch) -> bool:
    rows = len(batch["input_ids"])
    whole_rows = all(v.dim() and len(v) == rows and v.device.type == "cpu" for v in batch.values())
    if not (whole_rows and module.head.by_rows and torch.is_grad_enabled()) or torch.is_autocast_enabled("cpu"):
        return False
    parts = [*module.backbone.modules(), *module.head.modules()]
    plain = all(p.dtype == torch.float32 and not p._backward_hooks for p in module.parameters())
    return plain and not is_heard(*parts) and not any(getattr(p, "gradient_checkpointing", False) for p in parts)


class _Computed(torch.autograd.Function):
    """A loss whose gradients were made with it."""

    @staticmethod
    def forward(
        ctx: Any, pieces: Pieces, module: TaskModule, batches: list[Batch], learning: list[Tensor], *_: Tensor
    ) -> Tensor:
        loss, ctx.gradients = pieces.compute(module, batches, learning)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None  # else each would be copied
        return None, None, None, None, *(None if g is None else g.mul_(slope) for g in gradients)


def _each(
    module: TaskModule, pieces: list[Batch], learning: list[Tensor], workers: int
) -> Iterator[tuple[Tensor, list[Any]]]:
    """Loss and gradients of each piece, in their order; together those of the batch."""
    count = max(1, sum(map(module.head.count, pieces)))
    free: SimpleQueue[TaskModule] = SimpleQueue()
    for number in range(workers):
        free.put(_twin(module) if number else module)

    def work(piece: Batch) -> tuple[Tensor, list[Any]]:
        own = free.get()
        try:
            with torch.enable_grad():
                loss = own.loss_of(piece) * (own.head.count(piece) / count)
                return loss.detach(), list(torch.autograd.grad(loss, learning, allow_unused=True))
        finally:
            free.put(own)

    yield from map(work, pieces) if workers == 1 else _pool(workers, torch.get_num_threads()).map(work, pieces)


def _added(found: Iterator[tuple[Tensor, list[Any]]]) -> tuple[Tensor, list[Any]]:
    total, gradients = next(found)
    for loss, more in found:
        total += loss
        for number, (sum_, part) in enumerate(zip(gradients, more, strict=True)):
            gradients[number] = part if sum_ is None else sum_ if part is None else sum_.add_(part)
    return total, gradients


def _twin(module: TaskModule) -> TaskModule:
    """A module of the same weights, which can compute something else at the same time: its state is its own."""
    made: TaskModule = _shallow(module)
    made.backbone, made.head = _copied(module.backbone), _copied(module.head)
    return made


def _copied(module: nn.Module) -> Any:
    """Its modules are new, their weights and whatever else they have are the same."""
    made = _shallow(module)
    for name, child in module._modules.items():
        made._modules[name] = None if child is None else _copied(child)
    return made


def _shallow(module: nn.Module) -> Any:
    made = module.__new__(type(module))
    vars(made).update(vars(module))
    made._modules, made._buffers = dict(module._modules), dict(module._buffers)
    return made


@cache
def _pool(workers: int, threads: int) -> ThreadPoolExecutor:
    """Threads that share this process's by the pieces, each with its part of them for the operations of a piece."""
    each = max(1, threads // workers)
    return ThreadPoolExecutor(workers, "nlpkit-piece", initializer=torch.set_num_threads, initargs=(each,))
