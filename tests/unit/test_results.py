"""What is printed when a run has ended: whole numbers, and advice that can be followed."""

from __future__ import annotations

from typing import Any

import pytest

from nlpkit.cli.results import not_beaten, remarks, score_table


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
    assert not_beaten(results(0.9, 1.0)) == [("tfidf", 1.0)]
    assert not_beaten(results(0.9, 0.9)) == [("tfidf", 0.9)]


def test_advice_names_from_only_where_it_was_not_given() -> None:
    lost = results(0.4, 0.5)
    assert remarks(lost)[-1] == "more labels help, or a model that knows the language: --from MODEL"
    assert remarks(lost, trained=True)[-1] == "more labels help"
