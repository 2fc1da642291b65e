"""Which examples stand in which batch: a pure function of (lengths, budget, seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from nlpkit.processes import Place
from nlpkit.randomness import seed_of

Items = TypeVar("Items", NDArray[np.int64], list[NDArray[np.int64]])

_MEGA = 32  # batches that are sorted by length together


@dataclass(frozen=True)
class BatchPlan:
    """Length-bucketed batches under a token budget, another order in each epoch.

    Examples are shuffled, sorted by length inside groups of about 32 batches, cut into batches of at most ``tokens``
    padded tokens and ``rows`` examples, and the batches shuffled: little padding, and no fixed company.

    Args:
        lengths: tokens of each example.
        tokens: padded tokens in a batch, at most; a single longer example is a batch of its own.
        rows: examples in a batch, at most.
        seed: of the run.
    """

    lengths: NDArray[np.int64]
    tokens: int
    rows: int
    seed: int = 0
    _kept: dict[int, list[NDArray[np.int64]]] = field(default_factory=dict, repr=False, compare=False)

    def epoch(self, epoch: int) -> list[NDArray[np.int64]]:
        """The batches of one epoch, each an array of example numbers; every example exactly once."""
        if epoch not in self._kept:
            self._kept.clear()
            self._kept[epoch] = self._make(epoch)
        return self._kept[epoch]

    def _make(self, epoch: int) -> list[NDArray[np.int64]]:
        if not len(self.lengths):
            return []
        rng = np.random.Generator(np.random.PCG64(seed_of(self.seed, 1, epoch)))
        order = rng.permutation(len(self.lengths))
        mega = max(1, _MEGA * min(self.rows, max(1, int(self.tokens / max(1.0, float(self.lengths.mean()))))))
        batches: list[NDArray[np.int64]] = []
        for start in range(0, len(order), mega):
            group = order[start : start + mega]
            by_length = group[np.argsort(self.lengths[group], kind="stable")]
            batches += cut(by_length, self.lengths, self.tokens, self.rows)
        return [batches[i] for i in rng.permutation(len(batches))]


def cut(order: NDArray[np.int64], lengths: NDArray[np.int64], tokens: int, rows: int) -> list[NDArray[np.int64]]:
    """Cut examples, in this order, into batches of at most ``tokens`` padded tokens and ``rows`` examples."""
    batches, start, longest = [], 0, 0
    for i, example in enumerate(order):
        longest_with = max(longest, int(lengths[example]))
        size = i - start + 1
        if size > 1 and (size > rows or longest_with * size > tokens):
            batches.append(order[start:i])
            start, longest_with = i, int(lengths[example])
        longest = longest_with
    return [*batches, order[start:]] if len(order) else []


def share(items: Items, place: Place) -> Items:
    """What a process gets of a batch, or of many: every item goes to exactly one, and each has long and short ones."""
    return items[place.rank :: place.world]


def sorted_batches(lengths: Sequence[int] | NDArray[np.int64], tokens: int, rows: int) -> Iterator[NDArray[np.int64]]:
    """Batches for prediction: longest first, so that memory runs out at once or never."""
    sizes = np.asarray(lengths, np.int64)
    if len(sizes):
        yield from cut(np.argsort(-sizes, kind="stable"), sizes, tokens, rows)
