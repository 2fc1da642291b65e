"""Denoising: numbers beside plain transformers, three-way ties, what it starts from and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from nlpkit_sentiment import Sentiment, SentimentConfig
from safetensors import safe_open
from transformers import AutoModel, AutoModelForSeq2SeqLM, PretrainedConfig, PreTrainedTokenizerBase

from nlpkit import backbone, bundle, handover, tokenizer
from nlpkit.config import ModelConfig
from nlpkit.data import EncodedExamples, make_batch
from nlpkit.errors import ModelError, UsageError
from nlpkit.heads import Head
from nlpkit.module import TaskModule
from nlpkit.objectives import cross_entropy
from nlpkit.objectives.clm import Clm, ClmConfig
from nlpkit.objectives.denoise import Denoise, DenoiseConfig
from nlpkit.objectives.mlm import Mlm, MlmConfig
from nlpkit.plugins import Registry
from nlpkit.task import Example

FAMILIES = ["t5", "m2m100"]
LENGTH = 48
TEXTS = [
    "the coat is soft and warm and I would buy it again at once",
    "it tore on day two, and the shop did not answer me for weeks",
    "too small",
]
SHARED = {"t5": "shared.weight", "m2m100": "model.shared.weight"}


@pytest.fixture(scope="module")
def seq_words() -> PreTrainedTokenizerBase:
    texts = [f"{text} number {i}" for i in range(30) for text in TEXTS]
    return tokenizer.train(texts, kind="bpe", vocabulary=440, lowercase=False, max_length=LENGTH, denoises=True)


@pytest.fixture
def denoise(seq_words: PreTrainedTokenizerBase) -> Denoise:
    return Denoise(DenoiseConfig(max_length=LENGTH), seq_words)


def architecture(family: Any, words: PreTrainedTokenizerBase) -> PretrainedConfig:
    return backbone.architecture(ModelConfig(preset="tiny", family=family, sequence_length=LENGTH), words)


def module_of(task: Denoise, family: str) -> TaskModule:
    torch.manual_seed(1)
    config = architecture(family, task.tokenizer)
    return TaskModule(task, backbone.build(config), task.build_head(config)).eval()


def saved(task: Denoise, family: str, folder: Path) -> tuple[TaskModule, PretrainedConfig]:
    """A module, and the configuration of the bundle that it was saved as."""
    module = module_of(task, family)
    bundle.save(folder, task, module.backbone, module.head, {}, Registry())
    return module, handover.read_architecture(str(folder))


def batch_of(task: Denoise, texts: list[str] = TEXTS) -> dict[str, torch.Tensor]:
    return task.collate([{**task.encode(Example({"text": t})), "seed": i} for i, t in enumerate(texts)])


def plain_inputs(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}


@pytest.mark.parametrize("family", FAMILIES)
def test_bundle_opens_in_plain_transformers_with_equal_logits_and_loss(
    family: str, denoise: Denoise, registry: Registry, tmp_path: Path
) -> None:
    module, batch = module_of(denoise, family), batch_of(denoise)
    bundle.save(tmp_path / "model", denoise, module.backbone, module.head, {}, registry)
    plain, report = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(report.values())
    with torch.no_grad():
        hidden, theirs = module.hidden(batch), plain.eval()(**plain_inputs(batch))
        torch.testing.assert_close(module.head(hidden, batch), theirs.logits, atol=1e-5, rtol=0)
        torch.testing.assert_close(module.head.loss_from(hidden, batch), theirs.loss, atol=1e-5, rtol=0)
        whole = AutoModel.from_pretrained(tmp_path / "model").eval()
        torch.testing.assert_close(whole.get_encoder()(**inputs_of(batch)).last_hidden_state, hidden, atol=1e-5, rtol=0)


def inputs_of(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: batch[name] for name in ("input_ids", "attention_mask")}


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_equal_those_of_plain_transformers(
    family: str, denoise: Denoise, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cross_entropy, "ROWS", 4)
    module, batch = module_of(denoise, family), batch_of(denoise)
    (3 * module.head.loss_from(module.hidden(batch), batch)).backward()
    with module.head.assemble(module.backbone) as model:
        ours = {name: p.grad.clone() for name, p in model.named_parameters()}  # type: ignore[union-attr]
        model.zero_grad()
        (3 * model(**plain_inputs(batch)).loss).backward()
        theirs = {name: p.grad for name, p in model.named_parameters()}
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_four_names_of_one_embedding_are_saved_once_and_stay_one(
    family: str, denoise: Denoise, registry: Registry, tmp_path: Path
) -> None:
    module = module_of(denoise, family)
    bundle.save(tmp_path / "model", denoise, module.backbone, module.head, {}, registry)
    size = (len(denoise.tokenizer), 128)
    with safe_open(tmp_path / "model" / "model.safetensors", "pt") as tensors:
        large = [name for name in tensors.keys() if tuple(tensors.get_slice(name).get_shape()) == size]  # noqa: SIM118
    assert large == [SHARED[family]]
    loaded = bundle.load(str(tmp_path / "model"), registry)
    with loaded.head.assemble(loaded.backbone) as model:
        names = (model.get_input_embeddings(), model.get_output_embeddings(), model.get_decoder().embed_tokens)
        assert all(module.weight is loaded.backbone.embed_tokens.weight for module in names)


@pytest.mark.parametrize("family", FAMILIES)
def test_going_on_from_a_bundle_loads_every_tensor(family: str, denoise: Denoise, tmp_path: Path) -> None:
    module, config = saved(denoise, family, tmp_path / "model")
    _, account = handover.load(str(tmp_path / "model"), denoise.build_head(config), config=config)
    every = {id(p) for part in (module.backbone, module.head) for p in part.parameters()}
    assert (account.loaded, account.new, account.unused) == (len(every), [], [])


@pytest.mark.parametrize("lost", ["decoder.final_layer_norm.weight", "encoder.final_layer_norm.weight"])
def test_bundle_that_lacks_a_tensor_is_refused(lost: str, denoise: Denoise, registry: Registry, tmp_path: Path) -> None:
    module = module_of(denoise, "t5")
    with module.head.assemble(module.backbone) as model:
        kept = {name: tensor for name, tensor in model.state_dict().items() if name != lost}
        model.save_pretrained(tmp_path / "plain", state_dict=kept)
    denoise.tokenizer.save_pretrained(tmp_path / "plain")
    head = denoise.build_head(handover.read_architecture(str(tmp_path / "plain")))
    config = handover.read_architecture(str(tmp_path / "plain"))
    if lost.startswith("decoder"):
        _, account = handover.load(str(tmp_path / "plain"), head, config=config)
        assert account.new == [lost]
    else:
        with pytest.raises(ModelError) as caught:
            handover.load(str(tmp_path / "plain"), head, config=config)
        assert caught.value.message == f"{tmp_path / 'plain'}: the weights lack {lost}, which config.json asks for"


@pytest.mark.parametrize("untied", [False, True], ids=["t5", "t5-1.1"])
def test_public_t5_is_gone_on_with(untied: bool, denoise: Denoise, registry: Registry, tmp_path: Path) -> None:
    """T5 1.1 has two matrices, though its configuration in transformers says that they are one."""
    torch.manual_seed(3)
    values = {**architecture("t5", denoise.tokenizer).to_dict(), "tie_word_embeddings": not untied}
    values.pop("scale_decoder_outputs")
    config = transformers.T5Config(**values)
    public = transformers.T5ForConditionalGeneration(config).eval()
    if untied:
        public.lm_head.weight = torch.nn.Parameter(torch.randn_like(public.lm_head.weight))
    public.save_pretrained(tmp_path / "public")
    architecture_of_it = handover.read_architecture(str(tmp_path / "public"))
    head = denoise.build_head(architecture_of_it)
    body, account = handover.load(str(tmp_path / "public"), head, config=architecture_of_it)
    assert not account.new and not account.unused
    module, batch = TaskModule(denoise, body, head).eval(), batch_of(denoise)
    with torch.no_grad():
        theirs = public(**plain_inputs(batch))
        torch.testing.assert_close(module.head.loss_from(module.hidden(batch), batch), theirs.loss, atol=1e-5, rtol=0)
    bundle.save(tmp_path / "model", denoise, module.backbone, module.head, {}, registry)
    again = bundle.load(str(tmp_path / "model"), registry)
    found = TaskModule(denoise, again.backbone, again.head).eval()
    with torch.no_grad():
        torch.testing.assert_close(found.head(found.hidden(batch), batch), theirs.logits, atol=1e-5, rtol=0)


def test_resumed_t5_1_1_has_two_matrices_before_its_checkpoint_is_there(denoise: Denoise) -> None:
    values = {**architecture("t5", denoise.tokenizer).to_dict(), "scale_decoder_outputs": False}
    module = TaskModule(denoise, backbone.build(config := transformers.T5Config(**values)), denoise.build_head(config))
    assert module.head.output_embeddings.weight is not module.backbone.get_input_embeddings().weight  # type: ignore[union-attr]


@pytest.mark.parametrize("family", ["bart", "mbart", "pegasus", "mt5", "umt5"])
def test_other_encoder_decoders_give_their_own_numbers(family: str, denoise: Denoise) -> None:
    sizes = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_position_embeddings": 64}
    t5 = {"d_model": 32, "d_kv": 16, "num_heads": 2, "num_layers": 1, "d_ff": 32}
    size = t5 if "t5" in family else sizes | heads
    ids = {"pad_token_id": 0, "bos_token_id": 3, "eos_token_id": 3, "decoder_start_token_id": 3}
    config = transformers.AutoConfig.for_model(family, vocab_size=len(denoise.tokenizer), **size, **ids)
    torch.manual_seed(1)
    module = TaskModule(denoise, backbone.build(config), denoise.build_head(config)).eval()
    bias = getattr(module.head.model, "final_logits_bias", None)
    if bias is not None:
        bias.normal_()
    batch = batch_of(denoise)
    with torch.no_grad():
        ours = module.head.loss_from(module.hidden(batch), batch)
        with module.head.assemble(module.backbone) as model:
            theirs = model(**plain_inputs(batch)).loss
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_those_of_all_logits(family: str, denoise: Denoise) -> None:
    module, batch = module_of(denoise, family), batch_of(denoise)
    metrics = denoise.build_metrics()
    with torch.no_grad():
        hidden = module.hidden(batch)
        metrics.update(*denoise.compare(module.head.predict(hidden, batch), batch))
        logits = module.head(hidden, batch)
    scores = {name: float(value) for name, value in metrics.compute().items()}
    real = batch["labels"] != -100
    right = (logits.argmax(-1) == batch["labels"])[real].float().mean()
    assert scores == pytest.approx(
        {"accuracy": float(right), "perplexity": float(module.head.loss(logits, batch).exp())}, rel=1e-4
    )
    assert module.head.count(batch) == int(real.sum())


def test_rows_of_one_length_fill_their_blocks_without_padding(denoise: Denoise) -> None:
    rows = [denoise.encode_tokens(range(5, 5 + LENGTH - denoise.overhead)) for _ in range(4)]
    batch = denoise.collate([{**row, "seed": i} for i, row in enumerate(rows)])
    assert batch["input_ids"].shape == (4, LENGTH) and "attention_mask" not in batch
    assert (batch["labels"] != -100).all()
    assert len({str(row) for row in batch["input_ids"].tolist()}) == 4


def test_another_epoch_cuts_other_spans(denoise: Denoise) -> None:
    samples = EncodedExamples(denoise, [Example({"text": f"{text} {text[::-1]}"}) for text in TEXTS])
    first, again, other = (make_batch(denoise, samples, np.arange(3), 1, epoch) for epoch in (0, 0, 1))
    assert torch.equal(first["input_ids"], again["input_ids"])
    assert not torch.equal(first["labels"], other["labels"])


def test_predictions_are_the_text_with_guesses_in_its_gaps(denoise: Denoise) -> None:
    batch = batch_of(denoise)
    right = batch["labels"].clamp(min=0)
    answers = denoise.decode((right, torch.zeros_like(right)), batch)
    assert [answer["text"].strip() for answer in answers] == TEXTS


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram"])
def test_tokenizer_of_an_encoder_decoder_has_sentinels_within_its_vocabulary(kind: Any, tmp_path: Path) -> None:
    texts = [f"{text} number {i}" for i in range(30) for text in TEXTS]
    words = tokenizer.train(texts, kind=kind, vocabulary=440, lowercase=False, max_length=64, denoises=True)
    words.save_pretrained(tmp_path)
    words = tokenizer.load(tmp_path)
    assert len(words) <= 440
    known = tokenizer.sentinels(words)
    assert len(known) == 100 and set(known) <= set(words.all_special_ids)
    ids = words("a soft <extra_id_0> coat")["input_ids"]
    assert known[0] in ids and ids[-1] == words.eos_token_id == words.sep_token_id and words.cls_token_id not in ids


def test_tokenizer_without_sentinels_is_refused(words: PreTrainedTokenizerBase) -> None:
    with pytest.raises(ModelError) as caught:
        Denoise(DenoiseConfig(max_length=64), words).check_architecture(architecture("t5", words))
    assert caught.value.message == "the tokenizer has no <extra_id_0>, which stands in the place of a span"


def test_more_spans_than_sentinels_are_refused(seq_words: PreTrainedTokenizerBase) -> None:
    task = Denoise(DenoiseConfig(max_length=400, rate=0.5, mean_span=1.0), seq_words)
    with pytest.raises(UsageError) as caught:
        task.check_architecture(architecture("t5", seq_words))
    assert caught.value.message == "199 spans are cut out of 399 tokens, and the tokenizer has 100 sentinels for them"


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_model_without_decoder_or_encoder_is_refused(family: str, denoise: Denoise, small_config: Any) -> None:
    with pytest.raises(ModelError) as caught:
        denoise.check_architecture(small_config(family))
    assert caught.value.message == f"{family} is no encoder with a decoder, which denoise needs"


@pytest.mark.parametrize("task", [Mlm(MlmConfig(), None), Clm(ClmConfig(), None)])  # type: ignore[arg-type]
@pytest.mark.parametrize("family", ["t5", "m2m100", "bart"])
def test_other_objectives_refuse_an_encoder_decoder(family: str, task: Any, seq_words: PreTrainedTokenizerBase) -> None:
    config = transformers.BartConfig() if family == "bart" else architecture(family, seq_words)
    with pytest.raises(ModelError) as caught:
        task.check_architecture(config)
    assert (
        caught.value.message
        == f"{config.model_type} has an encoder and a decoder, of which {task.name} trains only one"
    )


def test_configuration_that_does_not_say_how_a_text_begins_is_refused(denoise: Denoise) -> None:
    config = architecture("t5", denoise.tokenizer)
    config.decoder_start_token_id = None
    with pytest.raises(ModelError) as caught:
        denoise.build_head(config)
    assert caught.value.message == "config.json has no decoder_start_token_id, the token that the decoder begins with"


# ---- what a task makes of the encoder


def sentiment(words: PreTrainedTokenizerBase) -> Sentiment:
    return Sentiment(SentimentConfig(labels=["bad", "good"], max_length=LENGTH), words)


def test_sentiment_of_a_t5_opens_in_plain_transformers_with_equal_logits(
    denoise: Denoise, registry: Registry, tmp_path: Path
) -> None:
    module = module_of(denoise, "t5")
    bundle.save(tmp_path / "t5", denoise, module.backbone, module.head, {}, registry)
    task, config = sentiment(denoise.tokenizer), handover.read_architecture(str(tmp_path / "t5"))
    head = task.build_head(config)
    body, account = handover.load(str(tmp_path / "t5"), head, config=config)
    assert all(name.startswith("classification_head.") for name in account.new)
    assert torch.equal(body.embed_tokens.weight, module.backbone.embed_tokens.weight)
    bundle.save(tmp_path / "sentiment", task, body, head, {}, registry)
    plain, report = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "sentiment", output_loading_info=True
    )
    assert not any(report.values())
    fitted = TaskModule(task, body, head).eval()
    batch = task.collate([task.encode(Example({"text": text})) for text in TEXTS])
    with torch.no_grad():
        torch.testing.assert_close(fitted(batch), plain.eval()(**batch).logits, atol=1e-5, rtol=0)


def test_text_that_spells_out_the_end_token_is_no_trouble(denoise: Denoise) -> None:
    task, config = sentiment(denoise.tokenizer), architecture("t5", denoise.tokenizer)
    fitted = TaskModule(task, backbone.build(config), task.build_head(config)).eval()
    batch = task.collate([task.encode(Example({"text": text})) for text in ("a [SEP] b [SEP] c", "soft")])
    alone = task.collate([task.encode(Example({"text": "soft"}))])
    with torch.no_grad():
        torch.testing.assert_close(fitted(batch)[1:], fitted(alone), atol=1e-5, rtol=0)


class _Mean(Head):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.answer = torch.nn.Linear(width, 2)

    def forward(self, hidden: torch.Tensor, batch: Any) -> torch.Tensor:
        return self.answer(hidden.mean(1))


@pytest.mark.parametrize("family", FAMILIES)
def test_head_of_its_own_gets_the_encoder_and_saves_it_without_the_decoder(
    family: str, denoise: Denoise, tmp_path: Path
) -> None:
    module, config = saved(denoise, family, tmp_path / "whole")
    body, account = handover.load(str(tmp_path / "whole"), _Mean(128), config=config)
    assert account.loaded == len(list(body.parameters())) and account.new == ["head.answer.weight", "head.answer.bias"]
    assert all("decoder." in name for name in account.unused) and len(account.unused) > 10
    handover.save_body(body, tmp_path / "body")
    with safe_open(tmp_path / "body" / "model.safetensors", "pt") as tensors:
        assert not [name for name in tensors.keys() if "decoder" in name]  # noqa: SIM118
    again, account = handover.load(
        str(tmp_path / "body"), _Mean(128), config=handover.read_architecture(str(tmp_path / "body"))
    )
    assert account.unused == []
    batch = inputs_of(batch_of(denoise))
    plain = AutoModel.from_pretrained(tmp_path / "body").eval().get_encoder()
    with torch.no_grad():
        expected = module.backbone.eval()(**batch).last_hidden_state
        assert torch.equal(again.eval()(**batch).last_hidden_state, expected)
        assert torch.equal(plain(**batch).last_hidden_state, expected)
