"""Paraphrase: whether two texts mean the same."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nlpkit import Batch, Dataset, Example, Features, Field, Task, TaskConfig, hookimpl

if TYPE_CHECKING:
    from nlpkit import Head


class Paraphrase(Task[TaskConfig]):
    """Say of two texts whether they mean the same, or how else they belong together: any labels of your data."""

    name = "paraphrase"
    fields: ClassVar[dict[str, Field]] = {
        "first": Field(("first", "text1", "sentence1", "question1", "premise", "question")),
        "second": Field(("second", "text2", "sentence2", "question2", "hypothesis", "answer")),
        "label": Field(("label", "same", "is_duplicate", "gold_label"), required=False),
    }
    score = "accuracy"
    sample = "paraphrase-sample"

    def encode(self, example: Example) -> Features:
        """Ids of both texts' tokens, and what text each is of; of a pair that is too long the longer text is cut."""
        both, longest = (example["first"], example["second"]), self.config.max_length
        features: Features = dict(self.tokenizer(*both, truncation="longest_first", max_length=longest))
        if example.get("label") is not None:
            features["labels"] = self.config.labels.index(example["label"])
        return features

    def build_head(self, backbone: Any) -> Head:
        """The classification head of the backbone's own class, so that the model opens in plain transformers."""
        from nlpkit import TransformersHead

        names = dict(enumerate(self.config.labels))
        return TransformersHead("AutoModelForSequenceClassification", backbone, id2label=names)

    def build_metrics(self) -> Any:
        """The share of pairs with the right label."""
        from torchmetrics import MetricCollection, classification

        accuracy = classification.MulticlassAccuracy(len(self.config.labels), average="micro")
        return MetricCollection({"accuracy": accuracy})

    def decode(self, predictions: Any, batch: Batch) -> list[dict[str, Any]]:
        """The likeliest label of each pair and its probability, from the probabilities of all (B, C)."""
        return [{"label": self.config.labels[int(row.argmax())], "score": float(row.max())} for row in predictions]


@hookimpl
def nlpkit_tasks() -> list[type[Task[Any]]]:
    return [Paraphrase]


@hookimpl
def nlpkit_datasets() -> dict[str, Dataset]:
    return {"paraphrase-sample": Dataset(files={"train": str(Path(__file__).with_name("sample.csv"))})}
