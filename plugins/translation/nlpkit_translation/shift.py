"""Where two files begin to be out of step, guessed from the lengths of their lines alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_SHORTEST = 50  # lines on each side of a shift that are needed to tell it
_EVIDENT = 20.0  # nats by which two parts explain the lengths better than one; chance gives about 5
_SURE = 7.0  # nats under the likeliest place, up to which a line may be the place, too
_NARROW = 200  # lines that the place may be among, to be of any help
_MIXED = 0.7  # variance behind the shift, as a share of that of pairs put together at random, at least


def first_shift(source: Sequence[int], target: Sequence[int]) -> tuple[int, int] | None:
    """Lines between which pairs stop fitting together, from 1; None: the lengths do not show it.

    The lengths of a text and its translation go together (Gale and Church 1993, A program for aligning sentences in
    bilingual corpora), so the logarithm of their ratio varies less among pairs than among texts put together at
    random. The place is that of the likeliest change of its mean and variance, taken as normal; it counts where the
    part behind is like random pairs.

    Args:
        source: characters of each line.
        target: likewise, of as many lines.
    """
    sizes = [np.log1p(np.asarray(side, np.float64)) for side in (source, target)]
    ratios = sizes[0] - sizes[1]  # (N,)
    count = len(ratios)
    if count < 4 * _SHORTEST:
        return None
    ratios = ratios.clip(*np.quantile(ratios, (0.01, 0.99)))  # one odd pair is no shift
    places = np.arange(_SHORTEST, count - _SHORTEST)
    before, behind = _spread(ratios)[places], _spread(ratios[::-1])[count - places]
    gains = (count * np.log(ratios.var() + 1e-9) - places * np.log(before) - (count - places) * np.log(behind)) / 2
    best = int(gains.argmax())
    place = int(places[best])
    random = (sizes[0][place:] - np.roll(sizes[1][place:], (count - place) // 2)).var()
    likely = places[gains > gains[best] - _SURE]
    narrow = likely[-1] - likely[0] <= _NARROW
    if gains[best] < _EVIDENT or not narrow or before[best] > _MIXED * random or behind[best] < _MIXED * random:
        return None
    return int(likely[0]), int(likely[-1]) + 1


def _spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The variance of the first 0, 1, ... N values, (N + 1,)."""
    counts = np.arange(len(values) + 1).clip(1)
    centred = values - values.mean()
    means, squares = (np.concatenate([[0.0], np.cumsum(centred**power)]) / counts for power in (1, 2))
    return np.maximum(squares - means**2, 0) + 1e-9
