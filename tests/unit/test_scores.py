"""The loss over many batches."""

from __future__ import annotations

import torch

from nlpkit.mean_loss import MeanLoss


def test_each_term_is_a_mean_over_what_it_counts_and_nothing_counts_for_nothing() -> None:
    loss = MeanLoss()
    loss.update([(torch.tensor(2.0), 1), (torch.tensor(1.0), 2)])
    loss.update([(torch.tensor(4.0), 3), (torch.tensor(float("nan")), 0)])
    assert float(loss.compute()) == 3.5 + 1.0
