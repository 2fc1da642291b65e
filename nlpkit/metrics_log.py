"""metrics.jsonl, the log of a run: a row for the loss of each step, and one for the scores of each validation."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nlpkit.files import write_bytes


def scores_at(path: Path, step: int, part: str) -> dict[str, float]:
    """The scores of a part, ``dev`` or ``watch``, that were logged at a step."""
    found: dict[str, float] = {}
    for row, _ in rows_of(path):
        if row["step"] == step and f"{part}/loss" in row:
            found = {k.removeprefix(f"{part}/"): v for k, v in row.items() if k.startswith(f"{part}/")}
    return found


def cut_back(path: Path, step: int) -> None:
    """Drop the lines of a log after a step, and a half-written last line."""
    if path.exists():
        write_bytes(path, "".join(f"{line}\n" for row, line in rows_of(path) if row["step"] <= step).encode())


def rows_of(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """The rows of a log with their lines, but for what a kill or a power cut has left of one."""
    for line in path.read_text("utf-8", "replace").splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            row = json.loads(line)
            row["step"] <= 0  # noqa: B015 - a row has a number of its step
            yield row, line


def best_of(path: Path, score: str) -> float | None:
    """The best dev score so far; ``loss`` is best where it is lowest."""
    values = [float(row[f"dev/{score}"]) for row, _ in rows_of(path) if f"dev/{score}" in row]
    return (min if score == "loss" else max)(values, default=None)
