"""A text that is watched: scored from the first step on, and no weight is another for it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_runs import examples, make_module, mlm, run

from nlpkit import checkpoints
from nlpkit.cli.progress import scored
from nlpkit.cli.results import forgotten
from nlpkit.data import EncodedExamples, FixedLoader
from nlpkit.watch import Spread


def watched() -> EncodedExamples:
    return EncodedExamples(mlm(), examples(60)[40:])


class Losses(pl.Callback):
    """Notes the loss of each batch, and what is left of a run that is killed after its first save behind a step."""

    def __init__(self, path: Path, kill_at: int = 0) -> None:
        self.path, self.kill_at = path, kill_at
        self.losses: dict[int, str] = {}

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        self.losses[index] = float(outputs["loss"]).hex()
        kept = self.path.with_name("killed")
        if (
            trainer.global_step == self.kill_at
            and checkpoints.path_of(self.path / "checkpoints", self.kill_at).exists()
        ):
            shutil.copytree(self.path, kept)


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def test_watching_changes_no_loss_and_no_weight(tmp_path: Path) -> None:
    ended = {}
    for name, more in {"with": {"watch": watched()}, "without": {}}.items():
        losses = Losses(tmp_path / name)
        ended[name] = run(tmp_path / name, mlm(), epochs=2, callbacks=[losses], **more), losses.losses
    (one, losses), (two, others) = ended["with"], ended["without"]
    assert losses == others
    assert one.outcome == two.outcome
    assert all(torch.equal(a, b) for a, b in zip(one.module.parameters(), two.module.parameters(), strict=True))
    rows = [{k: v for k, v in row.items() if not k.startswith("watch/")} for row in rows_of(tmp_path / "with")]
    assert [row for row in rows if len(row) > 1] == rows_of(tmp_path / "without")


def test_text_is_scored_at_the_start_and_at_each_validation(tmp_path: Path) -> None:
    run(tmp_path / "run", mlm(), epochs=2, watch=watched())
    rows = rows_of(tmp_path / "run")
    assert set(rows[0]) == {"step", "watch/loss", "watch/accuracy"}
    assert rows[0]["step"] == 0
    scored = [row for row in rows if "dev/loss" in row]
    assert [row["step"] for row in scored] == [2, 4, 6, 8, 10]
    assert all({"watch/loss", "watch/accuracy", "dev/accuracy"} <= set(row) for row in scored)


def test_first_score_is_that_of_the_weights_the_run_starts_from(tmp_path: Path) -> None:
    run(tmp_path / "run", mlm(), epochs=1, watch=watched())
    module, total, count = make_module(mlm()).eval(), 0.0, 0
    with torch.no_grad():
        for batch in FixedLoader(mlm(), watched(), 4096, 128, seed=3):
            places = batch["labels"] != -100
            hidden = module.backbone(batch["input_ids"], batch.get("attention_mask")).last_hidden_state
            logits = module.head(hidden, {**batch, "labels": batch["labels"]})
            logits = logits[places] if logits.ndim == 3 else logits
            total += float(torch.nn.functional.cross_entropy(logits, batch["labels"][places], reduction="sum"))
            count += int(places.sum())
    assert rows_of(tmp_path / "run")[0]["watch/loss"] == pytest.approx(total / count, rel=1e-5)


def test_run_that_is_killed_and_resumed_is_watched_as_the_straight_one(tmp_path: Path) -> None:
    noted = Losses(tmp_path / "straight", kill_at=3)
    straight = run(tmp_path / "straight", mlm(), epochs=2, watch=watched(), callbacks=[noted])
    path, again = tmp_path / "killed", Losses(tmp_path / "killed")
    start = checkpoints.newest(path / "checkpoints")
    resumed = run(path, mlm(), epochs=2, watch=watched(), callbacks=[again], resume_from=start)
    first = min(again.losses)
    assert again.losses == {index: loss for index, loss in noted.losses.items() if index >= first}
    assert resumed.outcome == straight.outcome
    assert rows_of(path) == rows_of(tmp_path / "straight")
    assert sum(row["step"] == 0 for row in rows_of(path)) == 1


def test_run_that_begins_again_before_any_checkpoint_repeats_no_score(tmp_path: Path) -> None:
    run(tmp_path / "run", mlm(), epochs=1, watch=watched())
    before = rows_of(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    run(tmp_path / "run", mlm(), epochs=1, watch=watched())
    assert rows_of(tmp_path / "run") == before


class Numbered:
    """Samples of given lengths, whose features are their numbers."""

    def __init__(self, lengths: list[int]) -> None:
        self.lengths = np.array(lengths, np.int64)

    def features(self, index: int, seed: int = 0) -> Any:
        return index

    def where(self, index: int) -> str:
        return f"sample {index}"


@given(st.integers(1, 2000), st.integers(1, 64), st.integers(1, 5000))
def test_chosen_samples_are_spread_over_the_whole_text_and_cost_no_more_than_asked(
    count: int, length: int, tokens: int
) -> None:
    chosen = Spread(Numbered([length] * count), tokens)
    numbers = [chosen.features(i) for i in range(len(chosen.lengths))]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == max(1, min(count, tokens // length))
    assert len(numbers) < 2 or (numbers[0], numbers[-1]) == (0, count - 1)
    assert chosen.where(len(numbers) - 1) == f"sample {numbers[-1]}"


def test_progress_says_the_watched_loss_behind_the_others() -> None:
    scores = {"dev/loss": 0.5, "dev/accuracy": 0.25, "watch/loss": 2.125, "watch/accuracy": 0.5}
    assert scored(scores, "accuracy", best=False) == "dev accuracy 0.250, dev loss 0.500, watch loss 2.125"


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        (2.0, 2.31, ["forgot 0.31 nats on general.txt: loss 2.0000 at the start, 2.3100 at the end"]),
        (2.0, 2.004, []),
        (2.0, 1.5, []),
        (None, 1.5, []),
    ],
)
def test_forgetting_is_said_where_the_loss_rose(start: float | None, end: float, words: list[str]) -> None:
    watch = {"file": "general.txt", "start": {} if start is None else {"loss": start}, "end": {"loss": end}}
    assert forgotten({"watch": watch}) == words


def test_nothing_is_said_where_nothing_was_watched() -> None:
    assert forgotten({}) == []
