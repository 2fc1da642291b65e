"""Sentiment: one label for each text, two or more classes."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from nlpkit import Batch, Dataset, Example, Features, Task, TaskConfig, hookimpl

if TYPE_CHECKING:
    from torchmetrics import MetricCollection
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from nlpkit import Head


@dataclass
class SentimentConfig(TaskConfig):
    """Settings of sentiment."""

    keep: Literal["start", "end"] = "start"  # what runs before this setting did; new ones: Sentiment.defaults
    """Which part of a text that is longer than max_length is read; people say at the end what they think."""


class Sentiment(Task[SentimentConfig]):
    """Label each text: positive or negative, stars, or any classes of your own."""

    name = "sentiment"
    config_class = SentimentConfig
    score = "f1_macro"
    sample = "sentiment-sample"
    defaults: ClassVar[dict[str, Any]] = {"task.keep": "end"}

    def __init__(self, config: SentimentConfig, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(config, copy.deepcopy(tokenizer))  # which others may use as it is
        # saved with the tokenizer, so that plain transformers cuts at the same end
        side = "left" if config.keep == "end" else "right"
        self.tokenizer.truncation_side = self.tokenizer.init_kwargs["truncation_side"] = side

    def encode(self, example: Example) -> Features:
        """Token ids, cut to ``max_length``; the label where there is one."""
        features: Features = dict(
            self.tokenizer(example["text"], truncation=True, max_length=self.config.max_length or None)
        )
        if example.get("label") is not None:
            features["labels"] = self.config.labels.index(example["label"])
        return features

    def build_head(self, backbone: PretrainedConfig) -> Head:
        """The classification head of the backbone's own class."""
        from nlpkit import TransformersHead

        names = dict(enumerate(self.config.labels))
        return TransformersHead(
            "AutoModelForSequenceClassification",
            backbone,
            id2label=names,
            label2id={name: i for i, name in names.items()},
            problem_type="single_label_classification",
        )

    def build_metrics(self) -> MetricCollection:
        """Accuracy, macro F1, and F1 of each class."""
        from torchmetrics import MetricCollection
        from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score
        from torchmetrics.wrappers import ClasswiseWrapper

        classes = len(self.config.labels)
        return MetricCollection(
            {
                "accuracy": MulticlassAccuracy(classes, average="micro"),
                "f1_macro": MulticlassF1Score(classes, average="macro"),
                "f1": ClasswiseWrapper(MulticlassF1Score(classes, average="none"), self.config.labels, prefix="f1/"),
            }
        )

    def decode(self, predictions: Any, batch: Batch) -> list[dict[str, Any]]:
        """The likeliest label of each text and the probability of every label."""
        rows = predictions.tolist()
        labels = self.config.labels
        return [
            {
                "label": labels[max(range(len(row)), key=row.__getitem__)],
                "score": max(row),
                "scores": dict(zip(labels, row, strict=True)),
            }
            for row in rows
        ]

    def baselines(self, train: Sequence[Example], test: Sequence[Example]) -> dict[str, dict[str, float]]:
        """Always the most frequent label, and TF-IDF with logistic regression."""
        from nlpkit_sentiment.baselines import majority, tfidf

        return {"majority": majority(train, test), "tfidf": tfidf(train, test, seed=0)}


@hookimpl
def nlpkit_tasks() -> list[type[Task[Any]]]:
    """Register sentiment."""
    return [Sentiment]


@hookimpl
def nlpkit_datasets() -> Mapping[str, Dataset]:
    """The sample that ``nlpkit fit --task sentiment`` runs on when it is given no data."""
    path = os.path.join(os.path.dirname(__file__), "sample.csv")
    return {"sentiment-sample": Dataset(files={"train": path}, about="160 short texts; a trial, no benchmark")}
