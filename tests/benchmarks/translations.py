"""Does pre-training help translation? Multi30k from nothing and from our own bundles, at 1,000, 5,000 and 29,000 pairs.

    python tests/benchmarks/translations.py prepare WORK      # WORK/corpus.txt, val.tsv, test.tsv
    python tests/benchmarks/translations.py fit VARIANT WORK [key=value ...] [--from BUNDLE] [--pairs 1000] [--seeds 0]
    python tests/benchmarks/translations.py table WORK

The corpus is the English and the German side of the training part, each caption a document by itself, in any order:
nothing in it says what translates what. The pairs to learn from are drawn by the seed, the same for each variant. Every
model is made by ``nlpkit fit`` and scored by ``nlpkit evaluate`` on test_2016_flickr (greedy). Data: NLPKIT_DATA,
default ../shared/data.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from pathlib import Path
from typing import Any

from sentiment import command
from translate import pairs

SETTINGS = ["task.max_length=64", "trainer.patience=0", "trainer.validations_per_epoch=1"]


def write(path: Path, part: list[Any]) -> None:
    """Write pairs as a table; one of the captions has a tab inside."""
    rows = ([" ".join(pair[side].split()) for side in ("source", "target")] for pair in part)
    lines = "".join("\t".join(row) + "\n" for row in rows)
    path.write_text(f"source\ttarget\n{lines}", "utf-8")


def drawn(count: int, seed: int) -> list[Any]:
    """Pairs of the training part."""
    whole = [pair for pair in pairs("train") if pair["source"].strip() and pair["target"].strip()]
    return random.Random(seed).sample(whole, min(count, len(whole)))


def prepare(work: Path) -> None:
    """Write what all variants read."""
    texts = [pair[side] for pair in drawn(10**9, 0) for side in ("source", "target")]
    (work / "corpus.txt").write_text("\n".join(random.Random(0).sample(texts, len(texts))) + "\n", "utf-8")
    for name, part in (("val", "val"), ("test", "test_2016_flickr")):
        write(work / f"{name}.tsv", [pair for pair in pairs(part) if pair["source"].strip() and pair["target"].strip()])


def fit(variant: str, work: Path, seeds: list[int], count: int, source: str, overrides: list[str]) -> None:
    """Fit and evaluate one variant with several seeds."""
    for seed in seeds:
        train, run, start = work / f"train-{count}-{seed}.tsv", work / f"{variant}-{count}-{seed}", time.time()
        write(train, drawn(count, seed))
        begin = ["--task", "translation", str(train), "--dev", str(work / "val.tsv")]
        begin += ["--from", source] if source else []
        command("fit", *begin, "--out", str(run), f"seed={seed}", *SETTINGS, *overrides)
        evaluated = json.loads(command("evaluate", str(run), str(work / "test.tsv"), "--json"))
        row = {"variant": variant, "pairs": count, "seed": seed, "seconds": round(time.time() - start)}
        row |= evaluated["scores"]
        with open(work / "results.jsonl", "a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


def table(work: Path) -> None:
    """Print mean and spread as Markdown."""
    rows = [json.loads(line) for line in (work / "results.jsonl").read_text().splitlines()]
    print("| start | pairs | seeds | BLEU: mean | lowest | highest | chrF | loss |")
    print("|---|---|---|---|---|---|---|---|")
    for variant, count in dict.fromkeys((row["variant"], row["pairs"]) for row in rows):
        of = [row for row in rows if (row["variant"], row["pairs"]) == (variant, count)]
        scores = [row["bleu"] for row in of]
        cells = [statistics.mean(scores), min(scores), max(scores), statistics.mean(row["chrf"] for row in of)]
        loss = statistics.mean(row["loss"] for row in of)
        print(f"| {variant} | {count:,} | {len(of)} | {' | '.join(f'{c:.1f}' for c in cells)} | {loss:.2f} |")


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["prepare", "fit", "table"])
    parser.add_argument("words", nargs="+")
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--from", dest="source", default="")
    options = parser.parse_args()
    if options.what == "fit":
        variant, work, *overrides = options.words
        fit(variant, Path(work), options.seeds, options.pairs, options.source, overrides)
        return
    work = Path(options.words[0])
    work.mkdir(parents=True, exist_ok=True)
    {"prepare": prepare, "table": table}[options.what](work)


if __name__ == "__main__":
    main()
