"""The demo shop's files: unlabelled reviews to pre-train on, labelled ones to fit and to evaluate."""

from __future__ import annotations

import csv
import os
import random
import secrets
import shutil
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from nlpkit.demo.reviews import Review, generate
from nlpkit.errors import RunFolderError
from nlpkit.files import explain_os_errors

SEED = 20
"""Of the shipped shop: everybody gets the same files, so that documentation can quote their scores."""


class ShopFile(NamedTuple):
    """A file of the shop: its name, its number of reviews, whether it says how they were meant."""

    name: str
    rows: int
    labelled: bool


FILES = (
    ShopFile("reviews.csv", 3000, labelled=False),
    ShopFile("labelled.csv", 400, labelled=True),
    ShopFile("new.csv", 20, labelled=False),
    ShopFile("more-labelled.csv", 200, labelled=True),
)


def write_shop(folder: str | Path) -> list[Path]:
    """Write the demo shop's four CSV files, all of them or none.

    No two reviews are equal, within a file or across them.

    Args:
        folder: made when absent; may exist if it is empty.

    Returns:
        The files in the order they are used in, below ``folder`` as it was given.

    Raises:
        RunFolderError: the folder has files in it, is no folder, or cannot be written.
        ResourceError: the disk is full.
    """
    target = Path(os.path.abspath(folder))
    try:
        with explain_os_errors(target):
            _refuse_occupied(target, str(folder))
            _write(target)
    except OSError as error:
        message = f"{folder}: cannot be written ({error.strerror})"
        raise RunFolderError(message, "choose another folder with --out DIR") from error
    return [Path(folder) / file.name for file in FILES]


def _refuse_occupied(target: Path, named: str) -> None:
    hint = "choose another folder with --out DIR, or delete this one first"
    if target.is_dir():
        if any(target.iterdir()):
            raise RunFolderError(f"{named}: folder is not empty, and nothing in it is overwritten", hint)
    elif target.exists() or target.is_symlink():
        raise RunFolderError(f"{named}: is not a folder", hint)


def _write(target: Path) -> None:
    """Write beside the target (inside it when it exists and is empty) and move into place when complete."""
    existing = target.is_dir()
    parent = target if existing else target.parent
    parent.mkdir(parents=True, exist_ok=True)
    stage = parent / f".{target.name}-{secrets.token_hex(4)}.partial"
    stage.mkdir()
    try:
        for file, reviews in _shop():
            _write_csv(stage / file.name, reviews, labelled=file.labelled)
        if existing:
            _move_files(stage, target)
        else:
            stage.rename(target)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _shop() -> Iterator[tuple[ShopFile, list[Review]]]:
    """Generate the reviews of each file; each has a seed of its own, so that one may grow without changing the next."""
    seen: set[str] = set()
    for file in FILES:
        yield file, list(islice(generate(random.Random(f"{SEED}:{file.name}"), seen), file.rows))


def _move_files(stage: Path, target: Path) -> None:
    moved: list[Path] = []
    try:
        for file in FILES:
            (stage / file.name).rename(target / file.name)
            moved.append(target / file.name)
    except BaseException:
        for path in moved:
            path.unlink(missing_ok=True)
        raise


def _write_csv(path: Path, reviews: Sequence[Review], *, labelled: bool) -> None:
    prefix = path.stem[0]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "product", "review"] + ["sentiment"] * labelled)
        for number, review in enumerate(reviews, start=1):
            row = [f"{prefix}{number:04}", review.product, review.text]
            writer.writerow(row + [review.sentiment] * labelled)
        file.flush()
        os.fsync(file.fileno())
