"""The tensor side of a task: hidden states to logits, loss and predictions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
import transformers
from torch import Tensor, nn
from transformers import EncoderDecoderConfig, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndCrossAttentions

from nlpkit.errors import ModelError
from nlpkit.owners import fed_by
from nlpkit.task import Batch

_BY_FIRST = {
    "BertForSequenceClassification",
    "RobertaForSequenceClassification",
    "XLMRobertaForSequenceClassification",
    "ElectraForSequenceClassification",
    "BertForNextSentencePrediction",
}


class Head(nn.Module, ABC):
    """Hidden states to logits, loss and predictions. B batch, L length, D width, C classes."""

    searches: ClassVar[bool] = False
    """Whether predictions are searched for, token by token: training scores the loss alone, and all at its end."""

    engine: Callable[[Batch], Any] | None = None
    """What gives the predictions of a batch in place of backbone and head; set by `Task.ready`."""

    @property
    def by_rows(self) -> bool:
        """Whether the loss is a sum of what each row adds by itself, divided by `count`: then it may be parted."""
        return False

    @abstractmethod
    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Map hidden states (B, L, D) to logits (..., C)."""

    @fed_by("collate", "encode")
    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross entropy of ``batch["labels"]`` in nats, averaged; labels of -100 do not count.

        Raises:
            ValueError: there is not one label for each row of logits.
        """
        labels = batch["labels"].reshape(-1)
        rows = logits.reshape(-1, logits.size(-1)).float()
        if len(rows) != len(labels):
            shapes = f"logits {tuple(logits.shape)} for labels {tuple(batch['labels'].shape)}"
            raise ValueError(f"{shapes}: cross entropy takes one label a row; for anything else write Head.loss")
        total = nn.functional.cross_entropy(rows, labels, reduction="sum")
        return total / (labels != -100).sum().clamp(min=1)

    def loss_from(self, hidden: Tensor, batch: Batch) -> Tensor:
        """The loss from hidden states (B, L, D); for heads whose loss needs less than all logits."""
        return self.loss(self(hidden, batch), batch)

    def terms(self, hidden: Tensor, batch: Batch) -> list[tuple[Tensor, int]]:
        """The same as means that add up to it, 32 at most, each with its `count`: so several processes are as one."""
        return [(self.loss_from(hidden, batch), self.count(batch))]

    @fed_by("collate", "encode")
    def count(self, batch: Batch) -> int:
        """What `loss` is the mean of: labels where there are any, else examples. A batch weighs as much in many."""
        labels = batch.get("labels")
        return len(next(iter(batch.values()))) if labels is None else int((labels != -100).sum())

    @fed_by("collate", "encode")
    def predict(self, hidden: Tensor, batch: Batch) -> Any:
        """Class probabilities (..., C)."""
        return self(hidden, batch).float().softmax(-1)

    def in_groups(self, batch: Batch, predict: Callable[[Batch], Any]) -> Any:
        """What ``predict`` gives of a batch; a head whose rows may be very many asks it for some at a time."""
        return predict(batch)

    def scored(self, hidden: Tensor, batch: Batch) -> tuple[list[tuple[Tensor, int]], Any]:
        """`terms` and `predict`; for heads in which these share their work. It must give what they give."""
        return self.terms(hidden, batch), self.predict(hidden, batch)

    def places(self, batch: Batch) -> Tensor | None:
        """Where the head reads, true in (B, L); hidden states may be 0 elsewhere. None: everywhere."""
        return None

    def tie(self, backbone: PreTrainedModel) -> None:
        """Share weights with the backbone, where the head does."""

    @property
    def takes_pooler(self) -> bool:
        """Whether the pooler of the body is a part of it."""
        return False

    def adopt_pooler(self, body: PreTrainedModel) -> None:
        """Take the pooler out of a body, and over where the head has one."""
        detach_pooler(body)


class TransformersHead(Head):
    """The head of a transformers class, so that the saved folder opens in that class with equal outputs.

    The class is built from the backbone's configuration and everything but its body is kept. BERT's pooler counts
    as a part of the head, and so does a decoder behind an encoder: hidden states are all that a head receives. A
    subclass may have further modules: the saved folder keeps their weights beside the class's.

    Args:
        auto_class: name of the class, such as ``AutoModelForSequenceClassification``.
        backbone: configuration of the backbone; of two models that are joined the encoder alone is taken where
            transformers has the class for it only.
        settings: what the class needs besides, such as ``id2label``; written to the saved config.json.

    Raises:
        ModelError: transformers has no such class for the backbone's family, or the configuration of an
            encoder-decoder does not say what the decoder begins with.
    """

    def __init__(self, auto_class: str, backbone: PretrainedConfig, **settings: Any) -> None:
        super().__init__()
        classes = getattr(transformers, auto_class)._model_mapping
        if type(backbone) not in classes and type(body_config(backbone)) in classes:
            backbone = body_config(backbone)
        if type(backbone) not in classes:
            raise ModelError(
                f"{backbone.model_type}: transformers has no {auto_class.removeprefix('Auto')} of this family",
                "choose another model, or model.family for a new one",
            )
        if is_encoder_decoder(backbone) and getattr(backbone, "decoder_start_token_id", None) is None:
            raise ModelError(
                "config.json has no decoder_start_token_id, the token that the decoder begins with",
                "set it in config.json: to pad_token_id for a T5, to eos_token_id for an M2M100",
            )
        self.auto_class = auto_class
        self.config = type(backbone)(**{**backbone.to_dict(), **settings})
        self.model: PreTrainedModel = getattr(transformers, auto_class).from_config(self.config, dtype=torch.float32)
        body = body_of(self.model)
        self._body = _name_of(self.model, body)
        self._output = _name_of(self.model, self.model.get_output_embeddings())
        self._keep_head_of(self.model, body)

    @fed_by("collate", "encode")
    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Run the class on given hidden states (B, L, D); returns its logits."""
        ids = batch.get("input_ids")
        if ids is not None and is_encoder_decoder(self.config):
            ids = _with_one_end(ids, self.config)
        logits: Tensor = self._run(hidden, input_ids=ids, attention_mask=batch.get("attention_mask")).logits
        return logits

    def _run(self, hidden: Tensor, **inputs: Any) -> Any:
        """What the class gives, with hidden states (B, L, D) in place of those that its body would make."""
        body: Any = self.model.get_submodule(self._body)
        body.hidden = hidden
        try:
            return self.model(**inputs)
        finally:
            body.hidden = None

    @fed_by("collate", "encode")
    def places(self, batch: Batch) -> Tensor | None:
        """The first place, where that is what the class reads; a subclass may read others and says so itself."""
        if type(self) is not TransformersHead or not reads_first(self.model):
            return None
        first = torch.zeros_like(batch["input_ids"], dtype=torch.bool)
        first[:, 0] = True
        return first

    def tie(self, backbone: PreTrainedModel) -> None:
        """Share the backbone's embedding, where the class does: as output projection, as the decoder's embedding."""
        for name in self._tied:
            self.model.get_submodule(name).weight = backbone.get_input_embeddings().weight

    @property
    def output_embeddings(self) -> Any:
        """The projection to the vocabulary, if there is one; without its body the class itself may no longer know."""
        return self.model.get_submodule(self._output) if self._output else None

    def own_weights(self) -> dict[str, Tensor]:
        """The weights of a subclass that its class of transformers does not have, by name."""
        return {name: value for name, value in self.state_dict().items() if not name.startswith("model.")}

    def is_of(self, source: PretrainedConfig) -> bool:
        """Whether a model of this configuration may have the head's weights: the class joins it to nothing else."""
        return type(self.config) is type(source)

    def adopt(self, model: PreTrainedModel) -> None:
        """Take over the head's weights of a whole model of the same class."""
        self._keep_head_of(model, body_of(model))
        self.model = model

    @property
    def pooler(self) -> nn.Module | None:
        """The pooler of the class, if it has one."""
        stand_in: Any = self.model.get_submodule(self._body)
        pooler: nn.Module | None = stand_in.pooler
        return pooler

    @property
    def takes_pooler(self) -> bool:
        """Whether the class has one."""
        return self.pooler is not None

    def adopt_pooler(self, body: PreTrainedModel) -> None:
        """Take the pooler out of a body, and over where the class has one."""
        self.take_pooler(body, detach_pooler(body))

    def take_pooler(self, body: PreTrainedModel, pooler: nn.Module | None) -> None:
        """Have a pooler that was taken out of a body, where the class has one."""
        if pooler is not None and self.pooler is not None:
            self._stand_in_for(self.model, body, pooler)

    def _keep_head_of(self, model: PreTrainedModel, body: PreTrainedModel) -> None:
        if has_own_projection(model.config):
            _untie_projection(model)
        self._tied = _sharing(model, body)
        self._stand_in_for(model, body, detach_pooler(body))

    def _stand_in_for(self, model: PreTrainedModel, body: PreTrainedModel, pooler: nn.Module | None) -> None:
        if pooler is not None and is_encoder_decoder(model.config):
            pooler.requires_grad_(False)  # its class has one, and no decoder reads what it gives
        model.set_submodule(self._body, _Given(body.config, pooler))

    def assemble(self, backbone: PreTrainedModel) -> _Assembled:
        """The whole model, body and head, for the length of a ``with`` block."""
        self.tie(backbone)
        return _Assembled(self.model, self._body, backbone)


