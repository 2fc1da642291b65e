"""Does pre-training help? Sentiment from 1,000 labels, from nothing, our own bundle, MiniLM, and MiniLM continued.

    python tests/benchmarks/sentiment.py prepare imdb WORK       # writes WORK/imdb/{corpus,train,test}.csv
    python tests/benchmarks/sentiment.py fit imdb WORK nothing [key=value ...] [--from BUNDLE] [--seeds 0 1 2]
    python tests/benchmarks/sentiment.py baselines imdb WORK
    python tests/benchmarks/sentiment.py table WORK
    python tests/benchmarks/sentiment.py probe imdb WORK RUN     # how much of it is in a bundle before any fine-tuning

The third set, sst2, is the whole training and dev part, for a public model alone.

Every model is made by the commands ``nlpkit pretrain``, ``fit`` and ``evaluate``; this program only prepares the files,
calls them, and keeps what they print in WORK/results.jsonl. Data: NLPKIT_DATA, default ../shared/data.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from nlpkit.splits import fingerprint

DATA = Path(os.environ.get("NLPKIT_DATA", Path(__file__).parents[3] / "shared" / "data"))
LABELLED = 1000
Row = tuple[str, str]
Parts = dict[str, list[Row]]  # train, test, and dev where the set has one


def imdb() -> tuple[Iterable[str], Parts]:
    """Unlabelled reviews, 1,000 labelled ones (balanced), and the 5,000 test reviews that are in neither."""
    csv.field_size_limit(10**9)

    def rows(name: str) -> list[Row]:
        with gzip.open(DATA / "imdb" / f"{name}.csv.gz", "rt", encoding="utf-8", newline="") as file:
            return [(r["review"], r["sentiment"]) for r in csv.DictReader(file)]

    with gzip.open(DATA / "imdb" / "unlabelled_25k.txt.gz", "rt", encoding="utf-8", newline="\n") as file:
        corpus = [line.rstrip("\n") for line in file]
    return corpus, {"train": balanced(rows("train_5k"), LABELLED)[0], "test": rows("test_5k")}


def clothing() -> tuple[Iterable[str], Parts]:
    """All reviews but the test texts; 4-5 stars positive, 1-2 negative, 3 left out; 1,000 and 3,000 rows, balanced."""
    path = DATA / "womens_clothing_reviews" / "Womens Clothing E-Commerce Reviews.csv"
    with open(path, encoding="utf-8", newline="") as file:
        table = [(r["Review Text"].strip(), int(r["Rating"])) for r in csv.DictReader(file)]
    unique = {fingerprint(text): (text, stars) for text, stars in table if text}
    rated = [(text, "positive" if stars > 3 else "negative") for text, stars in unique.values() if stars != 3]
    train, rest = balanced(rated, LABELLED)
    test, _ = balanced(rest, 3000)
    return (text for text, _ in unique.values()), {"train": train, "test": test}


def sst2() -> tuple[Iterable[str], Parts]:
    """No unlabelled text; all sentences of train, dev and test."""

    def rows(name: str) -> list[Row]:
        with open(DATA / "sst2" / f"{name}.tsv", encoding="utf-8", newline="") as file:
            table = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            return [(r["sentence"], {"0": "negative", "1": "positive"}[r["label"]]) for r in table]

    return [], {name: rows(name) for name in ("train", "dev", "test")}


def balanced(rows: list[Row], count: int) -> tuple[list[Row], list[Row]]:
    """Draw as many rows of each label, by a fixed seed; the drawn and the others."""
    order = random.Random(0).sample(rows, len(rows))
    labels = sorted({label for _, label in rows})
    drawn = [r for name in labels for r in [x for x in order if x[1] == name][: count // len(labels)]]
    taken = {id(r) for r in drawn}
    return random.Random(1).sample(drawn, len(drawn)), [r for r in order if id(r) not in taken]


SETS = {"imdb": imdb, "clothing": clothing, "sst2": sst2}


def prepare(name: str, work: Path) -> None:
    """Write the corpus and the parts; no test text is in the corpus or in the training rows."""
    corpus, parts = SETS[name]()
    seen = {fingerprint(text) for text, _ in parts["train"]}
    parts["test"] = [(t, label) for t, label in parts["test"] if fingerprint(t) not in seen]
    hidden = {fingerprint(t) for t, _ in parts["test"]}
    texts = [t for t in corpus if fingerprint(t) not in hidden]
    folder = work / name
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "corpus.csv", ["text"], ([t] for t in texts))
    for part, rows in parts.items():
        write(folder / f"{part}.csv", ["text", "label"], rows)
    print(json.dumps({"corpus": len(texts), **{part: len(rows) for part, rows in parts.items()}}))


def write(path: Path, header: list[str], rows: Iterable[Iterable[str]]) -> None:
    """Write a table."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def fit(name: str, work: Path, variant: str, seeds: list[int], source: str, overrides: list[str]) -> None:
    """Fit and evaluate one variant with several seeds."""
    for seed in seeds:
        run = work / name / f"{variant}-{seed}"
        start = time.time()
        begin = ["--from", source] if source else []
        dev = ["--dev", name_of(work, name, "dev")] if (work / name / "dev.csv").exists() else []
        settings = [*begin, *dev, "--out", str(run), f"seed={seed}", *overrides]
        command("fit", "--task", "sentiment", name_of(work, name, "train"), *settings)
        scores = json.loads(command("evaluate", str(run), name_of(work, name, "test"), "--json"))["scores"]
        row = {"set": name, "variant": variant, "seed": seed, "seconds": round(time.time() - start), **scores}
        with open(work / "results.jsonl", "a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


def baselines(name: str, work: Path) -> None:
    """Majority and TF-IDF on the same files."""
    from nlpkit_sentiment.baselines import majority, tfidf

    from nlpkit import Example

    parts = []
    for part in ("train", "test"):
        with open(name_of(work, name, part), encoding="utf-8", newline="") as file:
            parts.append([Example(r) for r in csv.DictReader(file)])
    for variant, scores in (("majority", majority(*parts)), ("tfidf", tfidf(*parts, seed=0))):
        with open(work / "results.jsonl", "a") as file:
            file.write(json.dumps({"set": name, "variant": variant, "seed": 0, **scores}) + "\n")
        print(name, variant, scores)


def table(work: Path) -> None:
    """Print mean and spread as Markdown."""
    rows = [json.loads(line) for line in (work / "results.jsonl").read_text().splitlines()]
    print("| data | from | seeds | accuracy: mean | std | lowest | highest | macro F1: mean |")
    print("|---|---|---|---|---|---|---|---|")
    for key in dict.fromkeys((r["set"], r["variant"]) for r in rows):
        of = [r for r in rows if (r["set"], r["variant"]) == key]
        scores = [100 * r["accuracy"] for r in of]
        spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
        f1 = statistics.mean(100 * r["f1_macro"] for r in of)
        print(
            f"| {key[0]} | {key[1]} | {len(of)} | {statistics.mean(scores):.1f} | {spread:.1f} | {min(scores):.1f} |"
            f" {max(scores):.1f} | {f1:.1f} |"
        )


def probe(name: str, work: Path, run: str) -> None:
    """Logistic regression on the mean hidden state of each layer; trained on the labelled texts, tested on 2,000."""
    import torch
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from transformers import AutoModel, AutoTokenizer

    folder = f"{run}/model" if os.path.isdir(f"{run}/model") else run
    words = AutoTokenizer.from_pretrained(folder, truncation_side="left")
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()

    def states(part: str, most: int) -> tuple[list[torch.Tensor], list[str]]:
        with open(name_of(work, name, part), encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))[:most]
        means = []
        with torch.inference_mode():
            for row in rows:
                batch = words(row["text"], truncation=True, max_length=256, return_tensors="pt")
                output = model(input_ids=batch["input_ids"], output_hidden_states=True)
                means.append(torch.stack([h[0].mean(0) for h in (*output.hidden_states, output.last_hidden_state)]))
        return list(torch.stack(means).unbind(1)), [row["label"] for row in rows]

    train, labels = states("train", LABELLED)
    test, answers = states("test", 2000)
    for layer, (seen, new) in enumerate(zip(train, test, strict=True)):
        classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
        score = classifier.fit(seen.numpy(), labels).score(new.numpy(), answers)
        print(f"layer {layer}: {100 * score:.1f}", flush=True)


def name_of(work: Path, name: str, part: str) -> str:
    """Path of a prepared file."""
    return str(work / name / f"{part}.csv")


def command(*words: str) -> str:
    """Run nlpkit; its messages go to our stderr."""
    done = subprocess.run([sys.executable, "-m", "nlpkit", *words], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["prepare", "fit", "baselines", "table", "probe"])
    parser.add_argument("words", nargs="+")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--from", dest="source", default="")
    options = parser.parse_args()
    if options.what == "table":
        table(Path(options.words[0]))
    elif options.what == "probe":
        probe(options.words[0], Path(options.words[1]), options.words[2])
    elif options.what == "fit":
        name, work, variant, *overrides = options.words
        fit(name, Path(work), variant, options.seeds, options.source, overrides)
    else:
        {"prepare": prepare, "baselines": baselines}[options.what](options.words[0], Path(options.words[1]))


if __name__ == "__main__":
    main()
