"""A task of a third party that writes its answers: scores at the end, signatures, and settings for predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import nlpkit
from nlpkit import tokenizer
from nlpkit.running import fine_tuning

PLUGIN = """
from dataclasses import dataclass, field

import nlpkit


@dataclass
class ReplyConfig(nlpkit.TaskConfig):
    beams: int = field(default=1, metadata={"at_least": 1, "at_prediction": True})
    min_words: int = field(default=0, metadata={"at_prediction": True})


class Reply(nlpkit.Task):
    name = "reply"
    sample = "reply-sample"
    config_class = ReplyConfig
    fields = {
        "text": nlpkit.Field(("text",)),
        "answer": nlpkit.Field(("answer",), required=False, written=True),
    }
    defaults = {"model.family": "m2m100", "model.tokenizer": "bpe"}

    @classmethod
    def select(cls, config, examples):
        return [example for example in examples if example["answer"] != "none"]

    def encode(self, example):
        features = {"input_ids": self.tokenizer(example["text"])["input_ids"]}
        if example.get("answer") is not None:
            features["labels"] = self.tokenizer(example["answer"])["input_ids"]
        return features

    def lengths(self, features):
        return tuple(map(len, features.values()))

    def collate(self, features):
        batch = super().collate(features)
        return {**batch, "attention_mask": (batch["input_ids"] != self.tokenizer.pad_token_id).long()}

    def build_head(self, backbone):
        from transformers.modeling_outputs import BaseModelOutput

        class Writer(nlpkit.SequenceHead):
            searches = True

            def scored(self, hidden, batch):
                return self.terms(hidden, batch), self.predict(hidden, batch)

            def predict(self, hidden, batch, beams=self.config.beams):
                read = {"encoder_outputs": BaseModelOutput(hidden), "attention_mask": batch["attention_mask"]}
                return self.model.generate(**read, num_beams=beams, max_length=12)

        return Writer(backbone)

    def build_metrics(self):
        from torchmetrics import MeanMetric, MetricCollection

        return MetricCollection({"right": MeanMetric()})

    def compare(self, predictions, batch):
        texts = [self.tokenizer.decode([i for i in row if i > 0], skip_special_tokens=True) for row in batch["labels"]]
        import torch

        return (torch.tensor([float(a["answer"] == t) for a, t in zip(self.decode(predictions, batch), texts)]),)

    def decode(self, predictions, batch):
        beams = self.config.beams
        written = self.tokenizer.batch_decode(predictions, skip_special_tokens=True)
        return [{"answer": text, "beams": beams, "min_words": self.config.min_words} for text in written]

    def about_scores(self):
        return {"right": "share of answers that are the reference, word for word"}


@nlpkit.hookimpl
def nlpkit_tasks():
    return [Reply]


@nlpkit.hookimpl
def nlpkit_datasets():
    settings = {"model.preset": "tiny", "trainer.max_epochs": 7, "task.beams": 2}
    return {"reply-sample": nlpkit.Dataset(files={"train": "sample.csv"}, settings=settings)}
