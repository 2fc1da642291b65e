"""Hidden words and pairs in one pass, beside BertForPreTraining."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertForPreTraining, PreTrainedTokenizerBase

from nlpkit import backbone, bundle, corpus, tokenizer
from nlpkit.data import make_batch
from nlpkit.errors import ModelError
from nlpkit.module import TaskModule
from nlpkit.objectives.mlm_nsp import MlmNsp, MlmNspConfig
from nlpkit.objectives.objective import weighted
from nlpkit.plugins import Registry

TEXTS = [f"the coat number {i} is soft. it is warm and fits well. I would buy it again." for i in range(40)]


@pytest.fixture(scope="module")
def sentence_words() -> PreTrainedTokenizerBase:
    return tokenizer.train(TEXTS, kind="wordpiece", vocabulary=200, lowercase=True, max_length=64)


@pytest.fixture
def made(sentence_words: PreTrainedTokenizerBase, small_config: Any, tmp_path: Path) -> Any:
    task = MlmNsp(MlmNspConfig(max_length=64, mlm_weight=0.75, nsp_weight=0.25), sentence_words)
    samples = task.samples(corpus.build(TEXTS, sentence_words, tmp_path / "store", key="k"), 64)
    torch.manual_seed(1)
    config = small_config("bert", vocab_size=len(sentence_words))
    body = backbone.build(config)
    module = TaskModule(task, body, task.build_head(config)).eval()
    return module, make_batch(task, samples, np.arange(8), 0, 0)


def inputs(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: batch[name] for name in ("input_ids", "token_type_ids", "attention_mask")}


def test_bundle_opens_in_bert_for_pretraining_with_equal_logits(made: Any, registry: Registry, tmp_path: Path) -> None:
    module, batch = made
    bundle.save(tmp_path / "model", module.task, module.backbone, module.head, {}, registry)
    plain, report = BertForPreTraining.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(report.values())
    with torch.no_grad():
        theirs = plain.eval()(**inputs(batch))
        hidden = module.hidden(batch)
        words, pairs = module.head(hidden, batch), module.head.pairs(hidden)
    torch.testing.assert_close(words, theirs.prediction_logits[batch["labels"] != -100], atol=1e-5, rtol=0)
    torch.testing.assert_close(pairs, theirs.seq_relationship_logits, atol=1e-5, rtol=0)


def test_loss_is_the_weighted_sum_and_each_is_scored_apart(made: Any) -> None:
    module, batch = made
    with torch.no_grad(), module.head.assemble(module.backbone) as model:
        theirs = model(**inputs(batch))
    flat = torch.nn.functional.cross_entropy
    mlm = float(flat(theirs.prediction_logits.flatten(0, 1), batch["labels"].flatten()))
    nsp = float(flat(theirs.seq_relationship_logits, batch["next_sentence_label"]))
    with torch.no_grad():
        hidden = module.hidden(batch)
        loss = float(module.head.loss_from(hidden, batch))
        module.metrics.update(*module.task.compare(module.head.predict(hidden, batch), batch))
    scores = {name: float(value) for name, value in module.metrics.compute().items()}
    assert loss == pytest.approx(0.75 * mlm + 0.25 * nsp, abs=1e-5)
    assert (scores["mlm_loss"], scores["nsp_loss"]) == pytest.approx((mlm, nsp), abs=1e-5)
    right = theirs.seq_relationship_logits.argmax(-1) == batch["next_sentence_label"]
    assert scores["nsp_accuracy"] == pytest.approx(float(right.float().mean()))


def test_each_loss_is_a_mean_over_what_it_counts_however_batches_are_cut(made: Any) -> None:
    """Rows of few hidden words are pairs as others are."""
    module, batch = made
    hidden = batch["labels"] != -100
    batch["labels"][:4][hidden[:4].cumsum(1) > 1] = -100  # but the first of each row
    parts = [{name: values[rows] for name, values in batch.items()} for rows in (slice(0, 4), slice(4, 5), slice(5, 8))]
    with torch.inference_mode():
        whole, cut = (module.score(batches, module.task.build_metrics()) for batches in ([batch], parts))
        loss = float(module.head.loss_from(module.hidden(batch), batch))
    assert cut == pytest.approx(whole, abs=1e-5)
    assert cut["loss"] == pytest.approx(loss, abs=1e-5)
    assert cut["loss"] == pytest.approx(0.75 * cut["mlm_loss"] + 0.25 * cut["nsp_loss"], abs=1e-5)


def test_both_heads_learn(made: Any) -> None:
    module, batch = made
    module.head.loss_from(module.hidden(batch), batch).backward()
    assert [name for name, p in module.head.named_parameters() if p.grad is None] == []


def test_pairs_hide_no_special_token(made: Any) -> None:
    module, batch = made
    hidden = batch["labels"] != -100
    assert hidden.any(1).all()
    assert not torch.isin(batch["labels"][hidden], torch.tensor(module.task.tokenizer.all_special_ids)).any()
    assert not (hidden & (batch["attention_mask"] == 0)).any()


def test_family_without_both_heads_is_refused(words: PreTrainedTokenizerBase, small_config: Any) -> None:
    with pytest.raises(ModelError):
        MlmNsp(MlmNspConfig(), words).build_head(small_config("roberta"))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("mlm", ("mlm", ())),
        ("mlm+nsp", ("mlm+nsp", ())),
        ("mlm:0.8+nsp:0.2", ("mlm+nsp", ("task.mlm_weight=0.8", "task.nsp_weight=0.2"))),
        ("mlm+nsp:2", ("mlm+nsp", ("task.nsp_weight=2",))),
    ],
)
def test_weights_are_settings(given: str, expected: tuple[str, tuple[str, ...]]) -> None:
    assert weighted(given) == expected
