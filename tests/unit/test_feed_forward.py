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

KNOWN = ("bert", "roberta", "xlm-roberta", "electra", "gpt2")
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


@pytest.fixture
def entered(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with each layer that works by slices."""
    calls: list[int] = []
    apply = _Slices.apply
    monkeypatch.setattr(_Slices, "apply", lambda *given: calls.append(1) or apply(*given))
    return calls


def test_training_of_a_task_module_works_by_slices(entered: list[int]) -> None:
    from tiny_runs import examples, make_module, mlm

    module = make_module(mlm()).train()
    module.training_step(mlm().collate([mlm().encode(e) for e in examples(6)]), 0).backward()
    assert len(entered) == len(module.backbone.encoder.layer)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_what_is_not_plain_is_left_to_torch(family: str, small_config: Config, entered: list[int]) -> None:
    changes: dict[str, Callable[[PreTrainedModel], object]] = {
        "frozen": lambda body: _maps(body)[0].weight.requires_grad_(False),
        "frozen below": lambda body: _maps(body)[1].weight.requires_grad_(False),
        "without a bias": lambda body: setattr(_maps(body)[1], "bias", None),
        "another type": lambda body: body.bfloat16(),
        "hook": lambda body: _maps(body)[0].register_forward_hook(lambda *_: None),
        "hook before": lambda body: _maps(body)[1].register_forward_pre_hook(lambda *_: None),
        "hook on the way back": lambda body: _maps(body)[1].register_full_backward_hook(lambda *_: None),
        "hook before it": lambda body: _maps(body)[1].register_full_backward_pre_hook(lambda *_: None),
        "another forward": lambda body: setattr(_maps(body)[1], "forward", _maps(body)[1].forward),
    }
    if family == "gpt2":
        del changes["without a bias"]  # its class needs one
    for name, change in changes.items():
        body = _body(small_config(family, num_hidden_layers=1, n_layer=1))
        change(body)
        with sliced(body):
            body(input_ids=torch.ones(2, 4, dtype=torch.long))
        assert entered == [], name
    body = _body(small_config(family, hidden_act="relu", activation_function="relu"))
    with sliced(body):
        body(input_ids=torch.ones(2, 4, dtype=torch.long))
    assert entered == []


def _maps(body: PreTrainedModel) -> list[nn.Module]:
    if body.config.model_type == "gpt2":
        return [body.h[0].mlp.c_fc, body.h[0].mlp.c_proj]
    return [body.encoder.layer[0].intermediate.dense, body.encoder.layer[0].output.dense]


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_gradient_checkpointing_goes_as_ever(family: str, small_config: Config) -> None:
    body = _body(small_config(family))
    expected = _gradients(body)
    body.activation_checkpointing_enable()
    with sliced(body):
        loss = _loss(body)
    body.zero_grad()
    loss.backward()  # behind the block, as in training
    for name, parameter in body.named_parameters():
        if name in expected:
            torch.testing.assert_close(parameter.grad, expected[name], msg=name)


def test_a_layer_that_somebody_has_changed_keeps_what_it_was_given(small_config: Config) -> None:
    bert, gpt2 = _body(small_config("bert")), _body(small_config("gpt2"))
    output, mlp = bert.encoder.layer[0].output, gpt2.h[0].mlp
    output.__class__ = type(
        "Adapted", (type(output),), {"__module__": "theirs", "forward": lambda self, h, x: h[..., :64]}
    )
    own = mlp.forward = lambda hidden: hidden
    for body in (bert, gpt2):
        expected = _loss(body)
        with sliced(body):
            torch.testing.assert_close(_loss(body), expected)
    assert mlp.forward is own


def test_a_stranger_of_the_same_name_is_left_alone() -> None:
    stranger = type("BertLayer", (nn.Linear,), {})(4, 4)
    with sliced(stranger), sliced(stranger):
        assert stranger(torch.ones(1, 4)).shape == (1, 4)


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
