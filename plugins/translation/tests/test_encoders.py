"""Translation from an encoder that has no decoder: a new one behind it, and a folder that plain transformers opens."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import yaml
from nlpkit_translation import Translation, TranslationConfig
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)

import nlpkit
from nlpkit import backbone, bundle, extending, handover, running, tokenizer
from nlpkit.config import ModelConfig
from nlpkit.errors import ModelError, UsageError
from nlpkit.objectives.mlm import Mlm, MlmConfig
from nlpkit.objectives.mlm_nsp import MlmNsp, MlmNspConfig
from nlpkit.plugins import Registry
from nlpkit.starting import input_length
from nlpkit.vetting import check_config

torch.set_num_threads(1)
ANIMALS = {"dog": "Hund", "bear": "Bär", "fox": "Fuchs", "bird": "Vogel", "fish": "Fisch", "hare": "Hase"}
SIZES = {"small": "kleine", "old": "alte", "quick": "schnelle", "quiet": "stille"}
PAIRS = [
    (f"the {size} {animal} sleeps here", f"der {SIZES[size]} {ANIMALS[animal]} schläft hier")
    for size in SIZES
    for animal in ANIMALS
]
SIZES_OF: dict[str, dict[str, Any]] = {"bert": {"decoder_layers": 1}, "modernbert": {"decoder_width": 64}}
FAMILIES = tuple(SIZES_OF)
SETTINGS = ("task.max_length=32", "trainer.batch_tokens=128", "trainer.max_steps=4")


def sizes(family: str) -> list[str]:
    """Of the decoder, as settings: other than they would be."""
    return [f"task.{key}={value}" for key, value in SIZES_OF[family].items()]


@pytest.fixture(scope="module")
def words() -> PreTrainedTokenizerBase:
    """As nlpkit pretrain makes them for encoders: [CLS] text [SEP]."""
    texts = [text for pair in PAIRS for text in pair]
    return tokenizer.train(iter(texts), kind="wordpiece", vocabulary=120, lowercase=False, max_length=32)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "pairs.tsv"
    path.write_text("".join(f"{source}\t{target}\n" for source, target in [("source", "target"), *PAIRS]), "utf-8")
    return path


@pytest.fixture(scope="module")
def held_out(pairs: Path) -> Path:
    path = pairs.with_name("held-out.tsv")
    path.write_text(
        "source\ttarget\nthe quiet old fox\tder stille alte Fuchs\na dog sleeps\tein Hund schläft\n", "utf-8"
    )
    return path


def small(family: str, words: PreTrainedTokenizerBase) -> PretrainedConfig:
    return backbone.architecture(ModelConfig(preset="tiny", family=family, sequence_length=32), words)  # type: ignore


@pytest.fixture(scope="module")
def encoders(words: PreTrainedTokenizerBase, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles of mlm+nsp, which has a pooler, and of mlm, which has none."""
    folder, registry = tmp_path_factory.mktemp("encoders"), Registry()
    tasks: dict[str, Any] = {
        "bert": MlmNsp(MlmNspConfig(max_length=32), words),
        "modernbert": Mlm(MlmConfig(max_length=32), words),
    }
    for family, task in tasks.items():
        torch.manual_seed(5)
        config = small(family, words)
        bundle.save(folder / family, task, backbone.build(config), task.build_head(config), {}, registry)
    return {family: folder / family for family in tasks}


@dataclass(frozen=True)
class Fitted:
    """A finished run.

    Args:
        run: its folder.
        said: what the log said.
    """

    run: Path
    said: str

    @property
    def model(self) -> Path:
        return self.run / "model"


def fit(data: Path, source: Path, out: Path, *settings: str, dev: Any = (), task: str = "translation") -> Fitted:
    heard: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("nlpkit")
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        nlpkit.fit(task, data, dev=dev, source=source, out=out, overrides=(*SETTINGS, *settings))
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
    return Fitted(out, "\n".join(heard))


