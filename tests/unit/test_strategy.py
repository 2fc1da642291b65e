"""Each strategy trains what its name says, and leaves a folder of plain transformers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import small_tokenizer

import nlpkit
from nlpkit import backbone
from nlpkit import config as config_module
from nlpkit.config import ModelConfig
from nlpkit.optim import lower_part
from nlpkit.plugins import Registry

Tensors = dict[str, torch.Tensor]


def changed(base: Any, shop: Path, out: Path, strategy: str) -> tuple[Any, set[str]]:
    """The run, and the tensors of the body that differ from those it started from."""
    settings = [f"strategy={strategy}", "trainer.max_steps=3", "optim.warmup=0"]
    run = nlpkit.fit("sentiment", shop / "labelled.csv", source=base.folder, out=out, overrides=settings)
    before, after = (load_file(folder / "model" / "model.safetensors") for folder in (base.folder, run.folder))
    body = {name for name in after if name.startswith("model.")}
    assert body <= set(before)
    return run, {name for name in body if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("strategy", ["full", "layerwise"])
def test_every_tensor_of_the_body_learns(strategy: str, base: Any, shop: Path, tmp_path: Path) -> None:
    run, names = changed(base, shop, tmp_path / "run", strategy)
    assert names == {n for n in load_file(run.model / "model.safetensors") if n.startswith("model.")}


def test_upper_leaves_the_embeddings_and_the_lower_third_and_says_so(
    base: Any, shop: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    run, names = changed(base, shop, tmp_path / "run", "upper")
    whole = {n for n in load_file(run.model / "model.safetensors") if n.startswith("model.")}
    layers = 1 + max(int(n.split(".")[2]) for n in whole if n.startswith("model.layers."))
    below = tuple(f"model.layers.{i}." for i in range(layers // 3))
    assert "strategy=upper: the embeddings and the lower third of the layers stay as they are" in caplog.messages
    assert names == {n for n in whole if not n.startswith(("model.embeddings.", *below))}


@pytest.mark.parametrize(("layers", "still"), [(1, 0), (2, 0), (3, 1), (4, 1), (6, 2), (12, 4)])
@pytest.mark.parametrize("family", ["bert", "modernbert", "gpt2", "llama", "t5", "m2m100"])
def test_the_lower_part_of_every_family(family: Any, layers: int, still: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backbone.PRESETS, "tiny", (layers, 64))
    words = small_tokenizer()
    body = backbone.build(backbone.architecture(ModelConfig(preset="tiny", family=family, sequence_length=32), words))
    lower = {id(p) for p in lower_part(body)}
    names = [n for n, p in body.named_parameters() if id(p) in lower]
    numbers = {int(m[1]) for n in names if (m := re.search(r"\.(\d+)\.", n))}
    assert numbers == set(range(still))
    assert any(p is body.get_input_embeddings().weight for p in lower_part(body))


def test_freeze_leaves_the_body_as_it_is_and_the_head_learns_fast(base: Any, shop: Path, tmp_path: Path) -> None:
    run, names = changed(base, shop, tmp_path / "run", "freeze")
    assert names == set()
    assert rates(run) == (None, 1e-3)


def test_lora_changes_linear_layers_only_and_is_merged(base: Any, shop: Path, tmp_path: Path) -> None:
    run, names = changed(base, shop, tmp_path / "run", "lora")
    assert names
    assert all(".attn.W" in name or ".mlp.W" in name for name in names)
    assert not list(run.model.glob("*adapter*"))
    assert rates(run) == (3e-4, 1e-3)


def rates(run: Any) -> tuple[float | None, float | None]:
    """The rate of the body, where it learns, and of the head."""
    task = Registry().task("sentiment")
    settings = config_module.load(task, str(run.folder / "config.yaml"))
    learns = settings.strategy != "freeze"
    return settings.optim.learning_rate if learns else None, settings.optim.head_learning_rate
