"""Translation: what one text says, in another language."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from nlpkit import Batch, Dataset, Example, Features, Field, Task, TaskConfig, hookimpl
from nlpkit.errors import UsageError
from nlpkit_translation.datasets import DATASETS
from nlpkit_translation.directions import ASKED, asked, both_ways, named, tag
from nlpkit_translation.filters import Filters, keep
from nlpkit_translation.sides import FIELDS

if TYPE_CHECKING:
    from torch import Tensor
    from torchmetrics import Metric, MetricCollection
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from nlpkit import Head
    from nlpkit.bundle import Loaded

_OF_TEXTS = ("labels", "source", "target", "places")
"""Lists among the features that have one row for each text."""


@dataclass
class TranslationConfig(TaskConfig):
    """Settings of translation."""

    beam: int = field(default=1, metadata={"at_least": 1, "at_prediction": True})
    """Translations that are followed at a time: 1 is fastest, 5 is usual."""
    length_penalty: float = field(default=1.0, metadata={"at_prediction": True})
    """Above 1 favours longer translations, below 1 shorter ones; for a beam of 2 or more."""
    label_smoothing: float = field(default=0.1, metadata={"at_least": 0, "below": 1})
    """Share of each target token that is spread over the vocabulary in training (Szegedy et al. 2016)."""
    engine: Literal["torch", "ct2", "ct2-int8"] = field(default="torch", metadata={"at_prediction": True})
    """What a finished model computes with: torch, or CTranslate2 (the extra ct2), in 8 bits on request."""
    source_language: str = field(default="", metadata={"at_prediction": True})
    """Language of the sources: en, or as a model of many languages calls it, such as eng_Latn."""
    target_language: str = field(default="", metadata={"at_prediction": True})
    """Likewise of the translations."""
    directions: Literal["one", "both"] = "one"
    """both: a new model learns each pair the other way round, too; a tag before a source says what to write."""
    languages: list[str] = field(default_factory=list)
    """Of the source and the target of the data; kept by fit from what names them."""
    prefix: str = field(default="", metadata={"at_prediction": True})
    """What is put before each source, as T5 was taught: ``translate English to German:`` and a space."""
    decoder_layers: int = field(default=0, metadata={"at_least": 0})
    """Layers of the new decoder behind an encoder that comes without one; 0: as many as the encoder has, 4 at most."""
    decoder_width: int = field(default=0, metadata={"at_least": 0})
    """Width of such a decoder, a multiple of 64; 0: that of the encoder."""
    decoder: str = ""
    """Run of clm, of a GPT-2 with the encoder's vocabulary, from which such a decoder starts; empty: it is made new."""
    filters: Filters = field(default_factory=Filters)
    """Which pairs are left out of the training data."""


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
        from nlpkit_translation.languages import sides

        super().__init__(config, tokenizer)
        self._source, self._target, self._begin = sides(tokenizer, config.source_language, config.target_language)
        self._frame = self._source("")
        self._way, self._tags = asked(config, tokenizer)
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
        return self.config.directions == "both" or not languages or list(self._way) == languages

    def encode(self, example: Example) -> Features:
        """Parts of the source, each with special tokens, one after the other; with a target a single part and labels.

        ``source`` and ``target`` are the texts as bytes, which scores and answers need, ``places`` where in the source
        the parts stand, and ``whole`` says whether it is read in one part without a target, too.
        """
        from nlpkit_translation.segments import as_bytes, is_one_line, places, segments

        source, target, language = example["source"], example.get("target"), example.get(ASKED, self._way[1])
        ids, parts = self._of_source(source, language), [(source, "")]
        whole = len(ids) <= self._longest and is_one_line(source)
        rows = [self._cut(ids)]
        if target is None and not whole:
            parts = segments(source, self._fits)
            rows = [self._cut(self._of_source(part, language)) for part, _ in parts]
        features: Features = {
            "input_ids": [i for row in rows for i in row],
            "parts": [len(row) for row in rows],
            "places": places(parts),
            "whole": int(whole),
            "source": as_bytes(source),
        }
        if target is not None:
            features["labels"] = self._cut(self._target(target))
            features["target"] = as_bytes(target)
        return features

    def _of_source(self, text: str, language: str) -> list[int]:
        """Ids of a source, with the tag of the language that is asked for before its text, if there is one."""
        ids = self._source(self.config.prefix + text)
        if self._tags:
            ids.insert(self._place, self._tags[language])
        return ids

    @property
    def _place(self) -> int:
        """Where a text begins."""
        return max(0, len(self._frame) - 1)

    def _cut(self, ids: list[int]) -> list[int]:
        """``max_length`` tokens at most: what is left out stands before the end."""
        return ids if len(ids) <= self._longest else [*ids[: self._longest - 1], ids[-1]]

    @property
    def _longest(self) -> int:
        return self.config.max_length or 256

    def _fits(self, text: str) -> bool:
        return len(self._of_source(text, self._way[1])) <= self._longest

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
        from nlpkit.heads import is_encoder_decoder, parts_of
        from nlpkit_translation.conversion import check_possible
        from nlpkit_translation.head import Search, TranslationHead

        config, whole = self.config, backbone if is_encoder_decoder(backbone) else self._with_decoder(backbone)
        if config.engine != "torch":
            check_possible(whole.model_type)
        search = Search(config.beam, config.length_penalty, self._longest - 1, self._begin)
        starts = self._frame if len(parts_of(whole)) > 1 else self._frame[:1]  # one that learnt by clm, with the end
        begun = len(self._frame) > 1 and getattr(whole, "decoder_start_token_id", None) in starts
        return TranslationHead(whole, search, config.label_smoothing, begun=begun)

    def _with_decoder(self, encoder: PretrainedConfig) -> PretrainedConfig:
        from nlpkit import decoders
        from nlpkit.backbone import with_decoder

        config, layers, width = self.config, self.config.decoder_layers, self.config.decoder_width
        if width % 64:
            raise UsageError(f"task.decoder_width is {width}, expected a multiple of 64", "task.decoder_width=256")
        if config.decoder and (layers or width):
            name = "layers" if layers else "width"
            raise UsageError(f"task.decoder has its own sizes, and task.decoder_{name} is set", "leave one of them out")
        given = decoders.read(config.decoder, self.tokenizer, self._frame) if config.decoder else None
        sizes = {"layers": layers, "width": width, "positions": self._longest}
        return with_decoder(encoder, self.tokenizer, self._frame, **sizes, given=given)

    def start(self, head: Head, backbone: PretrainedConfig) -> list[str]:
        """Give the new decoder the weights of the one that ``decoder`` names.

        Raises:
            UsageError: there is no new decoder, or an engine is asked for that does not know the head.
            ModelError: not all of its tensors are there, or others are.
        """
        from nlpkit import decoders
        from nlpkit.heads import is_encoder_decoder

        self._check_engine(head)
        if not self.config.decoder:
            return []
        if is_encoder_decoder(backbone):
            raise UsageError(
                f"task.decoder is put behind an encoder, and {backbone.model_type} has a decoder already",
                "give an encoder with --from, or leave it out",
            )
        model: Any = head
        decoders.start(self.config.decoder, model)
        return [self.config.decoder]

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

        way = {"direction": " -> ".join(self._way)} if self.config.directions == "one" and all(self._way) else {}
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
        languages = {number: language for language, number in self._tags.items()}
        first = batch["parts"].cumsum(0) - batch["parts"]
        numbers = batch["input_ids"][first, self._place].tolist()
        return [languages.get(number, self._way[1]) for number in numbers]

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
        if self._begin is not None:  # M2M100 may not know that its languages are special tokens
            ids = [row[1:] if row[:1] == [self._begin] else row for row in ids]
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
