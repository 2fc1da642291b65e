"""The heads of several tasks over one backbone: each gets the hidden states of its own rows."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from nlpkit import given
from nlpkit.heads import Head, TransformersHead, detach_pooler
from nlpkit.joint import rows
from nlpkit.joint.names import module_name
from nlpkit.task import Batch, Task


class Predictions(dict[str, Any]):
    """What the heads predict, by task; ``terms`` are those of each loss, where there are labels."""

    terms: Mapping[str, given.Terms]

    def __init__(self, predictions: Mapping[str, Any], terms: Mapping[str, given.Terms] | None = None) -> None:
        super().__init__(predictions)
        self.terms = terms or {}


class JointHead(Head):
    """The loss is the weighted sum of the tasks' losses, each a mean over its own rows of a batch.

    So a task with a tenth of the data, which has a tenth of the rows of a batch, counts as much as the others.

    Args:
        heads: by task.
        weights: of the losses by task; 1 where there is none.
        classes: of the tasks.
    """

    def __init__(
        self, heads: Mapping[str, Head], weights: Mapping[str, float], classes: Mapping[str, type[Task[Any]]]
    ) -> None:
        super().__init__()
        self.classes = classes
        self.heads = nn.ModuleDict({module_name(name): head for name, head in heads.items()})
        self.weights = {name: weights.get(name, 1.0) for name in heads}

    def of(self, name: str) -> Head:
        """The head of one task."""
        head = self.heads[module_name(name)]
        assert isinstance(head, Head)
        return head

    def _each(self, ask: Callable[[Head, Tensor, Batch], Any], hidden: Tensor, batch: Batch) -> dict[str, Any]:
        """What each task's head is asked for, with the hidden states of its own rows, where the batch has any."""
        found = {}
        for name in rows.names_in(batch):
            own = rows.hidden_of(hidden, batch, name)
            found[name] = given.used(self.classes[name], ask, self.of(name), own, rows.batch_of(batch, name))
        return found

    def forward(self, hidden: Tensor, batch: Batch) -> dict[str, Tensor]:  # type: ignore[override]
        """Map hidden states (U, L, D) to the logits of each task."""
        return self._each(Head.__call__, hidden, batch)

    def loss(self, logits: dict[str, Tensor], batch: Batch) -> Tensor:  # type: ignore[override]
        """The weighted sum of the losses, in nats."""
        losses = {name: [(self.of(name).loss(own, rows.batch_of(batch, name)), 1)] for name, own in logits.items()}
        return torch.stack([mean for mean, _ in self._weighted(losses, batch)]).sum()

    def loss_from(self, hidden: Tensor, batch: Batch) -> Tensor:
        """The same from hidden states (U, L, D)."""
        return torch.stack([mean for mean, _ in self.terms(hidden, batch)]).sum()

    def terms(self, hidden: Tensor, batch: Batch) -> given.Terms:
        """The weighted loss of each task, in the order of the tasks."""
        return self._weighted(self._each(given.terms, hidden, batch), batch)

    def _weighted(self, found: Mapping[str, given.Terms], batch: Batch) -> given.Terms:
        """One term for each task, in every process: all of them add up the same number."""
        terms: given.Terms = []
        for name, weight in self.weights.items():
            own = found.get(name)
            if own is None:  # every weight has a gradient, or processes that train together would wait for it
                still = [p.sum() * 0 for p in self.of(name).parameters() if p.requires_grad]
                terms.append((torch.stack(still).sum() if still else batch["input_ids"].sum() * 0.0, 0))
            else:
                terms.append((weight * torch.stack([m.float() for m, _ in own]).sum(), max(c for _, c in own)))
        return terms

    def count(self, batch: Batch) -> int:
        """Labels of all tasks."""
        return sum(self.of(name).count(rows.batch_of(batch, name)) for name in rows.names_in(batch))

    def predict(self, hidden: Tensor, batch: Batch) -> Predictions:
        """What each head predicts for its rows."""
        return Predictions(self._each(lambda head, *both: head.predict(*both), hidden, batch))

    def scored(self, hidden: Tensor, batch: Batch) -> tuple[given.Terms, Predictions]:
        """Terms and predictions; the terms of each task by itself are with its predictions."""
        both = self._each(given.scored, hidden, batch)
        terms = {name: own for name, (own, _) in both.items()}
        return self._weighted(terms, batch), Predictions({name: value for name, (_, value) in both.items()}, terms)

    def places(self, batch: Batch) -> Tensor | None:
        """Where any head reads (U, L); None as soon as one reads everywhere."""
        counts = torch.zeros_like(batch["input_ids"])
        for name in rows.names_in(batch):
            own = self.of(name).places(rows.batch_of(batch, name))
            if own is None:
                return None
            counts += rows.marked(own, batch, name)
        return counts > 0

    def tie(self, backbone: PreTrainedModel) -> None:
        """Share weights with the backbone, where a head does."""
        for name in self.weights:
            self.of(name).tie(backbone)

    @property
    def takes_pooler(self) -> bool:
        """Whether any head has one."""
        return any(self.of(name).takes_pooler for name in self.weights)

    def adopt_pooler(self, body: PreTrainedModel) -> None:
        """Take the pooler out of a body; each head whose class has one gets a copy, to learn by itself."""
        pooler = detach_pooler(body)
        for name in self.weights:
            head = self.of(name)
            if isinstance(head, TransformersHead):
                head.take_pooler(body, copy.deepcopy(pooler))
