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
    """

    full_state_update = False
    sums: Tensor

    def __init__(self, scorer: Scorer) -> None:
        super().__init__()
        self.scorer = scorer
        self.add_state("sums", torch.zeros_like(self._sums_of([""], [""])), dist_reduce_fx="sum")

    def update(self, found: Sequence[str], true: Sequence[str], sources: Sequence[str], ended: Sequence[bool]) -> None:
        """Add what was translated and what should have been; of what, and whether it came to its end, is for others."""
        if found:
            self.sums += self._sums_of(found, true).to(self.device)

    def compute(self) -> Tensor:
        """The score of the corpus; of nothing 0."""
        score: Any = self.scorer._compute_score_from_stats(self.sums.tolist())
        return torch.tensor(score.score)

    def _sums_of(self, found: Sequence[str], true: Sequence[str]) -> Tensor:
        """Matches, n-grams and lengths of translations, of which sacreBLEU's own ``corpus_score`` is made."""
        return torch.tensor(self.scorer._extract_corpus_statistics(found, [true]), dtype=torch.int64).sum(0)


class Faults(Metric):
    """Numbers of translations that are wrong whatever the reference says, and the share of marks that were kept."""

    full_state_update = False
    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("counts", torch.zeros(len(_FAULTS) + 2, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, found: Sequence[str], true: Sequence[str], sources: Sequence[str], ended: Sequence[bool]) -> None:
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
