"""The token-classification head of the backbone's own class, and the best sequence of tags."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from transformers import PretrainedConfig

from nlpkit import Batch, TransformersHead
from nlpkit_ner.crf import CRF
from nlpkit_ner.transitions import going_on, viterbi

Transitions = Literal["constrained", "crf", "none"]


class NerHead(TransformersHead):
    """Tags of the T pieces of B texts, which stand in W windows of length L.

    Args:
        backbone: its configuration.
        types: entity types.
        transitions: ``constrained``: the likeliest legal sequence; ``crf``: likewise, with learned transitions;
            ``none``: the likeliest tag of the first piece of each word.
    """

    def __init__(self, backbone: PretrainedConfig, types: list[str], transitions: Transitions) -> None:
        names = dict(enumerate(["O", *(f"{prefix}-{name}" for name in types for prefix in "BI")]))
        super().__init__(
            "AutoModelForTokenClassification",
            backbone,
            id2label=names,
            label2id={name: i for i, name in names.items()},
        )
        self.transitions = transitions
        self.crf = CRF(len(types)) if transitions == "crf" else None

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Map hidden states of the windows (W, L, D) to logits of the texts (B, T, C)."""
        logits = super().forward(hidden, batch).flatten(0, 1)  # (W * L, C)
        return logits[batch["places"]]

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross entropy of the tags, or of the whole sequences divided by the pieces with a tag, in nats."""
        if self.crf is None:
            return super().loss(logits, batch)
        inside = batch["inside"].bool()
        likelihood = self.crf.log_likelihood(logits.float(), batch["labels"], batch["pieces"], inside)
        return -likelihood.sum() / max(1, self.count(batch))

    def predict(self, hidden: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Tags (B, T), and the probability of each (B, T)."""
        logits, lengths, inside = self(hidden, batch).float(), batch["pieces"], batch["inside"].bool()
        if self.crf:
            tags = self.crf.decode(logits, lengths, inside)
            shares = self.crf.marginals(logits, lengths, inside)
        else:
            shares = logits.softmax(-1)
            constrained = self.transitions == "constrained"
            tags = viterbi(logits, lengths, inside=inside) if constrained else going_on(shares.argmax(-1), inside)
        return {"tags": tags, "scores": shares.gather(-1, tags.unsqueeze(-1)).squeeze(-1)}
