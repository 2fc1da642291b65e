"""AdamW by rows against torch's AdamW over the whole table."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import AdamW

from nlpkit import row_adamw
from nlpkit.config import OptimConfig
from nlpkit.optim import build_optimizer
from nlpkit.row_adamw import looked_up_by_rows
from tests.support import tiny_runs

ROWS, WIDTH = 30, 3


def _table(*, sparse: bool) -> nn.Embedding:
    weights = torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(0))
    return nn.Embedding(ROWS, WIDTH, sparse=sparse, _weight=weights)


def _optimizer(table: nn.Embedding, decay: float) -> Any:
    return build_optimizer([{"params": [table.weight], "lr": 0.1, "weight_decay": decay, "muon": False}])


def _step(table: nn.Embedding, optimizer: Any, ids: list[int], rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad()
    (table(torch.tensor(ids, dtype=torch.int64)) ** 2).sum().backward()
    optimizer.step()


ids = st.lists(st.integers(0, ROWS - 1), max_size=6)


@settings(deadline=None, max_examples=40)
@given(st.lists(ids, max_size=8), st.sampled_from([0.0, 0.5]))
def test_rows_that_were_looked_up_are_as_in_torch_and_others_as_they_were(
    batches: list[list[int]], decay: float
) -> None:
    ours, theirs = _table(sparse=True), _table(sparse=False)
    first = ours.weight.detach().clone()
    mine, plain = _optimizer(ours, decay), AdamW(theirs.parameters(), betas=(0.9, 0.98), weight_decay=decay)
    never = set(range(ROWS))
    for number, batch in enumerate(batches):
        for table, optimizer in ((ours, mine), (theirs, plain)):
            _step(table, optimizer, batch, 0.1 / (number + 1))
        never -= set(batch)
    others = sorted(never)
    torch.testing.assert_close(ours.weight[others], first[others], rtol=0, atol=0)
    if not decay:  # torch decays a row before it was ever looked up
        torch.testing.assert_close(ours.weight, theirs.weight)


def test_decay_begins_when_a_row_is_looked_up() -> None:
    ours, theirs = _table(sparse=True), _table(sparse=False)
    mine, plain = _optimizer(ours, 0.5), AdamW(theirs.parameters(), betas=(0.9, 0.98), weight_decay=0.5)
    for batch in ([4, 9], [9], [4, 4]):
        for table, optimizer in ((ours, mine), (theirs, plain)):
            _step(table, optimizer, batch, 0.1)
    torch.testing.assert_close(ours.weight[[4, 9]], theirs.weight[[4, 9]])


def _saved(state: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize("sparse_first", [True, False])
@pytest.mark.parametrize("sparse_then", [True, False])
def test_a_saved_state_goes_on_in_any_form(sparse_first: bool, sparse_then: bool) -> None:
    batches = [[1, 2], [2, 3, 3], [8], [1, 8, 9]]
    plain = _table(sparse=False)
    optimizer = _optimizer(plain, 0.0)
    for batch in batches:
        _step(plain, optimizer, batch, 0.1)
    one = _table(sparse=sparse_first)
    before = _optimizer(one, 0.0)
    for batch in batches[:2]:
        _step(one, before, batch, 0.1)
    two = _table(sparse=sparse_then)
    two.load_state_dict(one.state_dict())
    after = _optimizer(two, 0.0)
    after.load_state_dict(_saved(before.state_dict()))
    for batch in batches[2:]:
        _step(two, after, batch, 0.1)
    torch.testing.assert_close(two.weight, plain.weight)


def test_the_state_has_the_rows_alone() -> None:
    table = _table(sparse=True)
    optimizer = _optimizer(table, 0.0)
    _step(table, optimizer, [5, 7, 5], 0.1)
    _step(table, optimizer, [7, 1], 0.1)
    state = optimizer.state[table.weight]
    assert state["rows"].tolist() == [5, 7, 1]
    assert state["exp_avg"].shape == (3, WIDTH)
    assert table.weight.grad is not None and table.weight.grad.is_sparse


class _Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.many, self.few, self.shared, self.frozen = (nn.Embedding(n, 2) for n in (5000, 10, 5000, 5000))
        self.out = nn.Linear(2, 5000)
        self.out.weight = self.shared.weight
        self.frozen.weight.requires_grad_(False)


def test_only_large_tables_that_learn_and_are_nobody_elses_are_looked_up_by_rows() -> None:
    model = _Tied()
    with looked_up_by_rows(model, True):
        assert [t.sparse for t in (model.many, model.few, model.shared, model.frozen)] == [True, False, False, False]
        model.many(torch.tensor([1, 1, 2])).sum().backward()
        model.many(torch.tensor([2])).sum().backward()
        gradient = model.many.weight.grad
        assert gradient is not None and gradient.is_coalesced() and gradient.indices().tolist() == [[1, 2]]
    assert not model.many.sparse and model.many.weight.grad is None
    model.many(torch.tensor([1])).sum().backward()
    assert model.many.weight.grad is not None and not model.many.weight.grad.is_sparse


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.weight.register_hook(lambda g: g),
        lambda table: table.weight.register_post_accumulate_grad_hook(lambda p: None),
        lambda table: table.register_forward_hook(lambda *_: None),
        lambda table: table.bfloat16(),
        lambda table: setattr(table, "scale_grad_by_freq", True),
    ],
)
def test_tables_that_are_not_plain_stay_whole(change: Any) -> None:
    table = nn.Embedding(5000, 2)
    change(table)
    with looked_up_by_rows(nn.Sequential(table), True):
        assert not table.sparse


def test_an_optimiser_can_be_copied() -> None:
    table = _table(sparse=True)
    optimizer = _optimizer(table, 0.0)
    _step(table, optimizer, [1, 2], 0.1)
    made = copy.deepcopy(optimizer)
    (weight,) = made.param_groups[0]["params"]
    weight.grad = table.weight.grad
    made.step()
    optimizer.step()
    torch.testing.assert_close(weight, table.weight, rtol=0, atol=0)


@pytest.fixture
def stepped(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with each step by rows."""
    calls, usual = [], row_adamw.step
    monkeypatch.setattr(row_adamw, "step", lambda *given: calls.append(1) or usual(*given))
    return calls


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_with_rows_ends_where_one_with_tables_does(
    accumulate: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stepped: list[int]
) -> None:
    ended: list[dict[str, Tensor]] = []
    for many in (1, 10**9):
        monkeypatch.setattr(row_adamw, "_MANY", many)
        optim = OptimConfig(learning_rate=2e-3, weight_decay=0.0, clip=0.05)
        run = tiny_runs.run(tmp_path / str(many), tiny_runs.sentiment(), epochs=1, optim=optim, accumulate=accumulate)
        ended.append(run.module.state_dict())
        assert (len(stepped) > 0) == (many == 1)
        assert not run.module.backbone.get_input_embeddings().sparse
        stepped.clear()
    for name, value in ended[1].items():
        torch.testing.assert_close(ended[0][name], value, rtol=1e-3, atol=1e-5)


def test_a_resumed_run_with_rows_ends_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stepped: list[int]
) -> None:
    monkeypatch.setattr(row_adamw, "_MANY", 1)
    whole = tiny_runs.run(tmp_path / "whole", tiny_runs.sentiment(), epochs=1)
    with pytest.raises(_Stop):
        tiny_runs.run(tmp_path / "part", tiny_runs.sentiment(), epochs=1, callbacks=[_StopAt(4)])
    checkpoint = max(path.parent for path in (tmp_path / "part" / "checkpoints").glob("*/manifest.json"))
    ended = tiny_runs.run(tmp_path / "part", tiny_runs.sentiment(), epochs=1, resume_from=checkpoint)
    assert stepped
    for name, value in whole.module.state_dict().items():
        torch.testing.assert_close(ended.module.state_dict()[name], value, rtol=0, atol=0)


class _Stop(Exception):
    """The test's own stop."""


class _StopAt(pl.Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise _Stop


def test_pre_training_has_whole_tables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stepped: list[int]) -> None:
    monkeypatch.setattr(row_adamw, "_MANY", 1)
    tiny_runs.run(tmp_path, tiny_runs.mlm(), epochs=1)
    assert not stepped
