"""Next-word prediction: numbers against plain transformers, and what it refuses."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    GraniteConfig,
    ModernBertConfig,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)

from nlpkit import backbone, bundle, tokenizer
from nlpkit.errors import ModelError
from nlpkit.objectives import cross_entropy
from nlpkit.objectives.causal_head import CausalHead
from nlpkit.objectives.clm import Clm, ClmConfig
from nlpkit.plugins import Registry
from nlpkit.tokenizer_report import token_bytes

FAMILIES = ["gpt2", "llama"]
TEXTS = ["the coat is soft and warm", "it tore on day two", "no"]


@pytest.fixture(scope="module")
def decoder_words() -> PreTrainedTokenizerBase:
    texts = [f"{text} number {i}" for i in range(30) for text in TEXTS]
    return tokenizer.train(texts, kind="bpe", vocabulary=300, lowercase=False, max_length=64, generates=True)


@pytest.fixture
def clm(decoder_words: PreTrainedTokenizerBase) -> Clm:
    return Clm(ClmConfig(max_length=64), decoder_words)


def make(clm: Clm, small_config: Callable[..., PretrainedConfig], family: str) -> tuple[Any, CausalHead]:
    torch.manual_seed(1)
    config = small_config(
        family, vocab_size=len(clm.tokenizer), bos_token_id=3, eos_token_id=3, tie_word_embeddings=True
    )
    body = backbone.build(config).eval()
    head = clm.build_head(config).eval()
    head.tie(body)
    assert isinstance(head, CausalHead)
    return body, head


def batch_of(clm: Clm) -> dict[str, torch.Tensor]:
    return clm.collate([clm.encode(example) for example in ({"text": text} for text in TEXTS)])  # type: ignore[arg-type]


def hidden_of(body: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return body(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_equal_those_of_all_logits(
    family: str, clm: Clm, small_config: Callable[..., PretrainedConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cross_entropy, "ROWS", 4)
    body, head = make(clm, small_config, family)
    batch = batch_of(clm)
    found = []
    for way in (head.loss_from, lambda hidden, batch: head.loss(head(hidden, batch), batch)):
        body.zero_grad()
        loss = way(hidden_of(body, batch), batch)
        (3 * loss).backward()
        found.append((loss.detach(), [p.grad.clone() for p in body.parameters()]))
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_equals_that_of_plain_transformers(
    family: str, clm: Clm, small_config: Callable[..., PretrainedConfig]
) -> None:
    body, head = make(clm, small_config, family)
    batch = batch_of(clm)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    with torch.no_grad():
        ours = head.loss_from(hidden_of(body, batch), batch)
        with head.assemble(body) as model:
            theirs = model(**batch, labels=labels).loss
    assert float(ours) == pytest.approx(float(theirs), abs=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_bundle_opens_in_plain_transformers_with_equal_logits(
    family: str, clm: Clm, small_config: Callable[..., PretrainedConfig], registry: Registry, tmp_path: Path
) -> None:
    body, head = make(clm, small_config, family)
    bundle.save(tmp_path / "model", clm, body, head, {}, registry)
    plain, report = AutoModelForCausalLM.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(report.values())
    assert plain.get_output_embeddings().weight is plain.get_input_embeddings().weight
    batch = batch_of(clm)
    with torch.no_grad():
        ours, theirs = head(hidden_of(body, batch), batch), plain.eval()(**batch).logits
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        (Gemma2Config, {"final_logit_softcapping": 30.0}),
        (CohereConfig, {"logit_scale": 0.25}),
        (GraniteConfig, {"logits_scaling": 4.0}),
        (Gemma2Config, {"final_logit_softcapping": None}),
    ],
)
def test_loss_is_that_of_the_class_where_it_does_more_than_project(
    family: Any, settings: dict[str, Any], clm: Clm
) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "head_dim": 16}
    head = CausalHead(family(vocab_size=300, num_attention_heads=2, num_key_value_heads=2, **sizes, **settings))
    hidden, batch = 100 * torch.randn(2, 9, 32), {"input_ids": torch.randint(300, (2, 9))}
    with torch.no_grad():
        expected = float(head.loss(head(hidden, batch), batch))
        assert float(head.loss_from(hidden, batch)) == pytest.approx(expected, rel=1e-4)


def test_a_row_of_one_token_has_nothing_to_guess(clm: Clm, small_config: Callable[..., PretrainedConfig]) -> None:
    body, head = make(clm, small_config, "gpt2")
    batch = {"input_ids": torch.tensor([[5], [6]])}
    hidden = body(**batch).last_hidden_state
    guesses, nats = head.predict(hidden, batch)
    assert guesses.shape == nats.shape == (2, 0)
    assert head.loss_from(hidden, batch).item() == 0
    assert clm.decode((guesses, nats), batch) == [{"text": ""}] * 2


def test_bits_per_byte_are_those_of_the_text(clm: Clm, small_config: Callable[..., PretrainedConfig]) -> None:
    body, head = make(clm, small_config, "gpt2")
    batch = batch_of(clm)
    metrics = clm.build_metrics()
    with torch.no_grad():
        hidden = hidden_of(body, batch)
        metrics.update(*clm.compare(head.predict(hidden, batch), batch))
        mean = float(head.loss(head(hidden, batch), batch))
    scores = {name: float(value) for name, value in metrics.compute().items()}
    rows = [ids[mask == 1].tolist() for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)]
    guessed = sum(len(row) - 1 for row in rows)
    size = sum(len(clm.tokenizer.decode(row).encode()) - len(clm.tokenizer.decode(row[:1]).encode()) for row in rows)
    assert scores["perplexity"] == pytest.approx(math.exp(mean), rel=1e-4)
    assert scores["bits_per_byte"] == pytest.approx(mean * guessed / math.log(2) / size, rel=1e-4)
    right = (head(hidden, batch).argmax(-1)[:, :-1] == batch["input_ids"][:, 1:])[batch["attention_mask"][:, 1:] == 1]
    assert scores["accuracy"] == pytest.approx(float(right.float().mean()))


def test_bytes_of_tokens_add_up_to_the_text(decoder_words: PreTrainedTokenizerBase) -> None:
    sizes = token_bytes(decoder_words)
    text = " naïve 🙂 coat\n\nand  more"
    ids = decoder_words.backend_tokenizer.encode(text, add_special_tokens=False).ids
    assert sum(sizes[i] for i in ids) == len(text.encode())
    assert [sizes[i] for i in decoder_words.all_special_ids] == [0] * len(set(decoder_words.all_special_ids))


def test_text_stands_between_two_separators_as_in_the_store(decoder_words: PreTrainedTokenizerBase) -> None:
    ids = decoder_words("soft")["input_ids"]
    assert (ids[0], ids[-1]) == (decoder_words.sep_token_id,) * 2 == (decoder_words.eos_token_id,) * 2


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_backbone_that_sees_ahead_is_refused(
    family: str, clm: Clm, small_config: Callable[..., PretrainedConfig]
) -> None:
    with pytest.raises(ModelError) as caught:
        clm.check_backbone(backbone.build(small_config(family)))
    assert caught.value.message == f"{family} can see the word that clm asks it to guess"


def test_what_transformers_says_of_an_encoder_to_programmers_is_not_shown(
    clm: Clm, small_config: Callable[..., PretrainedConfig], registry: Registry
) -> None:
    said: list[logging.LogRecord] = []
    handler, log = logging.Handler(), logging.getLogger("transformers")
    handler.emit = said.append  # type: ignore[method-assign]
    log.addHandler(handler)
    try:
        bundle.build_head(clm, small_config("bert"), registry)
        assert said == []
        clm.build_head(small_config("bert"))
        assert "is_decoder" in said[0].getMessage()
    finally:
        log.removeHandler(handler)


@pytest.mark.parametrize("family", FAMILIES)
def test_decoder_passes_and_stays_in_training_mode(
    family: str, clm: Clm, small_config: Callable[..., PretrainedConfig]
) -> None:
    body = backbone.build(small_config(family, bos_token_id=3, eos_token_id=3))
    clm.check_backbone(body)
    assert body.training


def test_class_that_does_more_than_multiply_keeps_its_own_way(
    clm: Clm, small_config: Callable[..., PretrainedConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    body, head = make(clm, small_config, "gpt2")
    head.model.lm_head = nn.Sequential(head.model.lm_head, nn.Tanh())
    monkeypatch.setattr(head, "_output", "lm_head.0")
    batch = batch_of(clm)
    hidden = hidden_of(body, batch)
    torch.testing.assert_close(head.loss_from(hidden, batch), head.loss(head(hidden, batch), batch))


def test_encoder_without_a_class_that_writes_is_refused_as_one(clm: Clm) -> None:
    with pytest.raises(ModelError) as caught:
        clm.check_architecture(ModernBertConfig())
    assert caught.value.message == "modernbert is an encoder, and clm is for a decoder"
    assert caught.value.hint == "--objective mlm; for a new model leave out --from, or model.family=gpt2"
