"""What a model has to beat: the most frequent label, and TF-IDF with logistic regression."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from nlpkit import Example
from nlpkit.errors import DataError

_INVERSE_REGULARISATION = 10.0
"""Chosen once for a few hundred to a few thousand short texts and left alone: a baseline is not tuned on the test."""
_MOST_FEATURES = 500_000


def majority(train: Sequence[Example], test: Sequence[Example]) -> dict[str, float]:
    """Score the training data's most frequent label, given to every test text; of equals the first in the alphabet.

    Raises:
        DataError: no labelled text to learn from, or none to score.
    """
    _, labels = _labelled(train, "train")
    _, truth = _labelled(test, "test")
    return _scores(truth, [_most_frequent(labels)] * len(truth))


def tfidf(train: Sequence[Example], test: Sequence[Example], seed: int = 0) -> dict[str, float]:
    """Score logistic regression on TF-IDF of words and pairs of words.

    Where there is nothing to learn (one label, or texts without a word) it gives the most frequent label.

    Raises:
        DataError: no labelled text to learn from, or none to score.
    """
    texts, labels = _labelled(train, "train")
    test_texts, truth = _labelled(test, "test")
    return _scores(truth, _predict(texts, labels, test_texts, seed))


def _predict(texts: list[str], labels: list[str], test_texts: list[str], seed: int) -> list[str]:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    constant = [_most_frequent(labels)] * len(test_texts)
    if len(set(labels)) < 2:
        return constant
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=_MOST_FEATURES)
    try:
        features = vectorizer.fit_transform(texts)
    except ValueError:  # an empty vocabulary: no text has a word of two letters
        return constant
    model = LogisticRegression(C=_INVERSE_REGULARISATION, max_iter=1000, random_state=seed)
    model.fit(features, labels)
    return [str(label) for label in model.predict(vectorizer.transform(test_texts))]


def _labelled(examples: Sequence[Example], part: str) -> tuple[list[str], list[str]]:
    rows = [example for example in examples if example.get("label") is not None]
    if not rows:
        raise DataError(
            f"the baselines found no labelled text in the {part} part", "name the column with data.label=COLUMN"
        )
    return [str(row.get("text") or "") for row in rows], [str(row["label"]) for row in rows]


def _most_frequent(labels: Sequence[str]) -> str:
    counts = Counter(labels)
    return min(counts, key=lambda label: (-counts[label], label))


def _scores(truth: list[str], predicted: list[str]) -> dict[str, float]:
    """Accuracy, and F1 averaged over the classes that occur in the truth or the predictions."""
    from sklearn.metrics import accuracy_score, f1_score

    return {
        "accuracy": float(accuracy_score(truth, predicted)),
        "f1_macro": float(f1_score(truth, predicted, average="macro", zero_division=0.0)),
    }
