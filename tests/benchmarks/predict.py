"""Predicting 2,000 reviews of IMDB, against transformers' pipeline with batches of 32.

    python tests/benchmarks/predict.py [--runs 3] [--threads 1] [--reviews 2000]

Both sides read one folder: MiniLM, fitted by nlpkit on 128 other reviews; float32, sdpa, texts cut at 256 tokens. The
clock covers texts in, labels out, tokenising included; loading is outside. The labels of both sides are compared one by
one.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import finetune
import side

LENGTH, BATCH = 256, 32


def reviews(name: str, most: int) -> list[dict[str, str]]:
    """Every n-th review of a part with its label."""
    with gzip.open(side.DATA / "imdb" / f"{name}.csv.gz", "rt", encoding="utf-8", newline="") as file:
        found = [{"text": row["review"], "label": row["sentiment"]} for row in csv.DictReader(file)]
    return found[:: max(1, len(found) // most)][:most]


def prepare(arguments: argparse.Namespace) -> None:
    """Fit the model that both sides read."""
    import logging

    import nlpkit

    logging.getLogger("nlpkit").setLevel(logging.ERROR)
    folder = Path(os.environ["NLPKIT_BENCH"])
    with open(folder / "train.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["text", "label"])
        writer.writeheader()
        writer.writerows(reviews("train_5k", 128))
    settings = [f"task.max_length={LENGTH}", "trainer.max_epochs=1", "trainer.validations_per_epoch=1"]
    run = nlpkit.fit(
        "sentiment", str(folder / "train.csv"), source=finetune.source(), out=str(folder / "run"), overrides=settings
    )
    (folder / "model").symlink_to(run.model)


def ours(arguments: argparse.Namespace) -> dict[str, Any]:
    """Predict with nlpkit."""
    import nlpkit

    predictor = nlpkit.load(_folder() / "run")
    return _timed(arguments, predictor.predict)


def theirs(arguments: argparse.Namespace) -> dict[str, Any]:
    """Predict with the pipeline."""
    from transformers import pipeline

    pipe = pipeline("text-classification", str(_folder() / "model"), device="cpu")
    return _timed(arguments, lambda texts: pipe(texts, batch_size=BATCH, truncation=True, max_length=LENGTH))


def _timed(arguments: argparse.Namespace, predict: Any) -> dict[str, Any]:
    import torch

    torch.set_num_threads(arguments.threads)
    examples = reviews("test_5k", arguments.reviews)
    texts = [e["text"] for e in examples]
    predict(texts[:8])
    with side.Clock() as clock:
        answers = predict(texts)
    labels = [answer["label"] for answer in answers]
    right = sum(label == e["label"] for label, e in zip(labels, examples, strict=True))
    first = _folder() / "labels.json"
    if not first.exists():
        first.write_text(json.dumps(labels))
    equal = sum(a == b for a, b in zip(labels, json.loads(first.read_text()), strict=True))
    return clock.result(len(texts), accuracy=right / len(texts), equal_labels=equal)


def _folder() -> Path:
    return Path(os.environ["NLPKIT_BENCH"])


def main() -> None:
    """Compare the sides."""
    made = side.parser(__doc__)
    made.add_argument("--reviews", type=int, default=2000)
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("NLPKIT_BENCH", folder)
        side.main(made, {"transformers": theirs, "nlpkit": ours}, prepare)


if __name__ == "__main__":
    main()
