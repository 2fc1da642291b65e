"""Which weights learn at which rate, and an optimiser that goes on bit for bit after a resume."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import AutoConfig, AutoModel, PreTrainedModel

from nlpkit.config import OptimConfig
from nlpkit.heads import TransformersHead, detach_pooler
from nlpkit.optim import MuonAdamW, build_optimizer, freeze, orthogonalise, parameter_groups, schedule

FAMILIES: dict[str, dict[str, Any]] = {
    "bert": {},
    "modernbert": {"cls_token_id": 2, "bos_token_id": 2, "sep_token_id": 3, "eos_token_id": 3},
    "distilbert": {"dim": 64, "n_layers": 3, "n_heads": 2, "hidden_dim": 128},
    "minilm": {"model_type": "bert", "hidden_act": "gelu", "type_vocab_size": 2},
    "electra": {"embedding_size": 32},
    "roberta": {},
    "gpt2": {"n_embd": 64, "n_layer": 3, "n_head": 2},
}
OPTIM = OptimConfig(learning_rate=1.0, layer_decay=0.5, head_learning_rate=3.0)


def body_of(family: str) -> PreTrainedModel:
    extra = dict(FAMILIES[family])
    config = AutoConfig.for_model(
        extra.pop("model_type", family),
        **{
            "vocab_size": 200,
            "hidden_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "intermediate_size": 128,
            "pad_token_id": 0,
            **extra,
        },
    )
    body = AutoModel.from_config(config)
    detach_pooler(body)
    return body


def head_of(body: PreTrainedModel, auto_class: str = "AutoModelForMaskedLM") -> TransformersHead:
    head = TransformersHead(auto_class, body.config)
    head.tie(body)
    return head


def rates(body: nn.Module, groups: list[dict[str, Any]]) -> dict[str, float]:
    by_id = {id(p): g["lr"] for g in groups for p in g["params"]}
    return {name: by_id[id(p)] for name, p in body.named_parameters()}


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "gpt2"])
@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_each_parameter_is_in_one_group_and_a_tied_one_counts_once(family: str, name: Any) -> None:
    body = body_of(family)
    head = head_of(body)
    groups = parameter_groups(body, head, OptimConfig(learning_rate=1.0, name=name), layerwise=True)
    found = [id(p) for g in groups for p in g["params"]]
    assert sorted(found) == sorted({id(p) for m in (body, head) for p in m.parameters()})
    assert head.model.get_output_embeddings().weight is body.get_input_embeddings().weight


@pytest.mark.parametrize("family", ["bert", "modernbert", "distilbert"])
def test_biases_and_norms_are_not_decayed_and_matrices_are(family: str) -> None:
    body = body_of(family)
    groups = parameter_groups(body, head_of(body), OptimConfig(learning_rate=1.0, weight_decay=0.1), layerwise=False)
    for group in groups:
        assert all((p.ndim >= 2) == (group["weight_decay"] == 0.1) for p in group["params"])


@pytest.mark.parametrize(
    ("family", "bottom", "layer"),
    [
        ("bert", "embeddings.", "encoder.layer.{}."),
        ("minilm", "embeddings.", "encoder.layer.{}."),
        ("roberta", "embeddings.", "encoder.layer.{}."),
        ("electra", "embeddings", "encoder.layer.{}."),
        ("distilbert", "embeddings.", "transformer.layer.{}."),
        ("modernbert", "embeddings.", "layers.{}."),
        ("gpt2", "w", "h.{}."),
    ],
)
def test_layerwise_rates_fall_from_the_head_to_the_embeddings(family: str, bottom: str, layer: str) -> None:
    body = body_of(family)
    head = nn.Linear(64, 2)
    found = rates(body, parameter_groups(body, head, OPTIM, layerwise=True))
    expected = {bottom: 0.5**4} | {layer.format(i): 0.5 ** (3 - i) for i in range(3)}
    for prefix, rate in expected.items():
        assert {r for name, r in found.items() if name.startswith(prefix)} == {rate}, prefix
    above = {r for name, r in found.items() if not name.startswith(tuple(expected))}
    assert above <= {0.5}  # a last norm goes with the top layer


def test_without_layerwise_the_body_has_one_rate_and_the_head_its_own() -> None:
    body, head = body_of("bert"), nn.Linear(64, 2)
    groups = parameter_groups(body, head, OPTIM, layerwise=False)
    assert set(rates(body, groups).values()) == {1.0}
    assert set(rates(head, groups).values()) == {3.0}


def test_frozen_parameters_are_in_no_group() -> None:
    body, head = body_of("bert"), nn.Linear(64, 2)
    freeze(body.parameters())
    groups = parameter_groups(body, head, OPTIM, layerwise=True)
    assert {id(p) for g in groups for p in g["params"]} == {id(p) for p in head.parameters()}


@pytest.mark.parametrize("family", ["bert", "modernbert", "distilbert"])
def test_muon_takes_the_matrices_of_the_layers_and_nothing_else(family: str) -> None:
    body = body_of(family)
    head = head_of(body)
    settings_ = OptimConfig(name="muon", learning_rate=1e-3, muon_learning_rate=0.02)
    groups = parameter_groups(body, head, settings_, layerwise=False)
    taken = {id(p) for g in groups if g["muon"] for p in g["params"]}
    layers = {id(p) for n, p in body.named_parameters() if ("layer.0." in n or "layers.0." in n) and p.ndim == 2}
    assert layers
    assert layers <= taken
    assert not taken & {id(p) for n, p in body.named_parameters() if "embed" in n or p.ndim != 2}
    assert not taken & {id(p) for p in head.parameters()}
    assert {g["lr"] for g in groups} == {1e-3, 0.02}


def test_muon_takes_the_matrices_of_a_decoder_in_the_head_but_no_table_of_positions() -> None:
    config = AutoConfig.for_model(
        "t5", vocab_size=200, d_model=64, d_kv=32, num_heads=2, num_layers=2, d_ff=96, decoder_start_token_id=0
    )
    body, head = AutoModel.from_config(config).get_encoder(), TransformersHead("AutoModelForSeq2SeqLM", config)
    head.tie(body)
    settings_ = OptimConfig(name="muon", learning_rate=1e-3, muon_learning_rate=0.02)
    groups = parameter_groups(body, head, settings_, layerwise=False)
    taken = {id(p) for g in groups if g["muon"] for p in g["params"]}
    named = [*body.named_parameters(), *head.named_parameters()]
    tables = ("embed_tokens", "shared", "lm_head", "relative_attention_bias")
    assert taken == {id(p) for n, p in named if p.ndim == 2 and not any(table in n for table in tables)}
    assert len(taken) == 2 * (4 + 2) + 2 * (8 + 2)


@pytest.mark.parametrize("kind", ["linear", "cosine", "wsd", "inverse_sqrt", "constant"])
@given(warmup=st.floats(0, 0.9), total=st.integers(1, 500))
@settings(max_examples=40, deadline=None)
def test_a_schedule_rises_once_then_never_again_and_is_never_zero_before_the_end(
    kind: str, warmup: float, total: int
) -> None:
    factor = schedule(kind, warmup, total)
    values = [factor(step) for step in range(total)]
    first = min(total, max(1, math.ceil(warmup * total)))
    assert all(0 < v <= 1 for v in values)
    assert values[first - 1] == 1
    assert values[:first] == sorted(values[:first])
    assert values[first:] == sorted(values[first:], reverse=True)


@pytest.mark.parametrize(("kind", "middle", "end"), [("linear", 0.5, 0), ("cosine", 0.5, 0), ("constant", 1, 1)])
def test_schedules_have_their_shapes(kind: str, middle: float, end: float) -> None:
    factor = schedule(kind, 0.2, 100)
    assert factor(9) == pytest.approx(0.5)
    assert factor(60) == pytest.approx(middle)
    assert factor(100) == pytest.approx(end)
    assert factor(150) == pytest.approx(end)


def test_inverse_square_root_falls_with_the_root_of_the_steps() -> None:
    factor = schedule("inverse_sqrt", 0.1, 1000)
    assert [factor(step) for step in (0, 49, 99, 399)] == [0.01, 0.5, 1.0, 0.5]
    assert all(factor(step) > factor(step + 1) for step in range(99, 999))


def test_wsd_is_flat_and_then_falls_in_a_line() -> None:
    factor = schedule("wsd", 0.0, 101)
    assert factor(60) == 1
    assert factor(81) == pytest.approx(0.5)
    assert factor(101) == 0


@pytest.mark.parametrize("shape", [(3, 64, 64), (2, 64, 256), (2, 256, 64), (1, 8, 128)])
def test_orthogonalise_brings_singular_values_near_one(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    spectrum = torch.logspace(0, -1.5, left.size(-1))  # a condition number of 30
    found = torch.linalg.svdvals(orthogonalise(left * spectrum @ right))
    assert found.min() > 0.6
    assert found.max() < 1.3


def test_orthogonalise_keeps_the_singular_vectors() -> None:
    torch.manual_seed(0)
    given_ = torch.randn(1, 16, 48)
    left, _, right = torch.linalg.svd(given_, full_matrices=False)
    inner = left.mT @ orthogonalise(given_) @ right.mT
    assert (inner - torch.diag_embed(inner.diagonal(dim1=-2, dim2=-1))).abs().max() < 0.03  # bfloat16 has three digits


def test_orthogonalise_of_zero_is_zero() -> None:
    assert orthogonalise(torch.zeros(1, 4, 4)).abs().max() == 0


class Pair(nn.Module):
    """A matrix for Muon and the rest for AdamW."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 24)])
        self.out = nn.Linear(24, 3)

    def loss(self, step: int) -> Tensor:
        x = torch.randn(16, 8, generator=torch.Generator().manual_seed(step))
        for layer in self.layers:
            x = layer(x).relu()
        return self.out(x).pow(2).mean()


