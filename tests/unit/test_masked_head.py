"""The loss of hidden words without all logits, against plain transformers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import transformers
from torch import Tensor
from transformers import PretrainedConfig

from nlpkit.objectives import cross_entropy
from nlpkit.objectives.masked_head import _PLAIN, MaskedHead
from nlpkit.objectives.pretraining_head import PretrainingHead

IN_STRETCHES = ("bert", "roberta", "xlm-roberta", "electra", "modernbert")
OTHERS = ("distilbert", "albert", "mpnet", "deberta-v2")
Config = Callable[..., PretrainedConfig]


@pytest.fixture(autouse=True)
def short_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_entropy, "ROWS", 64)


def _labels(hidden: int = 150) -> Tensor:
    """(4, 50), of which so many are to guess: two stretches and a part of one."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(5, 200, (4, 50), generator=generator)
    labels.view(-1)[torch.randperm(labels.numel(), generator=generator)[hidden:]] = -100
    return labels


def _model(auto_class: str, config: PretrainedConfig) -> transformers.PreTrainedModel:
    """With biases that are not zero, as those of new models are."""
    torch.manual_seed(0)
    model: transformers.PreTrainedModel = getattr(transformers, auto_class).from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter += 0.1 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize("family", IN_STRETCHES + OTHERS)
def test_loss_and_gradients_are_those_of_plain_transformers(family: str, small_config: Config) -> None:
    config = small_config(family)
    plain, ours = _model("AutoModelForMaskedLM", config), _model("AutoModelForMaskedLM", config)
    head, ids = MaskedHead("AutoModelForMaskedLM", config), torch.randint(5, 200, (4, 50))
    body = ours.base_model
    head.adopt(ours)
    head.eval()
    expected = plain(input_ids=ids, labels=_labels()).loss
    found = head.loss_from(body(input_ids=ids).last_hidden_state, {"labels": _labels()})
    torch.testing.assert_close(found, expected)
    (3 * expected).backward()
    (3 * found).backward()
    with head.assemble(body) as whole:
        gradients = {name: p.grad for name, p in whole.named_parameters()}
    for name, parameter in plain.named_parameters():
        if parameter.grad is not None:  # ModernBERT has biases that it does not use
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_hidden_words_of_bert_s_own_pre_training(small_config: Config) -> None:
    config = small_config("bert")
    plain = _model("AutoModelForPreTraining", config)
    head, hidden, pairs = PretrainingHead(config, (0.75, 0.25)), torch.randn(4, 50, 64), torch.tensor([0, 1, 1, 0])
    head.adopt(_model("AutoModelForPreTraining", config))
    head.eval()
    batch = {"input_ids": _labels().clamp(min=5), "labels": _labels(), "next_sentence_label": pairs}
    with torch.no_grad():
        scores = plain.cls.predictions(hidden)
        expected = torch.nn.functional.cross_entropy(scores.flatten(0, 1), _labels().flatten())
        words, of_pairs = head.losses(hidden, batch)
        torch.testing.assert_close(words, expected)
        torch.testing.assert_close(head.loss_from(hidden, batch), 0.75 * words + 0.25 * of_pairs)
        predicted = head.predict(hidden, batch)
        torch.testing.assert_close((predicted["word_loss"], predicted["pair_loss"]), (words, of_pairs))


@pytest.mark.parametrize("family", IN_STRETCHES)
def test_logits_of_more_than_a_stretch_never_exist(
    family: str, small_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = MaskedHead("AutoModelForMaskedLM", small_config(family))
    assert type(head.model).__name__ in _PLAIN
    sizes: list[int] = []
    linear = torch.nn.functional.linear

    def noted(states: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if len(weight) == 200:
            sizes.append(len(states))
        return linear(states, weight, bias)

    monkeypatch.setattr(torch.nn.functional, "linear", noted)
    hidden = torch.randn(4, 50, 64, requires_grad=True)
    head.loss_from(hidden, {"labels": _labels()}).backward()
    assert sizes == [64, 64, 64]  # whole rows, so that oneDNN meets few sizes
    assert head(hidden, {"labels": _labels()}).shape == (150, 200)  # the output layer is as it was


def test_mixed_precision_is_near_and_gives_gradients_in_float32(small_config: Config) -> None:
    head = MaskedHead("AutoModelForMaskedLM", small_config("bert"))
    hidden = torch.randn(4, 50, 64, requires_grad=True)
    exact = head.loss_from(hidden, {"labels": _labels()})
    with torch.autocast("cpu", torch.bfloat16):
        mixed = head.loss_from(hidden, {"labels": _labels()})
    mixed.backward()
    assert float(mixed.detach()) == pytest.approx(float(exact.detach()), rel=1e-2)
    assert {p.grad.dtype for p in head.parameters() if p.grad is not None} == {torch.float32}


def test_a_batch_without_words_costs_nothing(small_config: Config) -> None:
    head = MaskedHead("AutoModelForMaskedLM", small_config("bert"))
    hidden = torch.randn(4, 50, 64, requires_grad=True)
    loss = head.loss_from(hidden, {"labels": _labels(hidden=0)})
    loss.backward()
    assert loss.item() == 0
    assert not any(p.grad.any() for p in head.parameters() if p.grad is not None)


class _Shifted(MaskedHead):
    def loss(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        return super().loss(logits, batch) + 100


def test_a_subclass_trains_on_its_own_loss(small_config: Config) -> None:
    head, batch = _Shifted("AutoModelForMaskedLM", small_config("bert")), {"labels": _labels()}
    hidden = torch.randn(4, 50, 64)
    torch.testing.assert_close(head.loss_from(hidden, batch), head.loss(head(hidden, batch), batch))
    plain = MaskedHead("AutoModelForMaskedLM", small_config("bert"))
    plain.loss = lambda logits, batch: logits.sum() * 0 + 7  # type: ignore[method-assign, assignment]
    assert float(plain.loss_from(hidden, batch)) == 7


def test_an_output_layer_that_somebody_has_changed_computes_what_it_was_given(small_config: Config) -> None:
    head, batch = MaskedHead("AutoModelForMaskedLM", small_config("bert")), {"labels": _labels()}
    hidden, output = torch.randn(4, 50, 64), head.output_embeddings
    heard: list[tuple[int, ...]] = []
    hook = output.register_forward_hook(lambda _, __, made: heard.append(made.shape))
    head.loss_from(hidden, batch)
    assert heard == [(1, 192, 200)]
    hook.remove()
    usual = output.forward
    own = output.forward = lambda states: 2 * usual(states)
    torch.testing.assert_close(head.loss_from(hidden, batch), head.loss(head(hidden, batch), batch))
    assert output.forward is own


def test_frozen_weights_get_no_gradient_and_the_states_theirs(small_config: Config) -> None:
    head, batch = MaskedHead("AutoModelForMaskedLM", small_config("bert")), {"labels": _labels()}
    found = []
    for frozen in (False, True):
        head.requires_grad_(not frozen)
        hidden = torch.randn(4, 50, 64, generator=torch.Generator().manual_seed(0), requires_grad=True)
        head.loss_from(hidden, batch).backward()
        found.append(hidden.grad)
    torch.testing.assert_close(found[0], found[1])
