"""Translation: what one text says, in another language."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nlpkit import Batch, Dataset, Example, Features, Field, Task, hookimpl
from nlpkit.errors import UsageError
from nlpkit_translation.config import TranslationConfig
from nlpkit_translation.datasets import DATASETS
from nlpkit_translation.directions import ASKED, both_ways, named, tag
from nlpkit_translation.fields import FIELDS
from nlpkit_translation.filters import keep

if TYPE_CHECKING:
    from torch import Tensor
    from torchmetrics import Metric, MetricCollection
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from nlpkit import Head
    from nlpkit.bundle import Loaded

_OF_TEXTS = ("labels", "source", "target", "places")
"""Lists among the features that have one row for each text."""


class Translation(Task[TranslationConfig]):
    """Write in one language what stands in another."""

    name = "translation"
    config_class = TranslationConfig
    fields: ClassVar[dict[str, Field]] = FIELDS
    sides = "parallel"
    slow_tokenizers: ClassVar[dict[str, tuple[str, ...]]] = {
        "MarianTokenizer": ("source.spm", "target.spm", "vocab.json"),
        "M2M100Tokenizer": ("sentencepiece.bpe.model", "vocab.json"),
    }
    readers: ClassVar[dict[str, str]] = dict.fromkeys(("csv", "tsv", "jsonl", "txt"), "pairs")
    score = "loss"
    sample = "translation-sample"
    defaults: ClassVar[dict[str, Any]] = {
        "model.family": "m2m100",
        "model.tokenizer": "bpe",
        "model.lowercase": False,
        "trainer.validations_per_epoch": 1,
    }
    defaults_new: ClassVar[dict[str, Any]] = {
        "optim.name": "muon",
        "optim.learning_rate": 1e-3,
        "optim.muon_learning_rate": 0.014,
        "optim.schedule": "wsd",
        "optim.warmup": 0.05,
    }
    padding: ClassVar[dict[str, int]] = {**Task.padding, "source": -1, "target": -1, "places": -1}

    def __init__(self, config: TranslationConfig, tokenizer: PreTrainedTokenizerBase) -> None:
        from nlpkit_translation.rows import Rows

        super().__init__(config, tokenizer)
        self._rows = Rows(config, tokenizer)
        tokenizer.model_input_names = ["input_ids", "attention_mask"]  # all that is read; generate refuses more

    @classmethod
    def select(cls, config: TranslationConfig, examples: Sequence[Example]) -> list[Example]:
        """The pairs that are a translation of each other, as far as can be seen."""
        return list(keep(examples, config.filters))

    @classmethod
    def prepare(cls, config: TranslationConfig, examples: Sequence[Example]) -> TranslationConfig:
        """Keep the names of the languages, which a finished model may be asked for.

        Raises:
            UsageError: one of them is missing.
        """
        return replace(super().prepare(config, examples), languages=named(config))

    @classmethod
    def unfold(cls, config: TranslationConfig, examples: Sequence[Example]) -> Sequence[Example]:
        """Each pair the other way round, too, where both directions are learnt."""
        return list(both_ways(examples, *config.languages)) if config.directions == "both" else examples

    @classmethod
    def extra_tokens(cls, config: TranslationConfig) -> list[str]:
        """The tags of the languages, likewise."""
        return [tag(language) for language in config.languages] if config.directions == "both" else []

    @property
    def in_languages_of_data(self) -> bool:
        """Whether it translates as its data did, and not between others of the languages that a model may know."""
        languages = self.config.languages
        return self.config.directions == "both" or not languages or list(self._rows.way) == languages

    def encode(self, example: Example) -> Features:
        """Parts of the source, each with special tokens, one after the other; with a target a single part and labels.

        ``source`` and ``target`` are the texts as bytes, which scores and answers need, ``places`` where in the source
        the parts stand, and ``whole`` says whether it is read in one part without a target, too.
        """
        from nlpkit_translation.segments import as_bytes, is_one_line, places, segments

        rows, source, target = self._rows, example["source"], example.get("target")
        language = example.get(ASKED, rows.way[1])
        ids, parts = rows.source(source, language), [(source, "")]
        whole = len(ids) <= rows.longest and is_one_line(source)
        found = [rows.cut(ids)]
        if target is None and not whole:
            parts = segments(source, rows.fits)
            found = [rows.cut(rows.source(part, language)) for part, _ in parts]
        features: Features = {
            "input_ids": [i for row in found for i in row],
            "parts": [len(row) for row in found],
            "places": places(parts),
            "whole": int(whole),
            "source": as_bytes(source),
        }
        if target is not None:
            features["labels"] = rows.target(target)
            features["target"] = as_bytes(target)
        return features

    def lengths(self, features: Features) -> tuple[int, ...]:
        """Tokens of the source as its parts are padded, and of the target where there is one."""
        source = len(features["parts"]) * max(features["parts"])
        return (source, len(features["labels"])) if "labels" in features else (source,)

    def collate(self, features: Sequence[Features]) -> Batch:
        """Rows (R, L) of the parts of B texts, which have ``parts`` (B,) each; labels (B, T), where R is B.

        ``places`` (B, 2 * P) are padded like all that is of a text, and ``whole`` (B,) is 0 or 1.
        """
        rows: list[Features] = []
        for feature in features:
            ends = [0, *accumulate(feature["parts"])]
            rows += [
                {"input_ids": feature["input_ids"][a:b], "attention_mask": [1] * (b - a)} for a, b in pairwise(ends)
            ]
        texts = [{k: list(v) for k, v in f.items() if k in _OF_TEXTS} for f in features]
        counts = [{"parts": len(feature["parts"]), "whole": feature["whole"]} for feature in features]
        return {**super().collate(rows), **super().collate(texts), **super().collate(counts)}

    def build_head(self, backbone: PretrainedConfig) -> Head:
        """The decoder of the backbone's own class, or a new one behind an encoder.

        Raises:
            ModelError: the backbone is a decoder, or its tokenizer does not say where a text begins and ends.
            UsageError: a width that no decoder can have, or an engine that does not know the family.
        """
        from nlpkit.heads import parts_of
        from nlpkit_translation.conversion import check_possible
        from nlpkit_translation.decoder import completed
        from nlpkit_translation.head import Search, TranslationHead

        config, rows = self.config, self._rows
        whole = completed(backbone, config, self.tokenizer, rows)
        if config.engine != "torch":
            check_possible(whole.model_type)
        search = Search(config.beam, config.length_penalty, rows.longest - 1, rows.begin)
        starts = rows.frame if len(parts_of(whole)) > 1 else rows.frame[:1]  # one that learnt by clm, with the end
        begun = len(rows.frame) > 1 and getattr(whole, "decoder_start_token_id", None) in starts
        return TranslationHead(whole, search, config.label_smoothing, begun=begun)

    def start(self, head: Head, backbone: PretrainedConfig) -> list[str]:
        """Give the new decoder the weights of the one that ``decoder`` names.

        Raises:
            UsageError: there is no new decoder, or an engine is asked for that does not know the head.
            ModelError: not all of its tensors are there, or others are.
        """
        from nlpkit_translation.decoder import begin

        self._check_engine(head)
        return begin(head, backbone, self.config)

    def ready(self, model: Loaded, folder: Path, dev: Callable[[], Sequence[Example]]) -> None:
        """Let another engine write, where ``engine`` says so, and say how it agrees with torch."""
        self._check_engine(model.head)
        if self.config.engine != "torch":
            from nlpkit_translation.agreement import check
            from nlpkit_translation.engine import Engine

            head: Any = model.head
            engine = Engine(folder, self.tokenizer, head.search, int8=self.config.engine == "ct2-int8")
            check(engine, model, folder, dev)
            head.engine = engine

    def _check_engine(self, head: Head) -> None:
        from nlpkit_translation.head import TranslationHead

        if self.config.engine != "torch" and not isinstance(head, TranslationHead):
            raise UsageError(f"--engine {self.config.engine} knows no head of another plugin", "--engine torch")

    def build_metrics(self) -> MetricCollection:
        """BLEU and chrF as sacreBLEU has them, and numbers of faults that need no reference."""
        from torchmetrics import MetricCollection

        from nlpkit_translation.metrics import SCORERS, CorpusScore, Faults, ScoreByDirection

        scores: dict[str, Metric] = {name: CorpusScore(SCORERS[name]()) for name in ("bleu", "chrf")}
        if self.config.directions == "both":
            ways = ["-".join(languages) for languages in (self.config.languages, self.config.languages[::-1])]
            scores = {name: ScoreByDirection(name, ways) for name in scores}
        return MetricCollection({**scores, "faults": Faults()}, compute_groups=False)

    def about_scores(self) -> dict[str, str]:
        """The signatures of sacreBLEU, and the direction where it is the only one and has a name."""
        from nlpkit_translation.metrics import SCORERS, signature

        way = (
            {"direction": " -> ".join(self._rows.way)}
            if self.config.directions == "one" and all(self._rows.way)
            else {}
        )
        return way | {name: signature(name) for name in ("bleu", "chrf", *self.config.metrics) if name in SCORERS}

    def as_predicted(self, batch: Batch) -> Iterator[tuple[Batch, Batch]]:
        """Sources that are read whole as they are; the others beside their parts, as without a target."""
        whole = batch["whole"].bool()
        if whole.all():
            yield batch, batch
            return
        for chosen in (whole, ~whole):
            if chosen.any():
                part = {key: values[chosen] for key, values in batch.items()}
                yield part, part if part["whole"].all() else {**part, **self._in_parts(part)}

    def _in_parts(self, batch: Batch) -> Batch:
        pairs = zip(_texts(batch["source"]), self._asked_for(batch), strict=True)
        new = [self.encode(Example({"source": source, ASKED: language})) for source, language in pairs]
        return {key: values.to(batch["source"].device) for key, values in self.collate(new).items()}

    def compare(self, predictions: Any, batch: Batch) -> tuple[Any, ...]:
        """Translations, references, sources, whether each came to its end, and its direction where there are two."""
        sources, ended = _texts(batch["source"]), _all_of(predictions["ended"].tolist(), batch["parts"].tolist())
        return self._written(predictions, batch), _texts(batch["target"]), sources, ended, self._ways(batch)

    def _ways(self, batch: Batch) -> list[str]:
        """The direction of each text; none where there is only one."""
        if self.config.directions == "one":
            return []
        source_of = dict(zip(self.config.languages[::-1], self.config.languages, strict=True))
        return [f"{source_of[target]}-{target}" for target in self._asked_for(batch)]

    def _asked_for(self, batch: Batch) -> list[str]:
        """The language that each text is to be written in, by the tag of its first part where there are tags."""
        first = batch["parts"].cumsum(0) - batch["parts"]
        return self._rows.languages(batch["input_ids"][first])

    def decode(self, predictions: Any, batch: Batch) -> list[dict[str, Any]]:
        """The translation of each text."""
        return [{"target": text} for text in self._written(predictions, batch)]

    def _written(self, predictions: Any, batch: Batch) -> list[str]:
        """Translations of the parts of each text, with what stood around these."""
        from nlpkit_translation.segments import filled

        ids = [
            row[:length]
            for row, length in zip(predictions["ids"].tolist(), predictions["lengths"].tolist(), strict=True)
        ]
        if self._rows.begin is not None:  # M2M100 may not know that its languages are special tokens
            ids = [row[1:] if row[:1] == [self._rows.begin] else row for row in ids]
        said = iter(self.tokenizer.batch_decode(ids, skip_special_tokens=True))
        texts = zip(_unpadded(batch["source"]), _unpadded(batch["places"]), strict=True)
        return [filled(bytes(source), places, said) for source, places in texts]


def _unpadded(rows: Tensor) -> list[list[int]]:
    """Rows (B, N) that are padded with -1."""
    return [[n for n in row if n >= 0] for row in rows.tolist()]


def _texts(rows: Tensor) -> list[str]:
    """Texts from their bytes (B, N), padded with -1."""
    return [bytes(row).decode() for row in _unpadded(rows)]


def _all_of(values: Sequence[bool], counts: Sequence[int]) -> list[bool]:
    """Whether all of each group are true."""
    ends = [0, *accumulate(counts)]
    return [all(values[a:b]) for a, b in pairwise(ends)]


@hookimpl
def nlpkit_tasks() -> list[type[Task[Any]]]:
    """Register translation."""
    return [Translation]


@hookimpl
def nlpkit_metrics() -> Mapping[str, Callable[[Task[Any]], Metric]]:
    """Further scores of translations, for ``task.metrics=[bleu_lowercase]``."""

    def bleu_lowercase(task: Task[Any]) -> Metric:
        from nlpkit_translation.metrics import SCORERS, CorpusScore

        return CorpusScore(SCORERS["bleu_lowercase"]())

    return {"bleu_lowercase": bleu_lowercase}


@hookimpl
def nlpkit_datasets() -> Mapping[str, Dataset]:
    """The readers, and the sample that ``nlpkit fit --task translation`` runs on when it is given no data."""
    return DATASETS
