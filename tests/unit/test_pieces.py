"""A batch in pieces, side by side, against the same batch as a whole; and the same to the bit each time."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import examples, make_module, sentiment, small_bert, small_gpt2, small_tokenizer
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, T5Config

from nlpkit import backbone, pieces, tokenizer
from nlpkit.config import ModelConfig
from nlpkit.heads import Head
from nlpkit.module import TaskModule
from nlpkit.objectives.clm import Clm, ClmConfig
from nlpkit.objectives.denoise import Denoise, DenoiseConfig
from nlpkit.objectives.masked_head import MaskedHead
from nlpkit.objectives.mlm import Mlm, MlmConfig
from nlpkit.objectives.mlm_nsp import MlmNsp, MlmNspConfig
from nlpkit.pieces import in_pieces, loss_in_pieces
from nlpkit.task import Batch, Task
from nlpkit.twins import twin

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


@pytest.fixture
def parted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with each batch that is computed in pieces."""
    calls: list[int] = []
    apply = pieces._Computed.apply
    monkeypatch.setattr(pieces._Computed, "apply", lambda *given: calls.append(len(given[1])) or apply(*given))
    return calls


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
    return module.train(), batch_of(task)


def batch_of(task: Task[Any]) -> Batch:
    return task.collate([{**task.encode(example), "seed": number} for number, example in enumerate(examples(23))])


def trained(module: TaskModule, batch: Batch) -> Pair:
    """Loss and gradients of a step."""
    torch.manual_seed(1)  # of dropout
    module.zero_grad()
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    loss = module.training_step(batch, 0)
    loss.backward()
    return loss.detach(), gradients(module)


def whole(module: TaskModule, batch: Batch) -> Pair:
    """The same without pieces."""
    module.zero_grad()
    loss = module.loss_of(batch)
    loss.backward()
    return loss.detach(), gradients(module)


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor], apart: float = 1e-6) -> None:
    """But for rounding."""
    assert found.keys() == expected.keys()
    for key, gradient in expected.items():
        torch.testing.assert_close(found[key], gradient, rtol=1e-3, atol=apart, msg=key)


def gradients(module: TaskModule) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def equal(one: Pair, other: Pair) -> bool:
    """To the bit."""
    same = one[1].keys() == other[1].keys() and all(torch.equal(one[1][k], other[1][k]) for k in one[1])
    return same and torch.equal(one[0], other[0])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_pieces_give_the_loss_and_the_gradients_of_the_whole(name: str) -> None:
    module, batch = made(name)
    assert len(in_pieces(batch)) > 2
    expected, found = whole(module, batch), trained(module, batch)
    torch.testing.assert_close(found[0], expected[0])
    assert_close(found[1], expected[1])


@pytest.mark.parametrize("family", ["bert", "modernbert", "gpt2", "llama", "t5", "m2m100"])
def test_every_family_of_new_models_is_computed_in_pieces(family: Any, parted: list[int]) -> None:
    name = "denoise" if family in {"t5", "m2m100"} else "clm" if family in {"gpt2", "llama"} else "mlm"
    task = OBJECTIVES[name][0](with_sentinels() if name == "denoise" else small_tokenizer())
    torch.manual_seed(7)
    config = backbone.architecture(ModelConfig(preset="tiny", family=family, sequence_length=64), task.tokenizer)
    module = TaskModule(task, backbone.build(config), task.build_head(config)).train()
    batch = batch_of(task)
    assert not pieces._drops(module)
    expected, found = whole(module, batch), trained(module, batch)
    assert parted == [len(in_pieces(batch))]
    assert_close(found[1], expected[1], 1e-5)
    assert equal(trained(module, batch), found)


def test_rows_of_several_documents_stay_apart_in_pieces() -> None:
    module, batch = made("clm")
    half = batch["input_ids"].size(1) // 2
    batch["documents"] = (torch.arange(2 * half + batch["input_ids"].size(1) % 2) >= half).long().expand(
        len(batch["input_ids"]), -1
    ).contiguous() + 1
    expected, found = whole(module, batch), trained(module, batch)
    torch.testing.assert_close(found[0], expected[0])
    assert_close(found[1], expected[1])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_step_is_the_same_each_time_and_on_any_number_of_threads(name: str) -> None:
    module, batch = made(name)
    first = trained(module, batch)
    assert all(equal(trained(module, batch), first) for _ in range(3))
    torch.set_num_threads(1)
    assert equal(trained(module, batch), first)


def of_class(module: TaskModule, made: type[MaskedHead]) -> None:
    module.head.__class__ = made


class _Meets(MaskedHead):
    """Two pieces wait for each other: one alone would never go on."""

    together = threading.Barrier(2)
    entered = itertools.count()
    by_rows = True  # type: ignore[assignment]

    def loss_from(self, hidden: Tensor, batch: Batch) -> Tensor:
        if next(self.entered) < 2:
            self.together.wait(timeout=60)
        return super().loss_from(hidden, batch)


