"""Marian and M2M100, whose tokenizers have no fast form: two models of SentencePiece, or one, and a vocab.json."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nlpkit_translation import Translation, TranslationConfig
from nlpkit_translation.conversion import converted
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    M2M100Config,
    M2M100ForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
)
from transformers.models.m2m_100.tokenization_m2m_100 import FAIRSEQ_LANGUAGE_CODES
from transformers.utils.import_utils import is_protobuf_available

import nlpkit
from nlpkit import Example, tokenizer
from nlpkit.errors import ModelError, UsageError

sentencepiece = pytest.importorskip("sentencepiece", reason="the extra sentencepiece is not installed")

NOUNS = {"dog": "Hund", "man": "Mann", "bird": "Vogel", "tree": "Baum", "bear": "Bär"}
VERBS = {"sees": "sieht", "finds": "findet", "loves": "liebt"}
PAIRS = [
    (f"The {one} {verb} the {other}.", f"Der {NOUNS[one]} {VERBS[verb]} den {NOUNS[other]}.")
    for one in NOUNS
    for other in NOUNS
    for verb in VERBS
]
NLLB = "sentencepiece.bpe.model"
MARIAN = ["source.spm", "target.spm", "tokenizer_config.json", "vocab.json"]
TINY = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 64,
    "init_std": 0.2,
}


def pieces_of(texts: Iterable[str], path: Path, kind: str = "unigram") -> list[str]:
    """Train a model of SentencePiece, and list what it knows beside its special tokens."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(list(texts) * 5),
        model_writer=model,
        model_type=kind,
        vocab_size=90,
        hard_vocab_limit=False,
        character_coverage=1.0,
        minloglevel=2,
    )
    path.write_bytes(model.getvalue())
    words = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    return [words.id_to_piece(i) for i in range(3, words.get_piece_size())]


def write_marian(folder: Path) -> Path:
    """A tiny Marian with random weights, as Helsinki-NLP's are: ``</s>`` is 0, ``<pad>`` the last, biases are not 0."""
    source = pieces_of((s for s, _ in PAIRS), folder / "source.spm")
    target = pieces_of((t for _, t in PAIRS), folder / "target.spm")
    shared = dict.fromkeys([*source[:-3], *target[:-3]])  # some pieces have no embedding
    names = ["</s>", "<unk>", *shared, ">>deu<<", ">>fra<<", "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(names)}), "utf-8")
    said = {"source_lang": "en", "target_lang": "de", "tokenizer_class": "MarianTokenizer", "model_max_length": 64}
    (folder / "tokenizer_config.json").write_text(json.dumps(said), "utf-8")
    torch.manual_seed(0)
    pad = len(names) - 1
    config = MarianConfig(
        vocab_size=len(names), pad_token_id=pad, decoder_start_token_id=pad, scale_embedding=True, **TINY
    )
    config.update({"eos_token_id": 0, "forced_eos_token_id": 0, "activation_function": "swish"})
    model = MarianMTModel(config)
    model.final_logits_bias.normal_(std=0.1)
    model.save_pretrained(folder)
    return folder


def write_m2m100(folder: Path) -> Path:
    """A tiny M2M100 with random weights."""
    pieces = pieces_of((text for pair in PAIRS for text in pair), folder / NLLB)
    names = ["<s>", "<pad>", "</s>", "<unk>", *pieces]
    (folder / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(names)}), "utf-8")
    codes = [f"__{code}__" for code in FAIRSEQ_LANGUAGE_CODES["m2m100"]]
    (folder / "special_tokens_map.json").write_text(json.dumps({"additional_special_tokens": codes}), "utf-8")
    torch.manual_seed(0)
    config = M2M100Config(vocab_size=len(names) + len(codes) + 8, decoder_start_token_id=2, **TINY)
    M2M100ForConditionalGeneration(config).save_pretrained(folder)
    return folder


LANGUAGES = {"m2m100": {"source_language": "en", "target_language": "de"}, "marian": {}}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        "marian": write_marian(tmp_path_factory.mktemp("marian")),
        "m2m100": write_m2m100(tmp_path_factory.mktemp("m2m100")),
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "pairs.tsv"
    path.write_text("source\ttarget\n" + "".join(f"{s}\t{t}\n" for s, t in PAIRS * 10), "utf-8")
    path.with_name("dev.tsv").write_text("source\ttarget\n" + "".join(f"{s}\t{t}\n" for s, t in PAIRS[::5]), "utf-8")
    return path


def words_of(folder: Path) -> Any:
    return tokenizer.load(folder, slow=Translation.slow_tokenizers)


