"""The two heads of BERT's own pre-training: hidden words and next sentence over one pass of the body."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import PretrainedConfig

from nlpkit.errors import ModelError
from nlpkit.heads import TransformersHead, is_as_made
from nlpkit.objectives.cross_entropy import in_whole_rows
from nlpkit.objectives.masked_head import loss_in_stretches, loss_of_words, with_guesses
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
        made = is_as_made(self, PretrainingHead)
        words = loss_in_stretches(self, hidden, batch) if made else loss_of_words(self(hidden, batch), batch)
        return words, _loss_of_pairs(self.pairs(hidden), batch)

    def loss_from(self, hidden: Tensor, batch: Batch) -> Tensor:
        """The two losses by their weights."""
        words, pairs = self.losses(hidden, batch)
        return self.weights[0] * words + self.weights[1] * pairs

    def terms(self, hidden: Tensor, batch: Batch) -> list[tuple[Tensor, int]]:
        """The two weighted losses: of the hidden tokens, and of the pairs."""
        return self._weighted(*self.losses(hidden, batch), batch)

    def _weighted(self, words: Tensor, pairs: Tensor, batch: Batch) -> list[tuple[Tensor, int]]:
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
        words, pairs = self(hidden, batch), self.pairs(hidden)
        return {
            "words": with_guesses(words, batch),
            "pairs": pairs.argmax(-1),
            "word_loss": loss_of_words(words, batch),
            "pair_loss": _loss_of_pairs(pairs, batch),
        }

    def scored(self, hidden: Tensor, batch: Batch) -> tuple[list[tuple[Tensor, int]], dict[str, Tensor]]:
        """The losses are among what is predicted."""
        found = self.predict(hidden, batch)
        return self._weighted(found["word_loss"], found["pair_loss"], batch), found


def _loss_of_pairs(pairs: Tensor, batch: Batch) -> Tensor:
    """Mean cross entropy of logits (B, 2)."""
    return nn.functional.cross_entropy(pairs.float(), batch["next_sentence_label"])
