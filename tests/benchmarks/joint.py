"""One model of two tasks, or a model of each? Sentiment (sst2) and entities (WNUT 2017), 500 labelled rows of each.

    python tests/benchmarks/joint.py --from MODEL [--seed 0] WORK [key=value ...]

Every model is made by ``nlpkit fit`` and scored by ``nlpkit evaluate`` on the whole test parts. Prints a row of the
table for each, and the CPU seconds of both answers for each test sentence of sst2. Data: NLPKIT_DATA, default
../shared/data.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from pathlib import Path

from sentiment import command
from side import DATA

import nlpkit

ROWS = 500


def prepare(work: Path, seed: int) -> dict[str, tuple[Path, Path]]:
    """Files of both tasks: those to learn from, drawn by the seed, and those to test on."""
    draw = random.Random(seed).sample
    header, *rows = (DATA / "sst2" / "train.tsv").read_text("utf-8").splitlines()
    sentences = re.split(r"\n\s*\n", (DATA / "wnut17" / "wnut17train.conll").read_text("utf-8").strip())
    (work / "train.tsv").write_text("\n".join([header, *draw(rows, ROWS)]) + "\n", "utf-8")
    (work / "train.conll").write_text("\n\n".join(draw(sentences, ROWS)) + "\n", "utf-8")
    (work / "test.conll").write_bytes((DATA / "wnut17" / "emerging.test.annotated").read_bytes())
    tests = DATA / "sst2" / "test.tsv", work / "test.conll"
    return {"sentiment": (work / "train.tsv", tests[0]), "ner": (work / "train.conll", tests[1])}


def seconds_of(runs: list[Path], texts: list[str]) -> float:
    """CPU seconds in which all answers of some models are made."""
    predictors = [nlpkit.load(run) for run in runs]
    for predictor in predictors:
        predictor.predict(texts[:64])
    start = time.process_time()
    for predictor in predictors:
        predictor.predict(texts)
    return time.process_time() - start


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("settings", nargs="*")
    parser.add_argument("--from", dest="source", required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    files = prepare(options.work, options.seed)
    end = ["--from", options.source, f"seed={options.seed}", *options.settings]
    for tasks in (["sentiment"], ["ner"], ["sentiment", "ner"]):
        run = str(options.work / "-".join(tasks))
        train = [word for task in tasks for word in ("--data", f"{task}={files[task][0]}")]
        test = [word for task in tasks for word in ("--data", f"{task}={files[task][1]}")]
        command("fit", "--task", ",".join(tasks), *train, "--out", run, *end)
        scores = json.loads(command("evaluate", run, *test, "--json"))["scores"]
        steps = json.loads((Path(run) / "results.json").read_text())["steps"]
        kept = {name: round(100 * scores[name], 1) for name in ("sentiment/accuracy", "ner/f1") if name in scores}
        print(json.dumps({"tasks": tasks, "steps": steps, **kept}), flush=True)
    texts = [line.split("\t")[0] for line in files["sentiment"][1].read_text("utf-8").splitlines()[1:]]
    runs = [options.work / name for name in ("sentiment", "ner", "sentiment-ner")]
    both = {"one by one": seconds_of(runs[:2], texts), "together": seconds_of(runs[2:], texts)}
    print(json.dumps({"CPU seconds": {name: round(value, 1) for name, value in both.items()}, "texts": len(texts)}))


if __name__ == "__main__":
    main()
