"""Fingerprints of the texts that a model has seen, by stage: a bundle keeps these, and no text."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from nlpkit.errors import ModelError
from nlpkit.files import write_bytes
from nlpkit.limits import SEEN_TEXTS
from nlpkit.ngrams import is_telling
from nlpkit.splits import fingerprints

FILE = "seen.safetensors"
log = logging.getLogger("nlpkit")
STAGES = ("pretrain", "finetune")
_ALL = 2**64 - 1
_BATCH = 1000  # texts in memory


@dataclass(frozen=True)
class Sketch:
    """Fingerprints of a set of texts; of a very large set, the smallest (Broder 1997), a sample by the text alone.

    A sample of the texts says of a part of all other texts whether they are among them: of those whose fingerprint is
    no greater than ``top``. What it says is true but for chance equality of 64 bits.

    Args:
        values: rising, (N,).
        top: the greatest fingerprint that would be in it.
    """

    values: NDArray[np.uint64]
    top: int = _ALL

    @classmethod
    def of(cls, values: NDArray[np.uint64], top: int = _ALL) -> Sketch:
        """Of any fingerprints, `SEEN_TEXTS` of them at most."""
        values = np.unique(values)
        if len(values) > SEEN_TEXTS:
            values = values[:SEEN_TEXTS]
            top = min(top, int(values[-1]))
        return cls(values[values <= np.uint64(top)], top)

    def __or__(self, other: Sketch) -> Sketch:
        return Sketch.of(np.concatenate([self.values, other.values]), min(self.top, other.top))

    @property
    def is_sample(self) -> bool:
        """Whether it holds not all texts."""
        return self.top < _ALL

    def count(self, values: NDArray[np.uint64]) -> int:
        """How many of these fingerprints are in the set; of a sample, what it lets expect."""
        known = values[values <= np.uint64(self.top)]
        return round(int(np.isin(known, self.values).sum()) * len(values) / max(1, len(known)))


Seen = dict[str, Sketch]


def join(one: Mapping[str, Sketch], other: Mapping[str, Sketch]) -> Seen:
    """What a model has seen that went through both."""
    both = {**one, **other}
    return {stage: one[stage] | other[stage] if stage in one and stage in other else both[stage] for stage in both}


def of_texts(stage: str, texts: Sequence[str]) -> Seen:
    """What a model has seen that was made of these texts."""
    return {stage: Sketch.of(fingerprints(texts))}


def count(seen: Mapping[str, Sketch], texts: Iterable[str]) -> dict[str, int]:
    """How many of the texts each stage has seen; texts too short to be telling count as new (see `ngrams.LENGTH`)."""
    telling, found = filter(is_telling, texts), [np.empty(0, np.uint64)]
    while seen and (batch := list(islice(telling, _BATCH))):
        found.append(fingerprints(batch))
    values = np.concatenate(found)
    return {stage: seen[stage].count(values) for stage in STAGES if stage in seen}


def warn(
    counts: Mapping[str, int], total: int, files: Sequence[str], what: str = "texts", *, cut: bool = False
) -> None:
    """Say that a model is scored on texts that it knows.

    Args:
        counts: from `count`.
        total: texts that are scored.
        files: that they are of.
        what: the texts are called.
        cut: whether they are a part of the files, whose other part is learnt from.
    """
    named = f"{', '.join(files) or 'the sample'}: "
    if number := counts.get("pretrain", 0):
        exclude = " ".join(f"--exclude {shlex.quote(file)}" for file in files)
        advice = f"; to leave them out there: nlpkit pretrain ... {exclude}" if files else ""
        advice = "; surer ones come from new texts: --dev FILE" if cut else advice
        where = "stood in the corpus of this model (pre-training): scores on them flatter"
        log.warning("%s%s of %s %s %s%s", named, f"{number:,}", f"{total:,}", what, where, advice)
    if number := counts.get("finetune", 0):
        where = "were used to fit this model: scores on them flatter; take others"
        log.warning("%s%s of %s %s %s", named, f"{number:,}", f"{total:,}", what, where)


def write(folder: Path, seen: Mapping[str, Sketch]) -> None:
    """Write the file into a folder; nothing where nothing is known."""
    if seen:
        tops = {stage: str(sketch.top) for stage, sketch in seen.items()}
        write_bytes(folder / FILE, save({stage: sketch.values for stage, sketch in seen.items()}, tops))


def read(folder: Path) -> Seen:
    """Read the file of a folder; nothing where there is none, as in bundles that are no work of ours.

    Raises:
        ModelError: damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return {}
    try:
        with safe_open(path, "numpy") as tensors:
            tops = tensors.metadata() or {}
            seen = {stage: Sketch(tensors.get_tensor(stage), int(tops[stage])) for stage in tensors.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError, TypeError):
        raise _damaged(path) from None
    for stage, sketch in seen.items():
        values = sketch.values
        if stage not in STAGES or values.dtype != np.uint64 or values.ndim != 1 or not 0 <= sketch.top <= _ALL:
            raise _damaged(path)
        if len(values) and not ((values[1:] > values[:-1]).all() and values[-1] <= np.uint64(sketch.top)):
            raise _damaged(path)
    return seen


def _damaged(path: Path) -> ModelError:
    return ModelError(f"{path}: no fingerprints of texts, or damaged", "copy the whole folder again")
