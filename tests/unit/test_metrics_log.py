"""The log of a run, torn or not."""

from __future__ import annotations

from pathlib import Path

import pytest

from nlpkit import metrics_log

ROWS = """{"step": 1, "train/loss": 3.0}
{"step": 1, "dev/loss": 2.5, "dev/f1": 0.5}
{"step": 2, "dev/lo
[]
{"dev/f1": 0.9}
{"step": 3, "dev/loss": 2.75, "dev/f1": 0.25}
"""


@pytest.mark.parametrize(("score", "best"), [("loss", 2.5), ("f1", 0.5), ("absent", None)])
def test_best_score_is_found_beside_bad_lines(score: str, best: float | None, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(ROWS)
    assert metrics_log.best_of(tmp_path / "metrics.jsonl", score) == best
