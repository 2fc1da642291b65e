"""Which objective helps a task? Books and film reviews by clm, mlm and mlm+nsp for equal CPU time, then sentiment.

    python tests/benchmarks/objectives.py prepare WORK             # corpus of books and imdb, labelled and test reviews
    python tests/benchmarks/objectives.py pretrain clm WORK [key=value ...]       # 30 CPU minutes on one thread
    python tests/benchmarks/objectives.py fit clm WORK [key=value ...] [--seeds 0 1 2]
    python tests/benchmarks/objectives.py perplexity WORK     # of a clm run on wikitext2, beside transformers' recipe
    python tests/benchmarks/objectives.py curve WORK FILE.svg # bits per byte of the clm run against tokens, drawn

Every model is made by the commands ``nlpkit pretrain``, ``fit`` and ``evaluate``. Data: NLPKIT_DATA, default
../shared/data.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import math
import re
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from sentiment import command, fit, prepare, write
from side import DATA

MINUTES = 30
_PROBE_STEPS = 24


def books() -> list[str]:
    """Each book as one text: lines of a paragraph joined, paragraphs apart."""
    texts = []
    for path in sorted((DATA / "gutenberg").glob("*.txt.gz")):
        with gzip.open(path, "rt", encoding="utf-8-sig", errors="replace") as file:
            paragraphs = re.split(r"\n\s*\n", file.read())
        texts.append("\n\n".join(" ".join(p.split()) for p in paragraphs if p.strip()))
    return texts


def prepare_all(work: Path) -> None:
    """Write WORK/imdb as `sentiment.py` does, and WORK/corpus.csv: its corpus and the books."""
    prepare("imdb", work)
    csv.field_size_limit(10**9)
    with open(work / "imdb" / "corpus.csv", encoding="utf-8", newline="") as file:
        reviews = [row["text"] for row in csv.DictReader(file)]
    write(work / "corpus.csv", ["text"], ([text] for text in [*reviews, *books()]))


def pretrain(objective: str, work: Path, name: str, overrides: list[str]) -> None:
    """As many steps as fit into `MINUTES` of CPU time, going by a short run; the schedule then ends with them."""
    settings = ["trainer.threads=1", "trainer.precision=bf16-mixed", *overrides]
    begin = [sys.executable, "-m", "nlpkit", "pretrain", str(work / "corpus.csv"), "--objective", objective]
    seconds = []
    for steps in (_PROBE_STEPS, 3 * _PROBE_STEPS):
        spent = _children()
        out = work / f".{name}-{steps}"
        subprocess.run([*begin, "--out", str(out), f"trainer.max_steps={steps}", *settings], check=True)
        seconds.append(_children() - spent)
        subprocess.run(["rm", "-r", str(out)], check=True)
    each = (seconds[1] - seconds[0]) / (2 * _PROBE_STEPS)
    steps = int(60 * MINUTES / each)
    more = [f"trainer.max_steps={steps}", "trainer.max_epochs=2", "trainer.patience=0"]
    spent, start = _children(), time.time()
    subprocess.run([*begin, "--out", str(work / name), *more, *settings], check=True)
    facts: dict[str, Any] = {"objective": objective, "steps": steps, "seconds_a_step": each}
    facts |= {"cpu_minutes": (_children() - spent) / 60, "minutes": (time.time() - start) / 60}
    print(json.dumps(facts | json.loads((work / name / "results.json").read_text("utf-8"))))


def perplexity(work: Path, name: str) -> None:
    """nlpkit's scores on wikitext2 and those of transformers' recipe for texts longer than a model, on one bundle.

    The recipe (huggingface.co/docs/transformers/perplexity) goes over the text in windows. Here each begins with the
    last token of the one before, so that every token but the first is foretold once.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    text = (DATA / "wikitext2" / "wiki.valid.tokens").read_text("utf-8")
    write(work / "wikitext2.csv", ["text"], [[text]])
    ours = json.loads(command("evaluate", str(work / name), str(work / "wikitext2.csv"), "--json"))["scores"]
    folder = work / name / "model"
    words = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.tensor([[*words(text, add_special_tokens=False)["input_ids"], words.sep_token_id]])  # (1, L)
    length, nats, count = model.config.n_positions, 0.0, 0
    for start in range(0, ids.shape[1] - 1, length - 1):
        window = ids[:, start : start + length]
        with torch.no_grad():
            loss = model(window, labels=window.clone()).loss
        nats, count = nats + float(loss) * (window.shape[1] - 1), count + window.shape[1] - 1
    peer = {"perplexity": math.exp(nats / count), "bits_per_byte": nats / math.log(2) / len(text.encode())}
    print(json.dumps({"nlpkit": ours, "transformers": peer, "tokens": count}))


