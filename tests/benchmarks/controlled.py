"""Does a decoder write what it is asked for? Reviews by stars, read by our own sentiment model, and how much is copied.

    python tests/benchmarks/controlled.py pretrain WORK [key=value ...]   # WORK/lm
    python tests/benchmarks/controlled.py generate WORK [--stars 1 2 4 5] [-n 40]
    python tests/benchmarks/controlled.py table WORK --sentiment RUN

RUN is a sentiment model for the same shop, as ``sentiment.py fit clothing`` makes it (4 and 5 stars: positive). All
is done by the commands ``nlpkit pretrain``, ``generate`` and ``predict``; this program calls them and counts. Data:
NLPKIT_DATA, default ../shared/data.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

DATA = Path(os.environ.get("NLPKIT_DATA", Path(__file__).parents[3] / "shared" / "data"))
TABLE = DATA / "womens_clothing_reviews" / "Womens Clothing E-Commerce Reviews.csv"
HOW = ("--temperature", "0.8", "--top-p", "0.95", "--tokens", "150", "--seed", "1")
Row = dict[str, Any]


def pretrain(work: Path, settings: list[str]) -> None:
    """Learn to write reviews behind their stars and department."""
    asked = ("--objective", "clm", "--control", "Rating,Department Name", "--out", str(work / "lm"))
    command("pretrain", str(TABLE), *asked, *settings)


def generate(work: Path, stars: list[str], count: int) -> None:
    """Ask for as many reviews of each rating, and for how much of each is copied."""
    with open(work / "generated.jsonl", "w", encoding="utf-8") as file:
        for rating in stars:
            asked = ("--set", f"Rating={rating}", "-n", str(count), *HOW)
            file.write(command("generate", str(work / "lm"), *asked, "--novelty", "--json"))


def table(work: Path, sentiment: str) -> None:
    """Print how often the sentiment model agrees with the stars that were asked for, and the copying, as Markdown."""
    rows = [json.loads(line) for line in (work / "generated.jsonl").read_text("utf-8").splitlines()]
    for row, label in zip(rows, labels(work, sentiment, [row["text"] for row in rows]), strict=True):
        row["agrees"] = label == ("positive" if int(row["attributes"]["Rating"]) > 3 else "negative")
    print("| stars | reviews | sentiment agrees | longest copy: mean tokens | most | new 4-grams | new 8-grams |")
    print("|---|---|---|---|---|---|---|")
    for rating in sorted({row["attributes"]["Rating"] for row in rows}):
        print(line(rating, [row for row in rows if row["attributes"]["Rating"] == rating]))
    print(line("all", rows))


def labels(work: Path, sentiment: str, texts: list[str]) -> list[str]:
    """What the sentiment model says of each text."""
    with open(work / "generated.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["text"], *([text] for text in texts)])
    return [json.loads(row)["label"] for row in command("predict", sentiment, str(work / "generated.csv")).splitlines()]


def line(name: str, rows: list[Row]) -> str:
    """A row of the table."""
    spans = [row["novelty"]["longest_copied"]["tokens"] for row in rows]
    new = [mean([row["novelty"][f"new_{n}grams"] for row in rows]) for n in (4, 8)]
    agrees = 100 * mean([row["agrees"] for row in rows])
    cells = (
        name,
        len(rows),
        f"{agrees:.0f}%",
        f"{mean(spans):.1f}",
        max(spans),
        *(f"{100 * share:.0f}%" for share in new),
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def mean(values: list[float | None]) -> float:
    """Of those that there are."""
    return statistics.mean(value for value in values if value is not None)


def command(*words: str) -> str:
    """Run nlpkit; its messages go to our stderr."""
    done = subprocess.run([sys.executable, "-m", "nlpkit", *words], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["pretrain", "generate", "table"])
    parser.add_argument("work", type=Path)
    parser.add_argument("settings", nargs="*", metavar="key=value")
    parser.add_argument("--stars", nargs="+", default=["1", "2", "4", "5"])
    parser.add_argument("-n", dest="count", type=int, default=40)
    parser.add_argument("--sentiment", default="")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.what == "pretrain":
        pretrain(options.work, options.settings)
    elif options.what == "generate":
        generate(options.work, options.stars, options.count)
    else:
        table(options.work, options.sentiment)


if __name__ == "__main__":
    main()
