"""Which pairs of the training data teach something else than translation, and are left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from nlpkit import Example
from nlpkit.errors import DataError
from nlpkit.task import files_of

_MANY = 0.1  # of all pairs that are copies: more is a mistake in the files
_COPIES = "with the same text on both sides"


@dataclass
class Filters:
    """What is left out of the training data; a pair with an empty side always is."""

    copies: Literal["drop", "keep"] = "drop"
    """Pairs whose sides are the same text, case and white space aside: a model learns from few of them to copy."""
    max_ratio: float = field(default=9.0, metadata={"at_least": 0})
    """Characters of the longer side for one of the shorter, at most; 0: no limit."""
    max_length: int = field(default=2000, metadata={"at_least": 0})
    """Characters of a side, at most; a longer one would be cut, and no longer be a translation. 0: no limit."""


def why_not(pair: Example, filters: Filters) -> str:
    """Why a pair is left out: the reason as it stands in the log, or nothing.

    Args:
        pair: has ``source`` and ``target``.
        filters: as set.
    """
    source, target = (" ".join(pair[side].split()) for side in ("source", "target"))
    short, long = sorted((len(source), len(target)))
    if not short:
        return "with an empty side"
    if filters.max_length and long > filters.max_length:
        return f"longer than {filters.max_length:,} characters"
    if filters.copies == "drop" and _is_copy(source, target):
        return _COPIES
    if filters.max_ratio and long > filters.max_ratio * short:
        return f"with a side more than {filters.max_ratio:g} times as long as the other"
    return ""


def keep(pairs: Iterable[Example], filters: Filters) -> Iterator[Example]:
    """Pass on the pairs that are to be learnt from, and log in one line how many are left out, and where the first is.

    For training data alone: what is scored stays as it is, or scores of different settings would not compare.

    Args:
        pairs: have ``source`` and ``target``.
        filters: as set.

    Raises:
        DataError: none is left.
    """
    import logging  # commands that only list tasks do without

    count: Counter[str] = Counter()
    first: dict[str, str] = {}
    seen: list[Example] = []  # one of each file, for messages
    total = copies = 0
    for pair in pairs:
        total += 1
        if not seen or pair.where.rpartition(":")[0] != seen[-1].where.rpartition(":")[0]:
            seen.append(pair)
        reason = why_not(pair, filters)
        copies += reason == _COPIES or (not reason and _is_copy(pair["source"], pair["target"]))
        if reason:
            count[reason] += 1
            first.setdefault(reason, pair.where)
        else:
            yield pair
    lost = count.total()
    reasons = ", ".join(f"{count[reason]:,} {reason} (the first at {where})" for reason, where in first.items())
    if copies > _MANY * total:
        logging.getLogger("nlpkit").warning(
            "%s: %s of %s pairs have the same text on both sides; are the files the same, or in one language?",
            *(files_of(seen), f"{copies:,}", f"{total:,}"),
        )
    if lost and lost == total:
        raise DataError(
            f"{files_of(seen)}: no pair is left to learn from: {reasons}", "look at the files, or ease task.filters"
        )
    if lost:
        logging.getLogger("nlpkit").info(
            "%s: %s of %s pairs are left out: %s", files_of(seen), f"{lost:,}", f"{total:,}", reasons
        )


def _is_copy(source: str, target: str) -> bool:
    return source == target or source.casefold().split() == target.casefold().split()
