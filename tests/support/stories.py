"""What stories of several kinds of models tell alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


def check_task_from(start: Path, new: str, shop: Path, command: Any, out: Path) -> None:
    """A pre-trained model serves sentiment, and answers as in plain transformers.

    Args:
        start: run to start from.
        new: the tensors that are named as made new.
        shop: folder of the demo.
        command: runs nlpkit.
        out: folder of the run.
    """
    from transformers import pipeline

    ended = command("fit", shop / "labelled.csv", "--from", start, "--out", out, "trainer.max_steps=4")
    assert ended.code == 0, ended.err
    assert f"new: {new}" in ended.err
    assert command("evaluate", out, shop / "more-labelled.csv").code == 0
    ours = [json.loads(line) for line in command("predict", out, shop / "new.csv").out.splitlines()]
    theirs = pipeline("text-classification", str(out / "model"))([row["text"] for row in ours], truncation=True)
    assert [row["label"] for row in ours] == [row["label"] for row in theirs]
    assert [row["score"] for row in ours] == pytest.approx([row["score"] for row in theirs], abs=1e-5)
