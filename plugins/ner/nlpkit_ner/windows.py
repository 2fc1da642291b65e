"""Texts of any length in windows that a model can read; each piece is answered where it has most text around it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from nlpkit.errors import ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Window(NamedTuple):
    """A part of a text.

    Args:
        start: its first piece.
        end: the piece behind it.
        first: the first piece that is answered here.
        last: the piece behind the last such.
    """

    start: int
    end: int
    first: int
    last: int


def windows(pieces: int, size: int, stride: int) -> list[Window]:
    """Windows of a text that together answer each piece once; one window, perhaps an empty one, for a short text.

    Args:
        pieces: of the text.
        size: pieces in a window, at most.
        stride: pieces that neighbours share, at least; at most half of ``size``.
    """
    if pieces <= size:
        return [Window(0, pieces, 0, pieces)]
    step = max(1, size - min(stride, size // 2))
    starts = [*range(0, pieces - size, step), pieces - size]
    middles = [(after + before + size + 1) // 2 for before, after in pairwise(starts)]
    edges = [0, *middles, pieces]
    return [Window(s, s + size, edges[i], edges[i + 1]) for i, s in enumerate(starts)]


class Frame(NamedTuple):
    """Special tokens around a text.

    Args:
        before: their ids.
        after: likewise.
    """

    before: list[int]
    after: list[int]

    def around(self, ids: Sequence[int]) -> list[int]:
        """The ids of a window."""
        return [*self.before, *ids, *self.after]


def frame_of(tokenizer: Tokenizer) -> Frame:
    """The special tokens that a tokenizer puts around a text.

    Raises:
        ModelError: it cuts a text otherwise where they stand around it.
    """
    bare, whole = (tokenizer.encode("a", add_special_tokens=special).ids for special in (False, True))
    place = next((i for i in range(len(whole) + 1) if whole[i : i + len(bare)] == bare), None)
    if place is None:
        raise ModelError(
            "the tokenizer cuts a text otherwise where special tokens stand around it", "use another model"
        )
    return Frame(whole[:place], whole[place + len(bare) :])