@pytest.fixture(scope="module")
def fitted(
    encoders: dict[str, Path], pairs: Path, held_out: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Fitted]:
    made: dict[str, Fitted] = {}

    def make(family: str) -> Fitted:
        if family not in made:
            out = tmp_path_factory.mktemp("runs") / family
            made[family] = fit(pairs, encoders[family], out, *sizes(family), dev=held_out)
        return made[family]

    return make


@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_is_accounted_for(family: str, fitted: Callable[[str], Fitted], encoders: dict[str, Path]) -> None:
    run = fitted(family)
    every = [name for name, _ in AutoModelForSeq2SeqLM.from_pretrained(run.model).named_parameters()]
    loaded = sum(name.startswith("encoder.") for name in every)
    line = next(line for line in run.said.splitlines() if line.startswith(f"{encoders[family]}: "))
    assert f": loaded {loaded} of {len(every)} tensors; new: " in line
    assert f" and {len(every) - loaded - 4} more; not used: " in line
    assert not any("encoder." in part or "pooler" in part for part in line.split("; ")[1:])


def test_decoder_is_as_large_as_was_asked_for(fitted: Callable[[str], Fitted]) -> None:
    deep, wide = (json.loads((fitted(family).model / "config.json").read_text())["decoder"] for family in FAMILIES)
    assert (deep["n_layer"], deep["n_embd"], wide["n_layer"], wide["n_embd"]) == (1, 128, 2, 64)


def test_new_decoder_learns_as_a_new_model_does_and_one_that_is_there_does_not(
    fitted: Callable[[str], Fitted], pairs: Path, encoders: dict[str, Path], tmp_path: Path
) -> None:
    first = fitted("bert")
    optim = yaml.safe_load((first.run / "config.yaml").read_text())["optim"]
    new = {key.removeprefix("optim."): value for key, value in Translation.defaults_new.items()}
    assert {key: optim[key] for key in new} == new
    again = running.fine_tuning("translation", str(pairs), source=first.run).config.optim
    assert (again.name, again.learning_rate) == ("adamw", None)
    unset = fit(pairs, encoders["bert"], tmp_path / "run", "optim.learning_rate=null", "trainer.max_steps=1").run
    optim = yaml.safe_load((unset / "config.yaml").read_text())["optim"]
    assert (optim["learning_rate"], optim["head_learning_rate"]) == (3e-4, 7.1e-4)  # 128 wide


@pytest.mark.parametrize("family", FAMILIES)
def test_encoder_starts_from_its_weights(
    family: str, encoders: dict[str, Path], words: PreTrainedTokenizerBase
) -> None:
    config = small(family, words)
    head: Any = Translation(TranslationConfig(max_length=32), words).build_head(config)
    body, _ = handover.load(str(encoders[family]), head, config=config)
    stored = load_file(encoders[family] / "model.safetensors")
    with head.assemble(body) as model:
        found = dict(model.encoder.state_dict())
    prefix = {"bert": "bert.", "modernbert": "model."}[family]
    assert {prefix + name for name in found} == {name for name in stored if name.startswith(prefix)}
    assert all(torch.equal(value, stored[prefix + name]) for name, value in found.items())


