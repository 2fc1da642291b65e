"""Compiled layers compute what the layers as written do, from the same code in every batch."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch._dynamo.exc import BackendCompilerFailed
from torch._dynamo.utils import counters
from torch._inductor.compile_worker.subproc_pool import SubprocException
from torch._inductor.exc import CppCompileError
from torch._inductor.utils import fresh_cache
from transformers import AutoModel, PretrainedConfig
from transformers.modeling_layers import GradientCheckpointingLayer

from nlpkit import probe, trainer
from nlpkit.compiling import compiled, is_compiled
from nlpkit.config import RunConfig, TrainerConfig
from nlpkit.data import TaskDataModule
from nlpkit.errors import ResourceError, UsageError
from nlpkit.module import TaskModule
from nlpkit.objectives.clm import Clm, ClmConfig
from nlpkit.task import Batch, Example
from tests.support import tiny_runs

needs_a_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles for a CPU with g++")
OBJECTIVES = {"mlm": tiny_runs.mlm, "clm": lambda: Clm(ClmConfig(max_length=64), tiny_runs.small_tokenizer())}


def _module(name: str) -> TaskModule:
    module = tiny_runs.make_module(OBJECTIVES[name]())
    for part in module.modules():
        if isinstance(part, nn.Dropout):
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


def _layers(module: TaskModule) -> list[nn.Module]:
    return [part for part in module.modules() if isinstance(part, GradientCheckpointingLayer)]


def _quickly(layer: nn.Module) -> None:
    nn.Module.compile(layer, backend="eager")  # finds out what there is to compile, and makes no code


@needs_a_compiler
@pytest.mark.parametrize("name", OBJECTIVES)
def test_compiled_layers_give_the_same_gradients_and_are_compiled_once(name: str) -> None:
    torch.compiler.reset()
    counters.clear()
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
    monkeypatch.setattr(GradientCheckpointingLayer, "compile", _quickly)
    monkeypatch.setattr("nlpkit.module.quick_dropout", lambda *_: contextlib.nullcontext())  # draws other numbers
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


@pytest.mark.parametrize("family", ["bert", "modernbert", "gpt2", "llama"])
def test_many_layers_share_their_code(
    family: str, small_config: Callable[..., PretrainedConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = {"n_layer" if family == "gpt2" else "num_hidden_layers": 12}
    task = tiny_runs.sentiment()
    config = small_config(family, **layers)
    module = TaskModule(task, AutoModel.from_config(config), task.build_head(config))
    made: list[Any] = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        made.append(graph)
        return graph.forward

    monkeypatch.setattr(GradientCheckpointingLayer, "compile", lambda layer: nn.Module.compile(layer, backend=backend))
    torch.compiler.reset()
    with compiled(module.backbone, True):
        for size, length in ((4, 8), (4, 8), (4, 12), (3, 10), (2, 14), (5, 9)):
            ids = torch.randint(5, 20, (size, length))
            module.loss_of({"input_ids": ids, "labels": torch.zeros(size, dtype=torch.int64)}).backward()
    kinds = 2 if family == "modernbert" else 1  # of layers: its first has no norm
    assert kinds <= len(made) <= 4 * kinds


def test_a_model_without_such_layers_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot be compiled one by one"), compiled(nn.Linear(2, 2), True):
        pass


def test_layers_that_were_compiled_before_stay_so() -> None:
    module = _module("mlm")
    first, *rest = _layers(module)
    first.compile(backend="eager")
    mine = first._compiled_call_impl
    with compiled(module, True):
        assert first._compiled_call_impl is mine
        assert all(map(is_compiled, rest))
    assert first._compiled_call_impl is mine
    assert not any(map(is_compiled, rest))


def test_a_mistake_in_a_layer_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GradientCheckpointingLayer, "compile", _quickly)
    module = _module("mlm")
    _layers(module)[0].register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError), compiled(module, True):
        module.loss_of(_batch(module, 0))


@pytest.mark.parametrize("place", [0, 1])
def test_hooks_at_parts_of_layers_are_called(place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GradientCheckpointingLayer, "compile", _quickly)
    torch.compiler.reset()
    with compiled(other := _module("clm"), True):
        other.loss_of(_batch(other, 0))
    module, calls = _module("clm"), []
    _layers(module)[place].attn.register_forward_hook(lambda *_: calls.append(1))
    with compiled(module, True):
        for first in (0, 4):
            module.loss_of(_batch(module, first)).backward()
    assert len(calls) == 2


def test_code_is_made_for_more_forms_than_torch_makes_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GradientCheckpointingLayer, "compile", _quickly)
    torch.compiler.reset()
    counters.clear()
    module = _module("clm")
    with compiled(module, True):
        for form in range(12):
            _layers(module)[0].attn.scaling = 1.0 + form
            module.loss_of(_batch(module, 0))
    assert counters["stats"]["unique_graphs"] >= 12


@pytest.mark.parametrize(
    ("reason", "line"),
    [
        (RuntimeError("first\nsecond"), "first"),
        (CppCompileError(["g++"], "a.cpp:1: error: no such header\nmore"), "a.cpp:1: error: no such header"),
        (SubprocException("Traceback\n  line\nValueError: too old"), "ValueError: too old"),
    ],
)
def test_the_line_that_tells_what_went_wrong_is_shown(reason: Exception, line: str) -> None:
    with pytest.raises(ResourceError, match=r"torch\.compile failed: ") as caught, compiled(_module("clm"), True):
        raise BackendCompilerFailed("inductor", reason, None)
    assert caught.value.message.endswith(line)


def test_memory_that_runs_out_meanwhile_stays_what_it_is() -> None:
    with pytest.raises(RuntimeError, match="can't allocate"), compiled(_module("clm"), True):
        raise BackendCompilerFailed("inductor", RuntimeError("can't allocate memory: 3 bytes"), None)


def test_a_plan_scores_once_before_it_takes_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GradientCheckpointingLayer, "compile", _quickly)
    scored: list[int] = []
    monkeypatch.setattr(pl.Trainer, "validate", lambda *_, **__: scored.append(1))
    task, some = tiny_runs.sentiment(), tiny_runs.examples()
    for compile in (False, True):
        scored.clear()
        config = RunConfig(trainer=TrainerConfig(accelerator="cpu", compile=compile))
        data = TaskDataModule(task, some[:32], some[32:], batch_tokens=160, epochs=1)
        probe.probe(tiny_runs.make_module(task), data, config, trainer.plan_length(config, data))
        assert len(scored) == 1 + compile


def test_a_plan_does_not_take_the_making_of_code_for_steps() -> None:
    clock = probe._Clock(1, 4)
    clock.seconds = [30.0, 20.0, 10.0, 5.0, 0.1, 0.3, 0.2]
    assert clock.typical() == 0.2
