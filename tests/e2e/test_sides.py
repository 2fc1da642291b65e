"""Data whose fields stand in a file each: a reader of a plugin, its options, and what becomes of the run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from safetensors.torch import load_file

import nlpkit
from nlpkit.errors import DataError

PLUGIN = """
import nlpkit
from nlpkit_sentiment import Sentiment


class Marked(Sentiment):
    name = "marked"
    sides = "beside"


def read(text, label=None, encoding="utf-8"):
    texts = open(text, encoding=encoding).read().splitlines()
    labels = open(label, encoding=encoding).read().splitlines() if label else [None] * len(texts)
    for number, (one, other) in enumerate(zip(texts, labels, strict=True), 1):
        yield nlpkit.Example({"text": one} if other is None else {"text": one, "label": other}, f"{text}:{number}")


@nlpkit.hookimpl
def nlpkit_tasks():
    return [Marked]


@nlpkit.hookimpl
def nlpkit_datasets():
    return {"beside": nlpkit.Dataset(read, sides=("text", "label"))}
"""
TINY = ("model.preset=tiny", "model.vocabulary=300", "model.sequence_length=32", "trainer.max_steps=2")
TRAIN = ("--text", "a.text", "--label", "a.label", "--text", "b.text", "--label", "b.label")
DEV = ("--dev-text", "dev.text", "--dev-label", "dev.label")
MARKED = ("--task", "marked", "--plugin", "beside.py")


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path)


def write(folder: Path) -> None:
    (folder / "beside.py").write_text(PLUGIN)
    for name in ("a", "b", "dev"):
        rows = [(f"{name} soft and warm {n}", "good") for n in range(6)] + [
            (f"{name} it tore {n}", "bad") for n in range(6)
        ]
        (folder / f"{name}.text").write_text("".join(f"{text}\n" for text, _ in rows))
        (folder / f"{name}.label").write_text("".join(f"{label}\n" for _, label in rows))


def hinted(ended: Any) -> list[str]:
    assert ended.code == 2, ended.err
    return ended.err.splitlines()[-2:]


def test_files_of_sides_are_fitted_scored_and_predicted(command: Callable[..., Any]) -> None:
    ended = command("fit", *MARKED, *TRAIN, *DEV, "--out", "run", *TINY)
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[-2:] == [
        "  nlpkit evaluate run LABELLED.text LABELLED.label --plugin beside.py",
        "  nlpkit predict run NEW.text --plugin beside.py > predictions.jsonl",
    ]
    facts = json.loads(Path("run/run.json").read_text("utf-8"))
    assert facts["request"]["data"] == ["a.text", "b.text", "a.label", "b.label"]
    assert facts["request"]["dev"] == ["dev.text", "dev.label"]
    results = json.loads(Path("run/results.json").read_text("utf-8"))
    assert results["examples"] == {"train": 24, "dev": 12}

    scored = command("evaluate", "run", "dev.text", "dev.label", "--plugin", "beside.py", "--json")
    assert json.loads(scored.out)["examples"] == 12
    predicted = command("predict", "run", "a.text", "dev.text", "--plugin", "beside.py")
    assert [json.loads(line)["text"] for line in predicted.out.splitlines()][11:13] == [
        "a it tore 5",
        "dev soft and warm 0",
    ]
    Path("dev.csv").write_text("text,label\nsoft and warm,good\nit tore,bad\n")
    table = command("evaluate", "run", "dev.csv", "--plugin", "beside.py", "--json")
    assert table.code == 0 and json.loads(table.out)["examples"] == 2, table.err
    refused = command("evaluate", "run", "dev.text", "--plugin", "beside.py")
    assert hinted(refused) == [
        "error: reader 'beside' reads a file for each of text and label, and one file is given: dev.text",
        "hint: give the files of text first, then as many of label",
    ]


class Copy(pl.Callback):
    """Copy the run folder at a step: what a kill at that instant leaves."""

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == 3:
            shutil.copytree("run", "killed")


def test_killed_run_goes_on_from_elsewhere_and_notices_another_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [
        *TINY[:-1],
        "trainer.max_steps=4",
        "trainer.threads=1",
        "checkpoint.every_steps=1",
        "data.reader=beside",
    ]
    files, dev = ["a.text", "b.text", "a.label", "b.label"], ["dev.text", "dev.label"]
    nlpkit.fit("marked", files, dev=dev, out="run", overrides=settings, plugins=["beside.py"], callbacks=[Copy()])
    shutil.copytree("killed", "again")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    nlpkit.resume(tmp_path / "killed", plugins=[tmp_path / "beside.py"])
    one, two = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("killed", "run"))
    assert all(one[name].equal(two[name]) for name in two)

    (tmp_path / "b.label").write_text("bad\n" * 11 + "good\n")
    with pytest.raises(DataError, match=r"b\.label: the data has changed since the run began"):
        nlpkit.resume(tmp_path / "again", plugins=[tmp_path / "beside.py"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--text", "a.text"), "--text names 1, --label names 0; expected as many files of each side"),
        (("--dev-text", "dev.text", "--dev-label", "dev.label"), "--dev-text stands with no --text and --label"),
        (
            ("--text", "*.text", "--label", "b.label"),
            "--text names 3, --label names 1; expected as many files of each side",
        ),
        ((*TRAIN, "c.csv"), "--text stands with FILES"),
        ((*TRAIN, "--dev", "c.csv"), "--text stands with --dev"),
        (
            (*TRAIN, "--dev-label", "dev.label"),
            "--dev-text names 0, --dev-label names 1; expected as many files of each side",
        ),
        ((*TRAIN, "--resume", "run"), "--resume goes on with the run as it began, and a.text, "),
    ],
)
def test_sides_without_their_others_are_refused(
    command: Callable[..., Any], arguments: tuple[str, ...], message: str
) -> None:
    error, hint = hinted(command("fit", *MARKED, *arguments))
    assert error.startswith(f"error: {message}")
    assert hint.startswith("hint: ")


def test_other_tasks_have_no_such_options_and_this_one_lists_them(command: Callable[..., Any]) -> None:
    assert hinted(command("fit", "--plugin", "beside.py", *TRAIN))[0] == "error: unknown option '--text'"
    assert hinted(command("fit", *MARKED, "--source", "a.text"))[0] == "error: unknown option '--source'"
    shown = command("fit", *MARKED, "--help").out
    assert "--text FILE" in shown and "--dev-label FILE" in shown
    assert "--dev-label" not in command("fit", "--help").out


IMPORTED = """
import sys
from nlpkit.cli import main
main(sys.argv[1:])
heavy = {"torch", "numpy", "omegaconf", "transformers", "nlpkit_sentiment", "nlpkit_ner", "nlpkit_translation"}
print(*sorted(heavy & sys.modules.keys()), file=sys.stderr)
"""


@pytest.mark.parametrize(("typed", "plugins"), [((), False), (("--task", "sentiment"), True)])
def test_help_imports_no_plugin_without_a_task_and_never_torch(typed: tuple[str, ...], plugins: bool) -> None:
    command = [sys.executable, "-c", IMPORTED, "fit", *typed, "--help"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    found = ended.stderr.split()
    assert all(name.startswith("nlpkit_") for name in found) and bool(found) == plugins


def test_mistyped_task_is_said_before_its_options(command: Callable[..., Any]) -> None:
    error, _ = hinted(command("fit", "--task", "markd", "--plugin", "beside.py", *TRAIN))
    assert error == "error: unknown task 'markd'"