def test_pieces_are_at_work_at_the_same_time() -> None:
    module, batch = made("mlm")
    of_class(module, _Meets)
    trained(module, batch)
    assert next(_Meets.entered) > 2


@pytest.mark.parametrize("name", OBJECTIVES)
def test_dropout_is_the_same_each_time(name: str) -> None:
    module, batch = made(name, dropout=0.3)
    first = trained(module, batch)
    after = torch.get_rng_state()
    assert equal(trained(module, batch), first)
    assert torch.equal(torch.get_rng_state(), after)
    torch.set_num_threads(1)
    assert torch.equal(trained(module, batch)[0], first[0])
    assert not torch.equal(first[0], whole(module.eval(), batch)[0])


class _Noisy(MaskedHead):
    """Draws, and nothing tells so beforehand."""

    by_rows = True  # type: ignore[assignment]
    draw: Callable[[], float]

    def loss_from(self, hidden: Tensor, batch: Batch) -> Tensor:
        time.sleep(0.005 * random.Random().random())
        return (1 + type(self).draw()) * super().loss_from(hidden, batch)


@pytest.mark.parametrize("draw", [lambda: float(torch.rand(())), np.random.random, random.random])
def test_numbers_that_are_drawn_unannounced_are_the_same_each_time(draw: Callable[[], float]) -> None:
    module, batch = made("mlm")
    _Noisy.draw = staticmethod(draw)
    of_class(module, _Noisy)
    found = []
    for _ in range(4):
        np.random.seed(3)
        random.seed(4)
        found.append((trained(module, batch), draw()))
    assert all(equal(pair, found[0][0]) and after == found[0][1] for pair, after in found)


