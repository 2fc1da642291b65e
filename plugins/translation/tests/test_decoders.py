"""A decoder that starts from a model of clm: its weights, what it begins with, and what is refused."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from nlpkit_translation import Translation, TranslationConfig
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedTokenizerBase

import nlpkit
from nlpkit import backbone, bundle, decoders, handover, tokenizer
from nlpkit.config import ModelConfig
from nlpkit.errors import ModelError, UsageError
from nlpkit.objectives.mlm import Mlm, MlmConfig
from nlpkit.plugins import Registry

torch.set_num_threads(1)
ANIMALS = {"dog": "Hund", "bear": "Bär", "fox": "Fuchs", "bird": "Vogel", "fish": "Fisch", "hare": "Hase"}
SIZES = {"small": "kleine", "old": "alte", "quick": "schnelle", "quiet": "stille"}
PAIRS = [(f"the {s} {a} sleeps", f"der {SIZES[s]} {ANIMALS[a]} schläft") for s in SIZES for a in ANIMALS]
SMALL = ("model.preset=tiny", "model.sequence_length=32", "trainer.precision=32", "trainer.threads=1")
SETTINGS = ("task.max_length=32", "trainer.batch_tokens=128", "trainer.max_steps=4", "trainer.precision=32")
TO_TYPE = "nlpkit pretrain FILES --objective clm --tokenizer RUN, where RUN is what --from names, makes one that fits"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("decoders")


@pytest.fixture(scope="module")
def words() -> PreTrainedTokenizerBase:
    """As for encoders: [CLS] text [SEP]."""
    texts = [text for pair in PAIRS for text in pair]
    return tokenizer.train(iter(texts), kind="wordpiece", vocabulary=120, lowercase=False, max_length=32)


@pytest.fixture(scope="module")
def encoder(folder: Path, words: PreTrainedTokenizerBase) -> Path:
    task = Mlm(MlmConfig(max_length=32), words)
    config = small("bert", words)
    torch.manual_seed(5)
    bundle.save(folder / "encoder", task, backbone.build(config), task.build_head(config), {}, Registry())
    return folder / "encoder"


@pytest.fixture(scope="module")
def clm(folder: Path, encoder: Path) -> Path:
    """A run of clm on the targets, by the tokenizer of the encoder."""
    (folder / "german.txt").write_text("".join(f"{target}\n" for _, target in PAIRS * 4), "utf-8")
    settings = (*SMALL, "trainer.max_steps=3", "trainer.batch_tokens=128")
    nlpkit.pretrain(folder / "german.txt", objective="clm", tokenizer=encoder, out=folder / "clm", overrides=settings)
    return folder / "clm"


@pytest.fixture(scope="module")
def pairs(folder: Path) -> Path:
    path = folder / "pairs.tsv"
    path.write_text("".join(f"{s}\t{t}\n" for s, t in [("source", "target"), *PAIRS]), "utf-8")
    return path


def small(family: str, words: PreTrainedTokenizerBase) -> Any:
    return backbone.architecture(ModelConfig(preset="tiny", family=family, sequence_length=32), words)  # type: ignore


@dataclass(frozen=True)
class Fitted:
    """A finished run.

    Args:
        run: its folder.
        said: what the log said.
    """

    run: Path
    said: list[str]


def fit(data: Path, source: Any, out: Path, *settings: str) -> Fitted:
    heard: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("nlpkit")
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        nlpkit.fit("translation", data, dev=data, source=source, out=out, overrides=(*SETTINGS, *settings))
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
    return Fitted(out, heard)


@pytest.fixture(scope="module")
def fitted(folder: Path, encoder: Path, clm: Path, pairs: Path) -> Fitted:
    return fit(pairs, encoder, folder / "run", f"task.decoder={clm}")


def made(encoder: Path, clm: Path, words: PreTrainedTokenizerBase, **settings: Any) -> tuple[Translation, Any, Any]:
    """The task, the body and the head of a model that has learnt nothing yet."""
    task = Translation(TranslationConfig(max_length=32, decoder=str(clm), **settings), words)
    config = small("bert", words)
    head: Any = task.build_head(config)
    body, _ = handover.load(str(encoder), head, config=config)
    assert task.start(head, config) == [str(clm)]
    return task, body, head


def test_it_starts_with_the_weights_of_clm(encoder: Path, clm: Path, words: PreTrainedTokenizerBase) -> None:
    _, _, head = made(encoder, clm, words)
    stored = load_file(clm / "model" / "model.safetensors")
    found = dict(head.model.decoder.named_parameters())
    assert set(stored) < set(found)
    assert all(torch.equal(found[name], value) for name, value in stored.items())
    assert all("cross" in name for name in set(found) - set(stored))
    assert head.output_embeddings.weight is head.model.decoder.get_input_embeddings().weight


def test_without_cross_attention_it_foretells_as_the_model_of_clm(
    encoder: Path, clm: Path, words: PreTrainedTokenizerBase
) -> None:
    task, _, head = made(encoder, clm, words)
    with torch.no_grad():
        for name, weights in head.model.named_parameters():
            if "crossattention.c_proj" in name:
                weights.zero_()
    batch = task.collate([task.encode(nlpkit.Example({"source": s, "target": t})) for s, t in PAIRS[:3]])
    alone: Any = bundle.load(str(clm), Registry())
    text = batch["labels"].masked_fill(batch["labels"] == -100, 0)
    text[:, 0] = words.sep_token_id  # with which a document of clm begins
    head.eval()
    with torch.no_grad(), alone.head.assemble(alone.backbone) as plain:
        expected = plain(input_ids=text).logits[:, :-1]
        hidden = torch.zeros(*batch["input_ids"].shape, 128)
        torch.testing.assert_close(head(hidden, batch), expected, rtol=1e-4, atol=1e-4)


def test_every_tensor_is_accounted_for_and_its_parent_is_named(fitted: Fitted, clm: Path) -> None:
    stored = load_file(clm / "model" / "model.safetensors")
    model: Any = AutoModelForSeq2SeqLM.from_pretrained(fitted.run / "model")
    every = dict(model.decoder.named_parameters())
    (line,) = (line for line in fitted.said if line.startswith(f"{clm}: loaded"))
    assert line.startswith(f"{clm}: loaded {len(stored)} of {len(every)} tensors; new: transformer.h.0.crossattention.")
    assert line.endswith(f" and {len(every) - len(stored) - 4} more (cross-attention)")
    record = json.loads((fitted.run / "model" / "nlpkit.json").read_text())
    (other,) = record["also_from"]
    assert other["source"] == str(clm)
    assert [step["task"] for step in other["history"]] == ["clm"]
    assert json.loads((fitted.run / "run.json").read_text())["also_from"] == record["also_from"]
    assert set(nlpkit.seen.read(fitted.run / "model")) == {"pretrain", "finetune"}


@pytest.mark.parametrize("beam", [1, 3])
def test_folder_opens_in_plain_transformers_and_does_the_same(
    beam: int, encoder: Path, clm: Path, words: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    task, body, head = made(encoder, clm, words, beam=beam)
    torch.manual_seed(0)
    with torch.no_grad():
        for weights in head.parameters():
            weights.add_(torch.randn_like(weights), alpha=0.2)  # so that it writes more than one token
    bundle.save(tmp_path / "model", task, body, head, {}, Registry())
    plain: Any = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "model")
    tokens: Any = AutoTokenizer.from_pretrained(tmp_path / "model")
    sources, targets = map(list, zip(*(pair for pair in PAIRS if "hare" in pair[0]), strict=True))
    inputs = tokens(sources, return_tensors="pt", padding=True)
    assert inputs["attention_mask"].all()  # each has as much room as all
    labels = tokens(targets, return_tensors="pt", padding=True)["input_ids"]
    loaded = bundle.load(str(tmp_path / "model"), Registry())
    read = labels[:, :-1].clone()
    read[:, 0] = tokens.sep_token_id
    with torch.no_grad():
        hidden = loaded.backbone(**inputs).last_hidden_state
        logits = plain(**inputs, decoder_input_ids=read).logits
        torch.testing.assert_close(loaded.head(hidden, {**inputs, "labels": labels}), logits, rtol=1e-4, atol=1e-4)
        found = loaded.head.predict(hidden, inputs)
        ids = plain.generate(**inputs, max_length=found["ids"].size(1) + 1)
    assert ids[:, 0].tolist() == [tokens.sep_token_id] * len(sources)
    for row, expected, length in zip(found["ids"], ids, found["lengths"].tolist(), strict=True):
        assert row[:length].tolist() == expected[1 : length + 1].tolist()
    assert len({token for row in found["ids"].tolist() for token in row}) > 3


class StopAt(pl.Callback):
    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        if index == 1:
            raise KeyboardInterrupt


def test_resumed_run_needs_no_decoder_and_ends_with_the_same_weights(
    fitted: Fitted, encoder: Path, clm: Path, pairs: Path, tmp_path: Path
) -> None:
    gone = shutil.copytree(clm, tmp_path / "clm")
    settings = (*SETTINGS, "checkpoint.every_steps=1", f"task.decoder={gone}")
    with pytest.raises(SystemExit):
        nlpkit.fit(
            "translation",
            pairs,
            dev=pairs,
            source=encoder,
            out=tmp_path / "run",
            overrides=settings,
            callbacks=[StopAt()],
        )
    shutil.rmtree(gone)
    resumed = nlpkit.resume(tmp_path / "run")
    for name in ("model.safetensors", "config.json", "generation_config.json"):
        assert (resumed.model / name).read_bytes() == (fitted.run / "model" / name).read_bytes()
    (other,) = json.loads((resumed.model / "nlpkit.json").read_text())["also_from"]
    assert other["source"] == str(gone)
    assert nlpkit.load(resumed.folder).predict(["the dog sleeps"])


# what is refused


def test_other_vocabulary_is_refused_with_the_command_that_makes_one(
    folder: Path, clm: Path, words: PreTrainedTokenizerBase
) -> None:
    other = tokenizer.train(iter(["der Hund"]), kind="wordpiece", vocabulary=64, lowercase=False, max_length=32)
    with pytest.raises(ModelError) as caught:
        decoders.read(str(clm), other, [2, 3])
    assert caught.value.message == (
        f"{clm}: its vocabulary is another than that of the encoder; "
        f"it has {len(words)} tokens, and the encoder's {len(other)}"
    )
    assert caught.value.hint == TO_TYPE


@pytest.mark.parametrize(
    ("family", "message"),
    [
        ("llama", "transformers has no llama with cross-attention, by which a decoder reads an encoder"),
        ("bert", "bert is no decoder that learnt by clm"),
        ("t5", "t5 is no decoder that learnt by clm"),
    ],
)
def test_other_family_is_refused(family: str, message: str, words: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    backbone.build(small(family, words)).save_pretrained(tmp_path / "other")
    words.save_pretrained(tmp_path / "other")
    with pytest.raises(ModelError) as caught:
        decoders.read(str(tmp_path / "other"), words, [2, 3])
    assert (caught.value.message, caught.value.hint) == (f"{tmp_path / 'other'}: {message}", TO_TYPE)


@pytest.mark.parametrize("setting", ["decoder_layers", "decoder_width"])
def test_sizes_beside_it_are_refused(setting: str, clm: Path, words: PreTrainedTokenizerBase) -> None:
    task = Translation(TranslationConfig(decoder=str(clm), **{setting: 64}), words)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=f"^task.decoder has its own sizes, and task.{setting} is set\n"):
        task.build_head(small("bert", words))


def test_longer_texts_than_it_writes_are_refused(clm: Path, words: PreTrainedTokenizerBase) -> None:
    task = Translation(TranslationConfig(decoder=str(clm), max_length=40), words)
    with pytest.raises(UsageError) as caught:
        task.build_head(small("bert", words))
    assert caught.value.message == "task.max_length is 40, and the decoder writes 32 tokens at most"
    assert caught.value.hint == "task.max_length=32"


def test_model_that_has_a_decoder_takes_no_other(fitted: Fitted, clm: Path, pairs: Path, tmp_path: Path) -> None:
    for number, (source, kind) in enumerate(((fitted.run, "encoder-decoder"), ("", "m2m_100"))):
        with pytest.raises(UsageError) as caught:
            fit(pairs, source, tmp_path / str(number), f"task.decoder={clm}", *(() if source else SMALL[:2]))
        assert caught.value.message == f"task.decoder is put behind an encoder, and {kind} has a decoder already"
        assert not (tmp_path / str(number)).exists()


def test_no_such_folder_is_said(words: PreTrainedTokenizerBase) -> None:
    with pytest.raises(ModelError, match=r"^nowhere: ") as caught:
        decoders.read("nowhere", words, [2, 3])
    assert TO_TYPE in caught.value.hint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("transformer.h.1.ln_2.bias"), "the weights lack transformer.h.1.ln_2.bias, which"),
        (lambda t: t.update({"transformer.h.0.more": torch.ones(2)}), "the weights hold transformer.h.0"),
        (lambda t: t["transformer.ln_f.bias"].fill_(float("nan")), "'transformer.ln_f.bias' holds NaN or infinity"),
    ],
)
def test_weights_that_are_not_all_there_are_refused(
    change: Callable[[dict[str, Any]], Any], message: str, clm: Path, words: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    other = shutil.copytree(clm / "model", tmp_path / "other")
    (other / "nlpkit.json").unlink()  # which knows the hashes
    tensors = load_file(other / "model.safetensors")
    change(tensors)
    save_file(tensors, other / "model.safetensors", {"format": "pt"})
    task = Translation(TranslationConfig(max_length=32, decoder=str(other)), words)
    head = task.build_head(small("bert", words))
    with pytest.raises(ModelError, match=message):
        task.start(head, small("bert", words))
