"""What heads that foretell tokens share: the vocabulary projection and its loss, never all logits at once."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from nlpkit.heads import TransformersHead
from nlpkit.task import Batch

_LARGE = 200.0  # logits of a trial: far beyond those of new weights, so that a cap (Gemma 2 has one of 30) shows
_ROWS = 512  # places whose logits exist at a time: 1.3 times as fast as all of them, and a fraction of the memory


class ProjectedHead(TransformersHead):
    """Logits over the vocabulary at T places, each of which foretells a token; the loss does not need them all."""

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
        if not self._is_plain(hidden):
            return self.loss(self(hidden, batch), batch)
        answers = self.answers(batch)
        real = answers != -100
        weight = self.output_embeddings.weight
        dtype = torch.get_autocast_dtype(hidden.device.type) if torch.is_autocast_enabled(hidden.device.type) else None
        total: Tensor = _ChunkedCrossEntropy.apply(self.states(hidden, batch)[real], weight, answers[real], dtype)
        return total / real.sum().clamp(min=1)

    def count(self, batch: Batch) -> int:
        """Tokens that are guessed."""
        return int((self.answers(batch) != -100).sum())

    def predict(self, hidden: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The likeliest token at each place, and the nats of the real one: (B, T) each."""
        states, answers = self.states(hidden, batch), self.answers(batch).clamp(min=0)
        guesses, nats = [], []
        for row in range(0, max(1, states.size(1)), step := max(1, _ROWS // len(states))):  # T may be 0
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


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Summed cross entropy of ``hidden @ weight.T``; gradients are made on the way, while a stretch's logits exist."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, dtype: torch.dtype | None) -> Tensor:
        needs = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        weight_as = weight.to(dtype) if dtype else weight
        total = hidden.new_zeros((), dtype=torch.float32)
        of_hidden = torch.empty_like(hidden) if needs else None
        of_weight = torch.zeros_like(weight) if needs else None
        for start in range(0, len(hidden), _ROWS):
            some = hidden[start : start + _ROWS].to(weight_as.dtype)
            targets = labels[start : start + _ROWS].unsqueeze(1)
            logits = (some @ weight_as.T).float()
            right = logits.gather(1, targets)
            top = logits.amax(1, keepdim=True)
            norm = logits.sub_(top).exp_().sum(1, keepdim=True)  # of what were the logits, to save memory and time
            total += (norm.log() + top - right).sum()
            if of_hidden is None or of_weight is None:
                continue
            slope = logits.div_(norm).scatter_add_(1, targets, -torch.ones_like(right)).to(weight_as.dtype)
            of_hidden[start : start + _ROWS] = slope @ weight_as
            of_weight += slope.T @ some
        ctx.save_for_backward(of_hidden, of_weight)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        of_hidden, of_weight = ctx.saved_tensors
        return of_hidden * gradient, of_weight * gradient, None, None