"""
TINY = ("model.preset=tiny", "model.vocabulary=400", "model.sequence_length=32", "trainer.threads=1")
WORDS = ("coat", "hat", "scarf", "shirt", "sock", "glove", "boot", "belt")
SIGNATURE = "right: share of answers that are the reference, word for word"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reply")
    (path / "reply.py").write_text(PLUGIN)
    rows = [
        (f"where is the {word} {n}", "none" if n == 9 else f"zzyzx qqvj {word}") for n in range(10) for word in WORDS
    ]
    for name, part in (("train", rows), ("dev", rows[::7])):
        (path / f"{name}.csv").write_text("text,answer\n" + "".join(f"{a},{b}\n" for a, b in part))
    return path


@pytest.fixture(scope="module")
def run(folder: Path, command: Any) -> tuple[Path, Any]:
    out = folder / "run"
    given = ("--task", "reply", "--plugin", folder / "reply.py", folder / "train.csv", "--dev", folder / "dev.csv")
    ended = command("fit", *given, "--out", out, *TINY, "trainer.max_steps=8", "optim.learning_rate=3e-3")
    assert ended.code == 0, ended.err
    return out, ended


def predict(run: Any, folder: Path, command: Any, *arguments: str) -> Any:
    return command("predict", run[0], folder / "dev.csv", "--plugin", folder / "reply.py", *arguments)


def test_dev_is_predicted_once_at_the_end_and_its_scores_are_everywhere(run: Any, folder: Path, command: Any) -> None:
    out, ended = run
    assert ended.err.count("predicting the dev part") == 1
    assert "dev/right" not in (out / "metrics.jsonl").read_text()
    results = json.loads((out / "results.json").read_text())
    assert set(results["dev"]) == {"right", "loss"}
    assert json.loads((out / "model/nlpkit.json").read_text())["history"][-1]["dev"] == results["dev"]
    scored = command("evaluate", out, folder / "dev.csv", "--plugin", folder / "reply.py", "--json")
    assert json.loads(scored.out)["scores"] == pytest.approx(results["dev"], rel=1e-4)
    best = [row for row in map(json.loads, (out / "metrics.jsonl").read_text().splitlines()) if "dev/loss" in row]
    assert results["dev"]["loss"] == pytest.approx(min(row["dev/loss"] for row in best), rel=1e-4)


def test_what_a_score_is_stands_below_it_and_in_the_results(run: Any, folder: Path, command: Any) -> None:
    out, ended = run
    about = dict([SIGNATURE.split(": ")])
    lines = ended.out.splitlines()
    assert lines.index(SIGNATURE) == next(i for i, line in enumerate(lines) if line.startswith("loss ")) + 1
    assert json.loads((out / "results.json").read_text())["about"] == about
    given = ("evaluate", out, folder / "dev.csv", "--plugin", folder / "reply.py")
    assert SIGNATURE in command(*given).out.splitlines()
    assert json.loads(command(*given, "--json").out)["about"] == about


def test_a_task_that_says_nothing_of_its_scores_has_no_such_part(fitted: Any, shop: Path, command: Any) -> None:
    assert "about" not in json.loads((fitted.folder / "results.json").read_text())
    scored = command("evaluate", fitted.folder, shop / "more-labelled.csv", "--json")
    assert "about" not in json.loads(scored.out)


def test_what_is_selected_to_learn_from_changes_nothing_of_what_is_scored(run: Any, folder: Path) -> None:
    examples = json.loads((run[0] / "results.json").read_text())["examples"]
    rows = (folder / "train.csv").read_text().splitlines()[1:]
    assert examples["train"] == sum(not row.endswith("none") for row in rows) < len(rows)
    dev = (folder / "dev.csv").read_text().splitlines()[1:]
    assert examples["dev"] == len(dev) and any(row.endswith("none") for row in dev)


def test_a_tokenizer_learns_from_what_is_written_too(run: Any) -> None:
    words = tokenizer.load(str(run[0] / "model"))
    assert len(words.tokenize(" zzyzx qqvj")) == 2  # which no text to read has


@pytest.mark.parametrize(
    "typed",
    [("--beams", "3"), ("--beams=3",), ("task.beams=3",), ("--task.beams", "3"), ("--min-words", "2", "--beams", "3")],
)
def test_a_setting_for_predictions_is_an_option(typed: tuple[str, ...], run: Any, folder: Path, command: Any) -> None:
    ended = predict(run, folder, command, *typed)
    assert ended.code == 0, ended.err
    rows = [json.loads(line) for line in ended.out.splitlines()]
    assert {row["beams"] for row in rows} == {3}
    assert {row["min_words"] for row in rows} == {2 if "2" in typed else 0}
    scored = command("evaluate", run[0], folder / "dev.csv", "--plugin", folder / "reply.py", *typed, "--json")
    assert scored.code == 0, scored.err


def test_settings_come_from_the_library_too(run: Any, folder: Path) -> None:
    out, plugins = run[0], [folder / "reply.py"]
    predictor = nlpkit.load(out, overrides=["task.beams=4"], plugins=plugins)
    assert predictor.predict(["where is the hat"])[0]["beams"] == 4
    assert nlpkit.load(out, plugins=plugins).predict(["where is the hat"])[0]["beams"] == 1
    scored = nlpkit.evaluate(out, [folder / "dev.csv"], overrides=["task.beams=2"], plugins=plugins)
    assert scored["examples"] > 0


EVERY = "nlpkit config docs --task reply lists every setting"


def test_a_sample_brings_settings_for_a_new_model_that_its_user_may_change(folder: Path, base: Any) -> None:
    def asked(*data: Path, **more: Any) -> tuple[str, int | None, int]:
        config = fine_tuning("reply", data, plugins=[folder / "reply.py"], **more).config
        return config.model.preset, config.trainer.max_epochs, config.task.beams  # type: ignore[attr-defined]

    assert asked() == ("tiny", 7, 2)
    assert asked(overrides=["trainer.max_epochs=3"]) == ("tiny", 3, 2)
    assert asked(folder / "train.csv") == asked(source=base.folder) == ("mini", None, 1)


LISTED = "--help lists the options; a setting of the model's task is --NAME VALUE"
TAKES = "one of reply takes task.beams, task.min_words; data.KEY=VALUE is for files"


@pytest.mark.parametrize("verb", ["predict", "evaluate"])
@pytest.mark.parametrize(
    ("typed", "message", "hint"),
    [
        (("--beens", "5"), "task.beens is no setting of a finished model", f"did you mean 'beams'? {TAKES}"),
        (("--beams", "0"), "command line: task.beams is '0', expected a whole number of at least 1", EVERY),
        (("--max-length", "9"), "task.max_length is no setting of a finished model", TAKES),
        (("--beams",), "--beams has no value", LISTED),
        (("-x",), "unknown option '-x'", LISTED),
        (("-5",), "unknown option '-5'", LISTED),
        (("--qiet",), "--qiet has no value", f"did you mean '--quiet'? {LISTED}"),
        (("--jsn", "a"), "task.jsn is no setting of a finished model", f"did you mean '--json'? {TAKES}"),
        (
            ("seed=3",),
            "seed is no setting of a finished model",
            "only data. settings, like data.text=COLUMN, and those that its task lets change",
        ),
    ],
)
def test_mistyped_options_get_the_nearest_and_all_that_there_are(
    verb: str, typed: tuple[str, ...], message: str, hint: str, run: Any, folder: Path, command: Any
) -> None:
    ended = command(verb, run[0], folder / "dev.csv", "--plugin", folder / "reply.py", "-q", *typed)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.splitlines() == [f"error: {message}", f"hint: {hint}"]


def test_an_option_that_takes_the_file_for_its_value_is_asked_about(fitted: Any, shop: Path, command: Any) -> None:
    ended = command("predict", fitted.folder, "--jsn", shop / "new.csv")
    assert ended.err.splitlines() == [
        "error: no text given",
        f"hint: did you mean '--json'? nlpkit predict {fitted.folder} FILES..., or - for standard input",
    ]


@pytest.mark.parametrize("verb", ["predict", "evaluate"])
@pytest.mark.parametrize("typed", [("--beam", "5"), ("--beam=5",), ("task.beam=5",)])
def test_a_task_without_settings_for_predictions_says_so(
    verb: str, typed: tuple[str, ...], fitted: Any, shop: Path, command: Any
) -> None:
    ended = command(verb, fitted.folder, shop / "more-labelled.csv", "-q", *typed)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.splitlines() == [
        "error: task.beam is no setting of a finished model",
        "hint: one of sentiment takes no setting of its task; data.KEY=VALUE is for files",
    ]


@pytest.mark.parametrize("verb", ["predict", "evaluate"])
def test_help_says_that_settings_are_options(verb: str, command: Any) -> None:
    shown = command(verb, "--help")
    assert shown.code == 0
    assert "[--SETTING VALUE]..." in " ".join(shown.out.split())


def test_a_value_may_be_the_name_of_a_file_and_a_file_may_look_like_an_option(
    run: Any, folder: Path, command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("3", "--odd.csv"):
        (tmp_path / name).write_text("text\nwhere is the hat\n")
    ended = command("predict", run[0], "--odd.csv", "--beams", "3", "--plugin", folder / "reply.py")
    assert ended.code == 0, ended.err
    assert [json.loads(line)["beams"] for line in ended.out.splitlines()] == [3]
