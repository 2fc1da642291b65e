"""optim.average: the average of the weights is what is scored, saved and kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from tiny_runs import examples, make_module, run, sentiment
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
