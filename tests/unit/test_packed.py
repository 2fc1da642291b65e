"""Packed linear layers give what plain ones give, and never what weights gave that are no more."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModel, PretrainedConfig, PreTrainedModel, RobertaPreLayerNormConfig

from nlpkit import packed
from nlpkit.optim import build_optimizer
from nlpkit.predictor import Predictor


@pytest.fixture(params=["bert", "modernbert", "roberta", "roberta-prelayernorm"])
def model(request: pytest.FixtureRequest, small_config: Callable[..., PretrainedConfig]) -> PreTrainedModel:
    torch.manual_seed(0)
    if request.param == "roberta-prelayernorm":  # has a norm before the dense layer of its BERT-like part
        config = small_config("roberta").to_dict()
        made: PreTrainedModel = AutoModel.from_config(
            RobertaPreLayerNormConfig(**{k: v for k, v in config.items() if k not in ("model_type", "architectures")})
        )
    else:
        made = AutoModel.from_config(small_config(request.param))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(5)  # large enough for any mistake to be seen
    return made.eval()


def states(model: PreTrainedModel) -> torch.Tensor:
    ids = torch.arange(6, 46).reshape(2, 20)
    mask = torch.ones_like(ids)
    mask[1, 15:] = 0
    with torch.inference_mode():
        hidden: torch.Tensor = model(input_ids=ids, attention_mask=mask).last_hidden_state
    return hidden[:, :15].clone()


def unpacked(model: PreTrainedModel) -> PreTrainedModel:
    """A plain model with the same weights."""
    fresh = AutoModel.from_config(model.config).eval()
    fresh.load_state_dict(model.state_dict())
    return fresh


def kernels_used(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the activation of every call of the packed kernel."""
    used: list[str] = []
    kernel = packed._KERNELS._linear_pointwise

    class Kernels:
        _reorder_linear_weight = packed._KERNELS._reorder_linear_weight

        @staticmethod
        def _linear_pointwise(*arguments: Any) -> Any:
            used.append(arguments[3])
            return kernel(*arguments)

    monkeypatch.setattr(packed, "_KERNELS", Kernels)
    return used


needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


@needs_onednn
def test_numbers_stay_and_the_packed_kernel_makes_them(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = states(model)
    packed.pack(model)
    used = kernels_used(monkeypatch)
    torch.testing.assert_close(states(model), plain, rtol=1e-3, atol=1e-4)
    assert len(used) >= 4 * model.config.num_hidden_layers
    if model.config.model_type in ("bert", "roberta"):
        assert used.count("gelu") == model.config.num_hidden_layers


@pytest.mark.parametrize("change", ["in place", "loaded", "trained"])
def test_weights_that_change_are_followed(model: PreTrainedModel, change: str) -> None:
    packed.pack(model)
    before = states(model)
    if change == "in place":
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.5)
    elif change == "loaded":
        model.load_state_dict({k: v * 1.5 for k, v in model.state_dict().items()})
    else:
        optimizer = build_optimizer([{"params": list(model.parameters()), "lr": 0.1, "muon": False}])
        model.train()
        model(input_ids=torch.arange(6, 26).reshape(2, 10)).last_hidden_state.square().sum().backward()
        optimizer.step()
        model.eval()
    torch.testing.assert_close(states(model), states(unpacked(model)))
    assert not torch.allclose(states(model), before)


def test_a_layer_that_is_watched_or_replaced_after_packing_counts(model: PreTrainedModel) -> None:
    packed.pack(model)
    before, calls = states(model), []
    for module in model.modules():
        if hasattr(module, "intermediate_act_fn"):
            module.dense.register_forward_hook(lambda *_: calls.append(1))
    torch.testing.assert_close(states(model), before, rtol=1e-3, atol=1e-4)
    assert len(calls) == (0 if model.config.model_type == "modernbert" else model.config.num_hidden_layers)
    for module in model.modules():
        if hasattr(module, "intermediate_act_fn"):
            module.dense = nn.Linear(module.dense.in_features, module.dense.out_features)
    torch.testing.assert_close(states(model), states(unpacked(model)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("how", ["copied", "pickled"])
def test_a_packed_model_can_be_copied(model: PreTrainedModel, how: str) -> None:
    packed.pack(model)
    other = copy.deepcopy(model) if how == "copied" else pickle.loads(pickle.dumps(model))
    torch.testing.assert_close(states(other), states(model), rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    torch.testing.assert_close(states(other), states(unpacked(other)))
    assert not torch.allclose(states(other), states(model))


def test_no_rows_and_autocast_compute_as_always() -> None:
    linear = nn.Linear(8, 4).eval()
    packed.pack(linear)
    with torch.inference_mode():
        assert linear(torch.zeros(0, 8)).shape == (0, 4)
        with torch.autocast("cpu", torch.bfloat16):
            assert linear(torch.zeros(3, 8)).dtype == torch.bfloat16


def test_the_predictor_packs_what_it_predicts_with(make_bundle: Callable[..., Any]) -> None:
    module = Predictor(make_bundle(), "cpu").module
    assert [type(m) for m in module.modules() if type(m) is nn.Linear] == []


def test_gradients_flow_as_before(model: PreTrainedModel) -> None:
    packed.pack(model)
    model(input_ids=torch.arange(6, 26).reshape(2, 10)).last_hidden_state.square().sum().backward()
    for name, linear in model.named_modules():
        if isinstance(linear, nn.Linear) and "pooler" not in name:
            assert linear.weight.grad is not None, name


def test_other_number_formats_compute_as_always(model: PreTrainedModel) -> None:
    packed.pack(model)
    plain = unpacked(model)
    torch.testing.assert_close(states(model.double()), states(plain.double()))


def test_a_torch_without_the_kernels_computes_as_always(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = states(model)
    monkeypatch.setattr(packed, "_KERNELS", object())
    packed.pack(model)
    torch.testing.assert_close(states(model), plain, rtol=0, atol=0)
    assert not any(isinstance(m, packed.PackedLinear) for m in model.modules())
