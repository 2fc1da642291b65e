from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from nlpkit.heads import Head, TransformersHead, detach_pooler
from nlpkit.objectives.masked_head import MaskedHead

FAMILIES = ("bert", "roberta", "distilbert", "electra", "albert", "mpnet", "deberta-v2", "modernbert")
Config = Callable[..., PretrainedConfig]


def _batch(rows: int = 3, length: int = 12) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 200, (rows, length), generator=generator)
    mask = torch.ones_like(ids)
    ids[1, 7:], mask[1, 7:] = 0, 0
    return {"input_ids": ids, "attention_mask": mask}


def _parts(model: PreTrainedModel, head: TransformersHead) -> PreTrainedModel:
    """The body of a whole model; its head goes to ours."""
    body = model.base_model
    head.adopt(model)
    return body.eval()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("auto_class", ["AutoModelForMaskedLM", "AutoModelForSequenceClassification"])
@torch.no_grad()
def test_transformers_head_gives_the_class_s_own_numbers(family: str, auto_class: str, small_config: Config) -> None:
    config = small_config(family, num_labels=3)
    model = getattr(transformers, auto_class).from_config(config).eval()
    expected = model(**_batch()).logits
    head = TransformersHead(auto_class, config).eval()
    body = _parts(model, head)
    found = head(body(**_batch()).last_hidden_state, _batch())
    assert torch.equal(found, expected)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_masked_head_gives_the_numbers_of_the_whole_at_hidden_places(family: str, small_config: Config) -> None:
    config = small_config(family)
    model = transformers.AutoModelForMaskedLM.from_config(config).eval()
    batch = _batch()
    places = torch.zeros_like(batch["input_ids"], dtype=torch.bool)
    places[0, 3] = places[1, 0] = places[2, 11] = True
    expected = model(**batch).logits[places]
    head = MaskedHead("AutoModelForMaskedLM", config).eval()
    body = _parts(model, head)
    batch["labels"] = torch.where(places, batch["input_ids"], -100)
    found = head(body(**_batch()).last_hidden_state, batch)
    assert found.shape == (3, 200)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_head_has_no_weight_of_the_body(family: str, small_config: Config) -> None:
    config = small_config(family)
    head = TransformersHead("AutoModelForSequenceClassification", config)
    whole = transformers.AutoModelForSequenceClassification.from_config(config)
    prefix = whole.base_model_prefix + "."
    expected = {n for n, _ in whole.named_parameters() if not n.startswith(prefix) or n.startswith(f"{prefix}pooler.")}
    assert {n.removeprefix("model.") if n.startswith("model.") else n for n, _ in head.named_parameters()} == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_head_learns_together_with_the_body(family: str, small_config: Config) -> None:
    config = small_config(family)
    head = TransformersHead("AutoModelForSequenceClassification", config)
    body = transformers.AutoModel.from_config(config)
    detach_pooler(body)
    batch = _batch() | {"labels": torch.tensor([0, 1, 0])}
    head.loss(head(body(**_batch()).last_hidden_state, batch), batch).backward()
    without = [n for m in (body, head) for n, p in m.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


@pytest.mark.parametrize("family", FAMILIES)
def test_masked_head_is_tied_to_the_embedding_once(family: str, small_config: Config) -> None:
    config = small_config(family)
    head = MaskedHead("AutoModelForMaskedLM", config)
    body = transformers.AutoModel.from_config(config)
    head.tie(body)
    output = head.model.get_output_embeddings()
    assert output is not None
    assert output.weight is body.get_input_embeddings().weight


def test_head_that_is_not_to_be_tied_keeps_its_own_projection(small_config: Config) -> None:
    config = small_config("bert", tie_word_embeddings=False)
    head = MaskedHead("AutoModelForMaskedLM", config)
    body = transformers.AutoModel.from_config(config)
    head.tie(body)
    assert head.model.get_output_embeddings().weight is not body.get_input_embeddings().weight


def test_assembled_model_comes_apart_even_after_an_error(small_config: Config) -> None:
    config = small_config("bert")
    head = TransformersHead("AutoModelForSequenceClassification", config)
    body = transformers.AutoModel.from_config(config)
    detach_pooler(body)
    stand_in = head.model.base_model

    def fail() -> None:
        with head.assemble(body) as model:
            assert model.base_model is body
            assert body.pooler is not None
            raise ValueError("half-way")

    with pytest.raises(ValueError, match="half-way"):
        fail()
    assert head.model.base_model is stand_in
    assert body.pooler is None


def test_head_keeps_no_hidden_states_after_an_error(small_config: Config) -> None:
    head = TransformersHead("AutoModelForSequenceClassification", small_config("bert"))
    with pytest.raises(RuntimeError):
        head(torch.zeros(2, 3, 7), _batch())
    assert head.model.base_model.hidden is None


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_rate_of_dropout_changes_nothing_in_evaluation(family: str, small_config: Config) -> None:
    from nlpkit.backbone import set_dropout

    config = small_config(family)
    torch.manual_seed(0)
    plain = transformers.AutoModelForSequenceClassification.from_config(config).eval()
    dropped = transformers.AutoModelForSequenceClassification.from_config(set_dropout(small_config(family), 0.5)).eval()
    dropped.load_state_dict(plain.state_dict())
    assert torch.equal(plain(**_batch()).logits, dropped(**_batch()).logits)
    assert not torch.equal(plain(**_batch()).logits, dropped.train()(**_batch()).logits)


class _Bare(Head):
    def forward(self, hidden: Tensor, batch: Any) -> Tensor:
        return hidden


def test_loss_is_the_mean_negative_logarithm_over_labels_that_count() -> None:
    logits = torch.tensor([[[1.0, 0.0], [3.0, 1.0], [9.0, 9.0]]])
    labels = torch.tensor([[0, 1, -100]])
    expected = (torch.log1p(torch.tensor(-1.0).exp()) + torch.log1p(torch.tensor(2.0).exp())) / 2
    torch.testing.assert_close(_Bare().loss(logits, {"labels": labels}), expected)


def test_loss_without_a_label_that_counts_is_zero_not_nan() -> None:
    assert float(_Bare().loss(torch.ones(2, 3), {"labels": torch.tensor([-100, -100])})) == 0.0


def test_predictions_are_probabilities_in_single_precision() -> None:
    found = _Bare().predict(torch.tensor([[2.0, 0.0]], dtype=torch.bfloat16), {})
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.tensor([[0.880797, 0.119203]]))
