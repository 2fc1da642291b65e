"""A model folder with more words: its rows, and that plain transformers opens it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerBase

from nlpkit import bundle, extending, seen, tokenizer
from nlpkit.errors import DataError, ModelError, RunFolderError
from nlpkit.files import write_manifest
from nlpkit.tokenizer_report import report

CORPUS = ["this unflattering sweater is itchy and soft", "unflattering, itchy, and far too sheer"] * 3
BART = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
OLD = "a warm and funny film"

Save = Callable[..., Path]


@pytest.fixture
def plain(make_model: Save, words: PreTrainedTokenizerBase) -> Save:
    """A plain transformers folder whose tokenizer fills the rows to the last."""

    def make(auto: str, family: str, **changes: Any) -> Path:
        folder = make_model(auto, family, vocab_size=len(words), **changes)
        words.save_pretrained(folder)
        return folder

    return make


@pytest.mark.parametrize(
    ("auto", "family", "changes"),
    [
        ("AutoModelForMaskedLM", "bert", {}),
        ("AutoModelForMaskedLM", "modernbert", {}),
        ("AutoModelForMaskedLM", "roberta", {}),
        ("AutoModelForPreTraining", "bert", {}),
        ("AutoModelForCausalLM", "gpt2", {}),
        ("AutoModelForCausalLM", "llama", {"tie_word_embeddings": False}),
        ("AutoModelForMaskedLM", "bert", {"tie_word_embeddings": False}),
        ("AutoModel", "bert", {}),
        ("AutoModelForSeq2SeqLM", "bart", BART),
        ("AutoModelForSeq2SeqLM", "t5", {"d_kv": 16, "d_ff": 64}),
    ],
)
def test_new_rows_are_the_mean_of_their_pieces(
    plain: Save, words: PreTrainedTokenizerBase, tmp_path: Path, auto: str, family: str, changes: Any
) -> None:
    source = plain(auto, family, **changes)
    before = getattr(transformers, auto).from_pretrained(source)
    if (output := before.get_output_embeddings()) is not None and output.bias is not None:
        torch.nn.init.normal_(output.bias)
        before.save_pretrained(source)
    if hasattr(before, "final_logits_bias"):  # a buffer (1, V)
        before.final_logits_bias.normal_()
        before.save_pretrained(source)
    done = extending.extend(str(source), CORPUS, 4, tmp_path / "out")
    after = getattr(transformers, auto).from_pretrained(tmp_path / "out")
    assert len(done.words) == 4
    assert after.config.vocab_size == len(words) + 4
    for name, old in before.state_dict().items():
        new = after.state_dict()[name]
        if old.shape == new.shape:
            assert torch.equal(old, new), name
            continue
        if len(old) == 1:
            old, new = old[0], new[0]
        assert torch.equal(new[: len(words)], old), name
        for number, word in enumerate(done.words, len(words)):
            pieces = words(word, add_special_tokens=False)["input_ids"]
            torch.testing.assert_close(new[number], old[pieces].mean(0), msg=name)


@pytest.mark.parametrize(
    ("auto", "family", "changes", "objective"),
    [
        ("AutoModelForMaskedLM", "bert", {}, "mlm"),
        ("AutoModel", "modernbert", {}, "mlm"),
        ("AutoModelForCausalLM", "gpt2", {}, "clm"),
        ("AutoModelForSeq2SeqLM", "bart", BART, ""),
    ],
)
def test_objective_that_goes_on_is_that_of_the_model(
    plain: Save, tmp_path: Path, auto: str, family: str, changes: Any, objective: str
) -> None:
    assert extending.extend(str(plain(auto, family, **changes)), CORPUS, 4, tmp_path / "out").objective == objective


def test_extended_folder_opens_in_plain_transformers_and_saves_the_tokens_it_reports(
    plain: Save, words: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    source = plain("AutoModelForMaskedLM", "bert")
    done = extending.extend(str(source), CORPUS, 4, tmp_path / "out")
    opened = AutoTokenizer.from_pretrained(tmp_path / "out")
    counts = [sum(len(t(x, add_special_tokens=False)["input_ids"]) for x in CORPUS) for t in (words, opened)]
    assert [done.before.tokens, done.after.tokens] == counts
    assert counts[0] > counts[1]
    assert report(tokenizer.load(tmp_path / "out"), CORPUS, 64) == done.after
    hidden = [
        AutoModel.from_pretrained(folder)(**AutoTokenizer.from_pretrained(folder)(OLD, return_tensors="pt"))[0]
        for folder in (source, tmp_path / "out")
    ]
    torch.testing.assert_close(hidden[0], hidden[1])  # a text without new words is read as before
    assert AutoModel.from_pretrained(tmp_path / "out")(**opened(CORPUS[0], return_tensors="pt"))[0].isfinite().all()


def test_spare_rows_of_a_model_are_used_first(make_model: Save, words: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    source = make_model("AutoModelForMaskedLM", vocab_size=len(words) + 8)
    words.save_pretrained(source)
    extending.extend(str(source), CORPUS, 4, tmp_path / "out")
    assert AutoModel.from_pretrained(tmp_path / "out").config.vocab_size == len(words) + 8


def test_bundle_keeps_its_record_and_adds_to_its_history(
    make_bundle: Callable[..., bundle.Loaded], registry: Any, tmp_path: Path
) -> None:
    made = make_bundle()
    seen.write(tmp_path / "model", seen.of_texts("pretrain", CORPUS))
    record = tmp_path / "model" / "nlpkit.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "store": "of the old tokens"}))
    write_manifest(tmp_path / "model")
    extending.extend(str(tmp_path / "model"), CORPUS, 3, tmp_path / "out")
    assert seen.count(seen.read(tmp_path / "out"), CORPUS) == seen.count(seen.read(tmp_path / "model"), CORPUS)
    assert "store" not in json.loads((tmp_path / "out" / "nlpkit.json").read_text())
    before, after = (json.loads((tmp_path / name / "nlpkit.json").read_text()) for name in ("model", "out"))
    step = {"stage": "tokenizer", "words": 3, "source": str(tmp_path / "model")}
    assert after["history"] == [*before.get("history", []), step]
    assert (after["task"], after["task_config"]) == (before["task"], before["task_config"])
    loaded = bundle.load(str(tmp_path / "out"), registry)
    batch = made.task.collate([made.task.encode({"text": OLD})])
    one, two = (
        m.head(m.backbone(**{k: batch[k] for k in ("input_ids", "attention_mask")})[0], batch) for m in (made, loaded)
    )
    torch.testing.assert_close(one, two)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("precious")
    with pytest.raises(RunFolderError, match="exists, and nothing is overwritten"):
        extending.extend(str(tmp_path / "model"), CORPUS, 3, tmp_path / "out")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "precious"


def test_fewer_words_than_asked_for_are_said(plain: Save, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = plain("AutoModelForMaskedLM", "bert")
    with caplog.at_level("INFO", "nlpkit"):
        done = extending.extend(str(source), CORPUS, 500, tmp_path / "out")
    assert f"the text has {len(done.words)} words that save tokens, not 500" in caplog.messages


def test_text_that_the_vocabulary_fits_is_refused(plain: Save, tmp_path: Path) -> None:
    source = plain("AutoModelForMaskedLM", "bert")
    with pytest.raises(DataError) as caught:
        extending.extend(str(source), ["a warm and funny film", "unflattering once"], 5, tmp_path / "out")
    assert caught.value.message == (
        "no word that stands in the text twice takes more than one token: the vocabulary fits it as it is"
    )
    assert not (tmp_path / "out").exists()


def test_class_that_transformers_lacks_is_refused(plain: Save, tmp_path: Path) -> None:
    source = plain("AutoModelForMaskedLM", "bert")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "architectures": ["OwnModel"]}))
    with pytest.raises(ModelError) as caught:
        extending.extend(str(source), CORPUS, 5, tmp_path / "out")
    assert caught.value.message == f"{source}: transformers has no class 'OwnModel', which config.json names"
