from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nlpkit import SpanHead, handover

FAMILIES = ("bert", "roberta", "distilbert", "electra", "albert", "mpnet", "deberta-v2", "modernbert")


def _batch() -> dict[str, Tensor]:
    ids = torch.randint(5, 200, (3, 12), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    ids[1, 7:], mask[1, 7:] = 0, 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_scores_are_those_of_the_class_where_a_span_may_stand(family: str, make_model: Callable[..., Path]) -> None:
    folder, batch = make_model("AutoModelForQuestionAnswering", family), _batch()
    whole = transformers.AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    expected = whole(**batch)
    config = handover.read_architecture(str(folder))
    head = SpanHead(config)
    body, account = handover.load(str(folder), head, config=config)

    found = head.eval()(body.eval()(**batch).last_hidden_state, {**batch, "span_mask": batch["attention_mask"]})

    assert not account.new
    inside = batch["attention_mask"].bool()
    assert torch.equal(found[:, 0][inside], expected.start_logits[inside])
    assert torch.equal(found[:, 1][inside], expected.end_logits[inside])
    assert bool((found.transpose(1, 2)[~inside] == -1e4).all())


@torch.no_grad()
def test_a_classifier_of_three_labels_becomes_a_model_of_two_ends(make_model: Callable[..., Path]) -> None:
    folder = make_model("AutoModelForSequenceClassification", num_labels=3)
    config = handover.read_architecture(str(folder))
    head = SpanHead(config)
    body, account = handover.load(str(folder), head, config=config)

    assert sorted(account.new) == ["qa_outputs.bias", "qa_outputs.weight"]
    assert head(body(**_batch()).last_hidden_state, _batch()).shape == (3, 2, 12)


class Given(SpanHead):
    """With scores that are given instead of hidden states."""

    def __init__(self, longest: int) -> None:
        torch.nn.Module.__init__(self)
        self.longest = longest

    def forward(self, hidden: Tensor, batch: Any) -> Tensor:
        return hidden


@given(
    scores=st.integers(1, 9).flatmap(
        lambda n: st.lists(st.lists(st.integers(-4, 4), min_size=n, max_size=n), min_size=2, max_size=2)
    ),
    longest=st.integers(1, 12),
)
def test_the_span_is_the_likeliest_of_all_that_are_no_longer(scores: list[list[int]], longest: int) -> None:
    first, last = (torch.tensor(row, dtype=torch.float64).softmax(-1) for row in scores)
    spans = [(a, b) for a, b in itertools.product(range(len(first)), repeat=2) if a <= b < a + longest]
    best = max(float(first[a] * last[b]) for a, b in spans)

    mask = torch.ones(1, len(first), dtype=torch.long)
    (found,), score = Given(longest).predict(torch.tensor([scores], dtype=torch.float32), {"attention_mask": mask})

    a, b = found.tolist()
    assert (a, b) in spans
    assert float(first[a] * last[b]) == pytest.approx(best, rel=1e-5)
    assert float(score) == pytest.approx(best, rel=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("length", [4, 9])
def test_where_no_span_may_stand_none_is_learnt_or_likely(length: int) -> None:
    config = transformers.AutoConfig.for_model("bert", hidden_size=8, num_attention_heads=1, num_hidden_layers=1)
    ones = torch.ones(1, length, dtype=torch.long)
    batch = {"input_ids": ones, "attention_mask": ones, "span_mask": 0 * ones, "labels": torch.tensor([[-100, -100]])}
    head, hidden = SpanHead(config), torch.ones(1, length, 8)

    spans, scores = head.predict(hidden, batch)

    assert float(head.loss_from(hidden, batch)) == 0.0
    assert (spans.tolist(), scores.tolist()) == ([[0, 0]], [0.0])


def test_a_span_has_a_token() -> None:
    with pytest.raises(ValueError, match="longest is 0, expected one token or more"):
        SpanHead(transformers.AutoConfig.for_model("bert"), longest=0)
