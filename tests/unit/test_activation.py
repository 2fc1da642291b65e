"""The fused GELU."""

import torch
from torch import nn
from transformers import AutoModel, GPT2Config, PhiConfig
from transformers.activations import NewGELUActivation

from nlpkit import activation

SMALL = {"vocab_size": 50, "bos_token_id": 0, "eos_token_id": 0}


def _gpt2() -> nn.Module:
    torch.manual_seed(0)
    config = GPT2Config(**SMALL, n_embd=32, n_layer=2, n_head=2, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)
    return AutoModel.from_config(config)


def test_fuse_keeps_outputs_and_gradients() -> None:
    plain, fused = _gpt2().train(), _gpt2().train()
    activation.fuse(fused)
    tokens = torch.arange(20).view(2, 10)
    for model in (plain, fused):
        model(input_ids=tokens).last_hidden_state.pow(3).sum().backward()
    torch.testing.assert_close(fused(input_ids=tokens).last_hidden_state, plain(input_ids=tokens).last_hidden_state)
    for (name, ours), theirs in zip(fused.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4, msg=name)


def test_fused_is_equal_to_the_bit_where_nothing_is_trained() -> None:
    plain, fused = _gpt2().eval(), _gpt2()
    activation.fuse(fused)
    tokens = torch.arange(20).view(2, 10)
    assert torch.equal(fused.eval()(input_ids=tokens).last_hidden_state, plain(input_ids=tokens).last_hidden_state)


def test_fused_keeps_its_input_alone_for_the_way_back() -> None:
    model = _gpt2()
    activation.fuse(model)
    fused = [module.train() for module in model.modules() if isinstance(module, NewGELUActivation)]
    kept: list[torch.Tensor] = []
    some = torch.randn(8, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        fused[0](some)
    assert [t.data_ptr() for t in kept] == [some.data_ptr()]
    assert len(fused) == 2
    assert model.config.activation_function == "gelu_new"


def test_fuse_leaves_other_activations() -> None:
    model = AutoModel.from_config(PhiConfig(**SMALL, hidden_size=32, num_hidden_layers=1, hidden_act="gelu"))
    before = [type(m) for m in model.modules()]
    activation.fuse(model)
    assert [type(m) for m in model.modules()] == before
