"""Arguments of Lightning's Trainer, callbacks and loggers as settings of a run, and what is refused before any work."""

from __future__ import annotations

import csv
import inspect
import json
import shutil
import sys
import typing
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import yaml
from safetensors.torch import load_file

import nlpkit
from nlpkit import checkpoints
from nlpkit.config import TrainerConfig
from nlpkit.config import lightning as of_lightning
from nlpkit.errors import PluginError, RunFolderError
from nlpkit.loggers import MetricsCsv

SHORT = "trainer.max_steps=4"
ENDS = """
import pytorch_lightning as pl

class Fails(pl.Callback):
    def on_train_batch_end(self, *_):
        raise ValueError("no disk")

class Leaves(pl.Callback):
    def on_train_batch_end(self, *_):
        raise SystemExit(0)
"""
OWN = """
import nlpkit, numpy, pathlib, pytorch_lightning as pl

class Notes(pl.Callback):
    def on_train_start(self, trainer, module):
        print("notes:", len(trainer.loggers), type(module).__name__)
        module.log("notes/started", 1.0)

class Needs(pl.Callback):
    def __init__(self, what):
        self.what = what

class Broken(pl.Callback):
    def __init__(self):
        raise OSError("no such device")

class Odd(pl.Callback):
    def state_dict(self):
        return {"mean": numpy.float64(1), "where": pathlib.Path("here")}

    def on_save_checkpoint(self, trainer, module, checkpoint):
        checkpoint["of odd"] = pathlib.Path("there")

@nlpkit.hookimpl
def nlpkit_metrics():
    return {}
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "own.py"
    path.write_text(OWN)
    return path


class Copy(pl.Callback):
    """Copy the run folder after a step: what a kill at that instant leaves."""

    def __init__(self, run: Path, step: int) -> None:
        self.run, self.step = run, step

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            shutil.copytree(self.run, self.run.with_name("killed"))


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_arguments_are_those_of_the_real_signature() -> None:
    """The source says what the imported class says."""
    from pytorch_lightning.trainer import trainer as home

    hints = typing.get_type_hints(pl.Trainer.__init__, vars(home))
    plain, known = (bool, int, float, str), of_lightning.options()
    ours = {field.name for field in fields(TrainerConfig)}
    spelled = {}
    for name in inspect.signature(pl.Trainer.__init__).parameters:
        found = [kind for kind in (hints.get(name), *typing.get_args(hints.get(name))) if kind in plain]
        if found and name not in ours and name not in of_lightning.DECIDED:
            spelled[name] = {kind.__name__ for kind in found}
    names = {n: {k.name for k in (kind.alternatives or (kind,)) if k.name != "choice"} for n, kind in known.items()}
    assert names == spelled
    assert of_lightning.DECIDED.keys() <= hints.keys()


@pytest.fixture(scope="module")
def run(own: Path, base: Any, shop: Path, command: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("runs") / "run"
    settings = (
        SHORT,
        "trainer.callbacks=[LearningRateMonitor, own:Notes]",
        "trainer.logger=csv",
        "trainer.profiler=simple",
        "trainer.deterministic=true",
        "trainer.detect_anomaly=true",
        "trainer.limit_val_batches=1",
        "trainer.num_sanity_val_steps=1",
    )
    given = ("--from", base.folder, "--plugin", own, "--out", out)
    return out, command("fit", shop / "labelled.csv", *given, *settings)


def test_settings_of_lightning_reach_the_trainer_and_leave_torch_as_it_was(run: Any) -> None:
    out, ended = run
    assert (ended.code, torch.are_deterministic_algorithms_enabled()) == (0, False), ended.err
    assert "run_training_batch" in (out / "profile" / "fit-profile.txt").read_text()
    assert yaml.safe_load((out / "config.yaml").read_text())["trainer"]["lightning"] == {
        "profiler": "simple",
        "deterministic": True,
        "detect_anomaly": True,
        "limit_val_batches": 1,
        "num_sanity_val_steps": 1,
    }
    logged = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert logged == sorted(logged) and logged[0] == 1  # nothing of the sanity check


def test_callbacks_and_csv_log_have_losses_rates_and_scores(run: Any) -> None:
    out, _ = run
    log = rows(out / "metrics.csv")
    losses = [float(row["train/loss"]) for row in log if row["train/loss"]]
    exact = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert losses == pytest.approx([row["train/loss"] for row in exact if "train/loss" in row])
    assert [float(r["dev/f1_macro"]) for r in log if r["dev/f1_macro"]] == pytest.approx(
        [r["dev/f1_macro"] for r in exact if "dev/f1_macro" in r]
    )
    rates = [name for name in log[0] if name.startswith("lr-")]
    assert rates and all(any(row[name] for row in log) for name in rates)


@pytest.mark.parametrize("content", [b"name,score\r\na,1\r\n", b"name\r\n", b"step,x\r\n1,2,3\r\n", b"\xff\xfe", None])
def test_a_file_of_others_in_the_place_of_the_csv_log_is_refused_and_kept(
    content: bytes | None, tmp_path: Path
) -> None:
    path = tmp_path / "metrics.csv"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(RunFolderError) as caught:
        MetricsCsv(tmp_path, 2).experiment  # noqa: B018 - it is made when it is first asked for
    assert (caught.value.message, caught.value.hint) == (
        f"{path}: not the log that trainer.logger=csv writes",
        "move it away, or leave out trainer.logger=csv",
    )
    assert path.is_dir() if content is None else path.read_bytes() == content


def test_a_state_that_no_checkpoint_can_hold_is_left_out_and_said_once(
    own: Path, base: Any, shop: Path, command: Any, tmp_path: Path
) -> None:
    given = ("--from", base.folder, "--plugin", own, "--out", tmp_path / "run")
    ended = command(
        "fit", shop / "labelled.csv", *given, SHORT, "checkpoint.every_steps=1", "trainer.callbacks=own:Odd"
    )
    assert ended.code == 0, ended.err
    assert [line for line in ended.err.splitlines() if "in no checkpoint" in line] == [
        "warning: callbacks: what 'Odd', 'of odd' keeps is more than tensors and plain values, and is in no "
        "checkpoint; a resume goes on without it"
    ]
    kept = checkpoints.load(checkpoints.newest(tmp_path / "run" / "checkpoints"))
    assert "Recorder" in kept["callbacks"] and "Odd" not in kept["callbacks"] and "of odd" not in kept
    again = command("fit", "--resume", tmp_path / "run", "--plugin", own)
    assert again.code == 0, again.err


@pytest.mark.parametrize(("name", "said"), [("Fails", "ValueError: no disk"), ("Leaves", "SystemExit: 0")])
def test_a_callback_that_fails_or_ends_the_program_is_named_with_its_line(
    name: str, said: str, base: Any, shop: Path, command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ends_runs.py").write_text(ENDS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "ends_runs", raising=False)
    given = ("--from", base.folder, "--out", tmp_path / "run", SHORT, f"trainer.callbacks=ends_runs:{name}")
    ended = command("fit", shop / "labelled.csv", *given)
    line = ENDS.splitlines().index(f"class {name}(pl.Callback):") + 3
    (message,) = [each for each in ended.err.splitlines() if each.startswith("error: ")]
    assert ended.code == 5 and message.startswith(
        f"error: plugin 'ends_runs' (trainer.callbacks): {name}.on_train_batch_end: {said} "
        f"({tmp_path / 'ends_runs.py'}:{line})"
    )


def test_a_callback_object_that_ends_the_program_is_an_error(base: Any, shop: Path, tmp_path: Path) -> None:
    class Leaves(pl.Callback):
        def on_train_start(self, *_: Any) -> None:
            sys.exit(0)

    with pytest.raises(PluginError) as caught:
        nlpkit.fit(data=shop / "labelled.csv", source=base.folder, out=tmp_path, overrides=SHORT, callbacks=[Leaves()])
    assert caught.value.message.startswith(f"the program is ended while training: SystemExit: 0 ({__file__}:")


def test_settings_are_shown_with_their_origin(command: Any) -> None:
    ended = command("config", "show", "--origin", "trainer.profiler=simple", "trainer.callbacks=LearningRateMonitor")
    lines = [" ".join(line.split()) for line in ended.out.splitlines()]
    assert "trainer.lightning.profiler: simple # command line" in lines
    assert "trainer.callbacks: [LearningRateMonitor] # command line" in lines


def test_a_killed_run_with_such_settings_goes_on_and_its_log_is_whole(
    base: Any, shop: Path, command: Any, tmp_path: Path
) -> None:
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    settings = ["trainer.max_steps=6", "trainer.logger=csv", "trainer.gradient_clip_algorithm=value", "optim.clip=1e-4"]
    settings += ["trainer.callbacks=LearningRateMonitor", "checkpoint.every_steps=2"]
    copy = Copy(straight, 5)
    nlpkit.fit(data=shop / "labelled.csv", source=base.folder, out=straight, overrides=settings, callbacks=[copy])
    assert len(rows(killed / "metrics.csv")) > 4
    ended = command("fit", "--resume", killed)
    assert ended.code == 0, ended.err
    assert (killed / "metrics.csv").read_text() == (straight / "metrics.csv").read_text()
    one, two = (load_file(folder / "model" / "model.safetensors") for folder in (killed, straight))
    assert all(one[name].equal(two[name]) for name in one)


@pytest.mark.parametrize(
    ("setting", "code", "message", "hint"),
    [
        (
            "trainer.val_check_interval=5",
            2,
            "command line: no setting 'trainer.val_check_interval'",
            "nlpkit decides it: trainer.validations_per_epoch=N",
        ),
        (
            "trainer.overfit_batches=2",
            2,
            "command line: no setting 'trainer.overfit_batches'",
            "nlpkit decides it: to Lightning a run is one epoch, which would end after so many batches, none of them "
            "repeated; fit a file of a few rows, the same as --dev, with trainer.max_epochs=N",
        ),
        (
            "trainer.profilr=simple",
            2,
            "command line: no setting 'trainer.profilr'",
            "did you mean 'trainer.profiler'? nlpkit config docs --task sentiment lists every setting",
        ),
        (
            "trainer.detect_anomaly=3",
            2,
            "command line: trainer.lightning.detect_anomaly is '3', expected true or false",
            "nlpkit config docs --task sentiment lists every setting",
        ),
        (
            "trainer.profiler=simpel",
            2,
            "trainer.profiler: Lightning has no profiler 'simpel' for runs",
            "did you mean 'simple'? profilers: simple, advanced, pytorch",
        ),
        (
            "trainer.limit_val_batches=2.5",
            2,
            "trainer.limit_val_batches is 2.5: "
            "You have passed invalid value 2.5 for limit_val_batches, it has to be in [0.0, 1.0] or an int.",
            "Lightning's documentation of Trainer(limit_val_batches=...) says what it takes",
        ),
        (
            "trainer.limit_val_batches=0",
            2,
            "trainer.limit_val_batches is 0, and the dev part chooses the best step",
            "trainer.limit_val_batches=1",
        ),
        (
            "trainer.callbacks=LearningRateMonitr",
            2,
            "trainer.callbacks: Lightning has no callback 'LearningRateMonitr'",
            "did you mean 'LearningRateMonitor'? one of your own is named as module:Class",
        ),
        (
            "trainer.callbacks=LearningRateMonitor",
            2,
            "trainer.callbacks: 'LearningRateMonitor' needs a logger to write to",
            "trainer.logger=csv",
        ),
        (
            "trainer.callbacks=EarlyStopping",
            2,
            "trainer.callbacks: 'EarlyStopping' does what a run does by itself",
            "trainer.patience=N",
        ),
        *(
            (
                f"trainer.callbacks={name}",
                2,
                f"trainer.callbacks: '{name}' is no module:Class",
                "such as mypackage.callbacks:MyCallback",
            )
            for name in (":", "own:", ":Notes")
        ),
        (
            "trainer.callbacks=json:JSONDecoder",
            2,
            "trainer.callbacks: 'json:JSONDecoder' is no Callback of Lightning",
            "one is a subclass of pytorch_lightning.Callback (lightning.pytorch has others, which do not go with it)",
        ),
        (
            "trainer.callbacks=mine:Notes",
            2,
            "trainer.callbacks: there is no module 'mine' ('mine:Notes')",
            "name its file with --plugin, or say where it is: PYTHONPATH=.",
        ),
        (
            "trainer.callbacks=own:Note",
            2,
            "trainer.callbacks: module 'own' has no 'Note'",
            "did you mean 'Notes'?",
        ),
        (
            "trainer.callbacks=own:Needs",
            2,
            "trainer.callbacks: 'own:Needs' is made without arguments, and has missing a required argument: 'what'",
            "write a subclass that gives them, and name it as module:Class",
        ),
        (
            "trainer.callbacks=own:Broken",
            5,
            "trainer.callbacks: 'own:Broken' failed as it was made: OSError: no such device",
            "",
        ),
        (
            "trainer.logger=csvs",
            2,
            "command line: trainer.logger is 'csvs', expected one of 'csv', 'tensorboard', 'wandb', 'mlflow'",
            "nlpkit config docs --task sentiment lists every setting",
        ),
        *(
            (
                f"trainer.logger={name}",
                2,
                f"trainer.logger={name} needs the package {name}",
                f"pip install 'nlpkit-core[{name}]'",
            )
            for name in ("tensorboard", "wandb", "mlflow")
        ),
    ],
)
def test_what_cannot_be_had_is_refused_and_leaves_nothing(
    setting: str, code: int, message: str, hint: str, own: Path, base: Any, shop: Path, command: Any, tmp_path: Path
) -> None:
    given = ("--from", base.folder, "--plugin", own, "--out", tmp_path / "run", "--quiet")
    ended = command("fit", shop / "labelled.csv", *given, SHORT, setting)
    said = [f"error: {message}", *([f"hint: {hint}"] if hint else [])]
    assert (ended.code, ended.err.splitlines(), list(tmp_path.iterdir())) == (code, said, [])
