from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import transformers
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from nlpkit.heads import TransformersHead, detach_pooler
from nlpkit.last_layer import only_at
from nlpkit.objectives.masked_head import MaskedHead

KNOWN = ("bert", "roberta", "electra", "modernbert")
Config = Callable[..., PretrainedConfig]


def _body(config: PretrainedConfig) -> PreTrainedModel:
    torch.manual_seed(0)
    body: PreTrainedModel = transformers.AutoModel.from_config(config).eval()
    detach_pooler(body)
    return body


def _batch(rows: int = 3, length: int = 40, *, padded: bool = True) -> dict[str, Tensor]:
    ids = torch.randint(5, 200, (rows, length), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    if padded:
        ids[1, 7:], mask[1, 7:] = 0, 0
    return {"input_ids": ids, "attention_mask": mask}


def _places(batch: dict[str, Tensor]) -> Tensor:
    """Two places in the first row, none in the second, all of the third."""
    places = torch.zeros_like(batch["input_ids"], dtype=torch.bool)
    places[0, 0] = places[0, 5] = True
    places[2] = True
    return places


@pytest.mark.parametrize("family", KNOWN)
@pytest.mark.parametrize("padded", [True, False])
@torch.no_grad()
def test_last_layer_gives_the_numbers_of_all_places(family: str, padded: bool, small_config: Config) -> None:
    body, batch = _body(small_config(family)), _batch(padded=padded)
    places = _places(batch)
    expected = body(**batch).last_hidden_state
    with only_at(body, places):
        found = body(**batch).last_hidden_state
    torch.testing.assert_close(found[places], expected[places], rtol=1e-4, atol=1e-5)
    assert found.shape == expected.shape


@torch.no_grad()
def test_last_layer_keeps_to_the_window_of_a_local_layer(small_config: Config) -> None:
    config = small_config("modernbert", num_hidden_layers=2, local_attention=8)
    body, batch = _body(config), _batch()
    assert body.layers[-1].attention_type == "sliding_attention"
    places = _places(batch)
    with only_at(body, places):
        found = body(**batch).last_hidden_state
    torch.testing.assert_close(found[places], body(**batch).last_hidden_state[places], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", KNOWN)
def test_last_layer_works_out_no_other_place(family: str, small_config: Config) -> None:
    body, batch = _body(small_config(family)), _batch()
    sizes: list[int] = []
    last = [m for m in body.modules() if isinstance(m, nn.Linear)][-1]
    last.register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[:-1].numel()))
    first = torch.zeros_like(batch["input_ids"], dtype=torch.bool)
    first[:, 0] = True
    with only_at(body, first):
        body(**batch)
    body(**batch)
    assert sizes == [3, 120]


@pytest.mark.parametrize("family", KNOWN)
def test_last_layer_gives_the_gradients_of_all_places(family: str, small_config: Config) -> None:
    body, batch = _body(small_config(family)), _batch()
    places, gradients = _places(batch), []
    for chosen in (places, None):
        body.zero_grad()
        with only_at(body, chosen):
            body(**batch).last_hidden_state[places].pow(3).sum().backward()
        gradients.append({n: p.grad for n, p in body.named_parameters() if p.grad is not None})
    for name, gradient in gradients[1].items():
        torch.testing.assert_close(gradients[0][name], gradient, rtol=1e-3, atol=1e-4, msg=name)


def test_last_layer_of_an_unknown_family_is_whole(small_config: Config) -> None:
    body, batch = _body(small_config("distilbert")), _batch()
    expected = body(**batch).last_hidden_state
    with only_at(body, _places(batch)):
        found = body(**batch).last_hidden_state
    assert torch.equal(found, expected)


def test_last_layer_is_as_before_after_an_error(small_config: Config) -> None:
    body, batch = _body(small_config("bert")), _batch()
    expected = body(**batch).last_hidden_state
    with pytest.raises(ZeroDivisionError), only_at(body, _places(batch)):
        _ = 1 / 0
    assert torch.equal(body(**batch).last_hidden_state, expected)


@pytest.mark.parametrize("family", KNOWN)
@torch.no_grad()
def test_classification_head_reads_no_place_that_it_does_not_name(family: str, small_config: Config) -> None:
    head = TransformersHead("AutoModelForSequenceClassification", small_config(family)).eval()
    batch = _batch()
    hidden = torch.randn(3, 40, head.config.hidden_size)
    places = head.places(batch)
    assert places is not None
    assert torch.equal(head(hidden * places.unsqueeze(-1), batch), head(hidden, batch))


@torch.no_grad()
def test_mean_pooling_reads_every_place(small_config: Config) -> None:
    head = TransformersHead("AutoModelForSequenceClassification", small_config("modernbert", classifier_pooling="mean"))
    assert head.places(_batch()) is None


def test_subclass_of_the_head_reads_every_place_until_it_says_otherwise(small_config: Config) -> None:
    class Pooled(TransformersHead):
        def forward(self, hidden: Tensor, batch: dict[str, Tensor]) -> Tensor:
            return super().forward(hidden.mean(1, keepdim=True), batch)

    assert Pooled("AutoModelForSequenceClassification", small_config("bert")).places(_batch()) is None


@torch.no_grad()
def test_masked_head_names_the_hidden_places(small_config: Config) -> None:
    head, batch = MaskedHead("AutoModelForMaskedLM", small_config("bert")), _batch()
    places = _places(batch)
    batch["labels"] = torch.where(places, batch["input_ids"], -100)
    assert torch.equal(head.places(batch), places)
