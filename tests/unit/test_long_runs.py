"""What a run may take: memory that runs out is said, and hundreds of steps take no more than the first ones."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytorch_lightning as pl
import torch
from tiny_runs import run, sentiment

from nlpkit import checkpoints
from nlpkit.errors import ResourceError


class Greedy(pl.Callback):
    """Ask for more memory than there is, in one way or another."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, index: int) -> None:
        if index == 3:
            if self.kind == "torch":
                torch.empty(1 << 50)
            raise MemoryError if self.kind == "Python" else torch.OutOfMemoryError("CUDA out of memory.")


@pytest.mark.parametrize("kind", ["torch", "Python", "GPU"])
def test_memory_that_runs_out_is_said_and_the_run_can_go_on(kind: str, tmp_path: Path) -> None:
    """M05."""
    with pytest.raises(ResourceError) as caught:
        run(tmp_path, sentiment(), callbacks=[Greedy(kind)])
    assert caught.value.message == "memory ran out while training"
    assert caught.value.hint == "use smaller batches: trainer.batch_tokens=1024 trainer.accumulate=4"
    assert caught.value.exit_code == 6
    assert checkpoints.newest(tmp_path / "checkpoints").name == "step-00000003"


class Usage(pl.Callback):
    """Note what the process holds, after every fiftieth step."""

    def __init__(self) -> None:
        self.files: list[int] = []
        self.threads: list[int] = []
        self.tensors: list[int] = []
        self.bytes: list[int] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step % 50 == 0:
            gc.collect()
            self.files.append(len(os.listdir("/proc/self/fd")))
            self.threads.append(threading.active_count())
            self.tensors.append(sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects()))
            self.bytes.append(psutil.Process().memory_info().rss)


def test_hundreds_of_steps_hold_no_more_than_the_first(tmp_path: Path) -> None:
    """M10."""
    usage = Usage()
    run(tmp_path, sentiment(), epochs=30, every=50, callbacks=[usage])
    assert len(usage.files) >= 3
    assert len(set(usage.files)) == 1
    assert len(set(usage.threads)) == 1
    assert max(usage.tensors) - usage.tensors[0] < 10
    assert usage.bytes[-1] - usage.bytes[0] < 32 << 20
