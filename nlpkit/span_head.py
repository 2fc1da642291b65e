"""A head that points at a span of a text, such as the words that answer a question."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PretrainedConfig

from nlpkit.heads import TransformersHead
from nlpkit.task import Batch

_OUTSIDE = -1e4  # of a score; finite, so that a text in which no span may stand has a finite loss


class SpanHead(TransformersHead):
    """Points at the first and the last token of a span; saved models open in ``AutoModelForQuestionAnswering``.

    ``batch["labels"]`` (B, 2) holds both tokens, -100 where there is nothing to learn. ``batch["span_mask"]`` (B, L) is
    1 where a span may stand; without it one may stand wherever there is text.

    Args:
        backbone: its configuration.
        longest: tokens of a span that is predicted, at most.

    Raises:
        ValueError: ``longest`` is below 1.
        ModelError: see `TransformersHead`.
    """

    def __init__(self, backbone: PretrainedConfig, *, longest: int = 30) -> None:
        if longest < 1:
            raise ValueError(f"longest is {longest}, expected one token or more")
        names = {0: "LABEL_0", 1: "LABEL_1"}  # as all such models call their two outputs
        super().__init__(
            "AutoModelForQuestionAnswering", backbone, id2label=names, label2id={v: k for k, v in names.items()}
        )
        self.longest = longest

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Map hidden states (B, L, D) to scores (B, 2, L) of a first and of a last token, low where none may stand."""
        mask = batch["attention_mask"]
        made = self._run(hidden, input_ids=batch["input_ids"], attention_mask=mask)
        scores = torch.stack([made.start_logits, made.end_logits], 1)
        return scores.masked_fill(batch.get("span_mask", mask).unsqueeze(1) == 0, _OUTSIDE)

    def predict(self, hidden: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The likeliest span of a text: first and last token (B, 2), and its probability (B,); 0 where none may be."""
        inside = batch.get("span_mask", batch["attention_mask"]).unsqueeze(1)
        first, last = (self(hidden, batch).float().softmax(-1) * inside).unbind(1)  # (B, L)
        ahead = torch.nn.functional.pad(last, (0, self.longest - 1)).unfold(1, self.longest, 1)  # (B, L, longest)
        score, place = (first.unsqueeze(2) * ahead).flatten(1).max(1)
        start = place // self.longest
        return torch.stack([start, start + place % self.longest], 1), score
