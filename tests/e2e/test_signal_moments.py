"""A signal at every moment of a run: what was learnt is saved, or nothing is left; either is said, and it goes on.

Each moment is a function that the run comes through; the signal is sent to this process, as from outside.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tables import first_rows

from nlpkit import bundle, checkpoints, corpus
from nlpkit.module import TaskModule

SETTINGS = (
    "model.preset=tiny",
    "model.vocabulary=300",
    "model.sequence_length=32",
    "trainer.max_steps=6",
    "trainer.batch_tokens=256",
    "trainer.threads=1",
    "trainer.validations_per_epoch=99",
)
NOTHING = "interrupted before training began; nothing is left of it"


@pytest.fixture(scope="module")
def reviews(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return first_rows(shop / "reviews.csv", 200, tmp_path_factory.mktemp("data") / "reviews.csv")


@pytest.fixture(scope="module")
def straight(reviews: Path, command: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("straight") / "run"
    assert command("pretrain", reviews, "--out", run, *SETTINGS).code == 0
    return run


def assert_same_end(run: Path, straight: Path) -> None:
    """Weights, log and results are equal to the bit."""
    for name in ("model/model.safetensors", "metrics.jsonl", "results.json"):
        assert (run / name).read_bytes() == (straight / name).read_bytes(), name


def sending(function: Callable[..., Any], at: int) -> Callable[..., Any]:
    """The function, with a SIGTERM in its n-th call."""
    calls = 0

    def call(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return function(*arguments, **named)

    return call


# where a function is called, the number of the call, and the step that is saved then; None: it was too early
MOMENTS: dict[str, tuple[Any, str, int, int | None]] = {
    "tokenising": (corpus.Team, "encode", 1, None),
    "first batch": (TaskModule, "training_step", 1, 1),
    "step": (TaskModule, "training_step", 3, 3),
    "validation": (TaskModule, "validation_step", 1, 1),
    "save": (torch, "save", 1, 1),
    "export": (bundle, "write_json", 1, 6),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_signal_at_any_moment_saves_or_leaves_nothing(
    moment: str, reviews: Path, straight: Path, command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R14."""
    owner, name, call, saved = MOMENTS[moment]
    run = tmp_path / "run"
    monkeypatch.setenv("NLPKIT_CACHE", str(tmp_path / "cache"))
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, sending(getattr(owner, name), call))
        ended = command("pretrain", reviews, "--out", run, *SETTINGS)
    assert ended.code == 143, ended.err
    assert "Traceback" not in ended.err
    if saved is None:
        assert ended.err.splitlines()[-1] == NOTHING
        assert not run.exists()
        return
    assert ended.err.splitlines()[-1] == f"nlpkit pretrain --resume {run}"
    assert checkpoints.newest(run / "checkpoints").name == f"step-{saved:08d}"
    assert command("pretrain", "--resume", run).code == 0
    assert_same_end(run, straight)


TWICE = """
import os, signal, sys
import torch
from nlpkit.cli import main
save = torch.save
def half(state, path):
    save(state, path)
    os.truncate(path, 1000)
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)
    print("still here", file=sys.stderr)
torch.save = half
sys.exit(main(sys.argv[1:]))
"""


def test_second_signal_leaves_at_once_and_no_half_checkpoint_counts(
    reviews: Path, straight: Path, command: Any, tmp_path: Path
) -> None:
    """R15: in the middle of a save."""
    killed, run = tmp_path / "killed", tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TaskModule, "training_step", sending(TaskModule.training_step, 3))
        assert command("pretrain", reviews, "--out", killed, *SETTINGS).code == 143
    shutil.copytree(killed, run)
    done = subprocess.run(
        [sys.executable, "-c", TWICE, "pretrain", "--resume", run], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 130
    assert done.stderr.splitlines()[-1] == "warning: SIGINT: saving after this step; once more leaves at once"
    assert list((run / "checkpoints").glob(".step-*.tmp"))
    ended = command("pretrain", "--resume", run)
    assert ended.code == 0, ended.err
    assert not list((run / "checkpoints").glob(".step-*"))
    assert_same_end(run, straight)