class _Scaled(nn.Module):
    """Makes gradients that share memory: of a sum of two, and one that is expanded."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.one, self.other, self.scales = (nn.Parameter(torch.zeros(size)) for size in (width, width, 3))

    def forward(self, hidden: Tensor) -> Tensor:
        return (hidden + (self.one + self.other)) * (1 + self.scales.sum())


def test_gradients_that_share_memory_are_added_apart() -> None:
    module, batch = made("mlm")
    module.backbone.encoder.layer[0].output.dropout = _Scaled(64)
    expected, found = whole(module, batch), trained(module, batch)
    assert_close(found[1], expected[1])
    module.zero_grad()
    loss = loss_in_pieces(module, batch)
    assert loss is not None
    (loss / 4).backward()
    assert_close(gradients(module), {key: gradient / 4 for key, gradient in expected[1].items()})


def test_a_part_of_a_loss_hands_over_a_part_of_the_gradient() -> None:
    module, batch = made("mlm")
    _, expected = trained(module, batch)
    module.zero_grad()
    loss = loss_in_pieces(module, batch)
    assert loss is not None
    (loss / 4).backward()
    assert_close(gradients(module), {key: gradient / 4 for key, gradient in expected.items()})
    with pytest.raises(RuntimeError, match=r"^the gradient of a loss that was computed in pieces is handed over once$"):
        loss.backward()


def test_frozen_weights_get_no_gradient() -> None:
    module, batch = made("mlm")
    for parameter in module.backbone.encoder.layer[0].parameters():
        parameter.requires_grad_(False)
    expected, found = whole(module, batch), trained(module, batch)
    assert found[1].keys() == expected[1].keys() and not any("layer.0." in key for key in found[1])
    assert_close(found[1], expected[1])


def test_a_batch_without_a_word_to_guess_has_no_loss_and_changes_nothing() -> None:
    module, batch = made("mlm")
    batch["labels"][:] = -100
    loss, gradients = trained(module, batch)
    assert loss == 0 and all(not g.any() for g in gradients.values())


def test_pieces_hold_all_rows_once_and_few_tokens_each() -> None:
    _, batch = made("mlm")
    parts = in_pieces(batch)
    for key, values in batch.items():
        assert torch.equal(torch.cat([part[key] for part in parts]), values)
    assert all(part["input_ids"].numel() <= 256 for part in parts)


def test_rows_longer_than_a_piece_are_one_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "_TOKENS", 5)
    _, batch = made("mlm")
    assert [len(part["input_ids"]) for part in in_pieces(batch)] == [1] * 23


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


class _OwnHidden(TaskModule):
    def hidden(self, batch: Batch) -> Tensor:
        return super().hidden(batch)


CHANGES: dict[str, Callable[[Any], object]] = {
    "hook": lambda module: module.backbone.encoder.layer[0].register_forward_hook(lambda *_: None),
    "hook on the way back": lambda module: module.head.register_full_backward_hook(lambda *_: None),
    "hook of a weight": lambda module: module.backbone.get_input_embeddings().weight.register_hook(lambda g: g),
    "forward": lambda module: setattr(module.backbone.encoder, "forward", module.backbone.encoder.forward),
    "kept method": lambda module: setattr(module.backbone, "own", module.backbone.encoder.forward),
    "compiled": lambda module: module.backbone.encoder.compile(),
    "checkpointing": lambda module: module.backbone.activation_checkpointing_enable(),
    "class of the head": lambda module: of_class(module, _OwnLoss),
    "loss": lambda module: setattr(module.head, "loss", module.head.loss),
    "loss from hidden states": lambda module: setattr(module.head, "loss_from", module.head.loss_from),
    "type": lambda module: module.double(),
    "batch norm": lambda module: setattr(module.backbone.encoder, "norm", nn.BatchNorm1d(3)),
    "rotary embedding": lambda module: setattr(module.backbone.encoder, "rope_type", "dynamic"),
    "rotary embeddings": lambda module: setattr(module.backbone.encoder, "rope_type", {"full_attention": "longrope"}),
    "hidden states": lambda module: setattr(module.backbone.config, "output_hidden_states", True),
    "attentions": lambda module: vars(module.backbone.config).update(_output_attentions=True),
    "class of the module": lambda module: setattr(module, "__class__", _OwnHidden),
    "the module's hidden": lambda module: setattr(module, "hidden", module.hidden),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_somebody_has_changed_stays_whole(change: str, parted: list[int]) -> None:
    module, batch = made("mlm")
    trained(module, batch)
    assert parted.pop() > 1
    CHANGES[change](module)
    if change != "compiled":  # which takes long
        trained(module, batch)
    assert not parted and not (module._is_as_made() and loss_in_pieces(module, batch))


def test_what_must_stay_whole_does(parted: list[int]) -> None:
    module, batch = made("mlm")
    with torch.no_grad():
        assert loss_in_pieces(module, batch) is None
    with torch.autocast("cpu", torch.bfloat16):
        assert loss_in_pieces(module, batch) is None
    for more in (torch.ones(()), ["a"] * len(batch["input_ids"])):
        assert loss_in_pieces(module, {**batch, "more": more}) is None  # type: ignore[dict-item]
    empty = {key: values[:, :0] for key, values in batch.items()}
    assert loss_in_pieces(module, empty) is None
    for task in (sentiment(), MlmNsp(MlmNspConfig(max_length=64), small_tokenizer())):
        assert not make_module(task).head.by_rows
    assert not _Plain().by_rows
    assert parted == []


def test_a_batch_of_usual_size_is_parted_by_itself(parted: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    module, batch = made("mlm")
    torch.set_num_threads(2)
    few = {key: values[:20].repeat(1, 1) for key, values in batch.items()}
    many = {key: values.repeat(6, 1) for key, values in batch.items()}
    assert many["input_ids"].numel() > 2 * 2048 > 2048 > few["input_ids"].numel()
    for some, expected in ((few, 1), (many, 3)):
        assert len(in_pieces(some)) == min(expected, len(in_pieces(some)))
        assert (loss_in_pieces(module, some) is None) == (expected == 1)


def test_fewer_pieces_at_a_time_where_their_gradients_would_take_more_than_they_save() -> None:
    module, _ = made("mlm")
    torch.set_num_threads(8)
    kept = pieces._KEPT * pieces._TOKENS * 64 * 2  # of a piece of this model of two layers, 64 wide
    assert pieces._workers(module, 8, 1) == 8
    assert pieces._workers(module, 3, 1) == 3
    assert pieces._workers(module, 8, (4 * kept + pieces._MORE) // 4) == 4
    assert pieces._workers(module, 8, 7 * kept + pieces._MORE) == 1
    assert pieces._workers(module, 8, 7 * kept + pieces._MORE + 1) == 0


def test_threads_that_start_later_have_as_many_as_ever() -> None:
    module, batch = made("mlm")
    trained(module, batch)
    found: list[int] = []
    other = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert found == [torch.get_num_threads()] == [2]


def test_no_thread_is_left_at_work_after_an_error() -> None:
    module, batch = made("mlm")
    slow = threading.Event()
    left = threading.Event()

    class Slow(MaskedHead):
        by_rows = True  # type: ignore[assignment]

        def loss_from(self, hidden: Tensor, batch: Batch) -> Tensor:
            if not slow.is_set():
                slow.set()
                raise RuntimeError("of one piece")
            time.sleep(0.2)
            left.set()
            return super().loss_from(hidden, batch)

    of_class(module, Slow)
    with pytest.raises(RuntimeError, match=r"^of one piece$"):
        trained(module, batch)
    assert left.is_set()


class _Plain(Head):
    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        return hidden


def test_a_twin_has_the_weights_and_a_state_of_its_own() -> None:
    module, _ = made("mlm")
    other = twin(module)
    assert type(other) is type(module) and other.backbone.config is module.backbone.config
    own, others = dict(module.named_parameters()), dict(other.named_parameters())
    assert own.keys() == others.keys() and all(own[key] is others[key] for key in own)
    shared: set[nn.Module] = set(module.backbone.modules()) & set(other.backbone.modules())
    assert not shared and isinstance(other.backbone, PreTrainedModel)
    layer = other.backbone.encoder.layer[0].output.dense
    del layer.bias
    layer.register_buffer("own", torch.ones(1))
    first = module.backbone.encoder.layer[0].output.dense
    assert first.bias is not None and not hasattr(first, "own")
