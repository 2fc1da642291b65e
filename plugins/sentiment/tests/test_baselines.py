from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import nlpkit_sentiment
import pytest
from nlpkit_sentiment.baselines import majority, tfidf
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.pipeline import make_pipeline

from nlpkit import Example
from nlpkit.errors import DataError

SAMPLE = Path(nlpkit_sentiment.__file__).with_name("sample.csv")


def read_sample() -> list[tuple[str, str]]:
    with SAMPLE.open(encoding="utf-8", newline="") as file:
        return [(row["text"], row["label"]) for row in csv.DictReader(file)]


def examples(*pairs: tuple[str | None, str | None]) -> list[Example]:
    return [Example({"text": text, "label": label}) for text, label in pairs]


def test_sample_is_balanced_and_without_repeats() -> None:
    rows = read_sample()
    assert Counter(label for _, label in rows) == {"positive": 80, "negative": 80}
    assert len({text.casefold() for text, _ in rows}) == 160


def test_sample_has_texts_beyond_ascii() -> None:
    assert sum(not text.isascii() for text, _ in read_sample()) >= 20


def test_tfidf_equals_sklearn_on_the_sample() -> None:
    rows = read_sample()
    train, test = rows[40:], rows[:40]
    pipeline = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10, max_iter=1000)
    )
    pipeline.fit([text for text, _ in train], [label for _, label in train])
    truth, predicted = [label for _, label in test], pipeline.predict([text for text, _ in test])
    assert tfidf(examples(*train), examples(*test)) == {
        "accuracy": accuracy_score(truth, predicted),
        "f1_macro": f1_score(truth, predicted, average="macro"),
    }


def test_tfidf_beats_majority_where_words_decide() -> None:
    train = examples(*[("good good tea", "yes"), ("bad old tea", "no")] * 5)
    test = examples(("good", "yes"), ("bad", "no"), ("old", "no"))
    assert tfidf(train, test) == {"accuracy": 1.0, "f1_macro": 1.0}
    assert majority(train, test)["accuracy"] == pytest.approx(2 / 3)


def test_majority_counts_by_hand() -> None:
    train = examples(("a", "x"), ("b", "x"), ("c", "y"))
    test = examples(("d", "x"), ("e", "x"), ("f", "x"), ("g", "y"))
    f1_of_x = 2 * 3 / (2 * 3 + 1)  # three hits, one false alarm, none missed
    assert majority(train, test) == {"accuracy": 0.75, "f1_macro": pytest.approx(f1_of_x / 2)}


def test_majority_breaks_ties_by_name_whatever_the_order() -> None:
    train = examples(("a", "x"), ("b", "y"))
    test = examples(("c", "x"))
    assert majority(train, test) == majority(train[::-1], test) == {"accuracy": 1.0, "f1_macro": 1.0}


def test_f1_leaves_out_a_class_that_is_absent_from_test_and_predictions() -> None:
    train = examples(*[("good", "yes"), ("bad", "no"), ("odd", "maybe")] * 4)
    assert tfidf(train, examples(("good", "yes"), ("bad", "no"))) == {"accuracy": 1.0, "f1_macro": 1.0}


def test_a_label_unseen_in_training_counts_as_wrong() -> None:
    train = examples(*[("good", "yes"), ("bad", "no")] * 4)
    test = examples(("good", "yes"), ("odd", "maybe"))
    assert tfidf(train, test)["accuracy"] == 0.5
    assert majority(train, examples(("odd", "maybe"))) == {"accuracy": 0.0, "f1_macro": 0.0}


def test_tfidf_of_texts_without_words_gives_the_majority() -> None:
    train = examples(("", "x"), (" \n", "x"), ("😤", "y"), (None, "x"))
    test = examples(("a real sentence", "x"), ("", "y"))
    assert tfidf(train, test) == majority(train, test)


def test_tfidf_of_one_label_gives_that_label() -> None:
    assert tfidf(examples(("good", "x"), ("bad", "x")), examples(("good", "x"))) == {"accuracy": 1.0, "f1_macro": 1.0}


def test_tfidf_takes_empty_texts_among_others() -> None:
    train = examples(*[("good", "yes"), ("bad", "no"), ("", "no")] * 3)
    assert tfidf(train, examples(("", "no"), ("good", "yes")))["accuracy"] == 1.0


def test_rows_without_a_label_are_left_out() -> None:
    train = examples(*[("good", "yes"), ("bad", "no"), ("bad", None)] * 3)
    assert majority(train, examples(("good", "no"), ("good", None)))["accuracy"] == 1.0


@pytest.mark.parametrize("baseline", [majority, tfidf])
@pytest.mark.parametrize(
    ("part", "train", "test"), [("train", [], [("a", "x")]), ("test", [("a", "x")], [("b", None)])]
)
def test_nothing_labelled_is_refused(baseline, part, train, test) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError) as error:
        baseline(examples(*train), examples(*test))
    assert error.value.message == f"the baselines found no labelled text in the {part} part"
    assert error.value.hint == "name the column with data.label=COLUMN"
