"""Denoising: write the spans that were cut out of a text (T5, Raffel et al. 2020)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from nlpkit.errors import ModelError, UsageError
from nlpkit.hookspecs import hookimpl
from nlpkit.objectives.corruption import Corruption
from nlpkit.objectives.objective import Objective
from nlpkit.task import Batch, Features, Task, TaskConfig

if TYPE_CHECKING:
    from torchmetrics import MetricCollection
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from nlpkit.heads import Head


@dataclass
class DenoiseConfig(TaskConfig):
    """Settings of denoise."""

    rate: float = field(default=0.15, metadata={"above": 0, "below": 1})
    """Share of the tokens that are cut out."""
    mean_span: float = field(default=3.0, metadata={"at_least": 1})
    """Tokens of a span, on average."""


class Denoise(Objective[DenoiseConfig]):
    """Write the spans that were cut out of a text: the objective for encoder-decoders, which translate later."""

    name = "denoise"
    config_class = DenoiseConfig
    score = "loss"
    reads_and_writes = True
    special_tokens: ClassVar[tuple[str, ...]] = ("pad_token", "eos_token")
    defaults: ClassVar[dict[str, Any]] = {
        **Objective.defaults,
        "optim.learning_rate": None,  # for T5 ten times that for M2M100
        "model.family": "t5",
        "model.tokenizer": "bpe",
        "model.lowercase": False,
    }

    @classmethod
    def lacking(cls, tokenizer: PreTrainedTokenizerBase) -> str:
        """Besides the ends of texts, sentinels."""
        from nlpkit.tokenizer import SENTINELS, sentinels

        return super().lacking(tokenizer) or ("" if sentinels(tokenizer) else f"has no {SENTINELS[0]}")

    @functools.cached_property
    def corruption(self) -> Corruption:
        """Cuts spans out of the rows of a batch.

        Raises:
            ModelError: the tokenizer has no sentinels.
            UsageError: it has fewer than the settings cut spans.
        """
        from nlpkit.tokenizer import sentinels

        known = sentinels(self.tokenizer)
        if not known:
            raise ModelError(
                "the tokenizer has no <extra_id_0>, which stands in the place of a span",
                "start from a T5, or leave out --from for a new model",
            )
        end = self.tokenizer.sep_token_id if self.tokenizer.eos_token_id is None else self.tokenizer.eos_token_id
        corruption = Corruption(self.config.rate, self.config.mean_span, known, end)
        length = corruption.longest(self._room)
        if (spans := corruption.cut(length)[1]) > len(known):
            raise UsageError(
                f"{spans} spans are cut out of {length} tokens, and the tokenizer has {len(known)} sentinels for them",
                "a larger task.mean_span, or a smaller task.rate or task.max_length",
            )
        return corruption

    @property
    def _room(self) -> int:
        return self.config.max_length or 512

    @property
    def overhead(self) -> int:
        """Below zero: a stretch is longer than the input that is left of it."""
        return self._room - self.corruption.longest(self._room)

    def scores_of_frequencies(self, entropy: float) -> dict[str, float]:
        """That of the words in a target, whose sentinels and end can be known for certain."""
        length = self.corruption.longest(self._room)
        return {"loss": entropy * self.corruption.cut(length)[0] / self.corruption.lengths(length)[1]}

    def check_architecture(self, backbone: PretrainedConfig) -> None:
        """Besides the family, that there are sentinels."""
        super().check_architecture(backbone)
        assert self.corruption

    def encode_tokens(self, tokens: Sequence[int]) -> Features:
        """The tokens, whole; `collate` cuts."""
        return {"input_ids": list(tokens)}

    def collate(self, features: Sequence[Features]) -> Batch:
        """Cut spans out of each row by its own seed: inputs (B, L) and the spans as labels (B, T)."""
        from nlpkit.randomness import seed_of

        rows: list[Features] = []
        for feature in features:
            tokens = feature["input_ids"]
            inputs, targets = self.corruption.corrupt(tokens, feature.get("seed", seed_of(*tokens)))
            rows.append({"input_ids": inputs, "labels": targets})
        return super().collate(rows)

    def build_head(self, backbone: PretrainedConfig) -> Head:
        """The decoder of the backbone's own class, with its projection."""
        from nlpkit.objectives.sequence_head import SequenceHead

        return SequenceHead(backbone)

    def build_metrics(self) -> MetricCollection:
        """Accuracy of the tokens of the target, perplexity."""
        from torchmetrics import MetricCollection

        from nlpkit.objectives.language_scores import LanguageScores

        return MetricCollection({"language": LanguageScores()})

    def compare(self, predictions: Any, batch: Batch) -> tuple[Any, ...]:
        """Guesses, nats and answers of the target, (N,) each."""
        guesses, nats = predictions
        real = batch["labels"] != -100
        return guesses[real], nats[real], batch["labels"][real]

    def decode(self, predictions: Any, batch: Batch) -> list[dict[str, Any]]:
        """The text of each row, with what the model would write in the place of each span."""
        rows = []
        for inputs, targets, guesses in zip(batch["input_ids"], batch["labels"], predictions[0], strict=True):
            real = (targets != -100).nonzero().flatten()[:-1]  # without the end
            rows.append(self.corruption.fill(*(ids.tolist() for ids in (inputs, targets[real], guesses[real]))))
        return super().decode(rows, batch)


@hookimpl
def nlpkit_tasks() -> list[type[Task[Any]]]:
    """Register denoise."""
    return [Denoise]
