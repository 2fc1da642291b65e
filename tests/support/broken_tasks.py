"""Tasks that break one rule each: the sound one with one mistake that authors make. `BREAKS` says which rule."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sound_task import Sound

from nlpkit import TaskConfig


def with_head(name: str) -> type[Sound]:
    """The sound task with another head of sound_head.py."""

    def build_head(self: Any, backbone: Any) -> Any:
        import sound_head

        return getattr(sound_head, name)(backbone.hidden_size, len(self.config.labels))

    return type(name, (Sound,), {"build_head": build_head, "__module__": __name__})


def with_metric(name: str, *arguments: Any, **settings: Any) -> type[Sound]:
    """The sound task with another metric of sound_head.py as its accuracy."""

    def build_metrics(self: Any) -> Any:
        import sound_head
        from torchmetrics import MetricCollection

        return MetricCollection({"accuracy": getattr(sound_head, name)(*arguments, **settings)})

    return type(name, (Sound,), {"build_metrics": build_metrics, "__module__": __name__})


class BadName(Sound):
    name = "My Task"


@dataclass
class SilentConfig(TaskConfig):
    threshold: float = 0.5


class Silent(Sound):
    config_class = SilentConfig


@dataclass
class PathConfig(TaskConfig):
    words: Path = Path("words.txt")
    """A type that settings cannot have."""


class PathSetting(Sound):
    config_class = PathConfig


class WrongDefaults(Sound):
    defaults_new = {"optim.learning_rat": 1e-3}  # noqa: RUF012


@dataclass
class CountingConfig(TaskConfig):
    made: int = 0
    """How often it was made."""

    def __post_init__(self) -> None:
        self.made += 1


class Counting(Sound):
    config_class = CountingConfig


class NeedsLabel(Sound):
    def encode(self, example: Any) -> Any:
        return {**super().encode(example), "labels": self.config.labels.index(example["label"])}


class DecodesLabels(Sound):
    def decode(self, predictions: Any, batch: Any) -> Any:
        return [
            {**answer, "of": int(n)}
            for answer, n in zip(super().decode(predictions, batch), batch["labels"], strict=True)
        ]


class TellsLabel(Sound):
    def encode(self, example: Any) -> Any:
        return {**super().encode({**example, "text": f"{example.get('label', '')} {example['text']}"})}


class CutsNothing(Sound):
    def encode(self, example: Any) -> Any:
        return {**super().encode(example), **self.tokenizer(example["text"])}


class NoTokens(Sound):
    def encode(self, example: Any) -> Any:
        features = super().encode(example)
        return {k: v[1:-1] if isinstance(v, list) else v for k, v in features.items()}


class ClearsMask(Sound):
    def decode(self, predictions: Any, batch: Any) -> Any:
        batch["attention_mask"].zero_()
        return super().decode(predictions, batch)


class LosesOne(Sound):
    def decode(self, predictions: Any, batch: Any) -> Any:
        return super().decode(predictions, batch)[:-1]


class AnswersTensors(Sound):
    def decode(self, predictions: Any, batch: Any) -> Any:
        return [{"score": row.max()} for row in predictions]


class AnswersLabels(Sound):
    def decode(self, predictions: Any, batch: Any) -> Any:
        return [answer["label"] for answer in super().decode(predictions, batch)]


class DrawsAtRandom(Sound):
    def collate(self, features: Any) -> Any:
        import torch

        return {**super().collate(features), "noise": torch.tensor([random.SystemRandom().random() for _ in features])}


class NoSuchScore(Sound):
    score = "bleu"


class ListsPairs(Sound):
    def compare(self, predictions: Any, batch: Any) -> Any:
        return [predictions, batch["labels"]]


class ErrorRate(Sound):
    def compare(self, predictions: Any, batch: Any) -> Any:
        return 1 - predictions, batch["labels"]


NAMES: list[str] = []


class KnowsByHeart(with_metric("HandCountedAnew")):  # type: ignore[misc]
    """What it learns of the data it keeps in a list of the module; its metric counts what one process sees."""

    @classmethod
    def prepare(cls, config: Any, examples: Any) -> Any:
        NAMES[:] = ["bad", "good"]
        return super().prepare(config, examples)

    def decode(self, predictions: Any, batch: Any) -> Any:
        return [{"label": json.dumps(NAMES)} for _ in predictions]


BREAKS: dict[str, list[type[Sound]]] = {
    "can_be_registered": [BadName],
    "settings_are_described": [Silent, PathSetting, WrongDefaults],
    "settings_survive_a_file": [Counting],
    "encodes_without_label": [NeedsLabel, DecodesLabels, TellsLabel, with_head("Leaks"), with_head("LearnsToLeak")],
    "takes_odd_texts": [CutsNothing, NoTokens],
    "answers_are_json": [LosesOne, AnswersTensors, AnswersLabels],
    "padding_changes_nothing": [with_head("MeanOfPadding"), with_head("MeanOfPaddingAtZero")],
    "company_changes_nothing": [with_head("BesideOthers"), with_head("MeanOfOthers")],
    "batch_is_not_changed": [with_head("Writes"), ClearsMask],
    "loss_is_finite": [with_head("OverOthers"), with_head("LossOfEach"), with_head("Root")],
    "loss_reaches_every_weight": [with_head("Idle"), with_head("Dead")],
    "loss_is_a_mean_by_count": [with_head("Summed"), with_head("ScoresAnother")],
    "learns_a_few_examples": [with_head("Faint")],
    "a_seed_repeats": [with_head("Noisy"), DrawsAtRandom],
    "metrics_are_finite": [with_metric("NoNumber"), NoSuchScore, ListsPairs],
    "metrics_start_anew": [with_metric("HandCounted")],
    "score_has_a_direction": [
        with_metric("Undirected", 2, average="micro"),
        with_metric("LowerIsBetter", 2, average="micro"),
    ],
    "learning_raises_the_score": [ErrorRate],
    "saved_and_loaded_is_the_same": [with_head("Remembers")],
    "files_hold_plain_values": [with_metric("Extra", 2, average="micro")],
    "a_new_process_answers_the_same": [KnowsByHeart],
    "two_processes_are_as_one": [KnowsByHeart],
}
"""Name of a check -> tasks that it alone must catch; for imports_fast there is broken_import.py."""
