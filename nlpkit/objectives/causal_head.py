"""The head of clm: each place but the last foretells the next token."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import PretrainedConfig

from nlpkit.heads import is_as_made
from nlpkit.objectives.projected_head import ProjectedHead
from nlpkit.task import Batch


class CausalHead(ProjectedHead):
    """Logits of the next token at every place.

    Args:
        backbone: configuration of a decoder.
    """

    def __init__(self, backbone: PretrainedConfig) -> None:
        super().__init__("AutoModelForCausalLM", backbone)

    @property
    def by_rows(self) -> bool:
        """As it is made."""
        return is_as_made(self, CausalHead)

    def answers(self, batch: Batch) -> Tensor:
        """The token after each place but the last, (B, L - 1)."""
        return next_tokens(batch)

    def states(self, hidden: Tensor, batch: Batch) -> Tensor:
        """The hidden states (B, L - 1, D) of all places but the last."""
        return hidden[:, :-1]

    def project(self, states: Tensor) -> Tensor:
        """Logits of the class, which may do more than multiply."""
        return self(states, {})

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Mean cross entropy of each token after the first, in nats, from logits (B, L, V)."""
        labels = next_tokens(batch)
        total = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels.flatten(), reduction="sum")
        return total / (labels != -100).sum().clamp(min=1)


def next_tokens(batch: Batch) -> Tensor:
    """What each place but the last is to guess, (B, L - 1); -100 where there is nothing."""
    following = batch["input_ids"][:, 1:]
    if (mask := batch.get("attention_mask")) is not None:
        following = following.masked_fill(mask[:, 1:] == 0, -100)
    if (documents := batch.get("documents")) is not None:
        following = following.masked_fill(documents[:, 1:] != documents[:, :-1], -100)
    return following