@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_folder_opens_in_plain_transformers_and_does_the_same(
    family: str, beam: int, encoders: dict[str, Path], words: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    task = Translation(TranslationConfig(max_length=24, beam=beam, **SIZES_OF[family]), words)
    head: Any = task.build_head(small(family, words))
    body, _ = handover.load(str(encoders[family]), head, config=small(family, words))
    with torch.no_grad():
        for weights in head.parameters():
            weights.mul_(4)  # so that it writes more than one token
    bundle.save(tmp_path / "model", task, body, head, {}, Registry())
    plain, texts = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "model"), [source for source, _ in PAIRS[:5]]
    assert type(plain).__name__ == "EncoderDecoderModel"
    tokens = AutoTokenizer.from_pretrained(tmp_path / "model")
    inputs = tokens(texts, return_tensors="pt", padding=True)
    written = tokens([target for _, target in PAIRS[:5]], return_tensors="pt", padding=True)["input_ids"]
    loaded = bundle.load(str(tmp_path / "model"), Registry())
    with torch.no_grad():
        hidden = loaded.backbone(**inputs).last_hidden_state
        logits = plain(**inputs, decoder_input_ids=written[:, :-1]).logits  # of each token but the first
        torch.testing.assert_close(loaded.head(hidden, {**inputs, "labels": written}), logits, rtol=1e-4, atol=1e-4)
        found = loaded.head.predict(hidden, inputs)
        ids = plain.generate(**inputs, max_length=found["ids"].size(1) + 1)
    assert ids[:, 0].tolist() == [tokens.cls_token_id] * 5
    rows = [ids[1 : length + 1].tolist() for ids, length in zip(ids, found["lengths"], strict=True)]
    assert [row[: len(expected)].tolist() for row, expected in zip(found["ids"], rows, strict=True)] == rows
    assert len({token for row in rows for token in row}) > 3
    assert GenerationConfig.from_pretrained(tmp_path / "model").max_length == 24


@pytest.mark.parametrize("family", FAMILIES)
def test_run_is_scored_as_it_was_when_it_ended(family: str, fitted: Callable[[str], Fitted], held_out: Path) -> None:
    run = fitted(family).run
    dev = json.loads((run / "results.json").read_text())["dev"]
    assert nlpkit.evaluate(run, held_out)["scores"] == pytest.approx(dev, abs=1e-4)


class StopAt(pl.Callback):
    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        if index == 1:
            raise KeyboardInterrupt


@pytest.mark.parametrize("start", ["encoder", "run"])
def test_resumed_run_ends_with_the_same_weights(
    start: str,
    encoders: dict[str, Path],
    fitted: Callable[[str], Fitted],
    pairs: Path,
    held_out: Path,
    tmp_path: Path,
) -> None:
    source = encoders["bert"] if start == "encoder" else fitted("bert").run
    settings = (*SETTINGS, "checkpoint.every_steps=1", *(sizes("bert") if start == "encoder" else []))
    given: dict[str, Any] = {"dev": held_out, "source": source, "overrides": settings}
    with pytest.raises(SystemExit):
        nlpkit.fit("translation", pairs, out=tmp_path / "stopped", callbacks=[StopAt()], **given)
    resumed = nlpkit.resume(tmp_path / "stopped")
    whole = fitted("bert") if start == "encoder" else fit(pairs, source, tmp_path / "whole", dev=held_out)
    for name in ("model.safetensors", "config.json", "generation_config.json"):
        assert (resumed.model / name).read_bytes() == (whole.model / name).read_bytes()


def test_run_is_gone_on_with_and_searches_as_it_is_told(
    fitted: Callable[[str], Fitted], pairs: Path, tmp_path: Path
) -> None:
    first = fitted("modernbert")
    several = fit(pairs, first.run, tmp_path / "a", "task.beam=3", "task.length_penalty=1.2", "trainer.max_steps=1")
    every = len(dict(AutoModelForSeq2SeqLM.from_pretrained(several.model).named_parameters()))
    assert f"{first.model}: loaded {every} of {every} tensors\n" in several.said
    searched = GenerationConfig.from_pretrained(several.model)
    assert (searched.num_beams, searched.length_penalty, searched.early_stopping) == (3, 1.2, True)
    single = fit(pairs, several.run, tmp_path / "b", "trainer.max_steps=1")
    assert GenerationConfig.from_pretrained(single.model).num_beams == 1