def is_as_made(head: Head, made: type[Head]) -> bool:
    """Whether nobody has given a head another loss or other logits, in a subclass or in this one object."""
    return type(head) is made and not any(map(callable, vars(head).values()))


class _Given(nn.Module):
    """Stands in for the body: returns the hidden states it was given, pooled where the body would."""

    main_input_name = "input_ids"  # which T5's classes ask their encoder for before they generate

    def __init__(self, config: PretrainedConfig, pooler: nn.Module | None) -> None:
        super().__init__()
        self.config, self.pooler = config, pooler
        self.hidden: Tensor | None = None

    def forward(self, *_: Any, **__: Any) -> BaseModelOutputWithPoolingAndCrossAttentions:
        hidden = self.hidden
        assert hidden is not None
        if self.pooler is None:
            return BaseModelOutputWithPoolingAndCrossAttentions(last_hidden_state=hidden)
        if isinstance(self.pooler, nn.Linear):  # ALBERT keeps its activation in the body
            return BaseModelOutputWithPoolingAndCrossAttentions(hidden, torch.tanh(self.pooler(hidden[:, 0])))
        return BaseModelOutputWithPoolingAndCrossAttentions(hidden, self.pooler(hidden))


class _Assembled:
    """Puts the backbone, with its pooler, into the head's class while the ``with`` block lasts."""

    def __init__(self, model: PreTrainedModel, prefix: str, backbone: PreTrainedModel) -> None:
        self.model, self.prefix, self.backbone = model, prefix, backbone
        self.stand_in: Any = model.get_submodule(prefix)

    def __enter__(self) -> PreTrainedModel:
        if self.stand_in.pooler is not None:
            self.backbone.pooler = self.stand_in.pooler
        self.model.set_submodule(self.prefix, self.backbone)
        return self.model

    def __exit__(self, *_: object) -> None:
        detach_pooler(self.backbone)
        self.model.set_submodule(self.prefix, self.stand_in)


