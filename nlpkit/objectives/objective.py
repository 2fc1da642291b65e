"""What all objectives share: they read blocks of a token store as well as texts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from nlpkit.task import TEXT_COLUMNS, Batch, Example, Features, Field, Task, TaskConfig

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from nlpkit.data import Samples
    from nlpkit.token_store import View


@dataclass
class PackingConfig(TaskConfig):
    """Settings of objectives that read stretches of a token store."""

    packing: Literal["stream", "apart"] = "stream"
    """How documents share a row: in a stream that is cut at its length, or whole and each as if it stood alone."""


ObjectiveConfigT = TypeVar("ObjectiveConfigT", bound=TaskConfig)


def weighted(objective: str) -> tuple[str, tuple[str, ...]]:
    """Take ``mlm:0.8+nsp:0.2`` apart: the name ``mlm+nsp``, and the settings that its weights stand for."""
    parts = [part.partition(":") for part in objective.split("+")]
    settings = [f"task.{name}_weight={weight}" for name, colon, weight in parts if colon]
    return "+".join(name for name, _, _ in parts), tuple(settings)


class Objective(Task[ObjectiveConfigT], Generic[ObjectiveConfigT]):
    """A task of the pre-training stage. Subclasses write `encode_tokens` in place of ``encode``."""

    stage: ClassVar[Literal["pretrain", "finetune"]] = "pretrain"
    seeded: ClassVar[bool] = True
    defaults: ClassVar[dict[str, Any]] = {
        "optim.name": "muon",
        "optim.learning_rate": 1e-3,
        "optim.muon_learning_rate": 0.014,
        "optim.schedule": "wsd",
        "optim.warmup": 0.05,
        "data.dev_share": 0.02,
    }
    reads_and_writes: ClassVar[bool] = False
    """Whether it is for models of an encoder and a decoder; one is refused where the other is needed."""
    both_sides: ClassVar[bool] = False
    """Whether it is for models that read a text from both sides; a decoder is refused."""
    generates: ClassVar[bool] = False
    """Whether its models write, so that texts may begin with what they can be asked for (``data.control``)."""
    special_tokens: ClassVar[tuple[str, ...]] = ()
    """Special tokens that it cannot do without, by transformers' names for them."""
    fields: ClassVar[dict[str, Field]] = {"text": Field(TEXT_COLUMNS)}

    def samples(self, view: View, length: int) -> Samples:
        """Samples of a token store; here equal blocks of it, or rows of whole documents where ``packing`` says so.

        Args:
            view: documents.
            length: tokens of a sample, special ones included, at most.

        Raises:
            DataError: the documents make no sample.
        """
        from nlpkit.objectives.blocks import Blocks
        from nlpkit.objectives.rows import Rows

        return Rows(view, self, length) if self.keeps_apart else Blocks(view, self, length)

    @property
    def keeps_apart(self) -> bool:
        """Whether the documents of a row are read as if each stood alone."""
        return isinstance(self.config, PackingConfig) and self.config.packing == "apart"

    @abstractmethod
    def encode_tokens(self, tokens: Sequence[int]) -> Features:
        """Features of a stretch of token ids without special tokens at its start."""

    @property
    @abstractmethod
    def overhead(self) -> int:
        """Tokens that `encode_tokens` adds to a stretch."""

    def scores_of_frequencies(self, entropy: float) -> dict[str, float]:
        """What a model would score that knows how frequent each word is and no more; empty: no score is that of words.

        Args:
            entropy: of the words, in nats.
        """
        return {"loss": entropy}

    def scores_of_chance(self) -> dict[str, float]:
        """What a model would score that tosses a coin; empty: nothing is answered with one of two."""
        return {}

    @classmethod
    def lacking(cls, tokenizer: PreTrainedTokenizerBase) -> str:
        """What a tokenizer lacks of the special tokens that the objective needs, in words; empty: nothing."""
        if missing := [role for role in cls.special_tokens if getattr(tokenizer, role) is None]:
            return f"has no {' and no '.join(missing)}"
        from nlpkit.plain_text import plain_backend

        begins = plain_backend(tokenizer).encode("", add_special_tokens=True).ids[:1]
        if "cls_token" in cls.special_tokens and begins != [tokenizer.cls_token_id]:
            return f"puts no {tokenizer.cls_token} before a text"
        return ""

    def check_architecture(self, backbone: PretrainedConfig) -> None:
        """Refuse a family that the objective is not for; called before any work.

        Raises:
            ModelError: an encoder-decoder where it is not one, or a decoder, or an encoder; or the other way round.
        """
        from nlpkit.errors import ModelError
        from nlpkit.heads import has_causal_class, is_decoder, is_encoder_decoder

        if is_encoder_decoder(backbone) and not self.reads_and_writes:
            raise ModelError(
                f"{backbone.model_type} has an encoder and a decoder, of which {self.name} trains only one",
                "--objective denoise; for mlm or nsp model.family=bert, for clm model.family=gpt2",
            )
        if self.reads_and_writes and not is_encoder_decoder(backbone):
            raise ModelError(
                f"{backbone.model_type} is no encoder with a decoder, which {self.name} needs",
                "model.family=t5 or m2m100; for an encoder --objective mlm, for a decoder --objective clm",
            )
        if self.both_sides and is_decoder(backbone):
            raise ModelError(
                f"{backbone.model_type} is a decoder, and {self.name} is for an encoder",
                "--objective clm; for a new model model.family=bert",
            )
        if self.generates and not has_causal_class(backbone):
            raise ModelError(
                f"{backbone.model_type} is an encoder, and {self.name} is for a decoder",
                "--objective mlm; for a new model leave out --from, or model.family=gpt2",
            )

    def check_backbone(self, backbone: PreTrainedModel) -> None:
        """Refuse a body that would learn nothing by this objective, or cannot keep documents apart where it is to.

        Called before training.

        Raises:
            ModelError: saying why.
        """
        if self.keeps_apart:
            from nlpkit.apart import Apart

            Apart(backbone)

    def collate(self, features: Sequence[Features]) -> Batch:
        """Pad rows (B, L); a mask only where they differ in length."""
        rows: list[Features] = [{k: v for k, v in f.items() if k != "seed"} for f in features]
        if len({len(row["input_ids"]) for row in rows}) > 1:
            rows = [{**row, "attention_mask": [1] * len(row["input_ids"])} for row in rows]
        return super().collate(rows)

    def encode(self, example: Example) -> Features:
        """Features of a text, cut at ``max_length``."""
        from nlpkit.plain_text import token_ids

        most = (self.config.max_length or 512) - self.overhead
        return self.encode_tokens(token_ids(self.tokenizer, example["text"])[:most])

    def decode(self, predictions: Any, batch: Any) -> list[dict[str, Any]]:
        """The text of each row, with what the model would put in the hidden places."""
        return [{"text": self.tokenizer.decode(row, skip_special_tokens=True)} for row in predictions]
