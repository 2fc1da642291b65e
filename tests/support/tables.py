"""Small tables made from larger ones."""

from __future__ import annotations

import csv
from pathlib import Path


def first_rows(table: Path, count: int, target: Path) -> Path:
    """Write the first rows of a table, its header among them."""
    with open(table, encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[:count]
    with open(target, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return target
