"""A run that was stopped and resumed is the run that was never stopped, bit for bit, wherever it was stopped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import tiny_runs
import torch
from tiny_runs import Ended, examples, mlm, run, sentiment, small_tokenizer
from torchmetrics import Metric, MetricCollection

from nlpkit import checkpoints, pieces, stopping
from nlpkit.config import OptimConfig
from nlpkit.objectives.clm import Clm, ClmConfig
from nlpkit.objectives.mlm_nsp import MlmNsp, MlmNspConfig

MUON = OptimConfig(name="muon", learning_rate=2e-3, schedule="wsd")


class Stop(Exception):
    """The test's own stop."""


class AfterSave(pl.Callback):
    """Look at the run folder as soon as the checkpoint of a step is complete."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self._look(trainer.global_step)

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._look(trainer.global_step)

    def _look(self, step: int) -> None:
        if (checkpoints.path_of(self.path / "checkpoints", step) / "manifest.json").exists():
            self.saved(step)

    def saved(self, step: int) -> None:
        raise NotImplementedError


class Raise(AfterSave):
    """Stop the run there."""

    def __init__(self, path: Path, step: int) -> None:
        super().__init__(path)
        self.step = step

    def saved(self, step: int) -> None:
        if step == self.step:
            raise Stop


class Copy(AfterSave):
    """Copy the run folder: what a kill at this instant leaves, without any farewell."""

    def saved(self, step: int) -> None:
        if not (target := self.path.with_name(f"killed-{step}")).exists():
            shutil.copytree(self.path, target)


class Keep(AfterSave):
    """Read every checkpoint as soon as it is complete."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.states: dict[int, dict[str, Any]] = {}

    def saved(self, step: int) -> None:
        if step not in self.states:
            self.states[step] = checkpoints.load(checkpoints.path_of(self.path / "checkpoints", step))


class Hex(pl.Callback):
    """Note the loss of each batch as a hex float, by its index; a resumed run writes over."""

    def __init__(self, losses: dict[int, str]) -> None:
        self.losses = losses

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        self.losses[index] = float(outputs["loss"]).hex()


def make_task(kind: str) -> Any:
    if kind == "clm":
        return Clm(ClmConfig(max_length=64), small_tokenizer())
    if kind == "mlm+nsp":
        return MlmNsp(MlmNspConfig(max_length=64), small_tokenizer())
    return mlm() if kind == "mlm" else sentiment()


def stopped(path: Path, kind: str, steps: list[int], **more: Any) -> tuple[Ended, dict[int, str]]:
    """A run that is stopped after each of these steps and resumed with new objects."""
    losses: dict[int, str] = {}
    start = None
    for step in steps:
        with pytest.raises(Stop):
            run(path, make_task(kind), resume_from=start, callbacks=[Hex(losses), Raise(path, step)], **more)
        start = checkpoints.newest(path / "checkpoints")
        assert start.name == f"step-{step:08d}"
        for index in [i for i in losses if i >= step * more.get("accumulate", 1)]:
            del losses[index]
    return run(path, make_task(kind), resume_from=start, callbacks=[Hex(losses)], **more), losses


def state_of(path: Path) -> dict[str, Any]:
    return checkpoints.load(checkpoints.newest(path / "checkpoints"))


def without_time(rows: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in rows.splitlines()]


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)


def assert_same(straight: Path, path: Path, ended: tuple[Any, Any], other: tuple[Any, Any], where: Any) -> None:
    (one, losses), (two, again) = ended, other
    assert again == losses, where
    assert equal(one.module.state_dict(), two.module.state_dict()), where
    assert one.outcome == two.outcome, where
    a, b = state_of(straight), state_of(path)
    for key in (
        "state_dict",
        "optimizer_states",
        "lr_schedulers",
        "callbacks",
        "current_model_state",
        "averaging_state",
    ):
        assert equal(a.get(key), b.get(key)), (where, key)
    assert without_time((straight / "metrics.jsonl").read_text()) == without_time((path / "metrics.jsonl").read_text())


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Halves:
    """Pairs that are drawn anew in each epoch, of texts that need no store."""

    def __init__(self, task: Any, count: int) -> None:
        self.texts = [task.tokenizer(e["text"], add_special_tokens=False)["input_ids"] for e in examples(count)]
        self.task = task
        self.lengths = np.array([len(text) + 3 for text in self.texts])

    def features(self, index: int, seed: int = 0) -> Any:
        text = self.texts[index]
        return {**self.task.encode_tokens(text if seed % 2 else text[::-1]), "labels": seed % 2}

    def where(self, index: int) -> str:
        return f"text {index}"


