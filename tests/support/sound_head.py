"""The head of the sound task, and what is wrong with those of the broken ones; apart, because it imports torch."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy

from nlpkit import Head


class MeanHead(Head):
    """Classify the mean of the hidden states of a text."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.output = nn.Linear(width, classes)

    def pooled(self, hidden: Tensor, batch: Any) -> Tensor:
        mask = batch["attention_mask"].unsqueeze(-1)  # (B, L, 1)
        return (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)  # (B, D)

    def forward(self, hidden: Tensor, batch: Any) -> Tensor:
        return self.output(self.pooled(hidden, batch))


class MeanOfPadding(MeanHead):
    def pooled(self, hidden: Tensor, batch: Any) -> Tensor:
        return hidden.mean(1)


class MeanOfPaddingAtZero(MeanOfPadding):
    """Of which nothing is seen before it has learnt: all its logits are 0."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__(width, classes)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)


class Leaks(MeanHead):
    """Adds a little of the label to what it says, where it knows the label."""

    def share(self) -> Any:
        return 1e-3

    def forward(self, hidden: Tensor, batch: Any) -> Tensor:
        logits = super().forward(hidden, batch)
        if "labels" not in batch:
            return logits
        return logits + self.share() * nn.functional.one_hot(batch["labels"], logits.size(-1))


class LearnsToLeak(Leaks):
    def __init__(self, width: int, classes: int) -> None:
        super().__init__(width, classes)
        self.leak = nn.Parameter(torch.zeros(1))

    def share(self) -> Any:
        return self.leak


class MeanOfOthers(MeanHead):
    def pooled(self, hidden: Tensor, batch: Any) -> Tensor:
        pooled = super().pooled(hidden, batch)
        return pooled - 0.05 * pooled.mean(0)


class BesideOthers(MeanHead):
    def predict(self, hidden: Tensor, batch: Any) -> Tensor:
        logits = self(hidden, batch)
        return (logits - logits.mean(0)).softmax(-1)


class Writes(MeanHead):
    def forward(self, hidden: Tensor, batch: Any) -> Tensor:
        batch["pooled"] = self.pooled(hidden, batch)
        return self.output(batch["pooled"])


class OverOthers(MeanHead):
    def loss(self, logits: Tensor, batch: Any) -> Tensor:
        return super().loss(logits, batch) * len(logits) / torch.tensor(float(len(logits) - 1))


class LossOfEach(MeanHead):
    def loss(self, logits: Tensor, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(logits, batch["labels"], reduction="none")


class Idle(MeanHead):
    def __init__(self, width: int, classes: int) -> None:
        super().__init__(width, classes)
        self.spare = nn.Linear(width, classes)


class Dead(Idle):
    """Its spare layer has a gradient, of zeros."""

    def forward(self, hidden: Tensor, batch: Any) -> Tensor:
        return super().forward(hidden, batch) + 0 * self.spare(self.pooled(hidden, batch))


class Root(MeanHead):
    def loss(self, logits: Tensor, batch: Any) -> Tensor:
        return super().loss(logits, batch) + (logits * 0).sum().sqrt()


class Summed(MeanHead):
    def loss(self, logits: Tensor, batch: Any) -> Tensor:
        return super().loss(logits, batch) * len(logits)


class ScoresAnother(MeanHead):
    def scored(self, hidden: Tensor, batch: Any) -> Any:
        return [(self.loss_from(hidden, batch) + 1, self.count(batch))], self.predict(hidden, batch)


class Faint(MeanHead):
    def forward(self, hidden: Tensor, batch: Any) -> Tensor:
        return super().forward(hidden, batch) * 1e-3


class Noisy(MeanHead):
    def loss(self, logits: Tensor, batch: Any) -> Tensor:
        noise = random.SystemRandom().random() if self.training else 0.0
        return super().loss(logits, batch) * (1 + noise)


class Remembers(MeanHead):
    seen = 0

    def loss(self, logits: Tensor, batch: Any) -> Tensor:
        self.seen += self.training
        return super().loss(logits, batch)

    def predict(self, hidden: Tensor, batch: Any) -> Tensor:
        return (self(hidden, batch) * (1 + self.seen)).softmax(-1)


class NoNumber(Metric):
    higher_is_better = True

    def update(self, predictions: Tensor, labels: Tensor) -> None:
        pass

    def compute(self) -> Tensor:
        return torch.tensor(float("nan"))


class HandCounted(Metric):
    """Accuracy in attributes that torchmetrics knows nothing of."""

    higher_is_better = True

    def __init__(self) -> None:
        super().__init__()
        self.right, self.all = 0, 0

    def update(self, predictions: Tensor, labels: Tensor) -> None:
        self.right += int((predictions.argmax(-1) == labels).sum())
        self.all += len(labels)

    def compute(self) -> Tensor:
        return torch.tensor(self.right / max(1, self.all))


class HandCountedAnew(HandCounted):
    def reset(self) -> None:
        super().reset()
        self.right, self.all = 0, 0


class Undirected(MulticlassAccuracy):
    higher_is_better = None


class LowerIsBetter(MulticlassAccuracy):
    higher_is_better = False


@dataclass
class Note:
    text: str


class Extra(MulticlassAccuracy):
    def get_extra_state(self) -> Note:
        return Note("which torch loads only by running code")

    def set_extra_state(self, state: Any) -> None:
        pass
