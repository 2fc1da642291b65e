"""`kill -9` at random instants, and the run that is gone on with: equal to the bit to one that was never stopped.

Where in a step a kill falls is chance; which step, and the order of all chances, is decided by a seed that is printed.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from nlpkit import checkpoints

SEED = 20
KILLS = 2
PATIENCE = 120
SETTINGS = (
    "model.preset=tiny",
    "model.vocabulary=300",
    "model.sequence_length=32",
    "trainer.max_steps=36",
    "trainer.batch_tokens=256",
    "trainer.threads=1",
    "checkpoint.every_steps=1",
)
CASES: dict[str, tuple[str, ...]] = {
    "mlm, accumulation, 2 workers": ("pretrain", "TEXTS", "trainer.accumulate=2", "trainer.workers=2"),
    "mlm+nsp": ("pretrain", "TEXTS", "--objective", "mlm+nsp"),
    "fine-tuning": ("fit", "LABELLED", "trainer.max_epochs=30"),
}
# What takes seconds is imported once; each command is then a fork of this process, and dies like any other.
LAUNCHER = """
import os, sys
import nlpkit.run
from nlpkit.cli import main
for line in sys.stdin:
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        os.dup2(2, 1)
        os._exit(main(line.rstrip().split("\\t")))
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Launcher:
    """Starts commands without importing torch for each."""

    def __init__(self, log: Path) -> None:
        self.log = log
        command = [sys.executable, "-c", LAUNCHER, str(log)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self, *arguments: str | Path) -> int:
        """The process id of a new command."""
        assert self.process.stdin
        self.process.stdin.write("\t".join(map(str, arguments)) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def wait(self) -> int:
        """The exit code of that command, or minus the signal that ended it."""
        return self._answer()

    def _answer(self) -> int:
        assert self.process.stdout
        return int(self.process.stdout.readline())


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    made = Launcher(tmp_path_factory.mktemp("launcher") / "log")
    yield made
    made.process.kill()
    made.process.communicate()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, words = tmp_path_factory.mktemp("data"), ("soft", "torn", "warm", "late", "blue", "fine", "cheap")
    rows = [
        f"the coat is {words[i % 7]}. it came {words[i // 7 % 7]} on day {i}. I would buy it {words[i % 5]} again."
        for i in range(150)
    ]
    (folder / "texts.csv").write_text("\n".join(["text", *rows]))
    labels = ["good" if i % 2 else "bad" for i in range(150)]
    lines = [f"{row},{label}" for row, label in zip(rows, labels, strict=True)]
    (folder / "labelled.csv").write_text("\n".join(["text,label", *lines]))
    return {"TEXTS": folder / "texts.csv", "LABELLED": folder / "labelled.csv"}


def rows_of(run: Path) -> list[str]:
    path = run / "metrics.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def kill_after(launcher: Launcher, pid: int, run: Path, rows: int, delay: float) -> int:
    """Kill the command when its log has so many rows, and a little later; how it ended."""
    end = time.monotonic() + PATIENCE
    while len(rows_of(run)) < rows and os.path.exists(f"/proc/{pid}") and time.monotonic() < end:
        time.sleep(0.005)
    time.sleep(delay)
    with contextlib.suppress(ProcessLookupError):  # on a busy machine it may have come to its end
        os.kill(pid, signal.SIGKILL)
    return launcher.wait()


def losses(run: Path) -> dict[int, str]:
    rows = [json.loads(line) for line in rows_of(run)]
    steps = [row["step"] for row in rows if "train/loss" in row]
    assert steps == sorted(set(steps)), "a step is logged once"
    return {row["step"]: float(row["train/loss"]).hex() for row in rows if "train/loss" in row}


def equal(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


@pytest.mark.parametrize("case", CASES)
def test_killed_again_and_again_it_ends_as_one_never_stopped(
    case: str, launcher: Launcher, data: dict[str, Path], tmp_path: Path
) -> None:
    """R01."""
    chance, (verb, *rest) = random.Random(f"{SEED} {case}"), CASES[case]
    arguments = [verb, *(data.get(word, word) for word in rest), *SETTINGS, "--out"]
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    launcher.start(*arguments, straight)
    assert launcher.wait() == 0, launcher.log.read_text()
    pid, seen, ends = launcher.start(*arguments, broken), [], []
    for _ in range(KILLS):
        rows = len(rows_of(broken)) + chance.randint(1, 6)
        ends.append(kill_after(launcher, pid, broken, rows, chance.uniform(0, 0.03)))
        seen.append((rows, checkpoints.newest(broken / "checkpoints").name))
        pid = launcher.start(verb, "--resume", broken)
    assert launcher.wait() == 0, launcher.log.read_text()
    assert ends[0] == -signal.SIGKILL and set(ends) <= {0, -signal.SIGKILL}, ends
    print(SEED, case, seen)
    last = max(losses(straight))
    assert last > 25
    assert losses(broken) == losses(straight), seen
    names = sorted(path.name for path in (straight / "checkpoints").iterdir())
    assert sorted(path.name for path in (broken / "checkpoints").iterdir()) == names
    one, two = (checkpoints.load(checkpoints.path_of(run / "checkpoints", last)) for run in (straight, broken))
    assert equal(one, two), seen
    weights = [(run / "model" / "model.safetensors").read_bytes() for run in (straight, broken)]
    assert weights[0] == weights[1]
    assert (straight / "results.json").read_text() == (broken / "results.json").read_text()
