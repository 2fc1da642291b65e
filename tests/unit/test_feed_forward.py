"""Feed-forward layers by slices, against the same model without them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from nlpkit import activation
from nlpkit.feed_forward import _Slices, sliced

KNOWN = ("bert", "roberta", "electra", "gpt2")
Config = Callable[..., PretrainedConfig]
ROWS, LENGTH = 65, 32  # 2,080 places: two slices and a part of one


def _body(config: PretrainedConfig) -> PreTrainedModel:
    torch.manual_seed(0)
    body: PreTrainedModel = transformers.AutoModel.from_config(config).train()
    activation.fuse(body)
    return body


def _loss(body: PreTrainedModel) -> Tensor:
    torch.manual_seed(1)  # of dropout
    ids = torch.randint(5, 200, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
    hidden: Tensor = body(input_ids=ids).last_hidden_state
    return (hidden * torch.randn(hidden.size(-1))).mean()


def _gradients(body: PreTrainedModel) -> dict[str, Tensor]:
    body.zero_grad()
    _loss(body).backward()
    return {name: p.grad.clone() for name, p in body.named_parameters() if p.grad is not None}


def _kept(body: PreTrainedModel) -> int:
    """Bytes that stay for the way back, weights not counted."""
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        held = _loss(body)
    assert held.requires_grad
    weights = {p.untyped_storage().data_ptr() for p in body.parameters()}
    return sum(size for place, size in sizes.items() if place not in weights)


@pytest.mark.parametrize("family", KNOWN)
def test_slices_give_the_loss_and_the_gradients_of_the_plain_model(family: str, small_config: Config) -> None:
    body = _body(small_config(family))
    loss, expected = _loss(body), _gradients(body)
    with sliced(body):
        torch.testing.assert_close(_loss(body), loss)
        found = _gradients(body)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-7, msg=name)


@pytest.mark.parametrize("family", KNOWN)
def test_slices_keep_the_widened_states_once(family: str, small_config: Config) -> None:
    config = small_config(family)
    body = _body(config)
    layers = getattr(config, "n_layer", None) or config.num_hidden_layers
    inner = getattr(config, "n_inner", None) or getattr(config, "intermediate_size", 4 * config.hidden_size)
    plain = _kept(body)
    with sliced(body):
        saved = plain - _kept(body)
    assert saved >= 0.9 * layers * ROWS * LENGTH * inner * 4


@pytest.mark.parametrize("approximate", ["none", "tanh"])
@pytest.mark.parametrize("places", [1, 5, 1024, 1025])
def test_slices_have_the_derivatives_that_differences_show(places: int, approximate: str) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = ((places, 2), (2, 3), (3,), (3, 2), (2,))
    inputs = [torch.randn(s, generator=generator, dtype=torch.float64, requires_grad=True) for s in shapes]

    def some(*given: Tensor) -> Tensor:
        made: Tensor = _Slices.apply(*given, approximate)
        return made[-3:]

    assert torch.autograd.gradcheck(some, inputs)


def test_frozen_weights_get_no_gradient(small_config: Config) -> None:
    body = _body(small_config("bert"))
    frozen = body.encoder.layer[0].output.dense.weight.requires_grad_(False)
    expected = _gradients(body)
    with sliced(body):
        found = _gradients(body)
    assert frozen.grad is None
    assert found.keys() == expected.keys()


@pytest.mark.parametrize("family", KNOWN)
def test_evaluation_is_equal_to_the_bit(family: str, small_config: Config) -> None:
    body = _body(small_config(family)).eval()
    expected = _loss(body)
    with sliced(body):
        assert torch.equal(_loss(body), expected)


class _Adapted(nn.Linear):
    """A linear map with something beside it, as LoRA makes them."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + 1


def test_a_map_that_is_more_than_a_matrix_is_computed_as_it_says(small_config: Config) -> None:
    body = _body(small_config("bert"))
    body.encoder.layer[0].intermediate.dense.__class__ = _Adapted
    expected = _loss(body)
    with sliced(body):
        assert torch.equal(_loss(body), expected)


@pytest.mark.parametrize("part", ["intermediate", "intermediate.dense", "output", "output.dense"])
def test_who_listens_at_a_part_still_hears_it(part: str, small_config: Config) -> None:
    body = _body(small_config("bert"))
    heard: list[int] = []
    body.encoder.layer[0].get_submodule(part).register_forward_hook(lambda *_: heard.append(1))
    with sliced(body):
        _loss(body)
    assert heard == [1]


def test_mixed_precision_is_left_to_torch(small_config: Config) -> None:
    body = _body(small_config("bert"))
    with torch.autocast("cpu", torch.bfloat16):
        expected = _loss(body)
        with sliced(body):
            assert torch.equal(_loss(body), expected)


def test_the_body_is_as_before_afterwards_even_if_it_fails(small_config: Config) -> None:
    body = _body(small_config("bert"))
    before = [dict(vars(module)) for module in body.modules()]
    with pytest.raises(IndexError), sliced(body):
        body(input_ids=torch.tensor([[10**6]]))
    assert [dict(vars(module)) for module in body.modules()] == before
