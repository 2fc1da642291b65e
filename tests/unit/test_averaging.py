"""optim.average: the average of the weights is what is scored, saved and kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from tiny_runs import examples, make_module, mlm, run, sentiment
from torch import Tensor

from nlpkit import checkpoints
from nlpkit.config import OptimConfig
from nlpkit.data import EncodedExamples, FixedLoader

STEPS = 10


class Weights(pl.Callback):
    """Those after each step."""

    def __init__(self) -> None:
        self.of: dict[int, dict[str, Tensor]] = {}

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        self.of[trainer.global_step] = {name: p.detach().clone() for name, p in module.named_parameters()}


def averaged(weights: Weights, name: str, step: int) -> Tensor:
    """By hand: the first weights, and then a growing share of what was before."""
    value = weights.of[1][name]
    for later in range(2, step + 1):
        kept = min(1 - 1 / STEPS, later / (9 + later))
        value = value * kept + weights.of[later][name] * (1 - kept)
    return value


def test_the_average_of_the_best_step_is_kept_and_training_goes_on_without_it(tmp_path: Path) -> None:
    plain, weights = Weights(), Weights()
    optim = OptimConfig(learning_rate=2e-3)
    run(tmp_path / "plain", sentiment(), callbacks=[plain], optim=optim, epochs=2)
    optim.average = STEPS
    ended = run(tmp_path / "averaged", sentiment(), callbacks=[weights], optim=optim, epochs=2)
    last, best = max(weights.of), ended.outcome.best_step
    assert last == max(plain.of) >= 4
    state = checkpoints.load(checkpoints.path_of(tmp_path / "averaged" / "checkpoints", best))
    for name, kept in ended.module.named_parameters():
        torch.testing.assert_close(weights.of[last][name], plain.of[last][name], rtol=0, atol=0)
        torch.testing.assert_close(kept.detach(), averaged(weights, name, best))
        torch.testing.assert_close(state["state_dict"][name], averaged(weights, name, best))
    assert any(not torch.equal(p, weights.of[best][n]) for n, p in ended.module.named_parameters())
    new = dict(make_module(sentiment()).named_buffers())
    for name, buffer in ended.module.named_buffers():
        assert torch.equal(buffer, new[name]), name


def test_the_scores_of_the_dev_part_are_those_of_the_average(tmp_path: Path) -> None:
    ended = run(tmp_path / "run", sentiment(), optim=OptimConfig(learning_rate=2e-3, average=STEPS), epochs=2)
    module = ended.module.eval()
    with torch.no_grad():
        dev = FixedLoader(module.task, EncodedExamples(module.task, examples()[32:]), 4096, 128)
        scores = module.score(dev, module.task.build_metrics())
    assert scores[module.task.score] == pytest.approx(ended.outcome.best)


def test_a_resume_at_the_very_end_keeps_the_average(tmp_path: Path) -> None:
    """As after a kill behind the last step: the weights that training ends with are not the average."""
    more: dict[str, Any] = {"optim": OptimConfig(learning_rate=2e-3, average=STEPS), "epochs": 2}
    ended = run(tmp_path / "run", mlm(), **more)
    assert ended.outcome.best_step == ended.outcome.steps
    last = checkpoints.newest(tmp_path / "run" / "checkpoints")
    assert last.name == f"step-{ended.outcome.steps:08d}"
    again = run(tmp_path / "run", mlm(), resume_from=last, **more)
    assert again.outcome == ended.outcome
    for one, other in zip(again.module.parameters(), ended.module.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_text_that_is_watched_is_scored_by_the_average(tmp_path: Path) -> None:
    text = EncodedExamples(mlm(), examples(60)[40:])
    optim = OptimConfig(learning_rate=2e-3, average=STEPS)
    ended = run(tmp_path / "run", mlm(), optim=optim, epochs=2, watch=text)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    (said,) = [r["watch/loss"] for r in rows if r["step"] == ended.outcome.best_step and "watch/loss" in r]
    module = ended.module.eval()
    with torch.no_grad():
        scores = module.score(FixedLoader(module.task, text, 4096, 128, seed=3), module.task.build_metrics())
    assert said == pytest.approx(scores["loss"], rel=1e-5)
