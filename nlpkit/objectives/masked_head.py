"""The head of mlm: the vocabulary projection, the largest matrix of a small model, at hidden places only."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from nlpkit.heads import TransformersHead
from nlpkit.task import Batch

_ROWS = 64  # in bfloat16 oneDNN keeps a kernel and memory for each number of rows it meets: gigabytes in the end


class MaskedHead(TransformersHead):
    """Logits for the N hidden places of a batch: exact, at a fraction of the cost of all of them."""

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Map hidden states (B, L, D) to logits (N, V) at the places whose label is not -100."""
        return in_whole_rows(
            lambda places: super(MaskedHead, self).forward(places.unsqueeze(0), {}).squeeze(0),
            hidden[batch["labels"] != -100],
        )

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Mean cross entropy of the N hidden tokens, in nats; 0 where the batch has no word to hide."""
        labels = batch["labels"][batch["labels"] != -100]
        return nn.functional.cross_entropy(logits.float(), labels, reduction="sum") / max(1, len(labels))

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


def in_whole_rows(project: Callable[[Tensor], Tensor], places: Tensor) -> Tensor:
    """Project places (N, D) to logits (N, V) with N filled up to a multiple of 64, so that few sizes are met."""
    filled = nn.functional.pad(places, (0, 0, 0, -len(places) % _ROWS))
    return project(filled)[: len(places)]
