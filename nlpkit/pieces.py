"""A training batch on a CPU in pieces, side by side: the same loss and gradient in a part of the memory, and sooner.

Threads that share each operation of a small model wait for one another thousands of times a step; here each has a
piece of the batch to itself. Gradients are added in the order of the pieces, so a run stays the same to the bit.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import lru_cache
from itertools import islice
from queue import SimpleQueue
from threading import Barrier
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from nlpkit.listening import is_heard
from nlpkit.task import Batch
from nlpkit.twins import is_bound, twin

if TYPE_CHECKING:
    from nlpkit.module import TaskModule

_TOKENS = 2048  # of a piece, at most: with more, memory grows; with fewer, time does
_KEPT = 14  # numbers that a layer keeps of each place for the way back, in widths: about those of BERT and GPT-2
_MORE = 16_000_000  # numbers that gradients of pieces may take beyond what pieces save
_OF_LENGTH = {"dynamic", "longrope"}  # rotary embeddings that depend on the longest row of a batch

Found = tuple[Tensor, list[Any]]
"""The loss of a piece, and the gradient of each parameter; None where the loss does not reach it."""


def loss_in_pieces(module: TaskModule, batch: Batch) -> Tensor | None:
    """The mean loss of a batch in nats; its way back only hands over the gradients, once.

    None where the batch has to be computed as a whole: one that is small; on a GPU, in other types than float32; with
    a head whose loss is not known to be made row by row; with gradient checkpointing; where somebody listens at a
    part of the module or has changed it; and where the gradients of pieces would take more than pieces save.
    """
    if not _divisible(module, batch):
        return None
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    pieces = in_pieces(batch)
    workers = _workers(module, len(pieces), sum(parameter.numel() for parameter in learning))
    if len(pieces) == 1 or not workers:
        return None
    loss: Tensor = _Computed.apply(module, pieces, 1 if _drops(module) else workers, learning, *learning)
    return loss


def in_pieces(batch: Batch) -> list[Batch]:
    """Some rows each, as many as `_TOKENS` allow."""
    ids = batch["input_ids"]  # (B, L)
    count = max(1, math.ceil(len(ids) / max(1, _TOKENS // max(1, ids.size(1)))))
    parts = {key: values.tensor_split(count) for key, values in batch.items()}
    return [{key: values[i] for key, values in parts.items()} for i in range(count)]


def _divisible(module: TaskModule, batch: Batch) -> bool:
    if not (module.head.by_rows and torch.is_grad_enabled()) or torch.is_autocast_enabled("cpu"):
        return False
    rows, parts = len(batch["input_ids"]), [*module.backbone.modules(), *module.head.modules()]
    config: Any = module.backbone.config
    return (
        all(isinstance(v, Tensor) and v.dim() and len(v) == rows and v.device.type == "cpu" for v in batch.values())
        and all(p.dtype == torch.float32 and not p._backward_hooks for p in module.parameters())
        and not is_heard(*parts)
        and not any(map(_together, parts))
        and not (config.output_hidden_states or config.output_attentions)
    )


def _together(part: nn.Module) -> bool:
    """Whether a part looks at several rows at once, or would not be copied with its twin."""
    norm = isinstance(part, nn.modules.batchnorm._BatchNorm)
    rotary = getattr(part, "rope_type", None)  # one for each kind of layer, or of all
    turns = not _OF_LENGTH.isdisjoint(rotary.values() if isinstance(rotary, dict) else [rotary])
    return norm or turns or getattr(part, "gradient_checkpointing", False) or is_bound(part)


def _workers(module: TaskModule, pieces: int, learning: int) -> int:
    """Pieces at a time, as many as threads; fewer, or none, where that many gradients take more than pieces save."""
    config = module.backbone.config
    kept = _KEPT * _TOKENS * getattr(config, "hidden_size", 0) * getattr(config, "num_hidden_layers", 0)
    most = min(torch.get_num_threads(), pieces)
    return next((w for w in range(most, 0, -1) if w * learning <= (pieces - w) * kept + _MORE), 0)


def _drops(module: TaskModule) -> bool:
    """Whether a part has dropout, as far as it tells: then random numbers are drawn in the order of the pieces."""
    return any(map(_has_dropout, [*module.backbone.modules(), *module.head.modules()]))


def _has_dropout(part: nn.Module) -> bool:
    if isinstance(part, nn.modules.dropout._DropoutNd):
        return part.p > 0
    return any("drop" in name and isinstance(value, float) and value > 0 for name, value in vars(part).items())


class _Computed(torch.autograd.Function):
    """A loss whose gradients were made with it."""

    @staticmethod
    def forward(
        ctx: Any, module: TaskModule, pieces: list[Batch], workers: int, learning: list[Tensor], *_: Tensor
    ) -> Tensor:
        before = _random_state()
        loss, ctx.gradients = _added(_each(module, pieces, learning, workers))
        if workers > 1 and not _equal(before, _random_state()):  # drawn by several at a time, in whatever order
            _set(before)
            loss, ctx.gradients = _added(_each(module, pieces, learning, 1))
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None  # else each would be copied
        if gradients is None:
            raise RuntimeError("the gradient of a loss that was computed in pieces is handed over once")
        scaled = gradients if slope == 1 else [None if g is None else g * slope for g in gradients]
        return None, None, None, None, *scaled


def _each(module: TaskModule, pieces: list[Batch], learning: list[Tensor], workers: int) -> Iterator[Found]:
    """Of each piece, in their order; together they are the batch."""
    count = max(1, sum(map(module.head.count, pieces)))

    def of(own: TaskModule, piece: Batch) -> Found:
        with torch.enable_grad():
            loss = own.loss_of(piece) * (own.head.count(piece) / count)
            return loss.detach(), list(torch.autograd.grad(loss, learning, allow_unused=True))

    return (of(module, piece) for piece in pieces) if workers == 1 else _side_by_side(module, of, pieces, workers)


def _side_by_side(module: TaskModule, of: Any, pieces: list[Batch], workers: int) -> Iterator[Found]:
    """As many at a time as there are workers, each with a twin of the module."""
    free: SimpleQueue[TaskModule] = SimpleQueue()
    for _ in range(workers):
        free.put(twin(module))

    def work(piece: Batch) -> Found:
        own = free.get()
        try:
            found: Found = of(own, piece)
            return found
        finally:
            free.put(own)

    pool, waiting = _pool(workers, torch.get_num_threads()), iter(pieces)
    running: deque[Future[Found]] = deque()
    try:
        while True:
            # one more than there are workers: who is done before the one in front goes on with it
            running.extend(pool.submit(work, piece) for piece in islice(waiting, workers + 1 - len(running)))
            if not running:
                return
            yield running.popleft().result()
    finally:
        wait(running)  # also after an error or Ctrl-C: nothing goes on behind the caller's back


def _added(found: Iterator[Found]) -> Found:
    """Their sums. What autograd gives may share memory, so only sums of our own are changed in place."""
    total, gradients = next(found)
    own = [False] * len(gradients)
    for loss, more in found:
        total = total + loss
        for i, part in enumerate(more):
            if part is not None and gradients[i] is not None:
                gradients[i] = gradients[i].add_(part) if own[i] else gradients[i] + part
                own[i] = True
            elif part is not None:
                gradients[i] = part
    return total, gradients


@lru_cache(4)
def _pool(workers: int, threads: int) -> ThreadPoolExecutor:
    """Threads that share this process's by the pieces, each with its part of them for the operations of a piece."""
    pool, all_there = ThreadPoolExecutor(workers, "nlpkit-piece"), Barrier(workers)

    def begin() -> None:
        all_there.wait()
        torch.get_num_threads()  # else the thread's first operation would set the number again
        torch.set_num_threads(max(1, threads // workers))

    wait([pool.submit(begin) for _ in range(workers)])
    torch.set_num_threads(threads)  # what threads that start later begin with was changed, too
    return pool


def _random_state() -> tuple[Tensor, Any, Any]:
    return torch.get_rng_state(), np.random.get_state(), random.getstate()


def _equal(one: tuple[Tensor, Any, Any], other: tuple[Tensor, Any, Any]) -> bool:
    numbers = all(np.array_equal(a, b) for a, b in zip(one[1], other[1], strict=True))
    return torch.equal(one[0], other[0]) and numbers and one[2] == other[2]


def _set(state: tuple[Tensor, Any, Any]) -> None:
    torch.set_rng_state(state[0])
    np.random.set_state(state[1])
    random.setstate(state[2])
