"""The head of denoise: a decoder over the hidden states of an encoder, with the vocabulary projection."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig

from nlpkit.errors import ModelError
from nlpkit.heads import body_config, is_as_made
from nlpkit.objectives.projected_head import ProjectedHead, alike
from nlpkit.task import Batch


class SequenceHead(ProjectedHead):
    """Logits of a text that is written token by token, each from the ones before it and the encoder's hidden states.

    ``batch["labels"]`` (B, T) holds the text, its end included.

    Args:
        backbone: configuration of an encoder-decoder.

    Raises:
        ModelError: its class does something else with the decoder's states than to project them.
    """

    def __init__(self, backbone: PretrainedConfig) -> None:
        super().__init__("AutoModelForSeq2SeqLM", backbone)
        self._scale = self._find_scale()

    @property
    def by_rows(self) -> bool:
        """As it is made."""
        return is_as_made(self, SequenceHead)

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Map hidden states of the encoder (B, L, D) to logits (B, T, V) of the class."""
        logits: Tensor = self._run(
            hidden,
            input_ids=batch.get("input_ids"),
            attention_mask=batch.get("attention_mask"),
            decoder_input_ids=self._before(self.answers(batch)),
            use_cache=False,
        ).logits
        return logits

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Mean cross entropy of the text in nats, from logits (B, T, V)."""
        return super().loss(logits, {"labels": self.answers(batch)})

    def answers(self, batch: Batch) -> Tensor:
        """The text."""
        return batch["labels"]

    def states(self, hidden: Tensor, batch: Batch) -> Tensor:
        """The decoder's states (B, T, D), as they are projected."""
        decoder: Any = self.model.get_decoder()  # of two models that are joined it has the projection
        narrowed: Any = getattr(self.model, "enc_to_dec_proj", None)  # where theirs are of different widths
        states = decoder.base_model(
            input_ids=self._before(self.answers(batch)),
            encoder_hidden_states=hidden if narrowed is None else narrowed(hidden),
            encoder_attention_mask=batch.get("attention_mask"),
            use_cache=False,
        ).last_hidden_state
        return self._scale * states

    def project(self, states: Tensor) -> Tensor:
        """Logits; BART and its like add a bias."""
        return self.output_embeddings(states) + getattr(self.model, "final_logits_bias", 0.0)

    def _before(self, text: Tensor) -> Tensor:
        """What the decoder reads (B, T): the token before each of the text."""
        before = text.roll(1, dims=1).masked_fill(text.roll(1, dims=1) == -100, self.config.pad_token_id or 0)
        before[:, 0] = self.config.decoder_start_token_id
        return before

    @torch.no_grad()
    def _find_scale(self) -> float:
        """What T5 multiplies states by, and others do not: whatever gives the logits of the class."""
        width = body_config(self.config).hidden_size
        hidden = torch.linspace(-1, 1, 3 * width).view(1, 3, -1)
        batch = {"input_ids": torch.ones(1, 3, dtype=torch.long), "labels": torch.ones(1, 2, dtype=torch.long)}
        self.eval()
        expected = self(hidden, batch)
        for scale in (1.0, width**-0.5):
            self._scale = scale
            if alike(self.project(self.states(hidden, batch)), expected):
                self.train()
                return scale
        raise ModelError(
            f"{self.config.model_type}: its class does more than to project what the decoder gives",
            "choose a model of another family, such as T5 or M2M100",
        )
