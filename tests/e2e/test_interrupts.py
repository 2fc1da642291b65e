"""Ctrl-C, SIGTERM and SIGHUP for real: what is saved, what is said, and that a resumed run is the same run."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tables import first_rows

SETTINGS = (
    "model.preset=tiny",
    "model.vocabulary=300",
    "model.sequence_length=32",
    "trainer.max_steps=120",
    "trainer.batch_tokens=256",
    "trainer.threads=1",
)
PATIENCE = 120


def nlpkit(*arguments: str | Path, folder: Path | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "nlpkit", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + PATIENCE
    while not (path.exists() and path.stat().st_size):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, f"no {path}"
        time.sleep(0.01)


def losses(run: Path) -> dict[int, str]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in rows if "train/loss" in row]
    assert steps == sorted(set(steps)), "a step is logged once"
    return {row["step"]: float(row["train/loss"]).hex() for row in rows if "train/loss" in row}


@dataclass(frozen=True)
class Story:
    """A run that was interrupted and gone on with, beside one that was not."""

    number: signal.Signals
    straight: Path
    broken: Path
    second: Any
    locked: Any
    code: int
    err: str
    steps_before: int
    resumed: Any


@pytest.fixture(scope="module")
def reviews(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return first_rows(shop / "reviews.csv", 300, tmp_path_factory.mktemp("small") / "reviews.csv")


@pytest.fixture(scope="module", params=[(1, signal.SIGTERM), (2, signal.SIGINT)], ids=["SIGTERM-1", "SIGINT-2"])
def story(
    request: pytest.FixtureRequest, reviews: Path, command: Any, tmp_path_factory: pytest.TempPathFactory
) -> Story:
    accumulate, number = request.param
    runs = tmp_path_factory.mktemp("runs")
    settings = (*SETTINGS, f"trainer.accumulate={accumulate}", "--seed", "5", "--out")
    arguments = ("pretrain", reviews, *settings)
    assert command(*arguments, runs / "straight").code == 0
    # its files are named as seen from a folder in which it is not resumed
    process = nlpkit("pretrain", reviews.name, *settings, runs / "broken", folder=reviews.parent)
    wait_for(runs / "broken" / "metrics.jsonl", process)
    process.send_signal(signal.SIGSTOP)  # it must not end before it is interrupted
    second, locked = command(*arguments, runs / "broken"), command("pretrain", "--resume", runs / "broken")
    process.send_signal(number)
    process.send_signal(signal.SIGCONT)
    _, err = process.communicate(timeout=PATIENCE)
    before = len(losses(runs / "broken"))
    other = command("fit", "--resume", runs / "broken")
    assert (other.code, other.err.splitlines()[0]) == (2, f"error: {runs / 'broken'}: made by nlpkit pretrain")
    resumed = command("pretrain", "--resume", runs / "broken")
    return Story(number, runs / "straight", runs / "broken", second, locked, process.returncode, err, before, resumed)


def test_signal_while_training_saves_and_ends_with_the_command_that_resumes(story: Story) -> None:
    """R14, R15."""
    lines = story.err.splitlines()
    assert story.code == 128 + story.number
    assert lines[-1] == f"nlpkit pretrain --resume {story.broken}"
    assert lines[-2].startswith("interrupted; saved at step ")
    assert "Traceback" not in story.err


def test_resumed_run_ends_as_one_that_was_never_interrupted(story: Story) -> None:
    assert story.resumed.code == 0, story.resumed.err
    assert 0 < story.steps_before < 120
    assert losses(story.broken) == losses(story.straight)
    assert len(losses(story.straight)) == 120


def test_resumed_run_has_the_same_results(story: Story) -> None:
    results = [json.loads((run / "results.json").read_text()) for run in (story.broken, story.straight)]
    assert results[0] == results[1]


def test_second_run_into_a_folder_in_use_is_refused(story: Story) -> None:
    assert (story.second.code, story.locked.code) == (8, 8)
    message = f"error: {story.broken}: another process is writing this run"
    assert story.locked.err.splitlines()[0] == message


def test_closed_terminal_saves(reviews: Path, tmp_path: Path) -> None:
    """R18: all that is written goes to the terminal, and the shell may send SIGHUP once more."""
    command = ["nlpkit", "pretrain", str(reviews), "--out", str(tmp_path / "run"), *SETTINGS, "trainer.max_steps=4000"]
    process, terminal = pty.fork()
    if not process:
        os.execv(sys.executable, [sys.executable, "-m", *command])
    began = time.monotonic()
    while not (tmp_path / "run" / "metrics.jsonl").exists():
        assert os.waitpid(process, os.WNOHANG) == (0, 0)
        if time.monotonic() > began + PATIENCE:
            os.kill(process, signal.SIGKILL)
        if select.select([terminal], [], [], 0.05)[0]:
            os.read(terminal, 1 << 16)
    os.close(terminal)
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGHUP)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 129
    last = max(losses(tmp_path / "run"))
    assert (tmp_path / "run" / "checkpoints" / f"step-{last:08d}").is_dir()


def test_signal_while_libraries_are_imported_cannot_be_lost_in_them(reviews: Path, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    (tmp_path / "torch.py").write_text(
        f"import time\nopen({str(ready)!r}, 'w').write('1')\n"
        "try:\n    time.sleep(60)\nexcept BaseException:\n    time.sleep(60)\n"
    )
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    command = [sys.executable, "-P", "-m", "nlpkit", "pretrain", str(reviews), "--out", str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables)
    wait_for(ready, process)
    process.send_signal(signal.SIGINT)
    assert (process.communicate(timeout=PATIENCE), process.returncode) == (("", "interrupted\n"), 130)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_signal_while_reading_ends_with_one_line_and_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    """R14."""
    pipe = tmp_path / "reviews.txt"
    os.mkfifo(pipe)
    process = nlpkit("pretrain", pipe, "--out", tmp_path / "run", "--quiet")
    with open(pipe, "w"):  # returns when the command has opened the other end
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)
    said = "interrupted before training began; nothing is left of it\n"
    assert (process.returncode, out, err) == (128 + number, "", said)
    assert not (tmp_path / "run").exists()


def test_ctrl_c_while_predicting_ends_with_one_line(fitted: Any) -> None:
    command = [sys.executable, "-m", "nlpkit", "predict", str(fitted.folder), "-", "--quiet"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(f"a {'long ' * 160}text\n" * 2048)
        process.stdin.flush()
        process.stdout.readline()  # it is at work
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (130, "interrupted\n")


def test_training_gives_the_signals_back(reviews: Path, tmp_path: Path) -> None:
    import nlpkit as package

    def ours(number: int, frame: object) -> None: ...

    before = signal.signal(signal.SIGTERM, ours)
    try:
        package.pretrain(str(reviews), out=str(tmp_path / "run"), overrides=[*SETTINGS, "trainer.max_steps=1"])
        assert signal.getsignal(signal.SIGTERM) is ours
    finally:
        signal.signal(signal.SIGTERM, before)
