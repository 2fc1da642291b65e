"""Two processes train as one does; when one of them is killed, none is left, and the run goes on as if nothing was."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PLUGIN = '''
import os, signal
from pathlib import Path
from nlpkit.hookspecs import hookimpl
from nlpkit.objectives.mlm_nsp import MlmNsp

class Mortal(MlmNsp):
    """mlm+nsp that kills process 1, or raises there, in its fifth batch, if a file says so."""
    name = "mortal"
    batches = 0

    def collate(self, features):
        Mortal.batches += 1
        fate = Path(__file__).with_name("fate")
        if os.environ.get("RANK") == "1" and Mortal.batches == 5 and fate.exists():
            if fate.read_text() == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("of process 1 alone")
        return super().collate(features)

@hookimpl
def nlpkit_tasks():
    return [Mortal]
'''
SETTINGS = (
    "model.preset=tiny",
    "model.vocabulary=300",
    "model.sequence_length=32",
    "model.dropout=0",
    "trainer.max_steps=8",
    "trainer.batch_tokens=250",
    "trainer.accumulate=2",
    "trainer.threads=1",
    "checkpoint.every_steps=1",
)


@dataclass(frozen=True)
class Story:
    """The same run by one process, by two, and by two of which one was killed on the way."""

    alone: Path
    two: Path
    killed: Path
    end: subprocess.CompletedProcess[str]
    again: subprocess.CompletedProcess[str]
    raised: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def story(shop: Path, command: Any, tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("devices")
    plugin, fate, few = folder / "mortal.py", folder / "fate", folder / "few.csv"
    plugin.write_text(PLUGIN)
    few.write_text("".join((shop / "reviews.csv").open(encoding="utf-8").readlines()[:150]), "utf-8")

    def pretrain(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "nlpkit", "pretrain", *map(str, arguments)]
        return subprocess.run(words, capture_output=True, text=True, timeout=240)

    start = (few, "--plugin", plugin, "--objective", "mortal", *SETTINGS)
    assert command("pretrain", *start, "--out", folder / "alone").code == 0
    done = pretrain(*start, "trainer.devices=2", "--out", folder / "two")
    assert done.returncode == 0, done.stderr
    fate.write_text("raise")
    raised = pretrain(*start, "trainer.devices=2", "--out", folder / "raised")
    fate.write_text("kill")
    end = pretrain(*start, "trainer.devices=2", "--out", folder / "killed")
    fate.unlink()
    again = pretrain("--resume", folder / "killed", "--plugin", plugin)
    return Story(folder / "alone", folder / "two", folder / "killed", end, again, raised)


def logged(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_have_the_losses_and_scores_of_one(story: Story) -> None:
    rows = list(zip(logged(story.alone), logged(story.two), strict=True))
    assert len(rows) > 8
    for alone, two in rows:
        assert two == pytest.approx(alone, rel=1e-4, abs=1e-5)


def test_a_killed_process_ends_the_run_with_a_word_of_how_it_goes_on(story: Story) -> None:
    """R19."""
    lines = story.end.stderr.splitlines()
    assert story.end.returncode == 6
    assert lines[-3:] == [
        "error: another process of this run has ended, or no longer answers",
        f"hint: see what it said; then nlpkit pretrain --resume {story.killed} --plugin "
        f"{story.killed.parent / 'mortal.py'}",
        "error: process 1 of 2 was ended by SIGKILL",
    ]


def test_a_run_that_lost_a_process_goes_on_as_if_it_had_not(story: Story) -> None:
    """R19."""
    assert story.again.returncode == 0, story.again.stderr
    assert "of them done before" in story.again.stderr
    assert logged(story.killed) == logged(story.two)
    results = [json.loads((run / "results.json").read_text()) for run in (story.killed, story.two)]
    assert results[0] == results[1]
    weights = [(run / "model" / "model.safetensors").read_bytes() for run in (story.killed, story.two)]
    assert weights[0] == weights[1]


def test_an_error_of_another_process_names_it(story: Story) -> None:
    """R21."""
    said = next(line for line in story.raised.stderr.splitlines() if line.startswith("process 1: error: plugin '"))
    assert "Mortal.collate: RuntimeError: of process 1 alone (" in said
    assert story.raised.returncode == 5
