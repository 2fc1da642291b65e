"""A token store as rows of whole documents: what objectives read that keep documents apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nlpkit.objectives.objective import Objective
from nlpkit.objectives.packing import plan
from nlpkit.task import Features

if TYPE_CHECKING:
    from nlpkit.token_store import View


class Rows:
    """Rows of documents, each encoded by itself; nothing is copied before it is asked for.

    Where the objective puts no token at the start, each piece begins with the token before it: the separator before a
    document, the text before a window of a long one. So every token is guessed once.

    Args:
        view: documents.
        objective: encodes a piece.
        length: tokens of a row, special ones included, at most.
    """

    def __init__(self, view: View, objective: Objective[Any], length: int) -> None:
        self.view, self.objective = view, objective
        ends = view.document_ends()
        self._before = 0 if objective.overhead else 1
        lead = objective.overhead + self._before
        self._separator = int(ends[0]) - 1 if len(ends) else 0
        self._plan = plan(ends, length, lead)
        self.lengths: NDArray[np.int64] = self._plan.sizes(lead)

    def features(self, index: int, seed: int = 0) -> Features:
        """The features of one row, one document behind the other, and ``documents``: their numbers from 1."""
        row: Features = {"documents": []}
        for number, piece in enumerate(self._pieces(index), 1):
            encoded = self.objective.encode_tokens(self._tokens(piece))
            for key, values in encoded.items():
                row.setdefault(key, []).extend(values)
            row["documents"] += [number] * len(encoded["input_ids"])
        return row

    def where(self, index: int) -> str:
        """The documents of one row."""
        pieces = ((int(self._plan.start[piece]), int(self._plan.length[piece])) for piece in self._pieces(index))
        return ", ".join(self.view.where(*piece) for piece in pieces)

    def _pieces(self, index: int) -> range:
        return range(int(self._plan.ends[index - 1]) if index else 0, int(self._plan.ends[index]))

    def _tokens(self, piece: int) -> list[int]:
        start, length = int(self._plan.start[piece]), int(self._plan.length[piece])
        if not self._before:
            return self.view.read(start, length).tolist()
        if start:
            return self.view.read(start - 1, length + 1).tolist()
        return [*self.view.read(self._separator, 1).tolist(), *self.view.read(0, length).tolist()]
