"""A head, metrics and a reader of a plugin through fit, evaluate and predict, and what is wrong with them."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import mean_head
import pytest
import torch

SHORT = ("trainer.max_steps=1",)
PLUGIN = (
    mean_head.PLUGIN
    + """
@nlpkit.hookimpl
def nlpkit_metrics():
    def balanced(task):
        from torchmetrics.classification import MulticlassAccuracy
        return MulticlassAccuracy(len(task.config.labels), average="macro")

    def odd(task):
        from torchmetrics import MeanMetric
        class Odd(MeanMetric):
            def update(self, predictions, labels):
                super().update(predictions)
            def compute(self):
                return super().compute() * float("nan")
        return Odd()

    def matrix(task):
        from torchmetrics.classification import MulticlassConfusionMatrix
        return MulticlassConfusionMatrix(len(task.config.labels))

    return {"balanced": balanced, "odd": odd, "matrix": matrix, "accuracy": balanced, "none": lambda task: None}

@nlpkit.hookimpl
def nlpkit_datasets():
    def read(path):
        for line in open(path, encoding="utf-8"):
            label, _, text = line.strip().partition("|")
            yield {"text": text, "label": label}

    return {"log": nlpkit.Dataset(read)}
"""
)


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plugin") / "parts.py"
    path.write_text(PLUGIN)
    return path


@pytest.fixture(scope="module")
def run(plugin: Path, base: Any, shop: Path, command: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("runs") / "parts"
    settings = ("task.head=mean", "task.metrics=[balanced, odd]", "trainer.max_steps=4")
    ended = command("fit", shop / "labelled.csv", "--from", base.folder, "--plugin", plugin, "--out", out, *settings)
    assert ended.code == 0, ended.err
    return out, ended


def test_metric_of_a_plugin_stands_among_the_scores(run: Any) -> None:
    out, ended = run
    assert "balanced" in json.loads((out / "results.json").read_text())["dev"]
    assert any(line.startswith("balanced ") for line in ended.out.splitlines())


def test_score_that_is_no_number_is_left_out_and_named(run: Any) -> None:
    out, ended = run
    assert "odd" not in json.loads((out / "results.json").read_text())["dev"]
    assert "warning: dev/odd is nan: left out" in ended.err.splitlines()


def test_metric_of_a_plugin_is_evaluated_and_gates(run: Any, plugin: Path, shop: Path, command: Any) -> None:
    arguments = ("evaluate", run[0], shop / "more-labelled.csv", "--plugin", plugin, "--json")
    ended = command(*arguments, "--fail-under", "balanced=0.01")
    assert (ended.code, 0 < json.loads(ended.out)["scores"]["balanced"] <= 1) == (0, True)
    assert command(*arguments, "--fail-under", "balanced=1.01").code == 9
    assert command(*arguments, "--fail-under", "odd=0").code == 9  # a score that is no number passes no gate


def test_metric_of_an_absent_plugin_is_named_with_it(
    base: Any, plugin: Path, shop: Path, command: Any, tmp_path: Path
) -> None:
    settings = ("--out", tmp_path / "run", "task.metrics=[balanced]", "trainer.max_steps=1")
    assert command("fit", shop / "labelled.csv", "--from", base.folder, "--plugin", plugin, *settings).code == 0
    ended = command("evaluate", tmp_path / "run", shop / "more-labelled.csv")
    assert (ended.code, ended.out) == (5, "")
    assert "made by metric 'balanced' of the plugin file parts.py, which is not given" in ended.err


def test_head_of_a_plugin_predicts_and_is_named_when_absent(run: Any, plugin: Path, shop: Path, command: Any) -> None:
    ended = command("predict", run[0], shop / "new.csv", "--plugin", plugin)
    assert (ended.code, len(ended.out.splitlines())) == (0, 20)
    ended = command("predict", run[0], shop / "new.csv")
    assert (ended.code, ended.out) == (5, "")
    message = f"{run[0]}/model: made by head 'mean' of the plugin file parts.py, which is not given"
    assert ended.err.splitlines() == [f"error: {message}", "hint: --plugin parts.py"]


def test_head_of_another_run_is_said_to_be_unused(run: Any, shop: Path, command: Any, tmp_path: Path) -> None:
    ended = command("fit", shop / "labelled.csv", "--from", run[0], "--out", tmp_path / "run", "trainer.max_steps=1")
    assert ended.code == 0
    assert any("not used: head.output.bias, head.output.weight" in line for line in ended.err.splitlines())


@pytest.mark.parametrize(
    ("metric", "code", "message"),
    [
        ("none", 5, "plugin 'parts' (PLUGIN): metric 'none' is NoneType, expected a torchmetrics Metric"),
        (
            "matrix",
            5,
            "plugin 'parts' (PLUGIN): metric 'matrix' does not go with sentiment: "
            "ValueError: it has 4 values, expected one number: average it",
        ),
        (
            "accuracy",
            2,
            "task.metrics: 'accuracy' of plugin 'parts' (PLUGIN) has the name of a score that sentiment has itself",
        ),
    ],
)
def test_metric_that_cannot_be_used_is_refused_and_leaves_nothing(
    metric: str, code: int, message: str, plugin: Path, base: Any, shop: Path, command: Any, tmp_path: Path
) -> None:
    settings = (f"task.metrics=[{metric}]", "trainer.max_steps=1")
    out = tmp_path / "run"
    ended = command("fit", shop / "labelled.csv", "--from", base.folder, "--plugin", plugin, "--out", out, *settings)
    errors = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert (ended.code, errors) == (code, [f"error: {message.replace('PLUGIN', str(plugin))}"])
    assert not out.exists()


def test_run_remembers_the_reader_and_the_columns_it_was_fitted_with(
    plugin: Path, base: Any, command: Any, tmp_path: Path
) -> None:
    log, table = tmp_path / "reviews.log", tmp_path / "reviews.csv"
    log.write_text("".join(f"{('good', 'bad')[i % 2]}|number {i} is {('fine', 'torn')[i % 2]}\n" for i in range(60)))
    table.write_text(
        "text,remark,label,mood\n" + "".join(f"x,number {i},y,{('good', 'bad')[i % 2]}\n" for i in range(60))
    )
    for path, settings in ((log, ("data.reader=log",)), (table, ("data.text=remark", "data.label=mood"))):
        out = tmp_path / path.suffix[1:]
        given = ("--from", base.folder, "--plugin", plugin, "--out", out, "trainer.max_steps=1")
        assert command("fit", path, *given, *settings).code == 0
        rows = [json.loads(line) for line in command("predict", out, path, "--plugin", plugin).out.splitlines()]
        assert [row["text"].split()[:2] for row in rows] == [["number", str(i)] for i in range(60)]
        assert command("evaluate", out, path, "--plugin", plugin).code == 0
    ended = command("predict", tmp_path / "log", table, "--plugin", plugin, "data.text=remark")
    assert json.loads(ended.out.splitlines()[3])["text"] == "number 3"  # a column that is named counts for more


def test_columns_that_fit_guessed_are_read_again_and_what_stands_in_for_an_absent_one_is_said(
    base: Any, command: Any, tmp_path: Path
) -> None:
    moods = [("good", "bad")[i % 2] for i in range(60)]
    files = {
        "train": ("id,comment,mood", [f"{i},number {i},{mood}" for i, mood in enumerate(moods)]),
        "more": ("id,text,comment,label,mood", [f"{i},x,number {i},y,{mood}" for i, mood in enumerate(moods)]),
        "other": ("id,text,stars", [f"{i},number {i},{mood}" for i, mood in enumerate(moods)]),
    }
    paths = {name: tmp_path / f"{name}.csv" for name in files}
    for name, (header, rows) in files.items():
        paths[name].write_text("\n".join([header, *rows, ""]))
    run = tmp_path / "run"
    assert command("fit", paths["train"], "data.label=mood", "--from", base.folder, "--out", run, *SHORT).code == 0
    ended = command("evaluate", run, paths["more"])
    assert (ended.code, "text = 'comment', label = 'mood'" in ended.err, "warning" in ended.err) == (0, True, False)
    rows = [json.loads(line) for line in command("predict", run, paths["more"]).out.splitlines()]
    assert [row["text"] for row in rows] == [f"number {i}" for i in range(60)]
    other = paths["other"]
    said = (  # of the label: of 'comment' and 'text' the task knows that both are its text
        f"warning: {other}: no column 'mood', from which the label was read in training; 'stars' is taken instead; "
        "another is named with data.label=COLUMN\n"
    )
    assert command("evaluate", run, other, "--quiet").err == said
    assert command("predict", run, other, "--quiet").err == ""  # which needs no label
    assert command("evaluate", run, other, "--quiet", "data.text=text", "data.label=stars").err == ""
    ended = command("evaluate", run, paths["more"], "data.text=text")
    assert (ended.code, "text = 'text', label = 'mood'" in ended.err) == (0, True)  # a column named now counts for more
    plain = tmp_path / "plain.txt"
    plain.write_text("number 1\n")
    ended = command("predict", run, plain, "--quiet")
    assert (ended.code, ended.err, len(ended.out.splitlines())) == (0, "", 1)


def test_label_column_that_was_a_surprise_at_fit_is_none_at_evaluate(base: Any, command: Any, tmp_path: Path) -> None:
    table, run = tmp_path / "moods.csv", tmp_path / "run"
    table.write_text("text,mood\n" + "".join(f"number {i},{('good', 'bad')[i % 2]}\n" for i in range(60)))
    ended = command("fit", table, "--from", base.folder, "--out", run, *SHORT)
    assert "'mood' is no usual name" in ended.err
    ended = command("evaluate", run, table, "--quiet")
    assert (ended.code, "no usual name" in ended.err) == (0, False)


def test_diverged_dev_loss_ends_the_run_before_it_is_taken_for_the_best(
    base: Any, shop: Path, command: Any, tmp_path: Path
) -> None:
    settings = ("optim.learning_rate=1e30", "optim.warmup=0", "trainer.max_steps=1", "optim.clip=0")
    ended = command("fit", shop / "labelled.csv", "--from", base.folder, "--out", tmp_path / "run", *settings)
    assert ended.code == 7, ended.err
    assert (tmp_path / "run" / "metrics.jsonl").exists() and not (tmp_path / "run" / "model").exists()


def test_settings_come_through_a_pipe(base: Any, shop: Path, command: Any, tmp_path: Path) -> None:
    pipe = tmp_path / "settings"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("trainer:\n  max_steps: 2\n",), daemon=True)
    writer.start()
    given = ("--from", base.folder, "--out", tmp_path / "run", "--config", pipe)
    assert command("fit", shop / "labelled.csv", *given).code == 0
    assert json.loads((tmp_path / "run" / "results.json").read_text())["steps"] == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_accelerator_that_is_not_there_leaves_nothing(shop: Path, command: Any, tmp_path: Path) -> None:
    ended = command("fit", shop / "labelled.csv", "--out", tmp_path / "run", "trainer.accelerator=gpu")
    assert (ended.code, (tmp_path / "run").exists()) == (2, False)
