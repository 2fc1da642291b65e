"""Tiny models of every family, a tokenizer that fits them, and bundles made of both."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from nlpkit_sentiment import Sentiment, SentimentConfig
from transformers import AutoConfig, PretrainedConfig, PreTrainedTokenizerBase

from nlpkit import backbone, bundle, tokenizer
from nlpkit.plugins import Registry

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
torch.set_num_threads(1)  # models this small only wait for a second thread

SIZES: dict[str, Any] = {
    "vocab_size": 200,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 128,
    "max_position_embeddings": 66,
    "pad_token_id": 0,
}
EXTRA: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 32},
    "electra": {"embedding_size": 32},
    "distilbert": {"dim": 64, "n_layers": 2, "n_heads": 2, "hidden_dim": 128},
    "modernbert": {"cls_token_id": 2, "bos_token_id": 2, "sep_token_id": 3, "eos_token_id": 3},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "type_vocab_size": 0},
}
TEXTS = [
    "the plot is thin and the jokes are old",
    "a warm and funny film with a great cast",
    "I would not buy this dress again, it tore",
    "fits well, looks great, came on time",
    "so slow that I left before the end",
    "soft, light and just the right length",
] * 5


@pytest.fixture(scope="session")
def small_config() -> Callable[..., PretrainedConfig]:
    """The configuration of a family, 64 wide and 2 layers deep."""

    def make(family: str = "bert", **changes: Any) -> PretrainedConfig:
        return AutoConfig.for_model(family, **{**SIZES, **EXTRA.get(family, {}), **changes})

    return make


@pytest.fixture
def make_model(tmp_path: Path, small_config: Callable[..., PretrainedConfig]) -> Callable[..., Path]:
    """Save a plain transformers model with random weights; gives its folder."""

    def make(auto_class: str = "AutoModel", family: str = "bert", name: str = "plain", **changes: Any) -> Path:
        torch.manual_seed(1)
        model = getattr(transformers, auto_class).from_config(small_config(family, **changes))
        model.save_pretrained(tmp_path / name)
        return tmp_path / name

    return make


@pytest.fixture(scope="session")
def words() -> PreTrainedTokenizerBase:
    """A WordPiece tokenizer of at most 200 entries."""
    return tokenizer.train(iter(TEXTS), kind="wordpiece", vocabulary=200, lowercase=True, max_length=64)


@pytest.fixture(scope="session")
def registry() -> Registry:
    """Of what is installed."""
    return Registry()


@pytest.fixture
def make_bundle(
    tmp_path: Path,
    words: PreTrainedTokenizerBase,
    registry: Registry,
    small_config: Callable[..., PretrainedConfig],
) -> Callable[..., bundle.Loaded]:
    """Save a sentiment bundle with random weights at ``tmp_path / name``; gives its parts, in evaluation mode."""

    def make(name: str = "model", family: str = "bert", labels: tuple[str, ...] = ("neg", "pos")) -> bundle.Loaded:
        torch.manual_seed(1)
        task = Sentiment(SentimentConfig(labels=list(labels), max_length=64), words)
        config = small_config(family)
        body, head = backbone.build(config), task.build_head(config)
        bundle.save(tmp_path / name, task, body, head, {}, registry)
        return bundle.Loaded(task, body.eval(), head.eval(), {})

    return make