def parts_of(config: PretrainedConfig) -> tuple[PretrainedConfig, ...]:
    """The configurations of the models that one is made of: itself, or of two that are joined encoder and decoder."""
    parts: Any = (config.encoder, config.decoder) if isinstance(config, EncoderDecoderConfig) else (config,)
    return tuple(parts)


def body_config(config: PretrainedConfig) -> PretrainedConfig:
    """The configuration of what makes hidden states in a model: its own, or of two that are joined the encoder's."""
    return parts_of(config)[0]


def vocabulary_of(config: PretrainedConfig) -> int:
    """Tokens that a model knows: it has an embedding for each, in all of its parts."""
    return min(part.vocab_size for part in parts_of(config))


def class_of(config: PretrainedConfig) -> Any:
    """The class of transformers that opens a model without a head; two that are joined never are without."""
    return transformers.AutoModel if len(parts_of(config)) == 1 else transformers.AutoModelForSeq2SeqLM


def is_encoder_decoder(config: PretrainedConfig) -> bool:
    """Whether a family has an encoder and a decoder, whatever a single configuration says of it."""
    return type(config) in transformers.AutoModelForSeq2SeqLM._model_mapping


def is_decoder(config: PretrainedConfig) -> bool:
    """Whether a family guesses the next word, and no hidden one."""
    return has_causal_class(config) and type(config) not in transformers.AutoModelForMaskedLM._model_mapping


def has_causal_class(config: PretrainedConfig) -> bool:
    """Whether transformers has a class of this family that guesses the next word; some encoders, as BERT, have one."""
    return type(config) in transformers.AutoModelForCausalLM._model_mapping


def body_of(model: PreTrainedModel) -> PreTrainedModel:
    """What makes hidden states in a model: of an encoder-decoder its encoder."""
    whole: Any = model
    return whole.get_encoder() if is_encoder_decoder(model.config) else whole.base_model


def has_own_projection(config: PretrainedConfig) -> bool:
    """Whether this is T5 1.1 or mT5, which have two matrices though transformers always says that they are one."""
    return config.model_type in {"mt5", "umt5"} or not getattr(config, "scale_decoder_outputs", True)


def _untie_projection(model: Any) -> None:
    output, given = model.get_output_embeddings(), model.get_input_embeddings()
    if output is not None and output.weight is given.weight:
        output.weight = nn.Parameter(output.weight.detach().clone())


def _sharing(model: PreTrainedModel, body: PreTrainedModel) -> list[str]:
    """Names of the modules outside of the body that share its embedding's weights."""
    weights, inside = body.get_input_embeddings().weight, set(body.modules())
    return [n for n, m in model.named_modules() if getattr(m, "weight", None) is weights and m not in inside]


def _with_one_end(ids: Tensor, config: PretrainedConfig) -> Tensor:
    """Token ids (B, L) with the last end of each row alone, where classifiers read: a text may spell out another."""
    ends = ids == config.eos_token_id
    last = ends & (ends.flip(1).cumsum(1).flip(1) == 1)
    return ids.masked_fill(ends & ~last, config.pad_token_id or 0)


def reads_first(model: PreTrainedModel) -> bool:
    """Whether a class is known to classify by the hidden state of [CLS] alone."""
    if type(model).__name__ == "ModernBertForSequenceClassification":
        return model.config.classifier_pooling == "cls"
    return type(model).__name__ in _BY_FIRST


def _name_of(model: nn.Module, part: nn.Module | None) -> str:
    return next((name for name, module in model.named_modules() if module is part), "") if part is not None else ""


def detach_pooler(body: nn.Module) -> nn.Module | None:
    """Take the pooler out of a body and return it; None where it has none."""
    pooler = getattr(body, "pooler", None)
    if isinstance(pooler, nn.Module):
        body.pooler = None  # type: ignore[assignment]
        return pooler
    return None
