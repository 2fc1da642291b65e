"""What a run starts from, a trained model or nothing: tokenizer, architecture, body, and the length of its inputs."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path

from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from nlpkit import backbone, handover, tokenizer
from nlpkit.config import ModelConfig
from nlpkit.errors import DataError, ModelError, UsageError
from nlpkit.heads import Head, parts_of, vocabulary_of
from nlpkit.task import TaskConfig
from nlpkit.vetting import check_folder

log = logging.getLogger("nlpkit")


def tokenizer_of(source: str, hub: bool, slow: Mapping[str, tuple[str, ...]]) -> PreTrainedTokenizerBase | None:
    """The tokenizer of what the run starts from; that it is no model at all is said first.

    Args:
        source: a model folder, or with ``hub`` a name on the hub; empty: nothing.
        hub: whether the network may be used.
        slow: of `Task.slow_tokenizers`.
    """
    if not source:
        return None
    if Path(source).is_dir() or not hub:
        check_folder(Path(source), handover.ADD_HUB)
    return tokenizer.make_ready(tokenizer.load(source, hub, slow=slow))


def train_tokenizer(
    texts: Iterable[str], files: str, model: ModelConfig, special: Sequence[str] = ()
) -> PreTrainedTokenizerBase:
    """A tokenizer for a new model.

    Args:
        texts: to learn from.
        files: that they are of, for messages.
        model: settings.
        special: special tokens that its task needs beside those of the family.

    Raises:
        DataError: every text is empty.
    """
    texts = (text for text in texts if text.strip())
    first = next(texts, None)
    if first is None:
        raise DataError(f"{files}: every text is empty", "name the column with data.text=COLUMN")
    return tokenizer.train(
        chain((first,), texts),
        kind=model.tokenizer,
        vocabulary=model.vocabulary,
        lowercase=model.lowercase,
        max_length=model.sequence_length,
        generates=model.family in backbone.DECODERS,
        denoises=model.family in backbone.ENCODER_DECODERS,
        special=special,
    )


def architecture_of(source: str, model: ModelConfig, words: PreTrainedTokenizerBase, hub: bool) -> PretrainedConfig:
    """The architecture of a trained model, or of a new one.

    Raises:
        ModelError: of no use for text, or it does not go with the tokenizer.
    """
    if not source:
        return backbone.architecture(model, words)
    architecture = handover.read_architecture(source, hub=hub)
    kinds = (AutoModelForMaskedLM, AutoModelForCausalLM, AutoModelForSeq2SeqLM)
    if not any(type(architecture) in kind._model_mapping for kind in kinds):
        raise ModelError(
            f"{source}: {architecture.model_type} is neither an encoder nor a decoder of text",
            "name a model such as BERT, ModernBERT, GPT-2, Llama or T5",
        )
    tokenizer.check_matches(words, vocabulary_of(architecture))
    if architecture.pad_token_id is None and words.pad_token_id != tokenizer.separator(words):
        architecture.pad_token_id = words.pad_token_id
    if model.dropout is not None:
        backbone.set_dropout(architecture, model.dropout)
    return architecture


def _positions(architecture: PretrainedConfig, words: PreTrainedTokenizerBase) -> int:
    """Tokens that the model has positions for, each part of it; what its tokenizer says where it has none."""
    return min(_positions_of(part, words) for part in parts_of(architecture))


def _positions_of(architecture: PretrainedConfig, words: PreTrainedTokenizerBase) -> int:
    # RoBERTa counts positions from the padding id on
    offset = architecture.pad_token_id + 1 if architecture.model_type in {"roberta", "xlm-roberta", "camembert"} else 0
    positions = getattr(architecture, "max_position_embeddings", None)
    return int(positions) - offset if positions else words.model_max_length


def input_length(
    settings: TaskConfig, architecture: PretrainedConfig, words: PreTrainedTokenizerBase, usual: int
) -> int:
    """Tokens of an input, at most: what ``task.max_length`` says, or the usual if the model can read as many.

    Raises:
        UsageError: ``task.max_length`` is more than the model can read, or leaves no room for a word.
    """
    longest, shortest = _positions(architecture, words), words.num_special_tokens_to_add() + 1
    if settings.max_length and not shortest <= settings.max_length <= longest:
        raise UsageError(
            f"task.max_length is {settings.max_length}, this model reads from {shortest} to {longest} tokens",
            f"task.max_length={longest}; a new model reads as many as model.sequence_length says",
        )
    return settings.max_length or min(usual, longest, words.model_max_length)


def start_body(source: str, architecture: PretrainedConfig, head: Head, hub: bool, *, fresh: bool) -> PreTrainedModel:
    """The body with the weights the run starts from; a resumed run gets its weights from the checkpoint instead."""
    if fresh or not source:
        body = backbone.build(architecture)
        head.tie(body)
        if not fresh:
            count = backbone.count_parameters(body, head)
            log.info("a new %s with %.1f million parameters", architecture.model_type, count / 1e6)
        return body
    body, account = handover.load(source, head, config=architecture, hub=hub)
    log.info("%s: %s", source, account)
    return body
