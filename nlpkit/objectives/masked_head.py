"""The head of mlm: the vocabulary projection, the largest matrix of a small model, at hidden places only."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nlpkit.heads import TransformersHead
from nlpkit.task import Batch


class MaskedHead(TransformersHead):
    """Logits for the N hidden places of a batch: exact, at a fraction of the cost of all of them."""

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Map hidden states (B, L, D) to logits (N, V) at the places whose label is not -100."""
        places = hidden[batch["labels"] != -100]  # (N, D)
        return super().forward(places.unsqueeze(0), {}).squeeze(0)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Mean cross entropy of the N hidden tokens, in nats; 0 where the batch has no word to hide."""
        labels = batch["labels"][batch["labels"] != -100]
        return nn.functional.cross_entropy(logits.float(), labels, reduction="sum") / max(1, len(labels))

    def places(self, batch: Batch) -> Tensor | None:
        """The hidden tokens."""
        return batch["labels"] != -100

    def predict(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Token ids (B, L): the input with the best guess at each hidden place."""
        places = batch["labels"] != -100
        return batch["input_ids"].masked_scatter(places, self(hidden, batch).argmax(-1).to(torch.int64))