def task_of(folder: Path, family: str, **changes: Any) -> Translation:
    return Translation(TranslationConfig(**{"max_length": 1000, **LANGUAGES[family], **changes}), words_of(folder))


def fit(data: Path, source: Path, out: Path, *more: str, **given: Any) -> Any:
    dev = data.with_name("dev.tsv")
    return nlpkit.fit(
        "translation", str(data), dev=str(dev), source=source, out=out, overrides=[*STEPS, *more], **given
    )


STEPS = (
    "trainer.max_steps=150",
    "trainer.threads=1",
    "trainer.precision=32",
    "trainer.batch_tokens=1000",
    "optim.learning_rate=5e-3",
    "model.dropout=0",
    "task.max_length=32",
)


@pytest.fixture(scope="module", params=["marian", "m2m100"])
def family(request: Any) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def run(family: str, folders: dict[str, Path], data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of each family."""
    named = [f"task.{key}={value}" for key, value in LANGUAGES[family].items()]
    out = tmp_path_factory.mktemp("runs") / family
    fit(data, folders[family], out, *named)
    return out


def plain(folder: Path, family: str) -> Any:
    """What plain transformers opens."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        words = AutoTokenizer.from_pretrained(folder)
    if family == "m2m100":
        words.src_lang, words.tgt_lang = "en", "de"
    return words


WORDS = sorted({word for pair in PAIRS for word in " ".join(pair).split()})
SPELLED = re.compile("</?s>|<pad>|<unk>|__[a-z]+__")


@pytest.fixture(scope="module")
def encoders(folders: dict[str, Path]) -> dict[str, tuple[Translation, Any]]:
    return {name: (task_of(path, name), plain(path, name)) for name, path in folders.items()}


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=40) | st.lists(st.sampled_from([*WORDS, "  ", "aaaaa", "ﬁ", ">>deu<<"])).map(" ".join))
def test_both_sides_are_encoded_as_transformers_does(family: str, encoders: Any, text: str) -> None:
    task, words = encoders[family]
    assume(not SPELLED.search(text))
    features = task.encode(Example({"source": text, "target": text}))
    expected = words(text, text_target=text, verbose=False)
    assert (features["input_ids"], features["labels"]) == (expected["input_ids"], expected["labels"])


def test_special_tokens_that_a_text_spells_are_text(family: str, encoders: Any) -> None:
    task, words = encoders[family]
    ids = task.encode(Example({"source": "dog </s> <pad> dog", "target": "</s>"}))
    assert ids["input_ids"].count(words.eos_token_id) == ids["labels"].count(words.eos_token_id) == 1
    assert words.pad_token_id not in ids["input_ids"]


def test_code_of_a_language_before_a_source_is_one_token(folders: dict[str, Path]) -> None:
    task, words = task_of(folders["marian"], "marian", prefix=">>deu<< "), plain(folders["marian"], "marian")
    ids = task.encode(Example({"source": "The dog >>fra<< sees."}))["input_ids"]
    assert words.convert_ids_to_tokens(ids)[0] == ">>deu<<"
    assert words.get_vocab()[">>fra<<"] not in ids
    assert ids[1:] == words("The dog >>fra<< sees.")["input_ids"]


