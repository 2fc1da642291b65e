"""Compiled layers compute what the layers as written do, from the same code in every batch."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters
from torch._inductor.utils import fresh_cache
from transformers.modeling_layers import GradientCheckpointingLayer

from nlpkit.compiling import compiled, is_compiled
from nlpkit.errors import ResourceError
from nlpkit.module import TaskModule
from nlpkit.objectives.clm import Clm, ClmConfig
from nlpkit.task import Batch, Example
from tests.support import tiny_runs

needs_a_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles for a CPU with g++")
OBJECTIVES = {"mlm": tiny_runs.mlm, "clm": lambda: Clm(ClmConfig(max_length=64), tiny_runs.small_tokenizer())}


def _module(name: str) -> TaskModule:
    module = tiny_runs.make_module(OBJECTIVES[name]())
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
        if hasattr(part, "attn_dropout"):
            part.attn_dropout.p = 0.0
    return module


def _batch(module: TaskModule, first: int) -> Batch:
    """Four rows of 16 tokens."""
    text = " ".join(example["text"] for example in tiny_runs.examples())
    ids = module.task.encode(Example({"text": text}))["input_ids"]
    return module.task.collate([{"input_ids": ids[:16], "seed": first + row} for row in range(4)])


def _gradients(module: TaskModule, batch: Batch) -> dict[str, Tensor]:
    module.zero_grad()
    module.loss_of(batch).backward()
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def _layers(module: TaskModule) -> list[torch.nn.Module]:
    return [part for part in module.modules() if isinstance(part, GradientCheckpointingLayer)]


@needs_a_compiler
@pytest.mark.parametrize("name", OBJECTIVES)
def test_compiled_layers_give_the_same_gradients_and_are_compiled_once(name: str) -> None:
    module = _module(name)
    batches = [_batch(module, first) for first in (0, 4, 8)]
    expected = [_gradients(module, batch) for batch in batches]
    with compiled(module, True):
        assert all(map(is_compiled, _layers(module)))
        _gradients(module, batches[0])
        made = counters["stats"]["unique_graphs"]
        found = [_gradients(module, batch) for batch in batches]
        assert counters["stats"]["unique_graphs"] == made > 0
    assert not any(map(is_compiled, _layers(module)))
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
        for key, gradient in theirs.items():
            torch.testing.assert_close(ours[key], gradient, rtol=1e-3, atol=1e-6)


def test_a_run_trains_and_scores_with_compiled_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def compile(layer: torch.nn.Module) -> None:
        torch.nn.Module.compile(layer, backend="eager")  # which takes no minutes

    monkeypatch.setattr(GradientCheckpointingLayer, "compile", compile)
    made = counters["stats"]["unique_graphs"]
    as_written = tiny_runs.run(tmp_path / "written", tiny_runs.sentiment(), epochs=1)
    assert counters["stats"]["unique_graphs"] == made
    ended = tiny_runs.run(tmp_path / "compiled", tiny_runs.sentiment(), epochs=1, compile=True)
    assert counters["stats"]["unique_graphs"] > made
    assert not any(map(is_compiled, _layers(ended.module)))
    for name, value in as_written.module.state_dict().items():
        torch.testing.assert_close(ended.module.state_dict()[name], value, rtol=1e-3, atol=1e-5)


def test_without_a_compiler_the_error_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    module = _module("clm")
    torch.compiler.reset()
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    with pytest.raises(ResourceError) as caught, fresh_cache(), compiled(module, True):
        _gradients(module, _batch(module, 0))
    assert "torch.compile failed" in caught.value.message
    assert "trainer.compile=false" in caught.value.hint
    assert not any(map(is_compiled, _layers(module)))
