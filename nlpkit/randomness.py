"""Randomness as a function of counters: nothing has to be stored to repeat it, and nothing can disturb it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble 64-bit integers: the finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def ranked(hashes: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """Hashes (N,) as ranks of a random order, another for each seed; equal hashes have equal ranks."""
    return mix(hashes + np.uint64((seed + 1) * int(_GOLDEN) % 2**64))


def seed_of(*counters: int) -> int:
    """One 63-bit seed from counters such as (run seed, epoch, batch); their order matters."""
    state = np.zeros(1, np.uint64)
    with np.errstate(over="ignore"):
        for counter in counters:
            state = mix(state + _GOLDEN + np.array([counter % 2**64], np.uint64))
    return int(state[0] >> np.uint64(1))


def uniform(seeds: NDArray[np.uint64], length: int, stream: int) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1) for each seed (B,) and position: (B, length); streams are independent."""
    with np.errstate(over="ignore"):
        position = (np.arange(length, dtype=np.uint64) + np.uint64(1)) * _GOLDEN
        start = mix(seeds + np.uint64(stream + 1) * np.uint64(0xD1B54A32D192ED03))
        return (mix(start[:, None] + position[None, :]) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def seed_all(seed: int) -> None:
    """Seed torch, numpy and random, for what draws by no counter, such as dropout."""
    import random

    import torch

    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
