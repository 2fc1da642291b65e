"""Tokens a second and memory of training and of building the token store, from 1 MB of text to 1 GB.

    python tests/benchmarks/flat.py [--runs 3] [--most 1000] [--steps 40] [--batch-tokens 8192]

Text: drawn at random (books.py) and tokenised as it is drawn; the largest store takes 0.7 GB in the temporary folder.
Sides: mlm with the smallest preset, on each size; `built_mb_per_s` and `built_peak_mb` tell of the store's building in
one process, from the smallest to the largest, and `start_s` of what is done between the opened store and the training.
Pages of the store that the kernel keeps are no memory of ours: `own_mb` is without them, after the training.
"""

from __future__ import annotations

import argparse
import functools
import json
import resource
from collections.abc import Iterator
from pathlib import Path

import books
import pretraining
import side

SIZES = (1, 10, 100, 1000)  # megabytes


def prepare(arguments: argparse.Namespace) -> None:
    """Train the tokenizer on the smallest text, build all stores, and leave the numbers."""
    import nlpkit.corpus  # noqa: F401 outside of the clock

    _made(SIZES[0]).train_tokenizer()
    for size in _sizes(arguments):
        with side.Clock() as clock:
            _made(size).build_store()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        _built(size).write_text(json.dumps({"built_mb_per_s": size / clock.wall_s, "built_peak_mb": peak}))


def train(arguments: argparse.Namespace, size: int) -> side.Values:
    """Some steps on the store of one size."""
    trained = pretraining.ours(_made(size), arguments, pretraining.our_optimiser(_made(size)))
    status = Path("/proc/self/status").read_text().split()
    own = int(status[status.index("RssAnon:") + 1]) / 1024
    more = {"start_s": trained.start.cpu_s, "own_mb": own, **json.loads(_built(size).read_text())}
    return trained.clock.result(trained.tokens, **more)


def _sizes(arguments: argparse.Namespace) -> list[int]:
    return [size for size in SIZES if size <= arguments.most]


def _built(size: int) -> Path:
    return pretraining.folder() / f"built-{size}.json"


def _made(size: int) -> pretraining.Comparison:
    def texts(*, held_out: bool = False) -> Iterator[str]:
        return books.generated(size, seed=int(held_out))

    return pretraining.Comparison("mlm", texts, preset="tiny", store=f"store-{size}")


if __name__ == "__main__":
    options = pretraining.parser(__doc__, steps=40)
    options.add_argument("--most", type=int, default=SIZES[-1], help="megabytes of the largest text")
    known = _sizes(options.parse_args())
    sides = {f"{size}mb": functools.partial(train, size=size) for size in known}
    pretraining.compare(options, sides, prepare)
