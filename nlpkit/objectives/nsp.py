"""Next-sentence prediction: does the second part go on from the first (BERT, Devlin et al. 2019)?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from nlpkit.hookspecs import hookimpl
from nlpkit.objectives.objective import Objective
from nlpkit.task import Batch, Features, Task, TaskConfig

if TYPE_CHECKING:
    from torchmetrics import MetricCollection
    from transformers import PretrainedConfig

    from nlpkit.data import Samples
    from nlpkit.heads import Head
    from nlpkit.token_store import View

ANSWERS = ("next", "other")


@dataclass
class NspConfig(TaskConfig):
    """Settings of nsp."""

    negatives: Literal["other", "swap"] = "other"
    """What half of the pairs are: a first part with one of another document, or the two parts in the wrong order."""


class Nsp(Objective[NspConfig]):
    """Say whether one text goes on from another: for BERT, and for texts of several sentences."""

    name = "nsp"
    config_class = NspConfig
    score = "loss"
    both_sides = True
    special_tokens: ClassVar[tuple[str, ...]] = ("pad_token", "cls_token", "sep_token")
    defaults: ClassVar[dict[str, Any]] = {**Objective.defaults, "model.family": "bert"}

    def scores_of_frequencies(self, entropy: float) -> dict[str, float]:
        """None: no word is guessed."""
        return {}

    def scores_of_chance(self) -> dict[str, float]:
        """Half of the pairs go on, half do not."""
        return {"loss": math.log(2), "accuracy": 0.5}

    @property
    def overhead(self) -> int:
        """[CLS] and two separators."""
        return 3

    def samples(self, view: View, length: int) -> Samples:
        """Pairs of parts of documents."""
        from nlpkit.objectives.pairs import Pairs

        return Pairs(view, self.tokenizer, length, swap=self.config.negatives == "swap")

    def encode_tokens(self, tokens: Sequence[int]) -> Features:
        """A single text as a pair of its halves, of which the second goes on from the first."""
        middle, start, end = (len(tokens) + 1) // 2, self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        first, second = [start, *tokens[:middle], end], [*tokens[middle:], end]
        types = [0] * len(first) + [1] * len(second)
        return {"input_ids": [*first, *second], "token_type_ids": types, "labels": 0}

    def collate(self, features: Sequence[Features]) -> Batch:
        """Pad rows (B, L), with a mask."""
        return super().collate([{**f, "attention_mask": [1] * len(f["input_ids"])} for f in features])

    def build_head(self, backbone: PretrainedConfig) -> Head:
        """The head of the backbone's own class."""
        from nlpkit.heads import TransformersHead

        return TransformersHead("AutoModelForNextSentencePrediction", backbone)

    def build_metrics(self) -> MetricCollection:
        """Share of the pairs that are told right."""
        from torchmetrics import MetricCollection
        from torchmetrics.classification import MulticlassAccuracy

        return MetricCollection({"accuracy": MulticlassAccuracy(2, average="micro")})

    def decode(self, predictions: Any, batch: Batch) -> list[dict[str, Any]]:
        """Whether the second part goes on from the first."""
        return [{"label": ANSWERS[row[1] > row[0]], "score": max(row)} for row in predictions.tolist()]


@hookimpl
def nlpkit_tasks() -> list[type[Task[Any]]]:
    """Register nsp."""
    return [Nsp]
