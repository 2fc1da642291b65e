"""A batch in pieces, side by side, against the same batch as a whole; and the same to the bit each time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import pytest
import torch
from tiny_runs import examples, make_module, sentiment, small_bert, small_gpt2, small_tokenizer
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, T5Config

from nlpkit import backbone, pieces, tokenizer
from nlpkit.heads import Head
from nlpkit.module import TaskModule
from nlpkit.objectives.clm import Clm, ClmConfig
from nlpkit.objectives.denoise import Denoise, DenoiseConfig
from nlpkit.objectives.masked_head import MaskedHead
from nlpkit.objectives.mlm import Mlm, MlmConfig
from nlpkit.objectives.mlm_nsp import MlmNsp, MlmNspConfig
from nlpkit.pieces import Pieces, in_pieces
from nlpkit.task import Batch, Task

OBJECTIVES: dict[str, tuple[Callable[..., Task[Any]], Any]] = {
    "mlm": (partial(Mlm, MlmConfig(max_length=64)), small_bert),
    "clm": (partial(Clm, ClmConfig(max_length=64)), small_gpt2),
    "denoise": (partial(Denoise, DenoiseConfig(max_length=64)), lambda dropout: small_t5(dropout)),
}
Pair = tuple[Tensor, dict[str, Tensor]]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pieces of a few rows, on two threads."""
    threads = torch.get_num_threads()
    monkeypatch.setattr(pieces, "_TOKENS", 256)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@cache
def with_sentinels() -> PreTrainedTokenizerBase:
    texts = [e["text"] for e in examples()]
    return tokenizer.train(texts, kind="bpe", vocabulary=440, lowercase=False, max_length=64, denoises=True)


def small_t5(dropout: float) -> T5Config:
    return T5Config(
        vocab_size=len(with_sentinels()),
        d_model=64,
        d_ff=128,
        d_kv=32,
        num_heads=2,
        num_layers=2,
        dropout_rate=dropout,
        decoder_start_token_id=0,
        pad_token_id=with_sentinels().pad_token_id,
    )


def made(name: str, dropout: float = 0.0) -> tuple[TaskModule, Batch]:
    """A module in training, and a batch whose rows differ in length and in how much they have to guess."""
    build, config = OBJECTIVES[name]
    task = build(with_sentinels() if name == "denoise" else small_tokenizer())
    torch.manual_seed(7)
    settings = config(dropout=dropout)
    module = TaskModule(task, backbone.build(settings), task.build_head(settings))
    rows = [{**task.encode(example), "seed": number} for number, example in enumerate(examples(23))]
    return module.train(), task.collate(rows)


def trained(module: TaskModule, batch: Batch) -> Pair:
    """Loss and gradients of a step."""
    torch.manual_seed(1)  # of dropout
    module.zero_grad()
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    loss = module.training_step(batch, 0)
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def whole(module: TaskModule, batch: Batch) -> Pair:
    """The same without pieces."""
    module.zero_grad()
    loss = module.loss_of(batch)
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def equal(one: Pair, other: Pair) -> bool:
    """To the bit."""
    same = one[1].keys() == other[1].keys() and all(torch.equal(one[1][k], other[1][k]) for k in one[1])
    return same and torch.equal(one[0], other[0])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_pieces_give_the_loss_and_the_gradients_of_the_whole(name: str) -> None:
    module, batch = made(name)
    assert len(in_pieces(module, batch)) > 2
    expected, found = whole(module, batch), trained(module, batch)
    torch.testing.assert_close(found[0], expected[0])
    assert found[1].keys() == expected[1].keys()
    for key, gradient in expected[1].items():
        torch.testing.assert_close(found[1][key], gradient, rtol=1e-3, atol=1e-6, msg=key)


def test_rows_of_several_documents_stay_apart_in_pieces() -> None:
    module, batch = made("clm")
    half = batch["input_ids"].size(1) // 2
    batch["documents"] = (torch.arange(2 * half + batch["input_ids"].size(1) % 2) >= half).long().expand(
        len(batch["input_ids"]), -1
    ).contiguous() + 1
    expected, found = whole(module, batch), trained(module, batch)
    torch.testing.assert_close(found[0], expected[0])
    for key, gradient in expected[1].items():
        torch.testing.assert_close(found[1][key], gradient, rtol=1e-3, atol=1e-6, msg=key)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_step_is_the_same_each_time_and_on_any_number_of_threads(name: str) -> None:
    module, batch = made(name)
    first = trained(module, batch)
    assert all(equal(trained(module, batch), first) for _ in range(3))
    torch.set_num_threads(1)
    assert equal(trained(module, batch), first)


