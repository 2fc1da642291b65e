"""A token store as equal blocks: what objectives read that need no more than a stretch of tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nlpkit.objectives.objective import Objective
from nlpkit.task import Features

if TYPE_CHECKING:
    from nlpkit.token_store import View


class Blocks:
    """Equal blocks of documents one behind the other; nothing is copied before it is asked for.

    Args:
        view: documents.
        objective: encodes a block.
        length: tokens of a sample, special ones included.
    """

    def __init__(self, view: View, objective: Objective[Any], length: int) -> None:
        self.view, self.objective = view, objective
        self.stretch = min(length - objective.overhead, len(view))
        size = min(length, self.stretch + max(0, objective.overhead))  # less where the whole view is short
        self.lengths: NDArray[np.int64] = np.full(view.blocks(self.stretch) if self.stretch else 0, size)

    def features(self, index: int, seed: int = 0) -> Features:
        """The features of one block."""
        return self.objective.encode_tokens(self.view.block(index, self.stretch).tolist())

    def where(self, index: int) -> str:
        """The documents of one block."""
        return self.view.where(index * self.stretch, self.stretch)