def test_encoder_of_a_run_serves_another_task(
    fitted: Callable[[str], Fitted], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [f"the {word} coat,{label}" for label in ("good", "bad") for word in (*SIZES, *ANIMALS)]
    (tmp_path / "train.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    source = fitted("bert").run
    run = fit(tmp_path / "train.csv", source, tmp_path / "run", "trainer.max_steps=1", task="sentiment")
    encoder = sum(n.startswith("encoder.") for n in load_file(source / "model" / "model.safetensors"))
    assert f"loaded {encoder} of {encoder + 2} tensors; new: classifier.weight, classifier.bias; not used: " in run.said
    assert json.loads((run.model / "config.json").read_text())["architectures"] == ["BertForSequenceClassification"]


def test_vocabulary_of_a_run_is_extended_on_both_sides(fitted: Callable[[str], Fitted], tmp_path: Path) -> None:
    source = fitted("bert").model
    made = extending.extend(str(source), ["the hedgehog sleeps"] * 3 + ["a hedgehog"], 1, tmp_path / "more")
    plain = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "more")
    rows = tokenizer.vocabulary_size(AutoTokenizer.from_pretrained(tmp_path / "more"))
    assert made.words == ["hedgehog"]
    assert rows == plain.encoder.get_input_embeddings().num_embeddings == plain.get_output_embeddings().out_features


def test_decoder_is_given_its_first_token_and_writes_the_rest(words: PreTrainedTokenizerBase) -> None:
    task = Translation(TranslationConfig(max_length=32), words)
    head: Any = task.build_head(small("bert", words))
    labels = torch.tensor([[words.cls_token_id, 9, words.sep_token_id]])
    assert head.answers({"labels": labels}).tolist() == [[9, words.sep_token_id]]
    assert (head.config.decoder_start_token_id, head.model.generation_config.eos_token_id) == (
        words.cls_token_id,
        words.sep_token_id,
    )


def test_decoder_alone_is_refused(words: PreTrainedTokenizerBase, pairs: Path, tmp_path: Path) -> None:
    AutoModelForCausalLM.from_config(small("gpt2", words)).save_pretrained(tmp_path / "gpt2")
    words.save_pretrained(tmp_path / "gpt2")
    with pytest.raises(ModelError) as caught:
        nlpkit.fit("translation", pairs, source=tmp_path / "gpt2", out=tmp_path / "run", overrides=SETTINGS)
    assert caught.value.message == "gpt2 is a decoder alone, and the text to write from is read by an encoder"
    assert caught.value.hint == (
        "start from an encoder (BERT, ModernBERT) or an encoder-decoder (T5, M2M100), or leave out --from"
    )
    assert not (tmp_path / "run").exists()


def test_width_that_no_decoder_can_have_is_refused(words: PreTrainedTokenizerBase) -> None:
    with pytest.raises(
        UsageError, match=r"^task.decoder_width is 100, expected a multiple of 64\nhint: task.decoder_width=256$"
    ):
        Translation(TranslationConfig(decoder_width=100), words).build_head(small("bert", words))


def test_inputs_longer_than_the_decoder_has_positions_for_are_refused(
    fitted: Callable[[str], Fitted], pairs: Path, tmp_path: Path
) -> None:
    architecture = handover.read_architecture(str(fitted("bert").model))
    architecture.decoder.n_positions = 20
    with pytest.raises(UsageError, match=r"^task.max_length is 32, this model reads from 3 to 20 tokens\n"):
        input_length(
            TranslationConfig(max_length=32), architecture, AutoTokenizer.from_pretrained(fitted("bert").model), 256
        )


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_parts_of_a_joined_model_are_vetted(part: str, fitted: Callable[[str], Fitted], tmp_path: Path) -> None:
    values = json.loads((fitted("bert").model / "config.json").read_text())
    for key, value, message in (
        ("auto_map", {"AutoModel": "code.Model"}, f"code of its own, which nlpkit never runs ('{part}.auto_map')"),
        ("vocab_size", 10**9, f"{part}.vocab_size is 1000000000, expected a whole number from 1 to 10000000"),
    ):
        changed = {**values, part: {**values[part], key: value}}
        (tmp_path / "config.json").write_text(json.dumps(changed))
        with pytest.raises(ModelError) as caught:
            check_config(tmp_path)
        assert caught.value.message.endswith(message)
