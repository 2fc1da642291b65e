"""Places among processes: who this one is, what it gets of a batch, and what is refused."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_runs import examples, mlm, sentiment

from nlpkit import data, meeting, run
from nlpkit.batching import dealt, share
from nlpkit.config import TrainerConfig
from nlpkit.data import TaskDataModule
from nlpkit.errors import UsageError
from nlpkit.processes import Place, largest, place, started, total
from nlpkit.task import SPARE

NAMES = [*meeting._OF_SLURM, *meeting._OF_SLURM.values(), "MASTER_ADDR", "MASTER_PORT", "SLURM_NODELIST"]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As started by hand; what a test sets is gone after it."""
    for name in (*NAMES, "SLURM_JOB_ID", "SLURM_NTASKS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_a_process_started_by_hand_is_alone() -> None:
    assert started() == place() == Place(0, 1)
    assert (largest(3), total(4)) == (3, 4)


def test_torchrun_and_srun_tell_a_process_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_PROCID", "5")
    monkeypatch.setenv("SLURM_NTASKS", "8")
    assert started() == Place(), "a batch script that is no step of srun is one process"
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "8")
    assert started() == Place(5, 8)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert started() == Place(1, 2)
    assert place() == Place(), "until they train together"


def test_a_step_of_srun_is_described_as_torchrun_would(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"PROCID": "5", "STEP_NUM_TASKS": "8", "LOCALID": "1", "NODEID": "2", "NODELIST": "node[07-10],x3"}
    for name, value in {**names, "JOB_ID": "120045"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    meeting._as_torchrun_would()
    found = [os.environ[n] for n in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")]
    assert found == ["5", "8", "1", "2", "node07", "15045"]


def test_half_a_launcher_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError) as caught:
        meeting.Meeting(TrainerConfig(devices=2))
    assert caught.value.message == "RANK and WORLD_SIZE are set, LOCAL_RANK, MASTER_ADDR, MASTER_PORT not"
    assert caught.value.hint == "start the processes by torchrun"


def test_several_devices_in_one_process_are_refused() -> None:
    with pytest.raises(UsageError) as caught:
        run.fit("sentiment", overrides="trainer.devices=2")
    assert caught.value.message == "trainer.devices=2 and trainer.nodes=1 make 2 processes, 1 was started"
    assert caught.value.hint == "start them by torchrun --nproc-per-node=2"


def test_another_number_of_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(UsageError) as caught:
        meeting.Meeting(TrainerConfig(devices=2, nodes=3))
    assert caught.value.message == "trainer.devices=2 and trainer.nodes=3 make 6 processes, 4 were started"
    assert caught.value.hint == "trainer.devices=4, or as many on each machine"


@given(st.integers(0, 40), st.integers(1, 9))
def test_every_row_goes_to_exactly_one_process(rows: int, world: int) -> None:
    """R22."""
    parts = [share(np.arange(rows), Place(rank, world)) for rank in range(world)]
    assert sorted(np.concatenate(parts)) == list(range(rows))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("world", [2, 3, 7])
def test_the_order_of_all_does_not_depend_on_their_number(world: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """R22: the loader of each process, side by side: together they are the loader of one, batch for batch."""

    def batches(at: Place) -> list[list[tuple[int, ...]]]:
        monkeypatch.setattr(data, "place", lambda: at)
        loader = TaskDataModule(sentiment(), examples(), batch_tokens=160, epochs=2).train_dataloader()
        return [
            [tuple(i for i in row if i) for row in batch["input_ids"].tolist()] if SPARE not in batch else []
            for batch in loader
        ]

    whole, parts = batches(Place()), [batches(Place(rank, world)) for rank in range(world)]
    assert min(len(batch) for batch in whole) < 7, "some batch must be smaller than there are processes"
    for batch, *shares in zip(whole, *parts, strict=True):
        assert sorted(row for part in shares for row in part) == sorted(batch)


def test_hidden_words_do_not_depend_on_who_hides_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(at: Place) -> list[tuple[list[int], list[int]]]:
        monkeypatch.setattr(data, "place", lambda: at)
        batch = next(iter(TaskDataModule(mlm(), examples(), batch_tokens=320).train_dataloader()))
        real = batch.get("attention_mask", torch.ones_like(batch["input_ids"])).sum(1).tolist()
        pairs = zip(batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True)
        return [(ids[:n], labels[:n]) for (ids, labels), n in zip(pairs, real, strict=True)]

    assert sorted(rows(Place(0, 2)) + rows(Place(1, 2))) == sorted(rows(Place()))


@pytest.mark.parametrize(("examples_", "world"), [(40, 3), (5, 2), (1, 2)])
def test_dev_rows_are_divided_or_are_everybodys(examples_: int, world: int, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = TaskDataModule(sentiment(), dev=examples(examples_), batch_tokens=64).val_dataloader()
    assert isinstance(loader, data.FixedLoader)
    found = []
    for rank in range(world):
        monkeypatch.setattr(data, "place", lambda rank=rank: Place(rank, world))
        batches = list(loader)
        assert len(loader) == len(batches) > 0
        found += [tuple(i for i in row if i) for batch in batches for row in batch["input_ids"].tolist()]
    copies = 1 if examples_ >= world else world
    assert sorted(found) == sorted(tuple(sentiment().encode(e)["input_ids"]) for e in examples(examples_)) * copies


@given(st.lists(st.integers(0, 2), min_size=1, max_size=30), st.integers(1, 4))
def test_every_process_scores_rows_of_every_kind(kinds: list[int], world: int) -> None:
    order = np.random.default_rng(0).permutation(len(kinds))
    parts = [dealt(order, np.array(kinds), Place(rank, world)).tolist() for rank in range(world)]
    for kind in set(kinds):
        rows = [i for i in range(len(kinds)) if kinds[i] == kind]
        own = [[i for i in part if kinds[i] == kind] for part in parts]
        assert all(own)
        assert sorted(i for part in own for i in part) == sorted(rows * (1 if len(rows) >= world else world))
    assert all(part == [i for i in order.tolist() if i in part] for part in parts)


def test_spare_rows_are_no_input_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "place", lambda: Place(1, 2))
    batch = next(iter(TaskDataModule(sentiment(), examples(1)).train_dataloader()))
    assert SPARE in batch
    assert torch.equal(batch["labels"], torch.tensor([sentiment().encode(examples(1)[0])["labels"]]))
