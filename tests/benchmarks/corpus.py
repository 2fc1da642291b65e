"""Corpus to token store, against `datasets.map` and group_texts with two processes.

    python tests/benchmarks/corpus.py [--runs 3]

Text: the Gutenberg books of $NLPKIT_DATA, unpacked, a line a text: a tenth of it, and all of it. Every run is a process
of its own, the sides take turns, and both get the same tokenizer from the same folder. The clock starts after the
imports and, for `datasets`, after the text was loaded; ours also reads the text. Prints one JSON line a side and size
(medians; CPU with children), then the ratios.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

LENGTH = 128
PROCESSES = 2
DATA = Path(os.environ.get("NLPKIT_DATA", Path(__file__).parents[3] / "shared" / "data"))


def write_text(folder: Path) -> dict[str, Path]:
    """Unpack the books into one file, and a tenth of it into another."""
    books = sorted((DATA / "gutenberg").glob("*.txt.gz"))
    if not books:
        sys.exit(f"{DATA}/gutenberg: no books; set NLPKIT_DATA")
    content = b"".join(gzip.decompress(book.read_bytes()) for book in books).decode("utf-8", "replace").encode()
    small = content[: content.index(b"\n", len(content) // 10) + 1]
    files = {"1x": folder / "small.txt", "10x": folder / "large.txt"}
    files["1x"].write_bytes(small)
    files["10x"].write_bytes(content)
    return files


def lines(path: Path) -> Iterator[str]:
    """Read a line at a time, split on LF only."""
    with open(path, encoding="utf-8", newline="\n") as file:
        for line in file:
            yield line.rstrip("\r\n")


def train_tokenizer(text: Path, folder: Path) -> None:
    """Train the tokenizer that both sides use."""
    from nlpkit import tokenizer

    trained = tokenizer.train(lines(text), kind="bpe", vocabulary=8000, lowercase=False, max_length=10**6)
    trained.save_pretrained(folder)


def ours(text: Path, model: Path, folder: Path) -> Callable[[], int]:
    """Prepare `nlpkit.corpus.build`; the work returns the count of its tokens without separators."""
    from nlpkit import corpus, tokenizer

    loaded = tokenizer.load(model)

    def work() -> int:
        key = corpus.content_key([text], tokenizer.tokenizer_hash(loaded))
        size = text.stat().st_size
        store = corpus.build(lines(text), loaded, folder, key=key, processes=PROCESSES, expected_bytes=size)
        return len(store) - store.documents

    return work


def theirs(text: Path, model: Path, folder: Path) -> Callable[[], int]:
    """Prepare the road of transformers' run_mlm: two maps, the second one group_texts."""
    import datasets
    from transformers import AutoTokenizer

    datasets.disable_progress_bars()
    loaded = AutoTokenizer.from_pretrained(model, local_files_only=True)
    table = datasets.load_dataset("text", data_files=str(text), cache_dir=str(folder), split="train")

    def encode(batch: dict[str, list[str]]) -> Any:
        return loaded(batch["text"], add_special_tokens=False)

    def group(batch: dict[str, list[list[int]]]) -> dict[str, list[list[int]]]:
        joined = {key: [item for row in rows for item in row] for key, rows in batch.items()}
        whole = len(joined["input_ids"]) // LENGTH * LENGTH
        return {key: [row[i : i + LENGTH] for i in range(0, whole, LENGTH)] for key, row in joined.items()}

    def work() -> int:
        encoded = table.map(encode, batched=True, num_proc=PROCESSES, remove_columns=["text"])
        blocks = encoded.map(group, batched=True, num_proc=PROCESSES)
        return len(blocks) * LENGTH

    return work


class Peak:
    """Highest resident memory of this process and its children together, sampled 50 times a second."""

    def __init__(self) -> None:
        self.megabytes = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(0.02):
            self.megabytes = max(self.megabytes, sum(map(_resident, [os.getpid(), *_children()])))


def _children() -> list[int]:
    try:
        return [int(p) for p in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    except OSError:
        return []


def _resident(process: int) -> float:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (OSError, IndexError):
        return 0.0


def cpu_seconds() -> float:
    """CPU time of this process and of its ended children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def run_side(side: str, text: Path, model: Path, folder: Path) -> dict[str, Any]:
    """Do one run, in this process."""
    work = (ours if side == "nlpkit" else theirs)(text, model, folder)
    base = _resident(os.getpid())
    with Peak() as peak:
        wall, cpu = time.perf_counter(), cpu_seconds()
        tokens = work()
        wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    return {"wall_s": wall, "cpu_s": cpu, "peak_mb": peak.megabytes, "base_mb": base, "tokens": tokens}


def spawn(side: str, text: Path, model: Path) -> dict[str, Any]:
    """Do one run in a fresh process with a fresh cache."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--side", side, "--text", str(text), "--model", str(model)]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": folder}
        ended = subprocess.run(
            [*command, "--folder", folder], env=environment, capture_output=True, text=True, check=True
        )
        return dict(json.loads(ended.stdout.splitlines()[-1]))


def compare(runs: int) -> None:
    """Print medians and ratios."""
    with tempfile.TemporaryDirectory() as name:
        texts = write_text(Path(name))
        train_tokenizer(texts["1x"], Path(name) / "model")
        median: dict[tuple[str, str], dict[str, float]] = {}
        for size, text in texts.items():
            found: dict[str, list[dict[str, Any]]] = {"nlpkit": [], "datasets": []}
            for _ in range(runs):
                for side in found:
                    found[side].append(spawn(side, text, Path(name) / "model"))
            for side, rows in found.items():
                median[side, size] = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
                rate = {"mb_per_s": text.stat().st_size / 1e6 / median[side, size]["wall_s"]}
                print(json.dumps({"side": side, "size": size, **rounded(median[side, size] | rate)}), flush=True)
        ratios = {
            f"{what}_{size}": median["datasets", size][key] / median["nlpkit", size][key]
            for size in texts
            for what, key in (("faster_wall", "wall_s"), ("faster_cpu", "cpu_s"))
        }
        for side in ("nlpkit", "datasets"):
            ratios[f"memory_10x_over_1x_{side}"] = median[side, "10x"]["peak_mb"] / median[side, "1x"]["peak_mb"]
        print(json.dumps(rounded(ratios)))


def rounded(values: dict[str, float]) -> dict[str, float]:
    """Two digits after the point."""
    return {key: round(value, 2) for key, value in values.items()}


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--side", choices=("nlpkit", "datasets"), help=argparse.SUPPRESS)
    for name in ("text", "model", "folder"):
        parser.add_argument(f"--{name}", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(run_side(options.side, options.text, options.model, options.folder / "work")))
    else:
        compare(options.runs)


if __name__ == "__main__":
    main()
