"""What is printed when a run has ended: whole numbers, and advice that can be followed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from nlpkit.cli.results import next_steps, not_beaten, remarks, score_table
from nlpkit.plugins import Registry
from nlpkit.run import Run


def results(mine: float, theirs: float, steps: int = 9) -> dict[str, Any]:
    return {
        "score": "f1",
        "dev": {"f1": mine},
        "baselines": {"tfidf": {"f1": theirs}},
        "best_step": 5,
        "steps": steps,
    }


def test_numbers_of_errors_have_no_decimals_and_scores_have() -> None:
    scores = {"f1": 1.0, "f1/LOC": 0.0, "errors/type": 0.0, "errors/missing": 1836.0, "loss": 2.5}
    _, rows = score_table(scores, {"majority": {"f1": 0.5, "errors/type": 1.0, "errors/missing": 1.5}})
    assert rows == [
        ("f1", "1.0000", "0.5000"),
        ("f1/LOC", "0.0000", "-"),
        ("errors/type", "0", "1"),
        ("errors/missing", "1,836", "1.5000"),
        ("loss", "2.5000", "-"),
    ]


@pytest.mark.parametrize("value", [float("nan"), 0.5])
def test_one_that_is_not_whole_shows_the_decimals_of_all(value: float) -> None:
    _, rows = score_table({"seconds/all": 12.0, "seconds/one": value}, {})
    assert rows == [("seconds/all", "12.0000"), ("seconds/one", f"{value:.4f}")]


def test_a_perfect_score_needs_to_beat_nothing() -> None:
    assert (not_beaten(results(1.0, 1.0)), remarks(results(1.0, 1.0))) == ([], [])
    assert not_beaten(results(0.9, 1.0)) == [("tfidf", "f1", 1.0)]
    assert not_beaten(results(0.9, 0.9)) == [("tfidf", "f1", 0.9)]


def test_advice_names_from_only_where_it_was_not_given() -> None:
    lost = results(0.4, 0.5)
    assert remarks(lost)[-1] == "more labels help, or a model that knows the language: --from MODEL"
    assert remarks(lost, trained=True)[-1] == "more labels help"


SIDES = """
import nlpkit
from nlpkit_sentiment import Sentiment


class Marked(Sentiment):
    name = "marked"
    sides = "beside"


@nlpkit.hookimpl
def nlpkit_tasks():
    return [Marked]


@nlpkit.hookimpl
def nlpkit_datasets():
    return {"beside": nlpkit.Dataset(lambda *files: [], sides=("text", "label")), "log": nlpkit.Dataset(lambda f: [])}
"""


@pytest.mark.parametrize(
    ("reader", "files", "labelled", "new"),
    [
        ("beside", ["a.en", "b.en", "a.de", "b.de"], "LABELLED.en LABELLED.de", "NEW.en"),
        ("beside", ["a.en.gz", "*.de"], "LABELLED.en.gz LABELLED.de", "NEW.en.gz"),
        ("beside", ["a.txt", "b.txt"], "LABELLED.text.txt LABELLED.label.txt", "NEW.text.txt"),
        ("beside", ["a.x", "b.y", "a.z", "b.z"], "LABELLED.text.x LABELLED.label.x", "NEW.text.x"),
        ("log", ["a.log", "b.log"], "LABELLED.log", "NEW.log"),
        ("", ["a.csv"], "LABELLED.csv", "NEW.csv"),
        ("", [], "LABELLED.csv", "NEW.csv"),
    ],
)
def test_next_commands_name_as_many_files_as_their_reader_takes(
    reader: str, files: Sequence[str], labelled: str, new: str, tmp_path: Path
) -> None:
    (tmp_path / "sides.py").write_text(SIDES)
    registry = Registry(files=(str(tmp_path / "sides.py"),))
    (tmp_path / "model").mkdir()
    (tmp_path / "run.json").write_text(json.dumps({"request": {"data": files}}))
    (tmp_path / "model/nlpkit.json").write_text(json.dumps({"data": {"reader": reader}}))
    run = Run(tmp_path, {"stage": "finetune", "task": "marked"})
    assert next_steps(run, registry) == [
        f"nlpkit evaluate {tmp_path} {labelled}",
        f"nlpkit predict {tmp_path} {new} > predictions.jsonl",
    ]