def make(name: Any) -> tuple[Pair, Any, LambdaLR]:
    model = Pair()
    settings_ = OptimConfig(name=name, learning_rate=1e-2, weight_decay=0.1)
    optimizer = build_optimizer(parameter_groups(model, nn.Identity(), settings_, layerwise=False))
    return model, optimizer, LambdaLR(optimizer, schedule("linear", 0.2, 20))


def train(model: Pair, optimizer: Any, scheduler: LambdaLR, steps: range) -> None:
    for step in steps:
        optimizer.zero_grad()
        model.loss(step).backward()
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_an_optimiser_restored_from_a_file_goes_on_bit_for_bit(name: str) -> None:
    straight = make(name)
    train(*straight, range(10))
    first = make(name)
    train(*first, range(4))
    file = io.BytesIO()
    torch.save([part.state_dict() for part in first], file)
    file.seek(0)
    second = make(name)
    for part, state in zip(second, torch.load(file, weights_only=True), strict=True):
        part.load_state_dict(state)
    train(*second, range(4, 10))
    assert all(torch.equal(a, b) for a, b in zip(straight[0].parameters(), second[0].parameters(), strict=True))


def test_muon_adamw_is_torch_adamw_on_the_other_groups() -> None:
    def groups(model: nn.Module) -> list[dict[str, Any]]:
        parts = [
            {"params": [p for p in model.parameters() if (p.ndim < 2) == low], "lr": 1e-2} for low in (True, False)
        ]
        return [{**g, "weight_decay": d, "muon": False} for g, d in zip(parts, (0.0, 0.1), strict=True)]

    one, two = Pair(), Pair()
    ours = MuonAdamW(groups(one))
    theirs = torch.optim.AdamW(groups(two), betas=(0.9, 0.98), eps=1e-8, fused=True)
    for model, optimizer in ((one, ours), (two, theirs)):
        train(model, optimizer, LambdaLR(optimizer, schedule("cosine", 0.2, 8)), range(8))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_a_muon_step_moves_a_matrix_by_the_rate_in_every_direction() -> None:
    matrix = nn.Parameter(torch.zeros(8, 32))
    matrix.grad = torch.randn(8, 32, generator=torch.Generator().manual_seed(0)) * 1e-4
    MuonAdamW([{"params": [matrix], "lr": 0.1, "weight_decay": 0.0, "muon": True}]).step()
    moved = torch.linalg.svdvals(matrix.detach())
    assert ((moved > 0.06) & (moved < 0.13)).all()


def test_a_muon_step_decays_the_weights() -> None:
    matrix = nn.Parameter(torch.ones(4, 4))
    matrix.grad = torch.zeros(4, 4)
    MuonAdamW([{"params": [matrix], "lr": 0.1, "weight_decay": 0.5, "muon": True}]).step()
    assert torch.allclose(matrix, torch.full((4, 4), 0.95))


def test_parameters_without_a_gradient_stay() -> None:
    model, optimizer, _ = make("muon")
    before = [p.clone() for p in model.parameters()]
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_closure_is_run_with_gradients_and_its_loss_returned(name: str) -> None:
    model, optimizer, _ = make(name)

    def closure() -> Tensor:
        loss = model.loss(0)
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == Pair().loss(0).item()
