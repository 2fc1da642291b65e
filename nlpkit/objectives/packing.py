"""Which pieces of documents share a row: whole documents as they fit, cut only where rows would stay emptier."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST_PADDING = 0.009
"""Share of the rows that may stay empty before documents are cut to fill them; with the last row still under 1%."""


@dataclass(frozen=True)
class Plan:
    """Rows of pieces.

    Args:
        start: of each piece in the stream of tokens, row by row (P).
        length: of each piece in tokens (P).
        ends: number of pieces up to the end of each row (R).
    """

    start: NDArray[np.int64]
    length: NDArray[np.int64]
    ends: NDArray[np.int64]

    def sizes(self, lead: int) -> NDArray[np.int64]:
        """Tokens of each row (R), with so many before each piece."""
        return np.add.reduceat(self.length + lead, np.append(0, self.ends[:-1])) if len(self.ends) else self.ends


def plan(ends: NDArray[np.int64], room: int, lead: int) -> Plan:
    """Pack documents into rows.

    Documents that are longer than a row are cut into windows. What fits is packed by best fit, the longest first, which
    by counts of equal lengths takes seconds for millions (Krell et al. 2021). Where more than `MOST_PADDING` would stay
    empty, the documents of the emptiest rows fill the others, cut as need be.

    Args:
        ends: where each document ends in the stream of tokens (N).
        room: tokens of a row.
        lead: tokens that stand before each piece.
    """
    start, length = _windows(ends, room - lead)
    order, row_ends = _best_fit(length + lead, room)
    packed = Plan(start[order], length[order], row_ends)
    return _filled(packed, room, lead) if len(row_ends) else packed


def _windows(ends: NDArray[np.int64], longest: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Start and length of pieces of at most ``longest`` tokens, in the order of the stream."""
    lengths = np.diff(ends, prepend=0)
    count = -(-lengths // longest)
    place = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)  # of a window in its document
    start = np.repeat(ends - lengths, count) + place * longest
    return start, np.minimum(longest, np.repeat(ends, count) - start)


def _best_fit(sizes: NDArray[np.int64], room: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Items in the order of their rows (N), and the number of items up to the end of each row (R)."""
    order = np.argsort(-sizes, kind="stable")
    if not len(order):
        return order, order
    values, firsts = np.unique(-sizes[order], return_index=True)
    rows = _Rows(room)
    for size, items in zip((-values).tolist(), np.split(order, firsts[1:]), strict=True):
        while len(items):
            items = items[rows.put(items, size) :]
    groups = [np.hstack(parts) for parts in rows.groups()]  # (rows, items of each)
    per_row = np.concatenate([np.full(len(group), group.shape[1], np.int64) for group in groups])
    return np.concatenate([group.ravel() for group in groups]), np.cumsum(per_row)


class _Rows:
    """Rows with equal contents side by side: groups of them by the room that is left."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.left: dict[int, list[list[NDArray[np.int64]]]] = {}  # room left: groups, each of parts (rows, items)
        self.gaps: list[int] = []

    def put(self, items: NDArray[np.int64], size: int) -> int:
        """Put some items of one size where they leave the least room, in new rows if need be; returns how many."""
        place = bisect_left(self.gaps, size)
        gap = self.gaps[place] if place < len(self.gaps) else self.room
        group = self._take(gap) if place < len(self.gaps) else []
        each = min(gap // size, len(items))
        rows = min(len(group[0]), len(items) // each) if group else len(items) // each
        if group and rows < len(group[0]):
            self._keep(gap, [part[rows:] for part in group])
        added = items[: rows * each].reshape(rows, each)
        self._keep(gap - each * size, [*(part[:rows] for part in group), added])
        return rows * each

    def groups(self) -> list[list[NDArray[np.int64]]]:
        """All groups."""
        return [group for gap in sorted(self.left) for group in self.left[gap]]

    def _take(self, gap: int) -> list[NDArray[np.int64]]:
        group = self.left[gap].pop()
        if not self.left[gap]:
            del self.left[gap], self.gaps[bisect_left(self.gaps, gap)]
        return group

    def _keep(self, gap: int, group: list[NDArray[np.int64]]) -> None:
        if gap not in self.left:
            self.left[gap] = []
            insort(self.gaps, gap)
        self.left[gap].append(group)


def _filled(packed: Plan, room: int, lead: int) -> Plan:
    """The same with the documents of the emptiest rows in the room that others have left, until little is empty."""
    moves = np.array(list(_moves(packed, room, lead)), np.int64).reshape(-1, 4)
    if not len(moves):
        return packed
    stays = np.ones(len(packed.start), np.bool_)
    stays[moves[:, 0]] = False
    rows = np.repeat(np.arange(len(packed.ends)), np.diff(packed.ends, prepend=0))
    rows = np.concatenate([rows[stays], moves[:, 1]])
    order = np.argsort(rows, kind="stable")
    start = np.concatenate([packed.start[stays], moves[:, 2]])[order]
    length = np.concatenate([packed.length[stays], moves[:, 3]])[order]
    return Plan(start, length, np.cumsum(np.unique(rows, return_counts=True)[1]))


def _moves(packed: Plan, room: int, lead: int) -> Iterator[tuple[int, int, int, int]]:
    """What fills rows: number of a piece, the row where it goes or a part of it, start and length of the part.

    One row may stay as it is: the last is never full.
    """
    sizes = packed.sizes(lead)
    gaps, used, rows = (room - sizes).tolist(), int(sizes.sum()), len(sizes)
    queue = iter(np.argsort(sizes, kind="stable").tolist())  # rows that give or take, the emptiest first
    taker, free, last = -1, 0, False
    for giver in queue:
        if last or rows * room - used < MOST_PADDING * rows * room + room:
            return
        rows -= 1
        for piece in range(packed.ends[giver - 1] if giver else 0, packed.ends[giver]):
            start, left, used = int(packed.start[piece]), int(packed.length[piece]), used - lead
            while left:
                if free <= lead:
                    taker = next(queue, giver)
                    last = taker == giver or gaps[taker] <= lead  # as for all that follow
                    taker, free = (giver, room) if last else (taker, gaps[taker])
                taken = min(left, free - lead)
                yield piece, taker, start, taken
                start, left, free, used = start + taken, left - taken, free - taken - lead, used + lead