def test_folder_opens_in_plain_transformers_and_does_the_same(family: str, run: Path) -> None:
    model, words = AutoModelForSeq2SeqLM.from_pretrained(run / "model"), plain(run / "model", family)
    predictor = nlpkit.load(run)
    batch = predictor.task.collate([predictor.task.encode(Example({"source": s, "target": t})) for s, t in PAIRS[:20]])
    sources, targets = map(list, zip(*PAIRS[:20], strict=True))
    inputs = words(sources, text_target=targets, padding=True, return_tensors="pt")
    assert torch.equal(inputs["input_ids"], batch["input_ids"])
    with torch.inference_mode():
        found = predictor.module.head(predictor.module.hidden(batch), batch)
        padded = inputs["labels"].masked_fill(inputs["labels"] == words.pad_token_id, -100)
        torch.testing.assert_close(found, model(**{**inputs, "labels": padded}).logits, rtol=1e-4, atol=1e-4)
        ids = model.generate(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
    written = [answer["target"] for answer in predictor.predict(sources)]
    assert written == words.batch_decode(ids, skip_special_tokens=True)
    assert len(set(written)) > 5


def test_run_keeps_the_files_of_the_tokenizer_and_is_scored_as_it_was(
    family: str, run: Path, folders: dict[str, Path], data: Path
) -> None:
    for name in Translation.slow_tokenizers[f"{'Marian' if family == 'marian' else 'M2M100'}Tokenizer"]:
        kept, given = run / "model" / name, folders[family] / name
        same = json.loads(kept.read_text()) == json.loads(given.read_text()) if name.endswith("json") else None
        assert kept.read_bytes() == given.read_bytes() if same is None else same
    dev = json.loads((run / "results.json").read_text())["dev"]
    assert nlpkit.evaluate(run, str(data.with_name("dev.tsv")))["scores"] == pytest.approx(dev, abs=1e-4)


class StopAt(pl.Callback):
    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        if index == 1:
            raise KeyboardInterrupt


def test_resumed_run_ends_with_the_same_model(folders: dict[str, Path], data: Path, tmp_path: Path) -> None:
    few = ("trainer.max_steps=4", "checkpoint.every_steps=1")
    source = shutil.copytree(folders["marian"], tmp_path / "marian")
    whole = fit(data, source, tmp_path / "whole", *few)
    with pytest.raises(SystemExit):
        fit(data, source, tmp_path / "stopped", *few, callbacks=[StopAt()])
    shutil.rmtree(source)  # the run has what it needs
    resumed = nlpkit.resume(tmp_path / "stopped")
    for name in ("model.safetensors", "config.json", "generation_config.json", *MARIAN):
        assert (resumed.model / name).read_bytes() == (whole.model / name).read_bytes()
    assert fit(data, whole.folder, tmp_path / "further", *few).model.is_dir()


@pytest.mark.parametrize("beam", [1, 4])
def test_both_engines_write_the_same(run: Path, beam: int) -> None:
    pytest.importorskip("ctranslate2", reason="the extra ct2 is not installed")
    texts = [source for source, _ in PAIRS] + ["", "A tree!"]
    found, expected = (
        [answer["target"] for answer in nlpkit.load(run, overrides=[f"task.beam={beam}", *more]).predict(texts)]
        for more in (["task.engine=ct2"], [])
    )
    assert len(set(expected)) > 5
    same = sum(a == b for a, b in zip(found, expected, strict=True))
    assert same >= len(expected) - (4 if beam > 1 else 1)  # several beams end their search at different times


def test_both_engines_find_a_translation_as_likely(family: str, run: Path) -> None:
    """Training moved the embedding of ``<pad>``, with which a Marian begins; CTranslate2 would begin with zeros."""
    ctranslate2 = pytest.importorskip("ctranslate2", reason="the extra ct2 is not installed")
    model, words = AutoModelForSeq2SeqLM.from_pretrained(run / "model").eval(), plain(run / "model", family)
    inputs = words(PAIRS[7][0], text_target=PAIRS[7][1], return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits[0]
    if family == "marian":
        assert model.model.shared.weight[words.pad_token_id].norm() > 0.1
        logits[:, words.pad_token_id] = -torch.inf  # a word that CTranslate2 does not know
    expected = logits.log_softmax(-1).gather(1, inputs["labels"].T).squeeze(1)
    source, target = (words.convert_ids_to_tokens(inputs[side][0].tolist()) for side in ("input_ids", "labels"))
    with converted(run / "model") as folder:
        translator = ctranslate2.Translator(str(folder), compute_type="float32")
        found = translator.score_batch([source], [target[:-1]])[0].log_probs
    torch.testing.assert_close(torch.tensor(found), expected, rtol=1e-4, atol=1e-4)


def test_padding_is_never_written(folders: dict[str, Path]) -> None:
    task = task_of(folders["marian"], "marian")
    head: Any = task.build_head(MarianConfig.from_pretrained(folders["marian"]))
    head.model.final_logits_bias[0, head.config.pad_token_id] = 100.0
    hidden, mask = torch.ones(1, 3, 32), torch.ones(1, 3, dtype=torch.long)
    found = head.eval().predict(hidden, {"attention_mask": mask})
    assert int(found["lengths"]) and head.config.pad_token_id not in found["ids"][0, : int(found["lengths"])]


def test_plan_of_a_run_counts_the_files_of_the_tokenizer(folders: dict[str, Path], data: Path) -> None:
    plan = nlpkit.run.plan_fit("translation", str(data), source=folders["marian"], overrides=list(STEPS))
    size = sum((folders["marian"] / name).stat().st_size for name in MARIAN)
    assert plan.bundle_bytes - 4 * plan.parameters >= size


def broken(folders: dict[str, Path], tmp_path: Path, *, without: str) -> Path:
    """A copy of the Marian that lacks a file, or a token."""
    folder = shutil.copytree(folders["marian"], tmp_path / "broken")
    if (folder / without).is_file():
        (folder / without).unlink()
        return folder
    path = folder / "vocab.json"
    names = json.loads(path.read_text("utf-8"))
    del names[without]
    path.write_text(json.dumps(names), "utf-8")
    return folder


@pytest.mark.parametrize("name", ["target.spm", "source.spm", "vocab.json"])
def test_file_that_is_missing_is_named(name: str, folders: dict[str, Path], data: Path, tmp_path: Path) -> None:
    folder = broken(folders, tmp_path, without=name)
    with pytest.raises(ModelError) as caught:
        fit(data, folder, tmp_path / "run")
    assert caught.value.message == f"{folder}: no {name}, which MarianTokenizer reads"


@pytest.mark.parametrize("said", [{"tokenizer_class": "logging"}, {"tokenizer_class": ["a"]}, {"model_type": ["x"]}])
def test_odd_settings_of_a_tokenizer_are_an_error_of_the_model(
    said: dict[str, Any], folders: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(folders["marian"], tmp_path / "odd")
    (folder / "tokenizer_config.json").write_text(json.dumps(said), "utf-8")
    config = json.loads((folder / "config.json").read_text())
    config.pop("tokenizer_class", None)
    (folder / "config.json").write_text(json.dumps(config))
    try:
        fit(data, folder, tmp_path / "run")
    except ModelError:
        return
    assert said == {"model_type": ["x"]}  # config.json says which class it is


@pytest.mark.parametrize("token", ["</s>", "<unk>", "<pad>"])
def test_token_that_the_vocabulary_lacks_is_named(
    token: str, folders: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    folder = broken(folders, tmp_path, without=token)
    with pytest.raises(ModelError, match=f"{folder}: .*{token}"):
        fit(data, folder, tmp_path / "run")


def test_vocabulary_for_each_side_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders["marian"], tmp_path / "two")
    shutil.copy(folder / "vocab.json", folder / "target_vocab.json")
    said = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    (folder / "tokenizer_config.json").write_text(json.dumps({**said, "separate_vocabs": True}), "utf-8")
    with pytest.raises(ModelError, match="a vocabulary for each side"):
        task_of(folder, "marian")


def test_tasks_that_need_a_fast_tokenizer_refuse_it(folders: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match="the tokenizer has no fast form, expected"):
        tokenizer.load(folders["marian"])


_WITHOUT = """
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder

class Without(MetaPathFinder):
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "sentencepiece":
            raise ModuleNotFoundError(name)

import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *_: None if name == "sentencepiece" else found(name, *_)
sys.meta_path.insert(0, Without())
from nlpkit import tokenizer
from nlpkit.errors import UsageError
try:
    tokenizer.load(sys.argv[1], slow={"MarianTokenizer": ("source.spm",)})
except UsageError as error:
    print(error)
"""


def test_without_the_package_the_hint_installs_it(folders: dict[str, Path]) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _WITHOUT, str(folders["marian"])], capture_output=True, text=True, check=True
    )
    assert ended.stdout.splitlines() == [
        f"{folders['marian']}: its tokenizer needs the package sentencepiece",
        "hint: pip install 'nlpkit-core[sentencepiece]'",
    ]


@pytest.mark.parametrize(("family", "file", "kind"), [("t5", "spiece.model", "unigram"), ("m2m_100", NLLB, "bpe")])
def test_models_of_sentencepiece_alone_become_fast(family: str, file: str, kind: str, tmp_path: Path) -> None:
    pytest.importorskip("google.protobuf", reason="the extra sentencepiece is not installed")
    pieces_of((text for pair in PAIRS for text in pair), tmp_path / file, kind)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}), "utf-8")
    said = {"tokenizer_class": "T5Tokenizer" if family == "t5" else "NllbTokenizer"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(said), "utf-8")
    words = tokenizer.load(tmp_path)
    assert words.decode(words(PAIRS[0][0])["input_ids"], skip_special_tokens=True) == PAIRS[0][0]


@pytest.mark.skipif(is_protobuf_available(), reason="protobuf is installed")
def test_models_of_sentencepiece_alone_need_protobuf(tmp_path: Path) -> None:
    (tmp_path / "spiece.model").touch()
    (tmp_path / "config.json").write_text('{"model_type": "t5"}', "utf-8")
    with pytest.raises(UsageError, match="its tokenizer needs the package protobuf") as caught:
        tokenizer.load(tmp_path)
    assert caught.value.hint == "pip install 'nlpkit-core[sentencepiece]'"