def test_pieces_are_at_work_at_the_same_time() -> None:
    module, batch = made("mlm")
    together = threading.Barrier(2)
    met: list[int] = []

    class Meets(TaskModule):
        def loss_of(self, batch: Batch) -> Tensor:
            if len(met) < 2:  # the first two pieces wait for each other: one alone would never go on
                met.append(together.wait(timeout=60))
            return super().loss_of(batch)

    module.__class__ = Meets
    trained(module, batch)
    assert sorted(met) == [0, 1]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_dropout_is_the_same_each_time(name: str) -> None:
    module, batch = made(name, dropout=0.3)
    first = trained(module, batch)
    after = torch.get_rng_state()
    assert equal(trained(module, batch), first)  # now known to draw
    assert torch.equal(torch.get_rng_state(), after)
    module._pieces = Pieces()  # as in a new process
    assert equal(trained(module, batch), first)
    assert torch.equal(torch.get_rng_state(), after)
    torch.set_num_threads(1)
    assert torch.equal(trained(module, batch)[0], first[0])
    assert not torch.equal(first[0], whole(module.eval(), batch)[0])


def test_a_part_of_a_loss_hands_over_a_part_of_the_gradient() -> None:
    module, batch = made("mlm")
    _, expected = trained(module, batch)
    module.zero_grad()
    (module._pieces.loss(module, in_pieces(module, batch)) / 4).backward()
    for key, parameter in module.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, expected[key] / 4)


def test_frozen_weights_get_no_gradient() -> None:
    module, batch = made("mlm")
    for parameter in module.backbone.encoder.layer[0].parameters():
        parameter.requires_grad_(False)
    expected, found = whole(module, batch), trained(module, batch)
    assert found[1].keys() == expected[1].keys() and not any("layer.0." in key for key in found[1])


def test_a_batch_without_a_word_to_guess_has_no_loss_and_changes_nothing() -> None:
    module, batch = made("mlm")
    batch["labels"][:] = -100
    loss, gradients = trained(module, batch)
    assert loss == 0 and all(not g.any() for g in gradients.values())


def test_pieces_hold_all_rows_once_and_few_tokens_each() -> None:
    module, batch = made("mlm")
    parts = in_pieces(module, batch)
    for key, values in batch.items():
        assert torch.equal(torch.cat([part[key] for part in parts]), values)
    assert all(part["input_ids"].numel() <= 256 for part in parts)


def test_rows_longer_than_a_piece_are_one_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "_TOKENS", 5)
    module, batch = made("mlm")
    assert [len(part["input_ids"]) for part in in_pieces(module, batch)] == [1] * 23


def test_an_error_in_a_piece_is_raised_as_it_is_and_the_next_step_works() -> None:
    module, batch = made("mlm")
    expected = trained(module, batch)
    bad = {key: values.clone() for key, values in batch.items()}
    bad["input_ids"][-1, 1] = 10_000
    with pytest.raises(IndexError, match="index out of range in self"):
        trained(module, bad)
    assert equal(trained(module, batch), expected)


def test_a_step_leaves_the_module_as_it_was() -> None:
    module, batch = made("mlm")
    before = [(part, part.training, set(vars(part))) for part in module.backbone.modules()]
    trained(module, batch)
    assert [(part, part.training, set(vars(part))) for part in module.backbone.modules()] == before


class _OwnLoss(MaskedHead):
    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return super().loss(logits, batch) ** 2


@pytest.mark.parametrize(
    "change",
    [
        lambda module: module.backbone.encoder.layer[0].register_forward_hook(lambda *_: None),
        lambda module: module.head.register_full_backward_hook(lambda *_: None),
        lambda module: module.backbone.embeddings.word_embeddings.weight.register_hook(lambda gradient: gradient),
        lambda module: setattr(module.backbone.encoder, "forward", module.backbone.encoder.forward),
        lambda module: module.backbone.activation_checkpointing_enable(),
        lambda module: setattr(module.head, "__class__", _OwnLoss),
        lambda module: setattr(module.head, "loss", module.head.loss),
        lambda module: module.double(),
    ],
    ids=["hook", "hook on the way back", "hook of a weight", "forward", "checkpointing", "class", "loss", "type"],
)
def test_what_somebody_has_changed_stays_whole(change: Callable[[TaskModule], object]) -> None:
    module, batch = made("mlm")
    assert len(in_pieces(module, batch)) > 1
    change(module)
    assert in_pieces(module, batch) == [batch]


def test_what_must_stay_whole_does() -> None:
    module, batch = made("mlm")
    with torch.no_grad():
        assert in_pieces(module, batch) == [batch]
    with torch.autocast("cpu", torch.bfloat16):
        assert in_pieces(module, batch) == [batch]
    odd = {**batch, "scale": torch.ones(())}
    assert in_pieces(module, odd) == [odd]
    for task in (sentiment(), MlmNsp(MlmNspConfig(max_length=64), small_tokenizer())):
        assert not make_module(task).head.by_rows
    assert not _Plain().by_rows


class _Plain(Head):
    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        return hidden


def test_a_twin_has_the_weights_and_a_state_of_its_own() -> None:
    module, _ = made("mlm")
    twin = pieces._twin(module)
    assert type(twin) is type(module) and twin.backbone.config is module.backbone.config
    own, others = dict(module.named_parameters()), dict(twin.named_parameters())
    assert own.keys() == others.keys() and all(own[key] is others[key] for key in own)
    shared: set[nn.Module] = set(module.backbone.modules()) & set(twin.backbone.modules())
    assert not shared and isinstance(twin.backbone, PreTrainedModel)
