"""Emotion: what the writer of a text feels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nlpkit import Batch, Dataset, Example, Features, Task, TaskConfig, hookimpl

if TYPE_CHECKING:
    from torchmetrics import MetricCollection
    from transformers import PretrainedConfig

    from nlpkit import Head


class Emotion(Task[TaskConfig]):
    """Say what the writer of a text feels: anger, fear, joy, sadness or surprise, or emotions of your own."""

    name = "emotion"
    score = "f1_macro"
    sample = "emotion-sample"
    defaults: ClassVar[dict[str, Any]] = {"task.labels": ["anger", "fear", "joy", "sadness", "surprise"]}

    def encode(self, example: Example) -> Features:
        """Token ids, cut to ``max_length``, and the number of the label where there is one."""
        features: Features = dict(self.tokenizer(example["text"], truncation=True, max_length=self.config.max_length))
        if example.get("label") is not None:
            features["labels"] = self.config.labels.index(example["label"])
        return features

    def build_head(self, backbone: PretrainedConfig) -> Head:
        """The classification head of the backbone's own class, so that the model opens in plain transformers."""
        from nlpkit import TransformersHead

        names = dict(enumerate(self.config.labels))
        return TransformersHead("AutoModelForSequenceClassification", backbone, id2label=names)

    def build_metrics(self) -> MetricCollection:
        """Macro F1, in which a rare emotion counts as much as a common one, and accuracy."""
        from torchmetrics import MetricCollection, classification

        f1 = classification.MulticlassF1Score(len(self.config.labels), average="macro")
        accuracy = classification.MulticlassAccuracy(len(self.config.labels), average="micro")
        return MetricCollection({"f1_macro": f1, "accuracy": accuracy})

    def decode(self, predictions: Any, batch: Batch) -> list[dict[str, Any]]:
        """The likeliest emotion of each text and its probability, from the probabilities of all (B, C)."""
        return [{"label": self.config.labels[int(row.argmax())], "score": float(row.max())} for row in predictions]


@hookimpl
def nlpkit_tasks() -> list[type[Task[Any]]]:
    return [Emotion]


@hookimpl
def nlpkit_datasets() -> dict[str, Dataset]:
    return {"emotion-sample": Dataset(files={"train": str(Path(__file__).with_name("sample.csv"))})}
