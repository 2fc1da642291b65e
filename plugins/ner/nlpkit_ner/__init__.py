"""Named entities: spans of text with a type."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from nlpkit import Batch, Dataset, Example, Features, Field, Task, TaskConfig, hookimpl
from nlpkit.errors import DataError, UsageError
from nlpkit.task import TEXT_COLUMNS, files_of
from nlpkit_ner.datasets import DATASETS

if TYPE_CHECKING:
    from torchmetrics import MetricCollection
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from nlpkit import Head

_NOTHING = {"labels": [-100], "entities": [-1, -1, -1], "starts": [0], "ends": [0], "inside": [0]}
"""What stands in a batch for a text without pieces or entities."""
ENTITY_COLUMNS = ("entities", "spans", "ents", "labels", "label", "annotations")


@dataclass
class NerConfig(TaskConfig):
    """Settings of ner; ``labels`` are the types of entities."""

    transitions: Literal["constrained", "crf", "none"] = field(default="constrained", metadata={"at_prediction": True})
    """How tags become a sequence: the likeliest legal one, one with learned transitions, or each word for itself."""
    scoring: Literal["conlleval", "strict"] = field(default="conlleval", metadata={"at_prediction": True})
    """Whether an I- that goes on with nothing begins an entity, scored and answered, or is none (transitions=none)."""
    unit: Literal["auto", "word", "piece"] = "auto"
    """What entities are made of: whole words, punctuation around them aside, or any pieces; auto: as in the data."""
    stride: int = field(default=64, metadata={"at_least": 0})
    """Pieces that neighbouring windows of a long text share, at least."""


class Ner(Task[NerConfig]):
    """Find spans of text and their types: people, places, products, or any of your own."""

    name = "ner"
    config_class = NerConfig
    fields: ClassVar[dict[str, Field]] = {
        "text": Field(TEXT_COLUMNS),
        "entities": Field(ENTITY_COLUMNS, required=False, structured=True),
    }
    score = "f1"
    defaults_public: ClassVar[dict[str, Any]] = {"strategy": "upper"}
    sample = "ner-sample"
    readers: ClassVar[dict[str, str]] = {"jsonl": "spans"}
    padding: ClassVar[dict[str, int]] = {
        "attention_mask": 0,
        "labels": -100,
        "entities": -1,
        **dict.fromkeys(("places", "starts", "ends", "inside"), 0),
    }

    def __init__(self, config: NerConfig, tokenizer: PreTrainedTokenizerBase) -> None:
        from nlpkit.plain_text import plain_backend
        from nlpkit_ner.windows import frame_of

        super().__init__(config, tokenizer)
        self._backend = plain_backend(tokenizer)
        self._types = {name: i for i, name in enumerate(config.labels)}
        self._frame = frame_of(self._backend)

    @classmethod
    def check(cls, example: Example) -> Example:
        """Entities in nlpkit's own form, sorted, from any that annotation tools write."""
        from nlpkit_ner.span_files import normalise

        if example.get("entities") is None:
            return example
        entities = normalise(example["entities"], example.where, example["text"])
        return Example({**example, "entities": entities}, example.where)

    @classmethod
    def labels_of(cls, example: Example) -> Sequence[str]:
        """The type of each entity."""
        return [entity["label"] for entity in example.get("entities") or ()]

    @classmethod
    def prepare(cls, config: NerConfig, examples: Sequence[Example]) -> NerConfig:
        """Types and unit as the training examples have them.

        Raises:
            DataError: no entity in them, or one that cuts a word although ``unit`` is ``word``.
            UsageError: a type that is named twice.
        """
        from nlpkit_ner.words import cut_entity

        if not config.labels:
            config = replace(config, labels=sorted({label for e in examples for label in cls.labels_of(e)}))
        if not config.labels:
            raise DataError(
                f"{files_of(examples)}: no entity in the training data; ner needs at least one",
                "name another column with data.entities=COLUMN, or a reader with data.reader=conll",
            )
        if twice := [name for i, name in enumerate(config.labels) if name in config.labels[:i]]:
            raise UsageError(f"task.labels has '{twice[0]}' twice, expected each type once", "leave one of them out")
        found = ((e, cut_entity(e["text"], e.get("entities") or ())) for e in examples)
        cut = None if config.unit == "piece" else next(((e, entity) for e, entity in found if entity), None)
        if cut and config.unit == "word":
            text = cut[0]["text"][cut[1]["start"] : cut[1]["end"]]
            raise DataError(f"{cut[0].where}: '{text}' begins or ends inside of a word", "task.unit=piece")
        return replace(config, unit="piece" if cut or config.unit == "piece" else "word")

    def encode(self, example: Example) -> Features:
        """Token ids of the whole text without special tokens, its pieces, and their tags where there are entities."""
        from nlpkit_ner.pieces import cut, tags, taught

        pieces = cut(self._backend, example["text"], whole_words=self.config.unit == "word")
        features: Features = {
            "input_ids": pieces.ids,
            "starts": pieces.starts,
            "ends": pieces.ends,
            "inside": pieces.inside,
        }
        if (entities := example.get("entities")) is not None:
            features["labels"] = taught(tags(pieces, entities, self._types), pieces)
            features["entities"] = [n for e in entities for n in (e["start"], e["end"], self._types[e["label"]])]
        return features

    def collate(self, features: Sequence[Features]) -> Batch:
        """Windows (W, L) of B texts, and where each of their T pieces is answered: ``places`` (B, T) among W * L."""
        import torch

        from nlpkit_ner.windows import windows

        before, after = self._frame.before, self._frame.after
        size = max(1, self.config.max_length - len(before) - len(after))
        rows: list[list[int]] = []
        places: list[list[tuple[int, int]]] = []
        for feature in features:
            ids = feature["input_ids"]
            parts = windows(len(ids), size, self.config.stride)
            places.append([(len(rows) + i, p - w.start) for i, w in enumerate(parts) for p in range(w.first, w.last)])
            rows += [self._frame.around(ids[w.start : w.end]) or [self.tokenizer.pad_token_id] for w in parts]
        inputs = super().collate([{"input_ids": row, "attention_mask": [1] * len(row)} for row in rows])
        length = inputs["input_ids"].size(1)
        flat = [[row * length + len(before) + place for row, place in text] for text in places]
        rest = [
            {"places": p or [0], **{k: v or _NOTHING[k] for k, v in f.items() if k in _NOTHING}}
            for p, f in zip(flat, features, strict=True)
        ]
        pieces = torch.tensor([len(text) for text in places])
        return {**inputs, "pieces": pieces, **super().collate(rest)}

    def build_head(self, backbone: PretrainedConfig) -> Head:
        """The token-classification head of the backbone's own class."""
        from nlpkit_ner.head import NerHead

        return NerHead(backbone, self.config.labels, self.config.transitions)

    def build_metrics(self) -> MetricCollection:
        """Precision, recall and F1 of spans, over all and by type, and the kinds of errors."""
        from torchmetrics import MetricCollection

        from nlpkit_ner.metrics import SpanScores

        return MetricCollection({"spans": SpanScores(self.config.labels)})

    def compare(self, predictions: Any, batch: Batch) -> tuple[Any, ...]:
        """Spans found (N, 4) and true (M, 4): row, first character, the character behind the last, type."""
        import torch

        found, _ = self._spans(predictions, batch)
        true = batch["entities"].unflatten(1, (-1, 3))  # (B, S, 3)
        rows, places = (true[..., 2] >= 0).nonzero(as_tuple=True)
        return found, torch.cat([rows.unsqueeze(1), true[rows, places]], 1)

    def decode(self, predictions: Any, batch: Batch) -> list[dict[str, Any]]:
        """The entities of each text, by their characters."""
        spans, scores = self._spans(predictions, batch)
        answers: list[dict[str, Any]] = [{"entities": []} for _ in range(len(batch["pieces"]))]
        for (row, start, end, kind), score in zip(spans.tolist(), scores.tolist(), strict=True):
            label = self.config.labels[kind]
            answers[row]["entities"].append({"start": start, "end": end, "label": label, "score": score})
        return answers

    def complete(self, answer: dict[str, Any], example: Example) -> dict[str, Any]:
        """Each entity with its text."""
        text = example["text"]
        return {"entities": [{**e, "text": text[e["start"] : e["end"]]} for e in answer["entities"]]}

    def page(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
        """The texts with their entities in colour."""
        from nlpkit_ner.page import page

        return page(rows, self.config.labels)

    def _spans(self, predictions: Any, batch: Batch) -> tuple[Any, Any]:
        """Entities (N, 4) as row, start, end and type, in characters, and the mean probability of their tags (N,)."""
        import torch

        from nlpkit_ner.spans import spans

        found = spans(predictions["tags"], batch["pieces"], self.config.scoring)
        rows, first, behind, kinds = found.unbind(1)
        start, end = batch["starts"][rows, first], batch["ends"][rows, behind - 1]
        sums = torch.nn.functional.pad(predictions["scores"].double().cumsum(1), (1, 0))  # (B, T + 1)
        means = ((sums[rows, behind] - sums[rows, first]) / (behind - first)).float()
        real = end > start
        return torch.stack([rows, start, end, kinds], 1)[real], means[real]


@hookimpl
def nlpkit_tasks() -> list[type[Task[Any]]]:
    """Register ner."""
    return [Ner]


@hookimpl
def nlpkit_datasets() -> Mapping[str, Dataset]:
    """The readers, and the sample that ``nlpkit fit --task ner`` runs on when it is given no data."""
    return DATASETS
