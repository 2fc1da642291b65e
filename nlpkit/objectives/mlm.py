"""Masked language modelling: guess hidden words from both sides (BERT, Devlin et al. 2019)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nlpkit.hookspecs import hookimpl
from nlpkit.objectives.masking import Masker, MaskingConfig
from nlpkit.objectives.objective import Objective, PackingConfig
from nlpkit.task import Batch, Features, Task

if TYPE_CHECKING:
    from torchmetrics import MetricCollection
    from transformers import PretrainedConfig

    from nlpkit.heads import Head


@dataclass
class MlmConfig(MaskingConfig, PackingConfig):
    """Settings of mlm."""


class Mlm(Objective[MlmConfig]):
    """Guess hidden words from both sides: the objective for encoders."""

    name = "mlm"
    config_class = MlmConfig
    score = "loss"
    both_sides = True
    special_tokens: ClassVar[tuple[str, ...]] = ("pad_token", "cls_token", "sep_token", "mask_token")

    @functools.cached_property
    def masker(self) -> Masker:
        """Hides the tokens of a batch."""
        return Masker(self.tokenizer, self.config)

    @property
    def overhead(self) -> int:
        """[CLS]; the separators are in the store, behind each document."""
        return 1

    def encode_tokens(self, tokens: Sequence[int]) -> Features:
        """[CLS] and the tokens; every position is attended to."""
        return {"input_ids": [self.tokenizer.cls_token_id, *tokens]}

    def collate(self, features: Sequence[Features]) -> Batch:
        """Hide tokens of each row (B, L) by its own seed; at least one in every row that has a word."""
        return self.masker.batch(super().collate(features), features)

    def build_head(self, backbone: PretrainedConfig) -> Head:
        """The masked-LM head of the backbone's own class, run at the hidden places only."""
        from nlpkit.objectives.masked_head import MaskedHead

        return MaskedHead("AutoModelForMaskedLM", backbone)

    def build_metrics(self) -> MetricCollection:
        """Share of the hidden tokens that are guessed."""
        from torchmetrics import MetricCollection
        from torchmetrics.classification import MulticlassAccuracy

        from nlpkit.tokenizer import vocabulary_size

        accuracy = MulticlassAccuracy(vocabulary_size(self.tokenizer), average="micro", validate_args=False)
        return MetricCollection({"accuracy": accuracy}, compute_groups=False)

    def compare(self, predictions: Any, batch: Batch) -> tuple[Any, ...]:
        """Guesses and answers at the hidden places, (N,) each."""
        places = batch["labels"] != -100
        return predictions[places], batch["labels"][places]


@hookimpl
def nlpkit_tasks() -> list[type[Task[Any]]]:
    """Register mlm."""
    return [Mlm]
