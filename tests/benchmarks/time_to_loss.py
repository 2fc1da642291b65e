"""The loss that nlpkit reaches in the CPU seconds that transformers' Trainer needs for 300,000 tokens.

    python tests/benchmarks/time_to_loss.py --objective mlm [--runs 3] [--tokens 300000] [--batch-tokens 2048]

Model, text and held-out loss as in pretrain_mlm.py and pretrain_clm.py. The peer trains first and leaves its CPU
seconds; ours takes a few steps to see how many it has the time for, which are not counted, begins anew with a schedule
for so many, and stops when the seconds are spent, wherever the schedule is. Sides: `transformers`; `nlpkit` with
embeddings that start at random, as the peer's do; `nlpkit-lsa`, as ``nlpkit pretrain`` starts, the analysis counted.
"""

from __future__ import annotations

import argparse
from typing import Any

import books
import pretraining
import pytorch_lightning as pl
import side

PROBE = 6


class Deadline(pl.Callback):
    """Ends a training when its process has used so many CPU seconds.

    Args:
        seconds: from now on.
    """

    def __init__(self, seconds: float) -> None:
        self.end = side.cpu_seconds() + seconds

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Look at the clock."""
        trainer.should_stop = trainer.should_stop or side.cpu_seconds() >= self.end


def theirs(arguments: argparse.Namespace) -> side.Values:
    """Train with transformers' Trainer, and leave the time."""
    made = _made(arguments)
    arguments.steps = arguments.tokens // arguments.batch_tokens
    found = pretraining.result(made, pretraining.theirs(made, arguments, pretraining.group_texts))
    _budget(arguments).write_text(str(found["cpu_s"]))
    return found


def ours(arguments: argparse.Namespace, *, analysis: bool = False) -> side.Values:
    """Train for as many CPU seconds."""
    made = _made(arguments)
    optimiser = pretraining.our_optimiser(made)
    seconds = float(_budget(arguments).read_text())
    arguments.steps = PROBE
    probe = pretraining.ours(made, arguments, optimiser, analysis=analysis)
    long = argparse.Namespace(**{**vars(arguments), "steps": 3 * PROBE})
    step = (pretraining.ours(made, long, optimiser, analysis=analysis).clock.cpu_s - probe.clock.cpu_s) / (2 * PROBE)
    arguments.steps = PROBE + int((seconds - probe.clock.cpu_s) / step)
    trained = pretraining.ours(made, arguments, optimiser, analysis=analysis, callbacks=(Deadline(seconds),))
    return pretraining.result(made, trained, planned=arguments.steps)


def _made(arguments: argparse.Namespace) -> pretraining.Comparison:
    return pretraining.Comparison(arguments.objective, books.paragraphs)


def _budget(arguments: argparse.Namespace) -> Any:
    return pretraining.folder() / f"seconds-{arguments.seed}"


if __name__ == "__main__":
    options = pretraining.parser(__doc__, batch_tokens=2048)
    options.add_argument("--objective", choices=("mlm", "clm"), required=True)
    options.add_argument("--tokens", type=int, default=300_000)
    sides = {"transformers": theirs, "nlpkit": ours, "nlpkit-lsa": lambda arguments: ours(arguments, analysis=True)}
    pretraining.compare(options, sides, lambda arguments: _made(arguments).prepare(arguments))
