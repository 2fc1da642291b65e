"""Packed linear layers give what plain ones give, and never what weights gave that are no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModel, PretrainedConfig, PreTrainedModel

from nlpkit import packed


@pytest.fixture(params=["bert", "modernbert", "roberta"])
def model(request: pytest.FixtureRequest, small_config: Callable[..., PretrainedConfig]) -> PreTrainedModel:
    torch.manual_seed(0)
    made: PreTrainedModel = AutoModel.from_config(small_config(request.param)).eval()
    return made


def states(model: PreTrainedModel) -> torch.Tensor:
    ids = torch.arange(6, 46).reshape(2, 20)
    mask = torch.ones_like(ids)
    mask[1, 15:] = 0
    with torch.inference_mode():
        hidden: torch.Tensor = model(input_ids=ids, attention_mask=mask).last_hidden_state
    return hidden[:, :15].clone()


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
    torch.testing.assert_close(states(model), plain, rtol=1e-4, atol=1e-5)
    assert len(used) >= 4 * model.config.num_hidden_layers
    if model.config.model_type != "modernbert":
        assert used.count("gelu") == model.config.num_hidden_layers


@pytest.mark.parametrize("change", ["trained", "loaded"])
def test_weights_that_change_are_followed(model: PreTrainedModel, change: str) -> None:
    packed.pack(model)
    before = states(model)
    linears = [m for m in model.modules() if type(m) is nn.Linear]
    if change == "trained":
        with torch.no_grad():
            for linear in linears:
                linear.weight.mul_(1.5)
    else:
        model.load_state_dict({k: v * 1.5 for k, v in model.state_dict().items()})
    fresh = AutoModel.from_config(model.config).eval()
    fresh.load_state_dict(model.state_dict())
    torch.testing.assert_close(states(model), states(fresh))
    assert not torch.allclose(states(model), before)


def test_gradients_flow_as_before(model: PreTrainedModel) -> None:
    packed.pack(model)
    model(input_ids=torch.arange(6, 26).reshape(2, 10)).last_hidden_state.square().sum().backward()
    for name, linear in model.named_modules():
        if type(linear) is nn.Linear and "pooler" not in name:
            assert linear.weight.grad is not None, name


def test_other_number_formats_compute_as_always(model: PreTrainedModel) -> None:
    packed.pack(model)
    plain = AutoModel.from_config(model.config).eval()
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(states(model.double()), states(plain.double()))


def test_a_torch_without_the_kernels_computes_as_always(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = states(model)
    monkeypatch.setattr(packed, "_KERNELS", object())
    packed.pack(model)
    torch.testing.assert_close(states(model), plain, rtol=0, atol=0)
