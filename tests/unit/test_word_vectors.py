"""Embeddings start from latent semantic analysis: checked against scikit-learn's, and at the edges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer
from torch import nn

from nlpkit import tokenizer, word_vectors
from nlpkit.config import compose
from nlpkit.corpus import TokenStore, build
from nlpkit.plugins import Registry
from nlpkit.prepare import pretraining
from nlpkit.request import Request
from nlpkit.word_vectors import start_from

_TOPICS = (("coat", "sleeve", "button", "wool", "hem"), ("actor", "scene", "plot", "camera", "cast"))


def texts(count: int = 200) -> list[str]:
    """Texts of two topics in turn, with words that stand in both."""
    rng = np.random.default_rng(0)
    return [
        " ".join(rng.choice([*_TOPICS[i % 2], "the", "and", "is"], size=int(rng.integers(4, 12)))) for i in range(count)
    ]


def make(folder: Path, corpus: list[str], width: int = 16) -> tuple[TokenStore, nn.Embedding, dict[str, int]]:
    words = tokenizer.train(corpus, kind="wordpiece", vocabulary=120, lowercase=True, max_length=64)
    torch.manual_seed(1)
    embedding = nn.Embedding(len(words), width)
    nn.init.normal_(embedding.weight, std=0.02)
    return build(corpus, words, folder / "store", key="k"), embedding, dict(words.get_vocab())


def angles(rows: torch.Tensor) -> torch.Tensor:
    unit = nn.functional.normalize(rows, dim=1)
    return unit @ unit.T


def test_rows_are_those_of_sklearn_but_for_a_turn(tmp_path: Path) -> None:
    store, embedding, _ = make(tmp_path, texts(), width=6)
    start_from(embedding, store, store.header.separator)

    contexts = []
    for i in range(store.blocks(256)):
        block = store.block(i, 256)
        contexts += np.split(block, np.flatnonzero(block == store.header.separator))
    counts = np.zeros((len(contexts), store.header.vocabulary))
    for row, context in zip(counts, contexts, strict=True):
        np.add.at(row, context[context != store.header.separator], 1)
    counts = counts[counts.sum(1) > 0]
    seen = np.flatnonzero(counts.sum(0) >= 5)
    weighted = TfidfTransformer(sublinear_tf=True).fit_transform(counts[:, seen])
    svd = TruncatedSVD(6, algorithm="arpack").fit(weighted)
    reference = angles(torch.tensor((svd.components_ * svd.singular_values_[:, None]).T))
    torch.testing.assert_close(angles(embedding.weight.data)[seen][:, seen], reference.float(), atol=0.02, rtol=0)


def test_words_of_the_same_texts_are_alike_and_others_are_not(tmp_path: Path) -> None:
    store, embedding, ids = make(tmp_path, texts())
    start_from(embedding, store, store.header.separator)
    first, second = ([ids[word] for word in topic] for topic in _TOPICS)
    alike = angles(embedding.weight.data)
    within = (alike[first][:, first].mean() + alike[second][:, second].mean()) / 2
    assert within > alike[first][:, second].mean() + 0.5


def test_rows_are_longer_than_random_ones_and_equally_long(tmp_path: Path) -> None:
    store, embedding, ids = make(tmp_path, texts())
    random_length = embedding.weight.data.norm(dim=1).mean()
    assert start_from(embedding, store, store.header.separator) >= 13
    lengths = embedding.weight.data[[ids[word] for topic in _TOPICS for word in topic]].norm(dim=1)
    torch.testing.assert_close(lengths, (3 * random_length).expand_as(lengths), rtol=0.05, atol=0)


def test_special_and_unmet_tokens_keep_their_random_rows(tmp_path: Path) -> None:
    odd = ["\u4e2d the coat"] * 9  # an unknown token, often
    store, embedding, ids = make(tmp_path, ["q is met once", *texts(), *odd])
    before = embedding.weight.data.clone()
    special = [ids[name] for name in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")]
    start_from(embedding, store, store.header.separator, special)
    seen = np.bincount(store.read(0, len(store)), minlength=len(ids))
    assert seen[ids["[UNK]"]] >= 9 or seen[ids["\u4e2d"]] >= 9
    assert seen[ids["q"]] == 1
    kept = [*special, ids["q"]]
    torch.testing.assert_close(embedding.weight.data[kept], before[kept], rtol=0, atol=0)


@pytest.mark.parametrize("corpus", [["one"], ["one two " * 20], ["a b c d e f " * 400], ["x y"] * 30])
def test_corpora_too_small_for_the_width_change_what_they_can(tmp_path: Path, corpus: list[str]) -> None:
    store, embedding, _ = make(tmp_path, corpus, width=128)
    start_from(embedding, store, store.header.separator)
    assert torch.isfinite(embedding.weight).all()


def test_too_many_contexts_are_thinned_out_and_say_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, embedding, ids = make(tmp_path, texts(600))
    monkeypatch.setattr(word_vectors, "_MOST_CONTEXTS", 150)
    counted = word_vectors._counts(store, [store.header.separator], store.header.vocabulary)[0]
    assert 75 <= len(set(counted.tolist())) == counted.max() + 1 <= 150
    start_from(embedding, store, store.header.separator)
    first, second = ([ids[word] for word in topic] for topic in _TOPICS)
    alike = angles(embedding.weight.data)
    assert alike[first][:, first].mean() > alike[first][:, second].mean() + 0.5


def test_too_many_tokens_are_read_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, _, _ = make(tmp_path, texts(600))
    monkeypatch.setattr(word_vectors, "_MOST_TOKENS", 1000)
    times = word_vectors._counts(store, [store.header.separator], store.header.vocabulary)[2]
    assert 300 < times.sum() <= 1000


@pytest.mark.parametrize(("setting", "alike"), [("lsa", True), ("random", False)])
def test_pretraining_starts_as_the_setting_says(
    shop: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch, setting: str, alike: bool
) -> None:
    overrides = [f"model.embeddings={setting}", "model.preset=tiny", "model.vocabulary=600"]
    composed = compose(registry.task("mlm", stage="pretrain"), overrides=overrides)
    torch.manual_seed(0)
    made = pretraining(Request("mlm", (str(shop / "reviews.csv"),)), composed.config, registry)
    rows = made.backbone.get_input_embeddings().weight.norm(dim=1)  # type: ignore[union-attr]
    assert bool(rows.max() > 2 * rows.min()) is alike
    assert made.head.model.get_output_embeddings().weight is made.backbone.get_input_embeddings().weight  # type: ignore


def test_the_same_seed_gives_the_same_rows(tmp_path: Path) -> None:
    store, embedding, _ = make(tmp_path, texts())
    made = []
    for _ in range(2):
        torch.manual_seed(3)
        nn.init.normal_(embedding.weight, std=0.02)
        start_from(embedding, store, store.header.separator)
        made.append(embedding.weight.data.clone())
    torch.testing.assert_close(made[0], made[1], rtol=0, atol=0)


@pytest.mark.parametrize(("std", "longer"), [(0.02, 3.0), (1.0, 1.0)])
def test_small_rows_get_longer_than_random_ones_and_large_ones_stay(std: float, longer: float, tmp_path: Path) -> None:
    store, embedding, _ = make(tmp_path, texts())
    nn.init.normal_(embedding.weight, std=std)
    usual = embedding.weight.norm(dim=1).mean()
    before = embedding.weight.detach().clone()
    start_from(embedding, store, store.header.separator)
    changed = (embedding.weight[:, :8] != before[:, :8]).any(1)
    assert float((embedding.weight[changed].norm(dim=1).median() / usual).detach()) == pytest.approx(longer, rel=0.1)
