"""How well text is foretold: accuracy, perplexity and bits per byte, which alone compares tokenizers."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchmetrics import Metric


class LanguageScores(Metric):
    """Scores of guessed tokens.

    Args:
        token_bytes: bytes of text that each token stands for, (V,); None where the tokens are no whole text.
    """

    full_state_update = False
    token_bytes: Tensor | None
    right: Tensor
    nats: Tensor
    tokens: Tensor
    bytes: Tensor

    def __init__(self, token_bytes: list[int] | None = None) -> None:
        super().__init__()
        self.register_buffer(
            "token_bytes", None if token_bytes is None else torch.tensor(token_bytes), persistent=False
        )
        for name in ("right", "nats", "tokens", "bytes"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, guesses: Tensor, nats: Tensor, answers: Tensor) -> None:
        """Add guessed tokens and the nats of the real ones, (N,) each."""
        self.right += (guesses == answers).sum()
        self.nats += nats.double().sum()
        self.tokens += len(answers)
        if self.token_bytes is not None:
            self.bytes += self.token_bytes[answers].sum()

    def compute(self) -> dict[str, Tensor]:
        """``accuracy``; ``perplexity`` of a token; ``bits_per_byte`` of text, bits of document ends included."""
        mean = self.nats / self.tokens.clamp(min=1)
        found = {"accuracy": self.right / self.tokens.clamp(min=1), "perplexity": mean.exp()}
        if self.token_bytes is not None:
            found["bits_per_byte"] = self.nats / math.log(2) / self.bytes.clamp(min=1)
        return found


class PairScores(Metric):
    """Accuracy and mean loss of hidden words and of pairs, each apart."""

    full_state_update = False
    sums: Tensor
    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("sums", "counts"):
            self.add_state(name, torch.zeros(4, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, words: Tensor, pairs: Tensor, word_loss: Tensor, pair_loss: Tensor) -> None:
        """Add what was right (N,) and (B,), and the mean losses of the batch."""
        n, b = len(words), len(pairs)
        sums = torch.stack([words.sum().double(), pairs.sum().double(), word_loss.double() * n, pair_loss.double() * b])
        self.sums += sums
        self.counts += torch.tensor([n, b, n, b], device=self.counts.device)

    def compute(self) -> dict[str, Tensor]:
        """``mlm_accuracy``, ``nsp_accuracy``, ``mlm_loss``, ``nsp_loss``."""
        values = self.sums / self.counts.clamp(min=1)
        return dict(zip(("mlm_accuracy", "nsp_accuracy", "mlm_loss", "nsp_loss"), values, strict=True))