def curve(work: Path, target: Path) -> None:
    """Draw the validations of the clm run: tokens seen (log), bits per byte."""
    rows = [json.loads(line) for line in (work / "clm" / "metrics.jsonl").read_text("utf-8").splitlines()]
    results = json.loads((work / "clm" / "results.json").read_text("utf-8"))
    each = results["tokens"] / results["steps"]
    points = [(each * r["step"], r["dev/bits_per_byte"]) for r in rows if "dev/bits_per_byte" in r]
    target.write_text(_drawn(points, "tokens seen", "bits per byte of held-out text"), "utf-8")
    print(json.dumps(points))


def _drawn(points: list[tuple[float, float]], below: str, beside: str) -> str:
    """A line through points as SVG; x by its logarithm."""
    width, height, left, bottom = 640, 360, 64, 48
    xs, ys = [math.log10(x) for x, _ in points], [y for _, y in points]
    low, high = math.floor(min(ys) * 10) / 10, math.ceil(max(ys) * 10) / 10
    span = max(xs) - min(xs)

    def place(x: float, y: float) -> tuple[float, float]:
        across = left + (math.log10(x) - min(xs)) / span * (width - left - 24)
        return round(across, 1), round(16 + (high - y) / (high - low) * (height - bottom - 16), 1)

    line = " ".join("{},{}".format(*place(x, y)) for x, y in points)
    parts = [f'<polyline points="{line}" fill="none" stroke="#2563eb" stroke-width="2"/>']
    labelled = math.inf
    for x, y in reversed(points):
        across, down = place(x, y)
        parts.append(f'<circle cx="{across}" cy="{down}" r="3" fill="#2563eb"/>')
        if across > labelled - 56:
            continue
        labelled = across
        parts.append(f'<text x="{across}" y="{down - 8}" text-anchor="middle">{y:.2f}</text>')
        parts.append(f'<text x="{across}" y="{height - bottom + 18}" text-anchor="middle">{x / 1e6:.1f}M</text>')
    for tick in range(round(10 * low), round(10 * high) + 1):
        down = place(points[0][0], tick / 10)[1]
        parts.append(f'<path d="M{left} {down}H{width - 24}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 8}" y="{down + 4}" text-anchor="end">{tick / 10:.1f}</text>')
    parts.append(f'<text x="{width / 2}" y="{height - 8}" text-anchor="middle">{below}</text>')
    parts.append(f'<text transform="translate(16 {height / 2}) rotate(-90)" text-anchor="middle">{beside}</text>')
    size = f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12"'
    begin = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>'
    return "\n".join([begin, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>\n"])


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["prepare", "pretrain", "fit", "perplexity", "curve"])
    parser.add_argument("words", nargs="+")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--name", default="", help="folder of the run in WORK; default: the objective's name")
    options = parser.parse_args()
    if options.what == "prepare":
        prepare_all(Path(options.words[0]))
    elif options.what == "pretrain":
        objective, work, *overrides = options.words
        pretrain(objective, Path(work), options.name or objective, overrides)
    elif options.what == "fit":
        objective, work, *overrides = options.words
        source = str(Path(work) / objective)
        settings = ["trainer.threads=1", "trainer.precision=bf16-mixed", *overrides]
        fit("imdb", Path(work), objective, options.seeds, source, settings)
    elif options.what == "perplexity":
        perplexity(Path(options.words[0]), options.name or "clm")
    else:
        curve(*map(Path, options.words))


if __name__ == "__main__":
    main()
