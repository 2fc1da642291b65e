"""Two tasks in one model through fit, evaluate, predict and resume, and what is wrong with a command."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nlpkit_ner
import pytest
import pytorch_lightning as pl
import torch
from safetensors.torch import load_file

import nlpkit
from nlpkit import checkpoints
from nlpkit.errors import UsageError

SAMPLE = Path(nlpkit_ner.__file__).parent / "sample.conll"
SETTINGS = ("model.preset=tiny", "model.vocabulary=600", "model.sequence_length=64", "trainer.threads=1")
TASKS = "sentiment,ner"


class Copy(pl.Callback):
    """Copy the run folder at a step: what a kill at that instant leaves."""

    def __init__(self, run: Path, copy: Path, step: int) -> None:
        self.run, self.copy, self.step = run, copy, step

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step and not self.copy.exists():
            shutil.copytree(self.run, self.copy)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("joint")


@pytest.fixture(scope="module")
def both(shop: Path, folder: Path) -> Path:
    """A run of both tasks, and beside it a copy of its folder from on the way."""
    nlpkit.fit(
        TASKS,
        {"sentiment": shop / "labelled.csv", "ner": [SAMPLE]},
        out=folder / "both",
        overrides=[*SETTINGS, "trainer.max_steps=36", "optim.learning_rate=2e-3", "checkpoint.every_steps=1"],
        callbacks=[Copy(folder / "both", folder / "killed", 26)],
    )
    return folder / "both"


@pytest.fixture
def new(tmp_path: Path) -> Path:
    path = tmp_path / "new.txt"
    path.write_text("Tom Abara loved the coat from Harrow Bay\nit tore, never again\n", "utf-8")
    return path


def lines(out: str) -> list[Any]:
    return [json.loads(line) for line in out.splitlines()]


def test_results_have_the_scores_of_each_task_and_their_mean(both: Path, shop: Path) -> None:
    results = json.loads((both / "results.json").read_text())
    dev, tasks = results["dev"], results["tasks"]
    assert (results["task"], results["score"]) == (TASKS, "mean_score")
    assert dev["mean_score"] == pytest.approx((dev["sentiment/f1_macro"] + dev["ner/f1"]) / 2)
    assert dev["ner/f1"] > 0.3
    assert sum(own["train"] + own["dev"] for own in tasks.values()) == sum(results["examples"].values())
    assert "sentiment/f1_macro" in results["baselines"]["tfidf"]
    assert results["about"]["mean_score"].startswith("the mean of sentiment/f1_macro and ner/f1")


def test_predict_answers_both_tasks_as_each_alone(both: Path, new: Path, command: Any) -> None:
    together = lines(command("predict", both, new).out)
    assert [sorted(row) for row in together] == [["ner", "sentiment", "text"]] * 2
    for name in TASKS.split(","):
        ended = command("predict", both, new, "--task", name)
        assert ended.code == 0, ended.err
        assert [{**row[name], "text": row["text"]} for row in together] == approximately(lines(ended.out))
    predictor = nlpkit.load(both)
    answers = predictor.predict([row["text"] for row in together])
    assert [{"text": row["text"], **answer} for row, answer in zip(together, answers, strict=True)] == together


def approximately(rows: list[Any]) -> list[Any]:
    def of(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: of(inner) for key, inner in value.items()}
        return [of(inner) for inner in value] if isinstance(value, list) else pytest.approx(value, abs=1e-5)

    return [of(row) for row in rows]


def test_a_setting_for_predictions_stands_behind_its_task(both: Path, new: Path, command: Any) -> None:
    one = command("predict", both, new, "--ner.transitions", "none")
    other = command("predict", both, new, "--task", "ner", "--transitions", "none")
    assert (one.code, other.code) == (0, 0)
    assert [{"text": row["text"], **row["ner"]} for row in lines(one.out)] == approximately(lines(other.out))


def test_evaluate_scores_each_task(both: Path, shop: Path, command: Any) -> None:
    more = shop / "more-labelled.csv"
    ended = command("evaluate", both, "--data", f"sentiment={more}", "--data", f"ner={SAMPLE}", "--json")
    assert ended.code == 0, ended.err
    scores = json.loads(ended.out)["scores"]
    assert f"{SAMPLE}: 106 of 120 texts were used to fit this model" in ended.err
    for name, file in (("sentiment", more), ("ner", SAMPLE)):
        alone = json.loads(command("evaluate", both, file, "--task", name, "--json").out)
        assert {f"{name}/{key}": value for key, value in alone["scores"].items()}.items() <= scores.items()
    gate = command("evaluate", both, "--data", f"ner={SAMPLE}", "--fail-under", "ner/f1=1.01")
    assert gate.code == 9
    assert command("evaluate", both, "--data", f"ner={SAMPLE}", "--fail-under", "ner/loss=1").code == 2


def test_the_model_opens_in_plain_transformers(both: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    words = AutoTokenizer.from_pretrained(both / "model")
    model, report = AutoModel.from_pretrained(both / "model", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    inputs = words(["the coat is soft"], return_tensors="pt")
    ours = nlpkit.load(both, task="sentiment").module
    with torch.inference_mode():
        theirs = model(**{k: v for k, v in inputs.items() if k != "token_type_ids"}).last_hidden_state
        hidden = ours.backbone(input_ids=inputs["input_ids"]).last_hidden_state
    assert torch.allclose(theirs, hidden, atol=1e-5)
    record = json.loads((both / "model" / "nlpkit.json").read_text())
    assert [own["plugin"]["distribution"] for own in record["tasks"].values()] == ["nlpkit-sentiment", "nlpkit-ner"]
    assert record["tasks"]["sentiment"]["data"]["guessed"] == {"text": "review", "label": "sentiment"}
    assert record["data"]["guessed"] == {"text": "review"}


def test_a_run_that_was_killed_ends_as_if_it_never_was(both: Path, command: Any) -> None:
    killed = both.with_name("killed")
    assert checkpoints.newest(killed / "checkpoints").name <= "step-00000026"
    ended = command("fit", "--resume", killed)
    assert ended.code == 0, ended.err
    for name in ("model.safetensors", "head.safetensors"):
        one, two = (load_file(run / "model" / name) for run in (killed, both))
        assert one.keys() == two.keys() and all(one[key].equal(two[key]) for key in one)
    for name in ("metrics.jsonl", "results.json"):
        assert (killed / name).read_text() == (both / name).read_text()


def test_a_missing_plugin_of_one_task_is_named_and_the_other_serves(
    both: Path, new: Path, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NLPKIT_PLUGINS", "sentiment")
    ended = command("predict", both, new)
    assert ended.code == 5 and not ended.out
    version = json.loads((both / "model" / "nlpkit.json").read_text())["tasks"]["ner"]["plugin"]["version"]
    error, hint = ended.err.splitlines()[-2:]
    assert error.startswith(f"error: {both}/model: made by task 'ner' of nlpkit-ner {version}, which ")
    assert hint.endswith("; without it: --task sentiment")
    with monkeypatch.context() as both_missing:
        both_missing.setenv("NLPKIT_PLUGINS", "translation")
        assert "without it" not in command("predict", both, new).err
    alone = command("predict", both, new, "--task", "sentiment")
    assert alone.code == 0 and len(lines(alone.out)) == 2
    shutil.copytree(both, both.with_name("unfinished"))
    (both.with_name("unfinished") / "results.json").unlink()
    ended = command("fit", "--resume", both.with_name("unfinished"))
    assert ended.code == 5
    assert f"unfinished: began with task 'ner' of nlpkit-ner {version}, which " in ended.err


def test_a_further_task_takes_the_body(both: Path, shop: Path, command: Any, tmp_path: Path) -> None:
    settings = ("trainer.max_steps=1", "strategy=freeze")
    ended = command("fit", shop / "labelled.csv", "--from", both, "--out", tmp_path / "run", *settings)
    assert ended.code == 0, ended.err
    before, after = (load_file(run / "model" / "model.safetensors") for run in (both, tmp_path / "run"))
    assert all(after[f"model.{name}"].equal(value) for name, value in before.items())
    history = json.loads((tmp_path / "run" / "model" / "nlpkit.json").read_text())["history"]
    assert [stage["task"] for stage in history] == [TASKS, "sentiment"]


def test_a_plan_counts_both_tasks(shop: Path, command: Any) -> None:
    files = ("--data", f"sentiment={shop}/labelled.csv", "--data", f"ner={SAMPLE}")
    ended = command("fit", "--task", TASKS, *files, "--plan", "--json", *SETTINGS, "trainer.max_steps=20")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["task"] == TASKS


LISTS = """
import nlpkit

