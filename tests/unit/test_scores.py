"""The loss over many batches."""

from __future__ import annotations

import pytest
import torch

from nlpkit.errors import PluginError
from nlpkit.limits import LOSS_TERMS
from nlpkit.mean_loss import MeanLoss


def test_each_term_is_a_mean_over_what_it_counts_and_nothing_counts_for_nothing() -> None:
    loss = MeanLoss()
    loss.update([(torch.tensor(2.0), 1), (torch.tensor(1.0), 2)])
    loss.update([(torch.tensor(4.0), 3), (torch.tensor(float("nan")), 0)])
    assert float(loss.compute()) == 3.5 + 1.0


def test_more_terms_than_can_be_scored_are_refused() -> None:
    with pytest.raises(PluginError) as caught:
        MeanLoss().update([(torch.tensor(1.0), 1)] * (LOSS_TERMS + 1))
    assert caught.value.message == "the head's loss has 33 terms, at most 32 can be scored"
