"""Pairs of text, checked against the documents that they were made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier
from transformers import AutoModelForNextSentencePrediction, PreTrainedTokenizerBase

from nlpkit import backbone, bundle, corpus, tokenizer
from nlpkit.data import make_batch
from nlpkit.errors import DataError
from nlpkit.objectives.nsp import Nsp, NspConfig
from nlpkit.objectives.pairs import Pairs
from nlpkit.plugins import Registry

WORDS = ["soft", "warm", "coat", "tore", "late", "zip", "blue", "fine"]
LENGTH = 32


@pytest.fixture(scope="module")
def bert_words() -> PreTrainedTokenizerBase:
    texts = [f"{' '.join(WORDS)} . ! ? {i}" for i in range(100)]
    return tokenizer.train(texts, kind="wordpiece", vocabulary=200, lowercase=True, max_length=LENGTH)


def document(number: int, sentences: int) -> str:
    return " ".join(f"{number} {' '.join(WORDS[(number + j) % 8 :][:3])} {i}." for i, j in enumerate(range(sentences)))


def store_of(texts: list[str], words: PreTrainedTokenizerBase, folder: Path) -> corpus.TokenStore:
    return corpus.build(texts, words, folder, key=str(hash(tuple(texts))))


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [document(n, 1 + n % 7) for n in range(60)]


@pytest.fixture(scope="module")
def pairs(texts: list[str], bert_words: PreTrainedTokenizerBase, tmp_path_factory: pytest.TempPathFactory) -> Pairs:
    return Pairs(store_of(texts, bert_words, tmp_path_factory.mktemp("store")), bert_words, LENGTH)


def parts(features: dict[str, Any], words: PreTrainedTokenizerBase) -> tuple[str, str]:
    ids, types = features["input_ids"], features["token_type_ids"]
    assert ids[0] == words.cls_token_id and ids.count(words.sep_token_id) == 2 and ids[-1] == words.sep_token_id
    middle = ids.index(words.sep_token_id)
    assert types == [0] * (middle + 1) + [1] * (len(ids) - middle - 1)
    return words.decode(ids[1:middle]), words.decode(ids[middle + 1 : -1])


def plain(text: str) -> str:
    return text.replace(" ", "").lower()


def test_pairs_go_on_in_one_document_or_come_from_two(
    pairs: Pairs, texts: list[str], bert_words: PreTrainedTokenizerBase
) -> None:
    labels, by_chance = [], 0  # a part that is cut to a word or two stands in many documents
    for index in range(len(pairs.lengths)):
        for seed in range(20):
            features = pairs.features(index, 1000 * index + seed)
            first, second = (plain(part) for part in parts(features, bert_words))
            assert first.endswith(".") and second
            together = any(first + second in plain(text) for text in texts)
            home = int(pairs._document[index])
            assert first in plain(texts[home])
            assert (
                together if features["labels"] == 0 else {n for n, t in enumerate(texts) if second in plain(t)} - {home}
            )
            by_chance += features["labels"] and together
            assert len(features["input_ids"]) <= LENGTH
            labels.append(features["labels"])
    assert 0.45 < sum(labels) / len(labels) < 0.55
    assert by_chance < 0.05 * len(labels)


def test_true_pairs_have_the_length_that_is_foretold(pairs: Pairs) -> None:
    for index in range(len(pairs.lengths)):
        found = [pairs.features(index, seed) for seed in range(8)]
        assert {len(f["input_ids"]) for f in found if not f["labels"]} <= {int(pairs.lengths[index])}


@pytest.mark.parametrize("sentences", [(2, 9), (60, 90)], ids=["reviews", "books"])
def test_form_does_not_tell_the_two_kinds_apart(
    sentences: tuple[int, int], bert_words: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    draw = np.random.default_rng(5)
    texts = [
        " ".join(" ".join(draw.choice(WORDS, draw.integers(2, 9))) + "." for _ in range(draw.integers(*sentences)))
        for _ in range(12_000 // sentences[1])
    ]
    pairs = Pairs(store_of(texts, bert_words, tmp_path), bert_words, 64)
    rows, labels = [], []
    for number in range(6000):  # the second half comes from other windows than the first
        features = pairs.features(number * len(pairs.lengths) // 6000, number)
        ids = features["input_ids"]
        middle = ids.index(bert_words.sep_token_id)
        rows.append((middle, len(ids) - middle, len(ids), ids[-2], ids[middle + 1], ids[1]))
        labels.append(features["labels"])
    model = HistGradientBoostingClassifier(random_state=0).fit(rows[:3000], labels[:3000])
    assert model.score(rows[3000:], labels[3000:]) < 0.55


def test_every_document_of_two_sentences_that_fit_is_in_a_pair(
    pairs: Pairs, texts: list[str], bert_words: PreTrainedTokenizerBase
) -> None:
    seen = set()
    for index in range(len(pairs.lengths)):
        features = next(f for f in (pairs.features(index, seed) for seed in range(50)) if not f["labels"])
        seen.add(parts(features, bert_words)[0].split()[0])
    assert seen == {text.split()[0] for text in texts if text.count(".") > 1}


def test_another_seed_gives_another_pair(pairs: Pairs) -> None:
    assert pairs.features(3, 1) == pairs.features(3, 1)
    assert len({str(pairs.features(3, seed)) for seed in range(20)}) > 5


def test_swapped_parts_are_of_one_document(
    texts: list[str], bert_words: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    pairs = Pairs(store_of(texts, bert_words, tmp_path), bert_words, LENGTH, swap=True)
    for seed in range(40):
        features = pairs.features(4, seed)
        first, second = (plain(part) for part in parts(features, bert_words))
        ordered = first + second if features["labels"] == 0 else second + first
        assert any(ordered in plain(text) for text in texts)


@settings(max_examples=60)
@given(
    st.lists(
        st.lists(st.sampled_from([*WORDS, ".", "!", "?!", "..."]), min_size=1, max_size=30).map(" ".join),
        min_size=2,
        max_size=12,
    )
)
def test_windows_are_whole_sentences_that_fit(tmp_path_factory: pytest.TempPathFactory, given_texts: list[str]) -> None:
    words = WORDPIECE
    store = store_of(given_texts, words, tmp_path_factory.mktemp("store"))
    try:
        pairs = Pairs(store, words, 20)
    except DataError:
        return
    for index in range(len(pairs.lengths)):
        first, second = pairs._cut(index, 0.0)
        assert len(first) > 0 and len(second) > 0 and len(first) + len(second) + 3 == pairs.lengths[index] <= 20
        inside = [store.document(i).tolist()[:-1] for i in range(store.documents)]
        whole = first + second
        assert any(whole == ids[s : s + len(whole)] for ids in inside for s in range(len(ids)))


WORDPIECE = tokenizer.train(
    [f"{' '.join(WORDS)} . ! ? {i}" for i in range(100)],
    kind="wordpiece",
    vocabulary=200,
    lowercase=True,
    max_length=LENGTH,
)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["one sentence.", "another one."], "0 of 2 documents have two sentences that fit; pairs need 2 or more"),
        (["soft. warm. blue."], "1 of 1 documents have two sentences that fit; pairs need 2 or more"),
    ],
)
def test_documents_of_one_sentence_or_one_document_are_refused(
    texts: list[str], message: str, bert_words: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught:
        Pairs(store_of(texts, bert_words, tmp_path), bert_words, LENGTH)
    assert caught.value.message == message


def test_bundle_opens_in_plain_transformers_with_equal_logits(
    pairs: Pairs, bert_words: PreTrainedTokenizerBase, small_config: Any, registry: Registry, tmp_path: Path
) -> None:
    import torch

    task = Nsp(NspConfig(max_length=LENGTH), bert_words)
    torch.manual_seed(1)
    config = small_config("bert", vocab_size=len(bert_words))
    body, head = backbone.build(config).eval(), task.build_head(config).eval()
    bundle.save(tmp_path / "model", task, body, head, {}, registry)
    plain, report = AutoModelForNextSentencePrediction.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not any(report.values())
    batch = make_batch(task, pairs, np.arange(6), 0, 0)
    inputs = {k: batch[k] for k in ("input_ids", "token_type_ids", "attention_mask")}
    with torch.no_grad():
        ours = head(body(**inputs).last_hidden_state, batch)
        theirs = plain.eval()(**inputs, labels=batch["labels"])
    torch.testing.assert_close(ours, theirs.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(head.loss(ours, batch), theirs.loss, atol=1e-5, rtol=0)
