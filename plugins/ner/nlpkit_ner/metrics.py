"""How well found entities match the true ones, and in which way the others are wrong."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

ERRORS = ("type", "boundary", "both", "spurious", "missing")
_RANKS = {"right": 0, "type": 1, "boundary": 2, "both": 2}
"""Of a pair of a found and a true entity: the lowest is matched first."""

Span = Sequence[int]
"""Row, first token, token behind the last, type."""


class SpanScores(Metric):
    """Precision, recall and F1 of entities (Tjong Kim Sang and De Meulder 2003), and what kinds of errors were made.

    An entity is right where its tokens and its type are. For the errors each entity that was found is matched with at
    most one true one, and the other way round (`match`), as in MUC-5 (Chinchor and Sundheim 1993) and SemEval-2013
    (Segura-Bedmar et al. 2013). What is wrong is counted once:

    * ``errors/type``: a pair of the same tokens and another type.
    * ``errors/boundary``: a pair of the same type that shares some tokens, but not all.
    * ``errors/both``: a pair of another type that shares some tokens, but not all.
    * ``errors/spurious``: found, without a partner: it shares no token with a true entity, or only with such as are
      matched with another.
    * ``errors/missing``: true, without a partner.

    So wrong ones among the found are type + boundary + both + spurious, and missed ones among the true are
    type + boundary + both + missing. All counts add up over batches and processes.

    Args:
        types: names of the entity types, in their order.
    """

    full_state_update = False
    higher_is_better = True  # of f1, which chooses the best step; errors are counted
    right: Tensor
    found: Tensor
    true: Tensor
    errors: Tensor

    def __init__(self, types: Sequence[str]) -> None:
        super().__init__()
        self.types = list(types)
        for name in ("right", "found", "true"):
            self.add_state(name, torch.zeros(len(self.types), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("errors", torch.zeros(len(ERRORS), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, found: Tensor, true: Tensor) -> None:
        """Add the entities of a batch, as `nlpkit_ner.spans.spans` gives them: (N, 4) and (M, 4)."""
        ours, theirs = found.tolist(), true.tolist()
        pairs = match(ours, theirs)
        kinds = Counter(_kind(ours[i], theirs[j]) for i, j in pairs)
        kinds.update(spurious=len(ours) - len(pairs), missing=len(theirs) - len(pairs))
        self.errors += self.errors.new_tensor([kinds[name] for name in ERRORS])
        self.right += self._by_type([ours[i] for i, j in pairs if _kind(ours[i], theirs[j]) == "right"])
        self.found += self._by_type(ours)
        self.true += self._by_type(theirs)

    def compute(self) -> dict[str, Tensor]:
        """Scores of 0 to 1, and numbers of errors.

        ``f1``, ``precision`` and ``recall`` over all entities; ``f1_macro``, the mean over the types that occur, found
        or true; the same as ``f1/TYPE`` over those of a type; ``errors/...``. Of nothing a score is 0. Tables show
        them in this order.
        """
        scores = _scores(self.right.sum(), self.found.sum(), self.true.sum())
        by_type = _scores(self.right, self.found, self.true)
        occur = self.found + self.true > 0
        scores["f1_macro"] = by_type["f1"].sum() / occur.sum().clamp(min=1)
        for score, values in by_type.items():
            scores |= {f"{score}/{name}": value for name, value in zip(self.types, values, strict=True)}
        counts = self.errors.float()  # Lightning warns of integers
        return scores | {f"errors/{name}": count for name, count in zip(ERRORS, counts, strict=True)}

    def _by_type(self, spans: Sequence[Span]) -> Tensor:
        counts = Counter(span[3] for span in spans)
        return self.found.new_tensor([counts[i] for i in range(len(self.types))])


def match(found: Sequence[Span], true: Sequence[Span]) -> list[tuple[int, int]]:
    """Pair found entities with true ones that they share tokens with, each with one at most.

    Taken first are pairs of the same tokens and type, then of the same tokens, then those that share more tokens;
    among equals the one of the earlier found entity, then of the earlier true one.

    Returns:
        Places in ``found`` and in ``true``.
    """
    covering: dict[tuple[int, int], list[int]] = defaultdict(list)  # (row, token) -> places in true
    for j, (row, first, end, _) in enumerate(true):
        for token in range(first, end):
            covering[row, token].append(j)
    candidates = []
    for i, (row, first, end, _) in enumerate(found):
        shared = Counter(j for token in range(first, end) for j in covering.get((row, token), ()))
        candidates += [(_RANKS[_kind(found[i], true[j])], -tokens, i, j) for j, tokens in shared.items()]
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for _, _, i, j in sorted(candidates):
        if i not in pairs and j not in taken:
            pairs[i] = j
            taken.add(j)
    return list(pairs.items())


def _kind(found: Span, true: Span) -> str:
    """What a found entity is that shares tokens with a true one."""
    same_tokens, same_type = found[1:3] == true[1:3], found[3] == true[3]
    if same_tokens:
        return "right" if same_type else "type"
    return "boundary" if same_type else "both"


def _scores(right: Tensor, found: Tensor, true: Tensor) -> dict[str, Tensor]:
    return {
        "f1": 2 * right / (found + true).clamp(min=1),
        "precision": right / found.clamp(min=1),
        "recall": right / true.clamp(min=1),
    }