COSINE = OptimConfig(learning_rate=2e-3, schedule="cosine", warmup=0.3)
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "fine-tuning": ("sentiment", {"epochs": 2, "max_steps": 8}),
    "mlm and muon": ("mlm", {"epochs": 3, "max_steps": 8, "optim": MUON}),
    "clm": ("clm", {"epochs": 2, "max_steps": 7, "optim": COSINE}),
    "mlm+nsp": ("mlm+nsp", {"epochs": 2, "max_steps": 7}),
    "accumulation of 2": ("sentiment", {"epochs": 2, "accumulate": 2, "optim": COSINE}),
    "accumulation of 3": ("sentiment", {"epochs": 3, "accumulate": 3}),
    "lora": ("sentiment", {"epochs": 1, "strategy": "lora"}),
    "freeze": ("sentiment", {"epochs": 1, "strategy": "freeze"}),
    "layerwise": ("sentiment", {"epochs": 1, "strategy": "layerwise"}),
    "averaged": ("sentiment", {"epochs": 2, "accumulate": 2, "optim": replace(COSINE, average=3)}),
}


def parts(kind: str) -> dict[str, Any]:
    """What a case trains on: examples, unless the objective draws pairs."""
    return {"train": Halves(make_task(kind), 32), "dev": Halves(make_task(kind), 8)} if kind == "mlm+nsp" else {}


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["mlm", "clm"])
def test_a_run_by_pieces_side_by_side_is_the_straight_one_again(
    kind: str, dropout: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without dropout they are at work at the same time, with it one after the other."""
    parts: list[int] = []
    apply = pieces._Computed.apply
    monkeypatch.setattr(pieces, "_TOKENS", 48)
    monkeypatch.setattr(pieces._Computed, "apply", lambda *given: parts.append(len(given[1])) or apply(*given))
    for name in ("small_bert", "small_gpt2"):
        monkeypatch.setattr(tiny_runs, name, partial(getattr(tiny_runs, name), dropout))
    torch.set_num_threads(2)
    more: dict[str, Any] = {"epochs": 2, "accumulate": 2}
    losses: dict[int, str] = {}
    straight = run(tmp_path / "straight", make_task(kind), callbacks=[Hex(losses)], **more), losses
    assert len(parts) >= 8 and max(parts) > 2
    other = stopped(tmp_path / "stopped", kind, [1, 3], **more)
    assert_same(tmp_path / "straight", tmp_path / "stopped", straight, other, kind)


@pytest.mark.parametrize("case", CASES)
def test_a_run_killed_after_any_save_is_the_straight_one_again(tmp_path: Path, case: str) -> None:
    """R01, R06, R07, and any number of stops: not only the end, but all that each later checkpoint holds is equal.

    So a run that goes on from a checkpoint of a resumed run goes on from one of the straight run.
    """
    kind, more = CASES[case]
    more = {**more, **parts(kind)}
    losses: dict[int, str] = {}
    copy, keep = Copy(tmp_path / "straight"), Keep(tmp_path / "straight")
    straight = run(tmp_path / "straight", make_task(kind), callbacks=[Hex(losses), copy, keep], **more), losses
    steps = straight[0].outcome.steps
    assert list(keep.states) == list(range(1, steps + 1))
    for step in keep.states:
        path = tmp_path / f"killed-{step}"
        again = {i: v for i, v in losses.items() if i < step * more.get("accumulate", 1)}
        start, kept = checkpoints.newest(path / "checkpoints"), Keep(path)
        assert start.name == f"step-{step:08d}"
        resumed = run(path, make_task(kind), resume_from=start, callbacks=[Hex(again), kept], **more)
        assert_same(tmp_path / "straight", path, straight, (resumed, again), step)
        assert [s for s in kept.states if s > step] == list(range(step + 1, steps + 1))
        different = [s for s in kept.states if not equal(kept.states[s], keep.states[s])]
        assert not different, (step, different)
        shutil.rmtree(path)


def test_batches_made_ahead_change_nothing(tmp_path: Path) -> None:
    """With 0 and with 2 workers, before a kill and after it."""
    losses: dict[int, str] = {}
    straight = run(tmp_path / "straight", mlm(), epochs=2, callbacks=[Hex(losses)]), losses
    again: dict[int, str] = {}
    copy = Copy(tmp_path / "ahead")
    ahead = run(tmp_path / "ahead", mlm(), epochs=2, workers=2, callbacks=[Hex(again), copy]), again
    assert_same(tmp_path / "straight", tmp_path / "ahead", straight, ahead, "2 workers")
    for step, workers in ((3, 2), (5, 0)):
        path, rest = tmp_path / f"killed-{step}", {i: v for i, v in losses.items() if i < step}
        start = checkpoints.newest(path / "checkpoints")
        resumed = run(path, mlm(), epochs=2, workers=workers, resume_from=start, callbacks=[Hex(rest)])
        assert_same(tmp_path / "straight", path, straight, (resumed, rest), (step, workers))


@pytest.mark.parametrize(
    ("case", "pairs"),
    [
        ("fine-tuning", [(1, 2), (6, 7)]),
        ("mlm and muon", [(6, 7)]),
        ("accumulation of 2", [(2, 3)]),
        ("accumulation of 3", [(2, 5)]),
    ],
)
def test_a_run_stopped_twice_ends_as_the_straight_one(tmp_path: Path, case: str, pairs: list[tuple[int, int]]) -> None:
    kind, more = CASES[case]
    straight = stopped(tmp_path / "straight", kind, [], **more)
    for pair in pairs:
        other = stopped(tmp_path / f"{pair}", kind, list(pair), **more)
        assert_same(tmp_path / "straight", tmp_path / f"{pair}", straight, other, pair)


def test_patience_is_waited_for_across_a_stop(tmp_path: Path) -> None:
    """R08."""
    more: dict[str, Any] = {"epochs": 6, "patience": 2, "optim": OptimConfig(learning_rate=0.02, schedule="constant")}
    copy = Copy(tmp_path / "straight")
    losses: dict[int, str] = {}
    straight = run(tmp_path / "straight", sentiment(), callbacks=[Hex(losses), copy], **more), losses
    last = straight[0].outcome.steps
    assert last == len(losses) < 24  # it ended early
    for step in (straight[0].outcome.best_step, last - 1, last):
        path, again = tmp_path / f"killed-{step}", {i: v for i, v in losses.items() if i < step}
        start = checkpoints.newest(path / "checkpoints")
        resumed = run(path, sentiment(), resume_from=start, callbacks=[Hex(again)], **more)
        assert_same(tmp_path / "straight", path, straight, (resumed, again), step)


class Never(Metric):
    """A score that stays at zero, as one of whole entities may in the beginning."""

    def update(self, *_: Any) -> None: ...

    def compute(self) -> torch.Tensor:
        return torch.tensor(0.0)


def test_a_run_goes_on_while_the_loss_falls_though_the_score_does_not_rise(tmp_path: Path) -> None:
    task = sentiment()
    task.build_metrics = lambda: MetricCollection({task.score: Never()})  # type: ignore[method-assign]
    learns = run(tmp_path / "learns", task, epochs=5, patience=2, optim=OptimConfig(learning_rate=3e-4))
    stuck = run(tmp_path / "stuck", task, epochs=5, patience=2, optim=OptimConfig(learning_rate=1e-30))
    assert stuck.outcome.steps < learns.outcome.steps == 15  # all there are


class Clock(pl.Callback):
    """A clock that stands still, but for one batch, which takes so many seconds."""

    def __init__(self) -> None:
        self.now, self.slow, self.seconds = 0.0, 2, 100.0

    def monotonic(self) -> float:
        return self.now

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, index: int) -> None:
        if index == self.slow:
            self.now += self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(stopping, "time", made)
    return made


def test_minutes_that_are_over_stay_over(tmp_path: Path, clock: Clock) -> None:
    """A run that its time has ended, and that was killed before its model was written."""
    more: dict[str, Any] = {"epochs": 6, "minutes": 1, "every": 1000}
    ended = run(tmp_path / "run", sentiment(), callbacks=[clock], **more)
    assert ended.outcome.steps == 3
    last = checkpoints.newest(tmp_path / "run" / "checkpoints")
    assert last.name == f"step-{ended.outcome.steps:08d}"
    again = run(tmp_path / "run", sentiment(), resume_from=last, **more)
    assert again.outcome == ended.outcome
    assert equal(again.module.state_dict(), ended.module.state_dict())


def test_minutes_of_all_parts_of_a_run_count(tmp_path: Path, clock: Clock) -> None:
    more: dict[str, Any] = {"epochs": 2, "minutes": 10}
    with pytest.raises(Stop):
        run(tmp_path, sentiment(), callbacks=[clock, Raise(tmp_path, 4)], **more)
    assert state_of(tmp_path)["callbacks"]["TimeLimit"]["seconds"] == 100
    clock.slow, clock.seconds = 6, 7.0
    run(tmp_path, sentiment(), callbacks=[clock], resume_from=checkpoints.newest(tmp_path / "checkpoints"), **more)
    assert state_of(tmp_path)["callbacks"]["TimeLimit"]["seconds"] == 107


def test_validations_in_between_do_not_change_the_training(tmp_path: Path) -> None:
    with_them: dict[int, str] = {}
    without: dict[int, str] = {}
    one = run(tmp_path / "one", mlm(), epochs=2, callbacks=[Hex(with_them)])
    two = run(tmp_path / "two", mlm(), epochs=2, callbacks=[Hex(without)], dev=[])
    assert with_them == without
    assert one.outcome.steps == two.outcome.steps == len(without)
