"""Masks in the right shares, on words only, and the same for the same (seed, epoch, sample) in any company."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_runs import examples, make_module, mlm, small_bert, small_tokenizer
from transformers import AutoModelForMaskedLM, BertForMaskedLM, BertTokenizer

from nlpkit import tokenizer
from nlpkit.data import TaskDataModule, make_batch
from nlpkit.objectives.mlm import Mlm, MlmConfig
from nlpkit.task import Batch, Example, Features

WORDS = st.lists(st.integers(5, len(small_tokenizer()) - 1), min_size=1, max_size=30)
MASK = small_tokenizer().mask_token_id


def rows(count: int, length: int = 50) -> list[Features]:
    """Random words, every row with a seed."""
    rng = np.random.default_rng(0)
    size = len(small_tokenizer())
    return [
        {**mlm().encode_tokens(rng.integers(5, size, length).tolist()), "seed": int(rng.integers(2**62))}
        for _ in range(count)
    ]


def chosen(batch: Batch) -> torch.Tensor:
    return batch["labels"] != -100


@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_the_rate_is_the_share_of_hidden_words(rate: float) -> None:
    share = chosen(mlm(rate=rate).collate(rows(800))).sum().item() / (800 * 50)
    assert share == pytest.approx(rate, abs=0.008)


@pytest.mark.parametrize(("mask", "random"), [(0.8, 0.1), (1.0, 0.0), (0.5, 0.5)])
def test_hidden_words_are_masked_replaced_and_kept_in_their_shares(mask: float, random: float) -> None:
    features = rows(800)
    batch = mlm(mask_share=mask, random_share=random, rate=0.4).collate(features)
    plain = torch.tensor([f["input_ids"] for f in features])
    at = chosen(batch)
    masked = (batch["input_ids"] == MASK) & at
    kept = (batch["input_ids"] == plain) & at
    replaced = at & ~masked & ~kept
    shares = [part.sum().item() / at.sum().item() for part in (masked, replaced, kept)]
    assert shares == pytest.approx([mask, random, 1 - mask - random], abs=0.015)
    assert torch.equal(batch["labels"][at], plain[at])
    assert torch.equal(batch["input_ids"][~at], plain[~at])


@pytest.mark.parametrize("unit", ["word", "span"])
@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_words_and_spans_are_hidden_at_the_rate(unit: str, rate: float) -> None:
    share = chosen(mlm(rate=rate, unit=unit).collate(rows(1500))).sum().item() / (1500 * 50)
    assert share == pytest.approx(rate, abs=0.012)


def test_words_are_hidden_as_a_whole() -> None:
    words = small_tokenizer()
    texts = ["unbelievably comfortable sweatshirts shrink horribly"] * 40
    features = [{**mlm().encode(Example({"text": text})), "seed": i} for i, text in enumerate(texts)]
    tokens = words.convert_ids_to_tokens(features[0]["input_ids"])
    assert sum(token.startswith("##") for token in tokens) > 5
    hidden = chosen(mlm(unit="word", rate=0.3).collate(features))
    inside = torch.tensor([token.startswith("##") for token in tokens])
    assert torch.equal(hidden[:, 1:][:, inside[1:]], hidden[:, :-1][:, inside[1:]])
    assert 0 < hidden.sum() < hidden[:, 1:].numel()


def test_text_without_spaces_is_hidden_token_by_token() -> None:
    text = "我昨天在商店买了这件外套因为天气很冷所以我需要它"
    words = tokenizer.train([text, "a b"] * 9, kind="unigram", vocabulary=200, lowercase=False, max_length=64)
    masked = Mlm(MlmConfig(max_length=64, unit="word", rate=0.2), words)
    batch = masked.collate([{**masked.encode(Example({"text": text})), "seed": i} for i in range(400)])
    shares = chosen(batch).float().mean(1)
    assert float(shares.mean()) == pytest.approx(0.2, abs=0.03)
    assert float(shares.max()) < 0.7


def test_spans_are_long_and_bounded() -> None:
    hidden = chosen(mlm(unit="span", rate=0.1).collate(rows(800))).int()
    starts = (hidden[:, 1:] > hidden[:, :-1]).sum().item()
    assert 2.5 < hidden.sum().item() / starts < 5


def test_replacements_come_from_the_whole_vocabulary() -> None:
    batch = mlm(mask_share=0.0, random_share=1.0, rate=0.5).collate(rows(800))
    counts = torch.bincount(batch["input_ids"][chosen(batch)], minlength=len(small_tokenizer()))
    assert counts.min() > 0
    assert counts.max() < 3 * counts.float().mean()


def test_replacements_and_scores_come_from_the_numbers_that_are_tokens() -> None:
    numbers = [0, 1, 2, 3, 4, 20, 30, 40]
    names = [*tokenizer.SPECIAL_TOKENS, "coat", "hat", "soft"]
    masked = Mlm(
        MlmConfig(mask_share=0.0, random_share=1.0), BertTokenizer(vocab=dict(zip(names, numbers, strict=True)))
    )
    batch = masked.collate([{"input_ids": [2, 20, 30, 40, 3], "seed": i} for i in range(400)])
    assert sorted(set(batch["input_ids"][chosen(batch)].tolist())) == numbers
    assert masked.build_metrics()["accuracy"].num_classes == 41


@settings(max_examples=60, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=6), st.integers(0, 2**62))
def test_special_tokens_are_never_hidden_and_every_row_with_a_word_has_one_hidden(
    texts: list[list[int]], seed: int
) -> None:
    tokenizer = small_tokenizer()
    ids = [[*t, tokenizer.sep_token_id, tokenizer.unk_token_id] for t in texts]
    batch = mlm().collate([{**mlm().encode_tokens(t), "seed": seed + i} for i, t in enumerate(ids)])
    assert not set(batch["labels"].ravel().tolist()) & set(tokenizer.all_special_ids)
    assert chosen(batch).any(1).all()


@settings(max_examples=40, deadline=None)
@given(st.lists(WORDS, min_size=2, max_size=6), st.integers(0, 2**62))
def test_a_row_is_hidden_the_same_in_any_company(texts: list[list[int]], seed: int) -> None:
    features = [{**mlm().encode_tokens(t), "seed": seed + i} for i, t in enumerate(texts)]
    together = mlm().collate(features)
    for i, feature in enumerate(features):
        alone, length = mlm().collate([feature]), len(feature["input_ids"])
        for key in ("input_ids", "labels"):
            assert torch.equal(together[key][i, :length], alone[key][0])


def test_padding_is_neither_hidden_nor_attended_to() -> None:
    batch = mlm(rate=0.9).collate([{"input_ids": [2, 7, 8, 9], "seed": 1}, {"input_ids": [2, 7], "seed": 2}])
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch["input_ids"][1, 2:].tolist() == [small_tokenizer().pad_token_id] * 2
    assert batch["labels"][1, 2:].tolist() == [-100, -100]


def test_masks_depend_on_seed_epoch_and_sample_and_on_nothing_else() -> None:
    samples = TaskDataModule(mlm(), examples()).train

    def labels(seed: int, epoch: int, sample: int) -> list[int]:
        torch.manual_seed(np.random.randint(1000))
        return make_batch(mlm(), samples, np.array([sample]), seed, epoch)["labels"][0].tolist()

    long = int(np.argmax(samples.lengths))
    one = labels(1, 1, long)
    assert labels(1, 1, long) == one
    assert labels(2, 1, long) != one
    assert labels(1, 2, long) != one


def test_two_samples_with_one_text_are_hidden_differently() -> None:
    samples = TaskDataModule(mlm(rate=0.5), [examples()[3]] * 2).train
    labels = make_batch(mlm(rate=0.5), samples, np.array([0, 1]), 0, 0)["labels"]
    assert labels[0].tolist() != labels[1].tolist()


def test_without_a_seed_a_text_is_always_hidden_the_same() -> None:
    feature = mlm().encode(examples()[3])
    assert torch.equal(mlm().collate([feature])["labels"], mlm().collate([feature])["labels"])


def whole_model(module: Any) -> BertForMaskedLM:
    plain = AutoModelForMaskedLM.from_config(small_bert())
    with module.head.assemble(module.backbone) as model:
        plain.load_state_dict(model.state_dict())
    plain.tie_weights()
    return plain


@pytest.fixture
def compared() -> tuple[Any, Batch, BertForMaskedLM]:
    """Our module without dropout, a batch with padding, and plain transformers with the same weights."""
    task = mlm()
    module = make_module(task).eval()
    return module, task.collate([task.encode(e) for e in examples(6)]), whole_model(module).eval()


def test_the_loss_is_that_of_plain_transformers(compared: tuple[Any, Batch, BertForMaskedLM]) -> None:
    module, batch, plain = compared
    ours = module.head.loss(module(batch), batch)
    assert ours.item() == pytest.approx(plain(**batch).loss.item(), rel=1e-6)


def test_gradients_through_the_hidden_places_only_are_those_of_the_whole_projection(
    compared: tuple[Any, Batch, BertForMaskedLM],
) -> None:
    module, batch, plain = compared
    module.head.loss(module(batch), batch).backward()
    plain(**batch).loss.backward()
    with module.head.assemble(module.backbone) as model:
        ours = dict(model.named_parameters())
        assert ours.keys() == dict(plain.named_parameters()).keys()
        for name, parameter in plain.named_parameters():
            assert parameter.grad is not None, name
            assert torch.allclose(ours[name].grad, parameter.grad, rtol=1e-4, atol=1e-7), name


def test_the_projection_meets_few_numbers_of_rows(compared: tuple[Any, Batch, BertForMaskedLM]) -> None:
    module, batch, _ = compared
    met = []
    module.head.output_embeddings.register_forward_hook(lambda _, given, __: met.append(given[0].shape[-2]))
    hidden = module.hidden(batch)
    for count in (1, 3, 64, 65):
        labels = torch.full_like(batch["labels"], -100).flatten()
        labels[:count] = 7
        assert len(module.head(hidden, {**batch, "labels": labels.view_as(batch["labels"])})) == min(count, len(labels))
    assert met == [64, 64, 64, min(128, -(-len(labels) // 64) * 64)]


def test_a_batch_without_words_costs_nothing_and_is_finite() -> None:
    task = mlm()
    module = make_module(task)
    unknown = small_tokenizer().unk_token_id
    batch = task.collate([task.encode_tokens([unknown] * 4), task.encode_tokens([])])
    loss = module.head.loss(module(batch), batch)
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in module.parameters())


def test_predictions_differ_from_the_input_at_hidden_places_only() -> None:
    task = mlm(rate=0.5)
    module = make_module(task).eval()
    batch = task.collate([task.encode(e) for e in examples(4)])
    found = module.head.predict(module.hidden(batch), batch)
    assert torch.equal(found[~chosen(batch)], batch["input_ids"][~chosen(batch)])
    assert not (found[chosen(batch)] == MASK).all()
    assert len(task.decode(found, batch)) == 4


@pytest.mark.parametrize("text", ["", "   ", "\U0001f600" * 5, "漢字", "[MASK] [PAD]", "a" * 5000])
def test_odd_texts_are_encoded_within_the_limit(text: str) -> None:
    feature = mlm().encode(type(examples()[0])({"text": text}))
    assert feature["input_ids"][0] == small_tokenizer().cls_token_id
    assert len(feature["input_ids"]) <= 64
    mlm().collate([feature])
