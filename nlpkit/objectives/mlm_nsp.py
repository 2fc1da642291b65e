"""Hidden words and next sentence in one pass, as BERT was made (Devlin et al. 2019)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from nlpkit.hookspecs import hookimpl
from nlpkit.objectives.masking import Masker, MaskingConfig
from nlpkit.objectives.nsp import ANSWERS, Nsp, NspConfig
from nlpkit.task import Batch, Features, Task

if TYPE_CHECKING:
    from torchmetrics import MetricCollection
    from transformers import PretrainedConfig

    from nlpkit.heads import Head


@dataclass
class MlmNspConfig(MaskingConfig, NspConfig):
    """Settings of mlm+nsp."""

    mlm_weight: float = field(default=1.0, metadata={"at_least": 0})
    """Weight of the loss of hidden words; --objective mlm:0.8+nsp:0.2 sets both."""
    nsp_weight: float = field(default=1.0, metadata={"at_least": 0})
    """Weight of the loss of pairs."""


class MlmNsp(Nsp):
    """Guess hidden words, and whether one text goes on from another, in one pass: BERT's own recipe."""

    name = "mlm+nsp"
    config_class = MlmNspConfig
    config: MlmNspConfig
    special_tokens: ClassVar[tuple[str, ...]] = (*Nsp.special_tokens, "mask_token")

    @functools.cached_property
    def masker(self) -> Masker:
        """Hides the tokens of a batch."""
        return Masker(self.tokenizer, self.config)

    def scores_of_frequencies(self, entropy: float) -> dict[str, float]:
        """That of the hidden words; the loss as a whole is also that of pairs."""
        return {"mlm_loss": entropy}

    def scores_of_chance(self) -> dict[str, float]:
        """Those of pairs alone, by the names that they have here."""
        return {f"nsp_{name}": value for name, value in super().scores_of_chance().items()}

    def collate(self, features: Sequence[Features]) -> Batch:
        """Pad pairs (B, L) and hide tokens of each by its own seed."""
        batch = super().collate(features)
        if "labels" in batch:
            batch["next_sentence_label"] = batch["labels"]
        return self.masker.batch(batch, features)

    def build_head(self, backbone: PretrainedConfig) -> Head:
        """Both heads of the backbone's own class."""
        from nlpkit.objectives.pretraining_head import PretrainingHead

        return PretrainingHead(backbone, (self.config.mlm_weight, self.config.nsp_weight))

    def build_metrics(self) -> MetricCollection:
        """Accuracy and loss of each of the two."""
        from torchmetrics import MetricCollection

        from nlpkit.objectives.language_scores import PairScores

        return MetricCollection({"both": PairScores()})

    def compare(self, predictions: Any, batch: Batch) -> tuple[Any, ...]:
        """What was guessed, and what there is."""
        places = batch["labels"] != -100
        words, pairs = predictions["words"][places] == batch["labels"][places], predictions["pairs"]
        return words, pairs == batch["next_sentence_label"], predictions["word_loss"], predictions["pair_loss"]

    def decode(self, predictions: Any, batch: Batch) -> list[dict[str, Any]]:
        """The text of each pair with what the model would put in the hidden places, and whether it goes on."""
        return [
            {"text": self.tokenizer.decode(row, skip_special_tokens=True), "label": ANSWERS[pair]}
            for row, pair in zip(predictions["words"], predictions["pairs"].tolist(), strict=True)
        ]


@hookimpl
def nlpkit_tasks() -> list[type[Task[Any]]]:
    """Register mlm+nsp."""
    return [MlmNsp]
