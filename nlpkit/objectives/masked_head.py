"""The head of mlm: the vocabulary projection, the largest matrix of a small model, at hidden places only."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nlpkit.heads import TransformersHead, is_as_made
from nlpkit.objectives import cross_entropy
from nlpkit.task import Batch

# their logits are the output layer's, with its bias, of what the rest of the head makes; a test shows it of each
_PLAIN = {
    "BertForMaskedLM",
    "BertForPreTraining",
    "ElectraForMaskedLM",
    "ModernBertForMaskedLM",
    "RobertaForMaskedLM",
    "XLMRobertaForMaskedLM",
}


class MaskedHead(TransformersHead):
    """Logits for the N hidden places of a batch: exact, at a fraction of the cost of all of them."""

    @property
    def by_rows(self) -> bool:
        """As it is made."""
        return is_as_made(self, MaskedHead)

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Map hidden states (B, L, D) to logits (N, V) at the places whose label is not -100."""
        return cross_entropy.in_whole_rows(
            lambda places: super(MaskedHead, self).forward(places.unsqueeze(0), {}).squeeze(0),
            hidden[batch["labels"] != -100],
        )

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Mean cross entropy of the N hidden tokens, in nats; 0 where the batch has no word to hide."""
        return loss_of_words(logits, batch)

    def loss_from(self, hidden: Tensor, batch: Batch) -> Tensor:
        """The same from hidden states (B, L, D), in stretches where loss and logits are those of this class."""
        return loss_in_stretches(self, hidden, batch) if self.by_rows else super().loss_from(hidden, batch)

    def places(self, batch: Batch) -> Tensor | None:
        """The hidden tokens."""
        return batch["labels"] != -100

    def predict(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Token ids (B, L): the input with the best guess at each hidden place."""
        return with_guesses(self(hidden, batch), batch)

    def scored(self, hidden: Tensor, batch: Batch) -> tuple[list[tuple[Tensor, int]], Tensor]:
        """Loss and guesses from the same logits."""
        logits = self(hidden, batch)
        return [(self.loss(logits, batch), self.count(batch))], with_guesses(logits, batch)


def with_guesses(logits: Tensor, batch: Batch) -> Tensor:
    """The input (B, L) with the likeliest token at each hidden place, from their logits (N, V)."""
    return batch["input_ids"].masked_scatter(batch["labels"] != -100, logits.argmax(-1).to(torch.int64))


def loss_of_words(logits: Tensor, batch: Batch) -> Tensor:
    """Mean cross entropy of logits (N, V) of the hidden tokens."""
    labels = batch["labels"][batch["labels"] != -100]
    return nn.functional.cross_entropy(logits.float(), labels, reduction="sum") / max(1, len(labels))


def loss_in_stretches(head: TransformersHead, hidden: Tensor, batch: Batch) -> Tensor:
    """Mean cross entropy of the hidden tokens from hidden states (B, L, D), if the class is known without all logits.

    Args:
        head: gives logits (N, V) of the hidden places.
    """
    output = head.output_embeddings
    if type(head.model).__name__ not in _PLAIN or not cross_entropy.is_plain(output):
        return loss_of_words(head(hidden, batch), batch)
    with cross_entropy.passing(output):
        states = head(hidden, batch)
    labels = batch["labels"][batch["labels"] != -100]
    return cross_entropy.summed(states, output, labels) / max(1, len(labels))
