"""Scores of translations: BLEU and chrF as sacreBLEU has them, and what is wrong whatever the reference says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from torch import Tensor
from torchmetrics import Metric

from nlpkit_translation.faults import copies, kept, repeats

Scorer = BLEU | CHRF
_BREAK = b"\0"


class Texts(Metric):
    """Translations and references, kept as bytes so that several processes can gather them."""

    full_state_update = False
    texts: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("texts", [], dist_reduce_fx="cat")

    def update(
        self,
        found: Sequence[str],
        true: Sequence[str],
        sources: Sequence[str],
        ended: Sequence[bool],
        ways: Sequence[str] = (),
    ) -> None:
        """Add what was translated, what should have been, of what, whether each came to its end, and its direction."""
        for group in zip(
            found, true, sources, ("1" if e else "" for e in ended), ways or [""] * len(found), strict=True
        ):
            data = b"".join(text.replace("\0", " ").encode("utf-8", "replace") + _BREAK for text in group)
            self.texts.append(torch.from_numpy(np.frombuffer(data, np.uint8).copy()).to(self.device))

    def rows(self) -> list[list[str]]:
        """All of them, in fives."""
        parts = self.texts if isinstance(self.texts, list) else [self.texts]
        data = b"".join(part.cpu().numpy().tobytes() for part in parts)
        texts = [text.decode() for text in data.split(_BREAK)[:-1]]
        return [texts[i : i + 5] for i in range(0, len(texts), 5)]


class CorpusScore(Texts):
    """One of sacreBLEU's scores, from 0 to 100, over all that it was given.

    Args:
        scorer: made by sacreBLEU, with a signature.
    """

    def __init__(self, scorer: Scorer) -> None:
        super().__init__()
        self.scorer = scorer

    def compute(self) -> Tensor:
        """The score of the corpus; of nothing 0."""
        return _score(self.scorer, self.rows())


class ScoreByDirection(Texts):
    """The same, and beside it that of each direction by itself.

    Args:
        name: of the score, in `SCORERS`.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def compute(self) -> dict[str, Tensor]:
        """``bleu``, ``bleu/en-de`` and so on, of those directions that there are."""
        rows, scorer = self.rows(), SCORERS[self.name]()
        ways = sorted({row[4] for row in rows})
        parts = {f"{self.name}/{way}": _score(scorer, [row for row in rows if row[4] == way]) for way in ways}
        return {self.name: _score(scorer, rows), **parts}


def _score(scorer: Scorer, rows: Sequence[Sequence[str]]) -> Tensor:
    found, true = [row[0] for row in rows], [row[1] for row in rows]
    return torch.tensor(scorer.corpus_score(found, [true]).score if rows else 0.0)


class Faults(Texts):
    """Numbers of translations that are wrong whatever the reference says, and the share of marks that were kept."""

    def compute(self) -> dict[str, Tensor]:
        """``faults/...``: ``empty``, ``copied``, ``repeats``, ``unended``; ``kept`` of numbers, links, placeholders."""
        rows = [row for row in self.rows() if row[2].strip()]
        marks = [kept(source, found) for found, _, source, *_ in rows]
        counts = {
            "empty": sum(not found.strip() for found, *_ in rows),
            "copied": sum(copies(source, found) for found, _, source, *_ in rows),
            "repeats": sum(repeats(found) for found, *_ in rows),
            "unended": sum(not ended for *_, ended, _ in rows),
        }
        asked = sum(number for number, _ in marks)
        share = sum(number for _, number in marks) / asked if asked else 1.0
        return {"kept": torch.tensor(share), **{f"faults/{k}": torch.tensor(float(v)) for k, v in counts.items()}}


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
