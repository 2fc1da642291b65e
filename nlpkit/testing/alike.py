"""Whether two answers to the same example are the same, and two predictions: the first difference, in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any

import torch

TOLERANCE = 1e-4
"""By how much two numbers in answers to the same example may differ, and two losses, as a share, and of 1 at least."""
ROUNDING = 2e-5
"""By how much two predictions may differ that only rounding makes different, as a share of the largest."""


def difference(left: Any, right: Any, path: str = "") -> str:
    """The first place where two answers differ by more than `TOLERANCE`, in words; empty: they are the same."""
    if isinstance(left, dict) and isinstance(right, dict) and left.keys() == right.keys():
        return next(filter(None, (difference(left[k], right[k], f"{path}.{k}".lstrip(".")) for k in left)), "")
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        pairs = enumerate(zip(left, right, strict=True))
        return next(filter(None, (difference(a, b, f"{path}[{i}]") for i, (a, b) in pairs)), "")
    if isinstance(left, float) and isinstance(right, float):
        same = math.isclose(left, right, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    else:
        same = bool(left == right)
    return "" if same else f"{path or 'the answer'} is {_short(left)} and {_short(right)}"


def tensors(value: Any, place: str = "predictions") -> Iterator[tuple[str, torch.Tensor]]:
    """All tensors in what a head predicts, each with its place."""
    if isinstance(value, torch.Tensor):
        yield place, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from tensors(part, f"{place}[{key!r}]")
    elif isinstance(value, (list, tuple)):
        for index, part in enumerate(value):
            yield from tensors(part, f"{place}[{index}]")
    elif is_dataclass(value):
        yield from tensors(vars(value), place)


def apart(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor], tolerance: float) -> str:
    """The first tensor of predictions for one example that is another in two batches, in words; empty: none is.

    Where one has more places, being padded further, those that both have are compared.

    Args:
        left: by `TaskUnderTest.predictions`.
        right: of the same example.
        tolerance: by how much numbers may differ, as a share of the largest, and of 1 at least.
    """
    for place in (place for place in left if place in right and left[place].ndim == right[place].ndim):
        shared = tuple(slice(min(sizes)) for sizes in zip(left[place].shape, right[place].shape, strict=True))
        a, b = left[place][shared].double(), right[place][shared].double()
        limit = tolerance * max(1.0, _largest(a))
        other = ~((a == b) | (a.isnan() & b.isnan()) | ((a - b).abs() <= limit))
        if bool(other.any()):
            where = [int(i) for i in other.nonzero()[0]]
            return f"{place}{where or ''} is {float(a[other][0]):.7g} and {float(b[other][0]):.7g}"
    return ""


def _largest(values: torch.Tensor) -> float:
    finite = values[values.isfinite()].abs()
    return float(finite.max()) if finite.numel() else 0.0


def _short(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else f"{value!r:.60}"
