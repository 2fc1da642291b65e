"""TaskModule and TaskDataModule in a script of one's own: a plain Trainer, callbacks, loggers, a subclass, a save."""

from __future__ import annotations

import csv
import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from tables import first_rows

import nlpkit
from nlpkit.errors import ModelError, RunFolderError, UsageError

logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)


class Own(nlpkit.TaskModule):
    """Another optimiser."""

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Seen(pl.Callback):
    """What a callback of a user's own finds among the metrics."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.scores: list[str] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.losses.append(float(trainer.callback_metrics["train/loss"]))

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.scores += [name for name in trainer.callback_metrics if name.startswith("dev/")]


def plain(folder: Path, **more: Any) -> pl.Trainer:
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    without: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "default_root_dir": folder}
    return pl.Trainer(**{"max_epochs": 1, **quiet, **without, **more})


@pytest.fixture(scope="module")
def few(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return first_rows(shop / "labelled.csv", 60, tmp_path_factory.mktemp("few") / "few.csv")


def assembled(base: Any, few: Path, **more: Any) -> tuple[nlpkit.TaskModule, nlpkit.TaskDataModule]:
    return nlpkit.assemble("sentiment", few, source=base.folder, overrides="model.dropout=0", **more)


def test_a_subclass_trains_and_what_is_saved_predicts(
    base: Any, few: Path, shop: Path, command: Any, tmp_path: Path
) -> None:
    module, data = assembled(base, few, module=Own)
    seen = Seen()
    trainer = plain(tmp_path, callbacks=[seen], logger=CSVLogger(tmp_path, "logs"), log_every_n_steps=1)
    trainer.fit(module, datamodule=data)
    assert isinstance(module, Own) and isinstance(trainer.optimizers[0], torch.optim.SGD)
    assert len(seen.losses) == trainer.global_step == len(data.train_dataloader()) and all(
        map(math.isfinite, seen.losses)
    )
    assert {"dev/loss", "dev/accuracy", "dev/f1_macro"} <= set(seen.scores)
    with open(tmp_path / "logs" / "version_0" / "metrics.csv", newline="") as file:
        log = list(csv.DictReader(file))
    assert [float(row["train/loss"]) for row in log if row["train/loss"]] == pytest.approx(seen.losses)
    assert any(row["dev/f1_macro"] for row in log)

    model = module.save(tmp_path / "model")
    ended = command("predict", model, shop / "new.csv")
    assert (ended.code, len(ended.out.splitlines())) == (0, 20), ended.err
    record = json.loads((model / "nlpkit.json").read_text())
    assert [(stage["stage"], stage["steps"]) for stage in record["history"]] == [
        ("pretrain", 6),
        ("finetune", len(seen.losses)),
    ]
    assert record["data"]["guessed"] == {"text": "review", "label": "sentiment"}
    with pytest.raises(RunFolderError, match="exists, and nothing is overwritten"):
        module.save(model)


def test_a_run_is_taken_up_scored_and_asked_in_a_plain_trainer(fitted: Any, shop: Path, tmp_path: Path) -> None:
    module = Own.from_run(fitted.folder)
    assert type(module) is Own and all(part.training for part in module.modules())
    rows = nlpkit.read(module, shop / "more-labelled.csv")
    data = nlpkit.TaskDataModule(module.task, test=rows)
    (scores,) = plain(tmp_path).test(module, datamodule=data, verbose=False)
    expected = nlpkit.evaluate(fitted.folder, shop / "more-labelled.csv")["scores"]
    assert {name.removeprefix("test/"): value for name, value in scores.items()} == pytest.approx(expected, rel=1e-4)
    answers = [answer for batch in plain(tmp_path).predict(module, datamodule=data) for answer in batch]
    same = nlpkit.load(fitted.folder).predict([row["text"] for row in rows])
    assert [a["label"] for a in answers] == [a["label"] for a in same]
    assert [a["score"] for a in answers] == pytest.approx([a["score"] for a in same], rel=1e-4)


def test_a_saved_module_is_what_it_was(fitted: Any, tmp_path: Path) -> None:
    first = nlpkit.TaskModule.from_run(fitted.folder)
    again = nlpkit.TaskModule.from_run(first.save(tmp_path / "model"))
    assert first.state_dict().keys() == again.state_dict().keys()
    assert all(value.equal(again.state_dict()[name]) for name, value in first.state_dict().items())
    assert again.task.config == first.task.config and again.record["data"] == first.record["data"]


def test_a_pretrained_model_is_taken_up_too(base: Any, few: Path, tmp_path: Path) -> None:
    module = nlpkit.TaskModule.from_run(base.folder)
    data = nlpkit.TaskDataModule(module.task, test=nlpkit.read(module, few))
    (scores,) = plain(tmp_path).test(module, datamodule=data, verbose=False)
    assert scores["test/loss"] == pytest.approx(nlpkit.evaluate(base.folder, few)["scores"]["loss"], rel=1e-3)


def test_a_checkpoint_of_a_plain_trainer_goes_on_as_if_never_stopped(base: Any, few: Path, tmp_path: Path) -> None:
    saver = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=3, save_top_k=-1)
    straight, data = assembled(base, few)
    plain(tmp_path, max_epochs=3, callbacks=[saver], enable_checkpointing=True).fit(straight, datamodule=data)
    resumed, data = assembled(base, few)
    path = tmp_path / "step=3.ckpt"
    plain(tmp_path, max_epochs=3).fit(resumed, datamodule=data, ckpt_path=path, weights_only=True)
    assert all(value.equal(resumed.state_dict()[name]) for name, value in straight.state_dict().items())


def test_what_a_trainer_says_of_clipping_counts_for_more(base: Any, few: Path, tmp_path: Path) -> None:
    greatest: dict[str, float] = {}

    class Look(pl.Callback):
        def on_before_zero_grad(self, trainer: Any, module: Any, optimizer: Any) -> None:
            found = [p.grad for p in module.parameters() if p.grad is not None]
            if found:
                greatest["norm"] = float(torch.stack([g.norm() for g in found]).norm())
                greatest["value"] = max(float(g.abs().max()) for g in found)

    for more, kind in ((1e-3, "norm"), (1e-4, "value")):
        module, data = assembled(base, few)
        settings = {"gradient_clip_val": more, "gradient_clip_algorithm": kind}
        plain(tmp_path, max_steps=2, callbacks=[Look()], **settings).fit(module, datamodule=data)
        assert greatest[kind] == pytest.approx(more, rel=1e-3)


def test_what_cannot_be_taken_up_is_said(base: Any, few: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError) as taken:
        assembled(base, few)[0].save(tmp_path / "file" / "model")
    assert taken.value.hint == "choose another folder"
    with pytest.raises(ModelError) as refused:
        nlpkit.TaskModule.from_run(tmp_path)
    assert refused.value.message == f"{tmp_path}: no config.json, so it is no model folder"
    with pytest.raises(UsageError) as caught:
        nlpkit.assemble("sentiment", few, source=base.folder, overrides="strategy=lora")
    assert caught.value.hint == "nlpkit.fit"
