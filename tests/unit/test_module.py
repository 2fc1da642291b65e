"""The module in an ordinary Trainer, in training mode, open to subclasses, and stopped before it is spoilt."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from tiny_runs import examples, make_module, mlm, run, sentiment, small_bert
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM

from nlpkit import checkpoints, handover
from nlpkit.config import OptimConfig
from nlpkit.data import TaskDataModule
from nlpkit.errors import DivergedError
from nlpkit.module import TaskModule

logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
HINT = "lower optim.learning_rate (or optim.muon_learning_rate), or raise optim.warmup"


def plain_trainer(path: Path, **more: Any) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=path,
        **{"max_epochs": 2, "enable_checkpointing": False, **more},
    )


def data(count: int = 40, **more: Any) -> TaskDataModule:
    return TaskDataModule(sentiment(), examples()[:count], examples()[32:], examples()[:6], batch_tokens=160, **more)


def finite(module: nn.Module) -> bool:
    return all(bool(torch.isfinite(p).all()) for p in module.parameters())


@pytest.fixture
def loaded(tmp_path: Path) -> TaskModule:
    """A module on weights that `from_pretrained` has read, which leaves models in evaluation mode."""
    AutoModelForMaskedLM.from_config(small_bert(0.3)).save_pretrained(tmp_path / "plain")
    config = handover.read_architecture(str(tmp_path / "plain"))
    task = sentiment()
    head = task.build_head(config)
    body, _ = handover.load(str(tmp_path / "plain"), head, config=config)
    return TaskModule(task, body, head, OptimConfig(learning_rate=1e-3))


def test_dropout_is_on_while_a_loaded_model_trains(tmp_path: Path, loaded: TaskModule) -> None:
    seen: list[tuple[bool, bool, bool]] = []

    class Look(pl.Callback):
        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
            with torch.no_grad():
                differ = not torch.equal(module.hidden(batch), module.hidden(batch))
            seen.append((module.training, all(m.training for m in module.modules()), differ))

    plain_trainer(tmp_path, callbacks=[Look()], max_steps=6, val_check_interval=2).fit(loaded, datamodule=data())
    assert seen == [(True, True, True)] * 6


def test_dropout_is_off_while_dev_is_scored(tmp_path: Path, loaded: TaskModule) -> None:
    seen: list[bool] = []

    class Look(pl.Callback):
        def on_validation_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            seen.append(any(m.training for m in module.modules()))

    plain_trainer(tmp_path, callbacks=[Look()]).fit(loaded, datamodule=data())
    assert seen
    assert not any(seen)


def test_a_plain_trainer_fits_tests_and_predicts(tmp_path: Path) -> None:
    module, parts = make_module(sentiment()), data()
    trainer = plain_trainer(tmp_path, max_epochs=3)
    trainer.fit(module, datamodule=parts)
    assert trainer.global_step == 3 * len(parts.train_dataloader())
    (scores,) = trainer.validate(module, datamodule=parts, verbose=False)
    assert {"dev/loss", "dev/accuracy", "dev/f1_macro"} <= scores.keys()
    (scores,) = trainer.test(module, datamodule=parts, verbose=False)
    assert {"test/loss", "test/accuracy", "test/f1_macro"} <= scores.keys()
    answers = [row for batch in trainer.predict(module, datamodule=parts) for row in batch]
    assert len(answers) == 6
    assert {"label", "score", "scores"} == answers[0].keys()


def test_a_plain_trainer_goes_through_epochs_of_unequal_length_in_full(tmp_path: Path) -> None:
    parts = TaskDataModule(sentiment(), examples(300), batch_tokens=64)
    loader = parts.train_dataloader()
    assert len({len(loader.plan.epoch(e)) for e in range(3)}) > 1
    trainer = plain_trainer(tmp_path, max_epochs=3)
    trainer.fit(make_module(sentiment()), datamodule=parts)
    assert trainer.global_step == 3 * len(loader)


def test_the_schedule_ends_with_the_run_of_a_plain_trainer(tmp_path: Path) -> None:
    trainer = plain_trainer(tmp_path)
    trainer.fit(make_module(sentiment()), datamodule=data())
    assert {g["lr"] for g in trainer.optimizers[0].param_groups} == {0.0}


class Rows(pl.Callback):
    """The token ids of each training batch."""

    def __init__(self) -> None:
        self.seen: list[list[list[int]]] = []

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, index: int) -> None:
        self.seen.append(batch["input_ids"].tolist())


@pytest.mark.parametrize("when", [{"every_n_train_steps": 5}, {"every_n_epochs": 1}], ids=["in", "end"])
def test_a_plain_trainer_resumes_at_the_next_batch(tmp_path: Path, when: dict[str, int]) -> None:
    whole, rest = Rows(), Rows()
    saver = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, **when)
    callbacks = {"callbacks": [whole, saver], "enable_checkpointing": True}
    plain_trainer(tmp_path, max_epochs=3, **callbacks).fit(make_module(sentiment()), datamodule=data())
    found = sorted(int(path.stem.removeprefix("step=")) for path in tmp_path.glob("*.ckpt"))
    assert 0 < found[0] < len(whole.seen)
    resumed = plain_trainer(tmp_path, max_epochs=3, callbacks=[rest])
    path = tmp_path / f"step={found[0]}.ckpt"
    resumed.fit(make_module(sentiment()), datamodule=data(), ckpt_path=path, weights_only=True)
    assert rest.seen == whole.seen[found[0] :]


def test_a_subclass_may_bring_its_own_optimiser_and_loss(tmp_path: Path) -> None:
    class Own(TaskModule):
        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return 2 * super().training_step(batch, batch_idx)

    made = make_module(sentiment())
    module = Own(made.task, made.backbone, made.head)
    trainer = plain_trainer(tmp_path, max_epochs=1)
    trainer.fit(module, datamodule=data())
    assert isinstance(trainer.optimizers[0], torch.optim.SGD)
    assert trainer.global_step > 0


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_the_loss_falls(tmp_path: Path, name: Any) -> None:
    optim = OptimConfig(name=name, learning_rate=3e-3, muon_learning_rate=0.01)
    run(tmp_path / "run", mlm(), epochs=6, every=0, optim=optim)
    first, *_, last = [line for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines() if "dev/loss" in line]
    assert float(last.split('"dev/loss": ')[1].split(",")[0]) < float(first.split('"dev/loss": ')[1].split(",")[0])


class Poison(pl.Callback):
    """Spoil the loss or the gradient of one batch."""

    def __init__(self, index: int, what: str) -> None:
        self.index, self.what, self.before = index, what, dict[str, Tensor]()
        self.names: list[str] = []

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
        if index != self.index:
            return
        self.before = {name: p.detach().clone() for name, p in module.named_parameters()}
        known = [sentiment().encode(example)["input_ids"] for example in examples()]
        rows = [[i for i in row if i] for row in batch["input_ids"].tolist()]
        self.names = [f"example {known.index(row) + 1}" for row in rows]
        if self.what == "loss":
            usual = module.head.loss
            module.head.loss = lambda logits, batch: usual(logits, batch) * torch.tensor(float("nan"))
        else:
            next(module.head.parameters()).register_hook(lambda gradient: gradient * float("inf"))

    def batch(self) -> str:
        """What a message says of the batch."""
        more = f" and {len(self.names) - 8} more" if len(self.names) > 8 else ""
        return f"in the batch of {', '.join(self.names[:8])}{more}"

    def untouched(self, module: nn.Module) -> bool:
        return all(torch.equal(p, self.before[name]) for name, p in module.named_parameters())


class Catch(pl.Callback):
    """Keep the module, which an exception would take with it."""

    def setup(self, trainer: Any, module: Any, stage: str) -> None:
        self.module = module


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_loss_of_nan_stops_before_the_step_and_leaves_a_good_checkpoint(tmp_path: Path, accumulate: int) -> None:
    """M01."""
    poison, catch = Poison(3 * accumulate, "loss"), Catch()
    with pytest.raises(DivergedError) as caught:
        run(tmp_path / "run", sentiment(), accumulate=accumulate, callbacks=[poison, catch])
    assert caught.value.message == f"the loss is nan at step 3; these weights are not saved; {poison.batch()}"
    assert caught.value.hint == HINT
    assert caught.value.exit_code == 7
    assert finite(catch.module)
    assert poison.untouched(catch.module)
    newest = checkpoints.newest(tmp_path / "run/checkpoints")
    assert newest.name == "step-00000003"
    assert all(bool(torch.isfinite(t).all()) for t in checkpoints.load(newest)["state_dict"].values())


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_an_infinite_gradient_stops_before_the_step(tmp_path: Path, clip: float) -> None:
    """M01."""
    poison, catch = Poison(3, "gradient"), Catch()
    with pytest.raises(DivergedError) as caught:
        run(
            tmp_path / "run",
            sentiment(),
            callbacks=[poison, catch],
            optim=OptimConfig(learning_rate=1e-3, clip=clip),
        )
    assert re.sub("inf|nan", "INF", caught.value.message, count=1) == (
        f"the gradient is INF at step 3; the weights were not changed; {poison.batch()}"
    )
    assert caught.value.hint == HINT
    assert poison.untouched(catch.module)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_plain_trainer_stops_too(tmp_path: Path, what: str) -> None:
    poison, module = Poison(3, what), make_module(sentiment())
    with pytest.raises(DivergedError):
        plain_trainer(tmp_path, callbacks=[poison]).fit(module, datamodule=data())
    assert poison.untouched(module)


@pytest.mark.parametrize(("clip", "most"), [(0.0, 1e9), (0.5, 0.5001)])
def test_the_gradient_is_clipped_where_asked(tmp_path: Path, clip: float, most: float) -> None:
    norms: list[float] = []

    class Look(pl.Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            norms.append(float(torch.stack([p.grad.norm() for p in module.parameters() if p.grad is not None]).norm()))

    optim = OptimConfig(learning_rate=1e-3, clip=clip)
    run(tmp_path / "run", sentiment(), epochs=1, callbacks=[Look()], optim=optim)
    assert max(norms) <= most
    assert max(norms) > 0.4


@pytest.mark.parametrize("searches", [True, False])
def test_a_head_that_searches_is_scored_by_its_loss_while_it_trains_and_in_full_by_a_test(
    tmp_path: Path, searches: bool
) -> None:
    module, asked = make_module(sentiment()), 0
    usual: Any = module.head.predict

    def predict(hidden: Tensor, batch: Any) -> Any:
        nonlocal asked
        asked += 1
        return usual(hidden, batch)

    module.head.searches = searches  # type: ignore[misc]
    module.head.predict = predict  # type: ignore[method-assign]
    (scores,) = plain_trainer(tmp_path).validate(module, datamodule=data(), verbose=False)
    assert ("dev/accuracy" in scores, asked > 0) == (not searches, not searches)
    (tested,) = plain_trainer(tmp_path).test(module, datamodule=data(), verbose=False)
    assert {"test/loss", "test/accuracy"} <= tested.keys() and asked > 0
    module.head.searches = not searches  # type: ignore[misc]
    (other,) = plain_trainer(tmp_path).validate(module, datamodule=data(), verbose=False)
    assert scores["dev/loss"] == pytest.approx(other["dev/loss"], rel=1e-6)
