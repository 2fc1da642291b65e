"""Causal language modelling: guess the next word (GPT, Radford et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from nlpkit.hookspecs import hookimpl
from nlpkit.objectives.objective import Objective, PackingConfig
from nlpkit.task import Batch, Features, Task

if TYPE_CHECKING:
    from torchmetrics import MetricCollection
    from transformers import PretrainedConfig, PreTrainedModel

    from nlpkit.heads import Head


@dataclass
class ClmConfig(PackingConfig):
    """Settings of clm."""


class Clm(Objective[ClmConfig]):
    """Guess the next word: the objective for decoders, which can then generate."""

    name = "clm"
    config_class = ClmConfig
    score = "loss"
    seeded = False
    generates = True
    special_tokens: ClassVar[tuple[str, ...]] = ("eos_token",)
    defaults: ClassVar[dict[str, Any]] = {
        **Objective.defaults,
        "model.family": "gpt2",
        "model.tokenizer": "bpe",
        "model.lowercase": False,
        "optim.learning_rate": 3e-3,
        "optim.muon_learning_rate": 0.02,
    }

    @property
    def overhead(self) -> int:
        """Nothing: what ends a document begins the next."""
        return 0

    def encode_tokens(self, tokens: Sequence[int]) -> Features:
        """The tokens; each place foretells the next."""
        return {"input_ids": list(tokens)}

    def check_backbone(self, backbone: PreTrainedModel) -> None:
        """Refuse a body that can see ahead: two inputs that differ in the last token must look alike before it.

        Raises:
            ModelError: they do not.
        """
        import torch

        from nlpkit.errors import ModelError

        super().check_backbone(backbone)
        size = backbone.config.vocab_size
        inputs = torch.arange(8).remainder(size).repeat(2, 1)  # (2, L)
        inputs[1, -1] = size - 1
        inputs, training = inputs.to(backbone.device), backbone.training
        with torch.no_grad():  # with a mask, because transformers warns of what may be padding
            output = backbone.eval()(input_ids=inputs, attention_mask=torch.ones_like(inputs))
        hidden = output.last_hidden_state[:, :-1]  # (2, L - 1, D)
        backbone.train(training)
        if not torch.allclose(hidden[0], hidden[1], atol=1e-4):
            raise ModelError(
                f"{backbone.config.model_type} can see the word that {self.name} asks it to guess",
                "model.family=gpt2 or llama; for an encoder --objective mlm",
            )

    def build_head(self, backbone: PretrainedConfig) -> Head:
        """The language-model head of the backbone's own class."""
        from nlpkit.objectives.causal_head import CausalHead

        return CausalHead(backbone)

    def build_metrics(self) -> MetricCollection:
        """Accuracy of the next token, perplexity, bits per byte."""
        from torchmetrics import MetricCollection

        from nlpkit.objectives.language_scores import LanguageScores
        from nlpkit.tokenizer_report import token_bytes

        return MetricCollection({"language": LanguageScores(token_bytes(self.tokenizer))})

    def compare(self, predictions: Any, batch: Batch) -> tuple[Any, ...]:
        """Guesses, nats and answers where there is a next token, (N,) each."""
        from nlpkit.objectives.causal_head import next_tokens

        guesses, nats = predictions
        answers = next_tokens(batch)
        real = answers != -100
        return guesses[real], nats[real], answers[real]

    def decode(self, predictions: Any, batch: Batch) -> list[dict[str, Any]]:
        """The likeliest next token at each place of each row, as text."""
        from nlpkit.objectives.causal_head import next_tokens

        real = next_tokens(batch) != -100
        rows = zip(predictions[0], real, strict=True)
        return [{"text": self.tokenizer.decode(row[places], skip_special_tokens=True)} for row, places in rows]


@hookimpl
def nlpkit_tasks() -> list[type[Task[Any]]]:
    """Register clm."""
    return [Clm]
