"""What logging and checkpoints cost in a usual run of ``nlpkit pretrain``, as shares of its time.

    python tests/benchmarks/overhead.py [--runs 3] [--threads 1] [--steps 60]

Text: the Gutenberg books of $NLPKIT_DATA; all settings are the defaults, except that the run ends after a few steps.
Timed inside the run: every hook of the recorder and ``log`` of the module, which together are the logging, and every
save of a checkpoint (serialise, hash, fsync, rename, prune). `logging_share` is that of the steps' time.
`checkpoint_share` is worked out for the run that would have gone on to its end, with a save at its two validations an
epoch and one every ten minutes, as the defaults have it. Times are wall seconds: a save waits for the disk.
"""

from __future__ import annotations

import argparse
import functools
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import books
import pretraining
import side

HOOKS = ("on_before_backward", "on_train_batch_end", "on_save_checkpoint", "on_validation_end")
EVERY = 600.0  # seconds between two checkpoints


class Stopwatch:
    """Wall seconds spent in some methods, and how often they were called."""

    def __init__(self) -> None:
        self.seconds, self.calls = 0.0, 0

    def watch(self, owner: type, *names: str) -> None:
        """Time these methods of a class from now on."""
        for name in names:
            setattr(owner, name, self._timed(getattr(owner, name)))

    def _timed(self, method: Any) -> Any:
        @functools.wraps(method)
        def timed(*positional: Any, **named: Any) -> Any:
            begin = time.perf_counter()
            try:
                return method(*positional, **named)
            finally:
                self.seconds += time.perf_counter() - begin
                self.calls += 1

        return timed


def prepare(arguments: argparse.Namespace) -> None:
    """Write the books as a file, a paragraph a line, and build their token stores."""
    (pretraining.folder() / "books.txt").write_text("\n".join(books.paragraphs()), "utf-8")
    for objective in ("mlm", "clm"):
        _pretrain(objective, 1, arguments.threads)


def shares(arguments: argparse.Namespace, objective: str) -> side.Values:
    """Shares of logging and checkpoints in a run."""
    from nlpkit.callbacks import Checkpoints, Recorder
    from nlpkit.module import TaskModule

    logging, saving, steps = Stopwatch(), Stopwatch(), Stopwatch()
    logging.watch(Recorder, *HOOKS)
    logging.watch(TaskModule, "log")
    saving.watch(Checkpoints, "save")
    steps.watch(_loop(), "advance")
    with side.Clock() as clock:
        run = _pretrain(objective, arguments.steps, arguments.threads)
    step = (steps.seconds - saving.seconds) / steps.calls
    epoch = run.results["corpus"]["tokens"] / run.results["tokens"] * run.results["steps"] * step  # seconds
    saves = 2 + epoch / EVERY
    return clock.result(
        run.results["tokens"],
        step_s=step,
        logging_share=logging.seconds / (steps.calls * step),
        save_s=saving.seconds / saving.calls,
        saves=saving.calls,
        checkpoint_share=saves * saving.seconds / saving.calls / epoch,
    )


def _loop() -> Any:
    from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop

    return _TrainingEpochLoop


def _pretrain(objective: str, steps: int, threads: int) -> Any:
    import nlpkit

    settings = [f"trainer.max_steps={steps}", f"trainer.threads={threads}", "trainer.accelerator=cpu"]
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "run"
        return nlpkit.pretrain(pretraining.folder() / "books.txt", objective=objective, out=out, overrides=settings)


if __name__ == "__main__":
    options = side.parser(__doc__)
    options.add_argument("--steps", type=int, default=60)
    with tempfile.TemporaryDirectory() as name:
        os.environ.setdefault("NLPKIT_BENCH", name)
        os.environ["NLPKIT_CACHE"] = str(pretraining.folder() / "cache")
        side.main(options, {o: functools.partial(shares, objective=o) for o in ("mlm", "clm")}, prepare)
