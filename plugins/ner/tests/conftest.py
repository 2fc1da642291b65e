"""Tokenizers of the families, and a tiny task with its module."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from nlpkit_ner import Ner, NerConfig
from transformers import PreTrainedTokenizerBase

from nlpkit import Example, TaskModule, backbone, tokenizer
from nlpkit.config import ModelConfig

torch.set_num_threads(1)
TEXTS = [
    "Marta Lindqvist moved to Harrow Bay last spring.",
    "O’Neill’s coat (from Finch & Sons) tore in São Paulo, 5 km off!",
    "東京 タワー に 行った ; שלום Tel Aviv ; naïve café e\u0301te\u0301",
    "mail@example.org writes to @anna about #HarrowBay \U0001f600\U0001f469\u200d\U0001f52c",
] * 5
KINDS = ("wordpiece", "bpe", "unigram")


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Write a file into the current folder, so that messages hold its bare name."""
    monkeypatch.chdir(tmp_path)

    def _write(content: str | bytes, name: str = "a.conll") -> str:
        Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
        return name

    return _write


@pytest.fixture(scope="session")
def words() -> Callable[..., PreTrainedTokenizerBase]:
    """A tokenizer of a kind, trained on a few texts."""
    made: dict[str, PreTrainedTokenizerBase] = {}

    def make(kind: str = "wordpiece") -> PreTrainedTokenizerBase:
        if kind not in made:
            made[kind] = tokenizer.train(
                iter(TEXTS), kind=kind, vocabulary=400, lowercase=kind == "wordpiece", max_length=64
            )
        return made[kind]

    return make


@pytest.fixture
def make_task(words: Callable[..., PreTrainedTokenizerBase]) -> Callable[..., Ner]:
    """The task with types ``person`` and ``place``."""

    def make(kind: str = "wordpiece", **changes: Any) -> Ner:
        settings = {"labels": ["person", "place"], "max_length": 32, "stride": 8, "unit": "word", **changes}
        return Ner(NerConfig(**settings), words(kind))

    return make


@pytest.fixture
def make_module() -> Callable[..., TaskModule]:
    """The task on a tiny model with random weights, large enough that logits differ."""

    def make(task: Ner, family: Any = "bert") -> TaskModule:
        torch.manual_seed(0)
        model = ModelConfig(preset="tiny", family=family, sequence_length=task.config.max_length)
        architecture = backbone.architecture(model, task.tokenizer)
        module = TaskModule(task, backbone.build(architecture), task.build_head(architecture)).eval()
        with torch.no_grad():
            for parameter in module.head.parameters():
                parameter.normal_(0, 0.5)
        return module

    return make


@pytest.fixture(scope="session")
def examples() -> list[Example]:
    """Texts with entities of words."""
    return [
        _example("Marta Lindqvist moved to Harrow Bay", ("Marta Lindqvist", "person"), ("Harrow Bay", "place")),
        _example("nothing here"),
        _example("Anna left Oslo for Rome", ("Anna", "person"), ("Oslo", "place"), ("Rome", "place")),
    ]


def _example(text: str, *entities: tuple[str, str]) -> Example:
    spans = [{"start": text.index(e), "end": text.index(e) + len(e), "label": label} for e, label in entities]
    return Example({"text": text, "entities": spans}, "made:1")