@nlpkit.hookimpl
def nlpkit_metrics():
    import torchmetrics

    class Lists(torchmetrics.Metric):
        "The share of rows with an entity, by a list of them, as scores over all rows at once keep one."

        full_state_update = False

        def __init__(self):
            super().__init__()
            self.add_state("rows", [], dist_reduce_fx="cat")

        def update(self, predictions, labels):
            self.rows.append(labels.flatten(1).gt(0).any(1, keepdim=True))

        def compute(self):
            return torchmetrics.utilities.dim_zero_cat(self.rows).float().mean()

    return {"lists": lambda task: Lists()}
"""


def test_two_processes_have_the_losses_and_scores_of_one(shop: Path, tmp_path: Path, command: Any) -> None:
    plugin, short = tmp_path / "lists.py", tmp_path / "short.conll"
    plugin.write_text(LISTS)
    short.write_text("Tom B-person\nlaughs O\n\nTea O\n")  # one for each process
    files = ("--data", f"sentiment={shop}/labelled.csv", "--data", f"ner={SAMPLE}", "--dev", f"ner={short}")
    settings = (*SETTINGS, "model.dropout=0", "trainer.max_steps=6", "trainer.batch_size=3", "task.weights.ner=0.5")
    alone = ("fit", "--task", TASKS, *files, *settings, "--plugin", plugin, "task.ner.metrics=[lists]")
    ended = command(*alone, "--out", tmp_path / "one")
    assert ended.code == 0, ended.err
    words = [sys.executable, "-m", "nlpkit", *alone, "--out", tmp_path / "two", "trainer.devices=2"]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    one, two = (lines((tmp_path / run / "metrics.jsonl").read_text()) for run in ("one", "two"))
    assert "dev/ner/lists" in one[-1]
    assert two == approximately_equal(one)


def approximately_equal(rows: list[Any]) -> list[Any]:
    return [pytest.approx(row, rel=1e-4, abs=1e-5) for row in rows]


FILES = ("--data", f"ner={SAMPLE}", "--data", f"sentiment={SAMPLE}")


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        ((TASKS, "a.csv"), "a.csv: for which of sentiment, ner?", "--data sentiment=FILE --data ner=FILE"),
        (
            (TASKS, "a.csv", *FILES),
            "a.csv beside --data: for which task?",
            "--data TASK=FILE for every file",
        ),
        ((TASKS, "--data", "a.csv"), "--data a.csv: expected TASK=FILE", "--data sentiment=a.csv"),
        (
            (TASKS, *FILES[:2]),
            "no data for 'sentiment'",
            "--data sentiment=FILE, labelled; samples are for single tasks",
        ),
        ((TASKS,), "no data for 'sentiment'", "--data sentiment=FILE, labelled; samples are for single tasks"),
        (
            (TASKS, *FILES, "--data", "nerr=b"),
            "--data nerr=...: 'nerr' is none of the tasks sentiment, ner",
            "did you mean 'ner'? --data sentiment=FILE",
        ),
        (
            (TASKS, *FILES, "--dev", "a.csv"),
            "--dev a.csv: expected TASK=FILE",
            "--dev sentiment=a.csv",
        ),
        (("ner,ner", *FILES), "--task 'ner,ner': 'ner' stands twice", "name each task once"),
        (
            ("sentiment,nerr", *FILES),
            "unknown task 'nerr'",
            "did you mean 'ner'? known tasks: ner, sentiment, translation; see nlpkit tasks",
        ),
        (
            ("sentiment,translation", *FILES),
            "'translation' writes, and only tasks that read share a model with others",
            "nlpkit fit --task translation",
        ),
        (
            (TASKS, *FILES, "data.reader=conll"),
            "data.reader=conll is of one task, and there are sentiment, ner",
            "leave it out: readers know files by their endings, such as .conll, .csv and .jsonl",
        ),
        (
            (TASKS, *FILES[:2], "--data", "sentiment=none.csv"),
            "none.csv: no such file or folder",
            "look what is there: ls .",
        ),
    ],
)
def test_a_command_for_several_tasks_says_what_is_missing(
    arguments: tuple[str, ...], message: str, hint: str, command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = command("fit", "--task", *arguments)
    assert ended.err.splitlines()[-2:] == [f"error: {message}", f"hint: {hint}"]
    assert ended.code in (2, 3) and list(tmp_path.iterdir()) == []


def test_a_model_of_several_tasks_is_asked_for_those_it_has(both: Path, new: Path, command: Any) -> None:
    ended = command("predict", both, new, "--task", "neer")
    assert ended.err.splitlines()[-2:] == [
        f"error: {both}/model: no task 'neer' in it",
        "hint: did you mean 'ner'? it has sentiment, ner",
    ]
    ended = command("evaluate", both, SAMPLE)
    assert ended.err.splitlines()[-2:] == [
        f"error: {SAMPLE}: for which of sentiment, ner?",
        "hint: --data sentiment=FILE --data ner=FILE",
    ]
    ended = command("predict", both, new, "--html", new.with_suffix(".html"))
    assert ended.err.splitlines()[-2:] == ["error: sentiment, ner draw no page together", "hint: --task ner"]
    assert command("predict", both, new, "--task", "ner", "--html", new.with_suffix(".html")).code == 0
    with pytest.raises(UsageError, match="--task beside --data, which names"):
        nlpkit.evaluate(both, {"ner": SAMPLE}, task="ner")
    assert command("evaluate", both, SAMPLE, "--data", f"ner={SAMPLE}").code == 2
    assert command("evaluate", both, "--task", "ner", "--data", f"ner={SAMPLE}").code == 2
