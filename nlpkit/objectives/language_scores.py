"""How well text is foretold: accuracy, perplexity and bits per byte, which alone compares tokenizers."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchmetrics import Metric


class LanguageScores(Metric):
    """Scores of next-token guesses.

    Args:
        token_bytes: bytes of text that each token stands for, (V,).
    """

    full_state_update = False
    token_bytes: Tensor
    right: Tensor
    nats: Tensor
    tokens: Tensor
    bytes: Tensor

    def __init__(self, token_bytes: list[int]) -> None:
        super().__init__()
        self.register_buffer("token_bytes", torch.tensor(token_bytes), persistent=False)
        for name in ("right", "nats", "tokens", "bytes"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, guesses: Tensor, nats: Tensor, answers: Tensor) -> None:
        """Add guessed tokens and the nats of the real ones, (N,) each."""
        self.right += (guesses == answers).sum()
        self.nats += nats.double().sum()
        self.tokens += len(answers)
        self.bytes += self.token_bytes[answers].sum()

    def compute(self) -> dict[str, Tensor]:
        """``accuracy``; ``perplexity`` of a token; ``bits_per_byte`` of text, bits of document ends included."""
        mean = self.nats / self.tokens.clamp(min=1)
        return {
            "accuracy": self.right / self.tokens.clamp(min=1),
            "perplexity": mean.exp(),
            "bits_per_byte": self.nats / math.log(2) / self.bytes.clamp(min=1),
        }
