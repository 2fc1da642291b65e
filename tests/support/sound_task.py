"""A small sound task, as an author would write it, with a head of its own; broken_tasks.py breaks it rule by rule."""

from __future__ import annotations

from typing import Any

from nlpkit import Features, Task

GOOD = ["lovely soft wool", "warm and well made", "a joy to wear", "fits me perfectly"]
BAD = ["torn after a day", "cheap and itchy", "never arrived", "far too small for me"]
EXAMPLES = [{"text": text, "label": label} for label, texts in (("good", GOOD), ("bad", BAD)) for text in texts]


class Sound(Task):
    """Label a text by the mean of its hidden states."""

    name = "sound"
    score = "accuracy"

    def encode(self, example: Any) -> Features:
        features = dict(self.tokenizer(example["text"], truncation=True, max_length=self.config.max_length))
        if example.get("label") is not None:
            features["labels"] = self.config.labels.index(example["label"])
        return features

    def build_head(self, backbone: Any) -> Any:
        from sound_head import MeanHead

        return MeanHead(backbone.hidden_size, len(self.config.labels))

    def build_metrics(self) -> Any:
        from torchmetrics import MetricCollection
        from torchmetrics.classification import MulticlassAccuracy

        return MetricCollection({"accuracy": MulticlassAccuracy(len(self.config.labels), average="micro")})

    def decode(self, predictions: Any, batch: Any) -> list[dict[str, Any]]:
        return [{"label": self.config.labels[row.index(max(row))], "score": max(row)} for row in predictions.tolist()]
