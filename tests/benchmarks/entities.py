"""How well are entities found? WNUT 2017 from nothing, from a bundle and from MiniLM, by each way to put tags together.

    python tests/benchmarks/entities.py fit minilm WORK [key=value ...] --from MODEL [--seeds 0 1 2]
    python tests/benchmarks/entities.py table WORK

Every model is made by ``nlpkit fit`` on the training and dev part and scored by ``nlpkit evaluate`` on the test part;
`seqeval` scores what ``nlpkit predict`` writes for the test texts (strict, IOB2). Data: NLPKIT_DATA, default
../shared/data.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from nlpkit_ner import conll, schemes
from sentiment import command
from seqeval.metrics import f1_score
from seqeval.scheme import IOB2
from side import DATA

PARTS = {"train": "wnut17train.conll", "dev": "emerging.dev.conll", "test": "emerging.test.annotated"}


def path_of(part: str) -> str:
    """The file of a part."""
    return str(DATA / "wnut17" / PARTS[part])


def fit(variant: str, work: Path, seeds: list[int], source: str, overrides: list[str]) -> None:
    """Fit, evaluate and predict one variant with several seeds."""
    truth = list(conll.read(path_of("test")))
    texts = work / "texts.txt"
    texts.write_text("".join(f"{e['text']}\n" for e in truth), "utf-8")
    for seed in seeds:
        run, start = work / f"{variant}-{seed}", time.time()
        begin = ["--task", "ner", path_of("train"), "--dev", path_of("dev"), *(["--from", source] if source else [])]
        command("fit", *begin, "--out", str(run), f"seed={seed}", *overrides)
        evaluated = command("evaluate", str(run), path_of("test"), "data.reader=conll", "--json")
        answers = [json.loads(line) for line in command("predict", str(run), str(texts)).splitlines()]
        pairs = list(zip(truth, answers, strict=True))
        expected = strict_f1([tags(e, a) for e, a in pairs], [tags(a, e) for e, a in pairs])
        row = {"variant": variant, "seed": seed, "seconds": round(time.time() - start), "seqeval": expected}
        row |= json.loads(evaluated)["scores"]
        with open(work / "results.jsonl", "a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


def strict_f1(true: list[list[str]], found: list[list[str]]) -> float:
    """By seqeval."""
    return float(f1_score(true, found, mode="strict", scheme=IOB2))


def tags(row: Any, other: Any) -> list[str]:
    """Of words that end where an entity of either does, as an answer may leave out the last sign of a word."""
    words, spans = conll.words_of(row["text"], row["entities"], other["entities"])
    return schemes.tags(spans, len(words))


def table(work: Path) -> None:
    """Print mean and spread as Markdown."""
    rows = [json.loads(line) for line in (work / "results.jsonl").read_text().splitlines()]
    print("| from | seeds | strict F1: mean | std | lowest | highest | precision | recall | F1 by type, mean |")
    print("|---|---|---|---|---|---|---|---|---|")
    for variant in dict.fromkeys(row["variant"] for row in rows):
        of = [row for row in rows if row["variant"] == variant]
        scores = [100 * row["f1"] for row in of]
        means = [100 * statistics.mean(row[key] for row in of) for key in ("precision", "recall", "f1_macro")]
        spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
        cells = [statistics.mean(scores), spread, min(scores), max(scores), *means]
        print(f"| {variant} | {len(of)} | {' | '.join(f'{cell:.1f}' for cell in cells)} |")


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["fit", "table"])
    parser.add_argument("words", nargs="+")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--from", dest="source", default="")
    options = parser.parse_args()
    if options.what == "table":
        table(Path(options.words[0]))
        return
    variant, work, *overrides = options.words
    Path(work).mkdir(parents=True, exist_ok=True)
    fit(variant, Path(work), options.seeds, options.source, overrides)


if __name__ == "__main__":
    main()
