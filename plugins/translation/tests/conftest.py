"""Files to read, written into a folder of the test's own; tokenizers, and a tiny task with its module."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from nlpkit_translation import Translation, TranslationConfig
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from nlpkit import Example, TaskModule, backbone, tokenizer
from nlpkit.config import ModelConfig

torch.set_num_threads(1)
PAIRS = [
    ("the coat is warm", "der Mantel ist warm"),
    ("my hat is new", "mein Hut ist neu"),
    ("we read the book", "wir lesen das Buch"),
    ("the dog sleeps under the table", "der Hund schläft unter dem Tisch"),
    ("she has a red car", "sie hat ein rotes Auto"),
    ("where is the key?", "wo ist der Schlüssel?"),
    ("the soup costs 3 euros", "die Suppe kostet 3 Euro"),
    ("they are late", "sie sind spät dran"),
]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Write a file into the current folder, so that messages hold its bare name; one that ends in .gz is packed."""
    monkeypatch.chdir(tmp_path)

    def _write(name: str, content: str | bytes) -> str:
        data = content.encode() if isinstance(content, str) else content
        Path(name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return name

    return _write


@pytest.fixture(scope="session")
def words() -> Callable[..., PreTrainedTokenizerBase]:
    """A tokenizer of a kind, trained on both sides of a few pairs."""
    made: dict[str, PreTrainedTokenizerBase] = {}

    def make(kind: str = "bpe") -> PreTrainedTokenizerBase:
        if kind not in made:
            texts = [text for pair in PAIRS for text in pair] * 5
            made[kind] = tokenizer.train(
                iter(texts), kind=kind, vocabulary=400, lowercase=kind == "wordpiece", max_length=64, denoises=True
            )
        return made[kind]

    return make


@pytest.fixture
def make_task(words: Callable[..., PreTrainedTokenizerBase]) -> Callable[..., Translation]:
    """The task, which reads and writes 32 tokens at most."""

    def make(kind: str = "bpe", **changes: Any) -> Translation:
        return Translation(TranslationConfig(**{"max_length": 32, **changes}), words(kind))

    return make


@pytest.fixture(scope="session")
def make_module() -> Callable[..., TaskModule]:
    """The task on a tiny model that has learnt a little: it ends most of its answers, and they differ."""
    weights: dict[str, dict[str, Tensor]] = {}

    def make(task: Translation, family: Any = "m2m100") -> TaskModule:
        torch.manual_seed(0)
        architecture = backbone.architecture(ModelConfig(preset="tiny", family=family), task.tokenizer)
        module = TaskModule(task, backbone.build(architecture), task.build_head(architecture))
        if family not in weights:
            _learn(module)
            weights[family] = module.state_dict()
        module.load_state_dict(weights[family])
        return module.eval()

    return make


def _learn(module: TaskModule) -> None:
    optimizer = torch.optim.Adam(module.parameters(), 3e-3)
    rows = [module.task.encode(Example({"source": source, "target": target})) for source, target in PAIRS]
    batch = module.task.collate(rows)
    for _ in range(30):
        optimizer.zero_grad()
        module.loss_of(batch).backward()
        optimizer.step()
