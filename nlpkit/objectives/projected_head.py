"""What heads that foretell tokens share: the vocabulary projection and its loss, never all logits at once."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from nlpkit.heads import TransformersHead
from nlpkit.objectives import cross_entropy
from nlpkit.task import Batch

_LARGE = 200.0  # logits of a trial: far beyond those of new weights, so that a cap (Gemma 2 has one of 30) shows


class ProjectedHead(TransformersHead):
    """Logits over the vocabulary at T places, each of which foretells a token; the loss does not need them all."""

    smoothing: float = 0.0
    """Share of each answer that is spread over the vocabulary in training (label smoothing)."""
    _plain: bool | None = None

    @abstractmethod
    def answers(self, batch: Batch) -> Tensor:
        """What each place is to guess (B, T); -100 where there is nothing."""

    @abstractmethod
    def states(self, hidden: Tensor, batch: Batch) -> Tensor:
        """What is projected, from hidden states (B, L, D): (B, T, D)."""

    @abstractmethod
    def project(self, states: Tensor) -> Tensor:
        """Map states (B, T, D) to logits (B, T, V)."""

    def loss_from(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Mean cross entropy of the answers, in nats, from hidden states (B, L, D), in stretches."""
        answers, smoothing = self.answers(batch), self.smoothing if self.training else 0.0
        real = answers != -100
        if self._is_plain(hidden):
            states = self.states(hidden, batch)[real]
            total = cross_entropy.summed(states, self.output_embeddings, answers[real], smoothing)
        elif smoothing:
            logits = self.project(self.states(hidden, batch))[real].float()
            total = nn.functional.cross_entropy(logits, answers[real], reduction="sum", label_smoothing=smoothing)
        else:
            return self.loss(self(hidden, batch), batch)
        return total / real.sum().clamp(min=1)

    def count(self, batch: Batch) -> int:
        """Tokens that are guessed."""
        return int((self.answers(batch) != -100).sum())

    def predict(self, hidden: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The likeliest token at each place, and the nats of the real one: (B, T) each."""
        states, answers = self.states(hidden, batch), self.answers(batch).clamp(min=0)
        guesses, nats = [], []
        for row in range(0, max(1, states.size(1)), step := max(1, cross_entropy.ROWS // len(states))):  # T may be 0
            part = slice(row, row + step)
            logits = self.project(states[:, part]).float()  # (B, step, V)
            nats.append(nn.functional.cross_entropy(logits.transpose(1, 2), answers[:, part], reduction="none"))
            guesses.append(logits.argmax(-1))
        return torch.cat(guesses, 1), torch.cat(nats, 1)

    def scored(self, hidden: Tensor, batch: Batch) -> tuple[list[tuple[Tensor, int]], tuple[Tensor, Tensor]]:
        """The mean of the nats that `predict` gives, and all of it."""
        guesses, nats = self.predict(hidden, batch)
        real = self.answers(batch) != -100
        return [(nats[real].sum() / real.sum().clamp(min=1), int(real.sum()))], (guesses, nats)

    def _is_plain(self, hidden: Tensor) -> bool:
        """Whether the class does nothing but multiply by its output weights, which is tried out once."""
        if self._plain is None:
            output = self.output_embeddings
            self._plain = type(output) is nn.Linear and output.bias is None and self._only_multiplies(output.weight)
        return self._plain

    @torch.no_grad()
    def _only_multiplies(self, weight: Tensor) -> bool:
        with torch.autocast(weight.device.type, enabled=False):
            some = torch.linspace(-1, 1, 3 * weight.size(1), dtype=weight.dtype, device=weight.device).view(1, 3, -1)
            some *= _LARGE / (some @ weight.T).abs().max().clamp(min=1e-6)
            return alike(self.project(some), some @ weight.T)


def alike(found: Tensor, expected: Tensor) -> bool:
    """Whether two ways to work out logits differ by no more than rounding."""
    return bool((found - expected).abs().max() <= 1e-3 * expected.abs().max())
