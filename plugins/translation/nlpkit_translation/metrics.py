"""Scores of translations: BLEU and chrF as sacreBLEU has them, and what is wrong whatever the reference says.

No text is kept: all of these are made of sums, which several processes add up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from torch import Tensor
from torchmetrics import Metric

from nlpkit_translation.faults import copies, kept, repeats

Scorer = BLEU | CHRF
_FAULTS = ("empty", "copied", "repeats", "unended")


class CorpusScore(Metric):
    """One of sacreBLEU's scores, from 0 to 100, over all that it was given.

    Args:
        scorer: made by sacreBLEU, with a signature.
        ways: directions that are told apart; one: all that it is given counts, whatever its direction.
    """

    full_state_update = False
    sums: Tensor

    def __init__(self, scorer: Scorer, ways: Sequence[str] = ("",)) -> None:
        super().__init__()
        self.scorer, self.ways = scorer, ways
        self.add_state("sums", torch.zeros(len(ways), self._sums_of([""], [""]).numel()).long(), dist_reduce_fx="sum")

    def update(
        self,
        found: Sequence[str],
        true: Sequence[str],
        sources: Sequence[str],
        ended: Sequence[bool],
        ways: Sequence[str] = (),
    ) -> None:
        """Add what was translated, what should have been, and the direction; the rest is for other metrics."""
        for number, way in enumerate(self.ways):
            chosen = [i for i in range(len(found)) if len(self.ways) == 1 or ways[i] == way]
            if chosen:
                sums = self._sums_of([found[i] for i in chosen], [true[i] for i in chosen])
                self.sums[number] += sums.to(self.device)

    def compute(self) -> Any:
        """The score of the corpus; of nothing 0."""
        return self._score(self.sums.sum(0))

    def _score(self, sums: Tensor) -> Tensor:
        score: Any = self.scorer._compute_score_from_stats(sums.tolist())
        return torch.tensor(score.score)

    def _sums_of(self, found: Sequence[str], true: Sequence[str]) -> Tensor:
        """Matches, n-grams and lengths of translations, of which sacreBLEU's own ``corpus_score`` is made."""
        return torch.tensor(self.scorer._extract_corpus_statistics(found, [true]), dtype=torch.int64).sum(0)


class ScoreByDirection(CorpusScore):
    """The same, and beside it that of each direction by itself.

    Args:
        name: of the score, in `SCORERS`.
        ways: the directions, such as ``en-de``.
    """

    def __init__(self, name: str, ways: Sequence[str]) -> None:
        super().__init__(SCORERS[name](), ways)
        self.name = name

    def compute(self) -> dict[str, Tensor]:
        """``bleu``, ``bleu/en-de`` and so on, of those directions that it was given something of."""
        of = {f"{self.name}/{way}": sums for way, sums in zip(self.ways, self.sums, strict=True) if sums.any()}
        return {self.name: super().compute(), **{name: self._score(sums) for name, sums in of.items()}}


class Faults(Metric):
    """Numbers of translations that are wrong whatever the reference says, and the share of marks that were kept."""

    full_state_update = False
    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("counts", torch.zeros(len(_FAULTS) + 2, dtype=torch.int64), dist_reduce_fx="sum")

    def update(
        self, found: Sequence[str], true: Sequence[str], sources: Sequence[str], ended: Sequence[bool], *_: Any
    ) -> None:
        """Count what is wrong where there was something to say."""
        for text, source, whole in zip(found, sources, ended, strict=True):
            if source.strip():
                faults = (not text.strip(), copies(source, text), repeats(text), not whole)
                self.counts += torch.tensor([*faults, *kept(source, text)], device=self.device)

    def compute(self) -> dict[str, Tensor]:
        """``faults/...``: ``empty``, ``copied``, ``repeats``, ``unended``; ``kept`` of numbers, links, placeholders."""
        *faults, asked, there = self.counts.float()
        share = there / asked if asked else torch.ones(())
        return {"kept": share, **{f"faults/{name}": count for name, count in zip(_FAULTS, faults, strict=True)}}


SCORERS: dict[str, Callable[[], Scorer]] = {
    "bleu": BLEU,
    "chrf": CHRF,
    "bleu_lowercase": lambda: BLEU(lowercase=True),
}
"""Scores by name; ``bleu_lowercase`` is that of papers that lower their texts."""


def signature(name: str) -> str:
    """What a score is exactly, in sacreBLEU's words."""
    scorer: Any = SCORERS[name]()
    scorer.corpus_score(["a"], [["a"]])
    return str(scorer.get_signature())
