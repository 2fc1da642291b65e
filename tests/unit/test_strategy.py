"""Each strategy trains what its name says, and leaves a folder of plain transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import nlpkit
from nlpkit import config as config_module
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
