"""The two heads of BERT's own pre-training: hidden words and next sentence over one pass of the body."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from nlpkit.errors import ModelError
from nlpkit.heads import TransformersHead
from nlpkit.objectives.masked_head import in_whole_rows
from nlpkit.task import Batch


class PretrainingHead(TransformersHead):
    """Logits of the N hidden places of a batch, and of the B pairs.

    Args:
        backbone: configuration of a BERT.
        weights: of the loss of hidden words and of that of pairs.

    Raises:
        ModelError: a family without such a class.
    """

    def __init__(self, backbone: PretrainedConfig, weights: tuple[float, float]) -> None:
        super().__init__("AutoModelForPreTraining", backbone)
        self.weights = weights
        parts = getattr(self.model, "cls", None)
        if not hasattr(parts, "predictions") or not hasattr(parts, "seq_relationship"):
            raise ModelError(
                f"{backbone.model_type} has no class with heads of words and of pairs", "model.family=bert"
            )

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Map hidden states (B, L, D) to logits (N, V) at the places whose label is not -100."""
        parts: Any = self.model.cls
        return in_whole_rows(parts.predictions, hidden[batch["labels"] != -100])

    def pairs(self, hidden: Tensor) -> Tensor:
        """Logits of the pairs (B, 2)."""
        body: Any = getattr(self.model, self._body)
        parts: Any = self.model.cls
        return parts.seq_relationship(body.pooler(hidden))

    def losses(self, hidden: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mean cross entropy of the hidden tokens and of the pairs, in nats."""
        labels = batch["labels"][batch["labels"] != -100]
        words = nn.functional.cross_entropy(self(hidden, batch).float(), labels, reduction="sum") / max(1, len(labels))
        return words, nn.functional.cross_entropy(self.pairs(hidden).float(), batch["next_sentence_label"])

    def loss_from(self, hidden: Tensor, batch: Batch) -> Tensor:
        """The two losses by their weights."""
        words, pairs = self.losses(hidden, batch)
        return self.weights[0] * words + self.weights[1] * pairs

    def terms(self, hidden: Tensor, batch: Batch) -> list[tuple[Tensor, int]]:
        """The two weighted losses: of the hidden tokens, and of the pairs."""
        words, pairs = self.losses(hidden, batch)
        return [
            (self.weights[0] * words, self.count(batch)),
            (self.weights[1] * pairs, len(batch["next_sentence_label"])),
        ]

    def places(self, batch: Batch) -> Tensor | None:
        """The hidden tokens, and the first."""
        places = batch["labels"] != -100
        places[:, 0] = True
        return places

    def predict(self, hidden: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The input with the best guess at each hidden place (B, L), classes of the pairs (B,), and both losses."""
        places = batch["labels"] != -100
        guesses = self(hidden, batch).argmax(-1).to(torch.int64)
        words, pairs = self.losses(hidden, batch)
        return {
            "words": batch["input_ids"].masked_scatter(places, guesses),
            "pairs": self.pairs(hidden).argmax(-1),
            "word_loss": words,
            "pair_loss": pairs,
        }
