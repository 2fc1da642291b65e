"""Models of many languages: tokens of the languages stand where plain transformers puts them."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from nlpkit_translation import Translation, TranslationConfig
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, M2M100Config, NllbTokenizer

import nlpkit
from nlpkit import Example, backbone, bundle
from nlpkit.errors import UsageError
from nlpkit.plugins import Registry

TEXTS = [("a dog runs", "ein hund rennt"), ("a cat runs", "eine katze rennt"), ("a dog sits", "ein hund sitzt")]
LANGUAGES = {"source_language": "eng_Latn", "target_language": "deu_Latn"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny NLLB with random weights."""
    path = tmp_path_factory.mktemp("nllb")
    letters = sorted({letter for pair in TEXTS for text in pair for letter in text if letter != " "} | {"▁"})
    vocabulary = {token: i for i, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", *letters, "de"])}
    tokenizer = NllbTokenizer(vocab=vocabulary, merges=[], extra_special_tokens=["eng_Latn", "deu_Latn", "fra_Latn"])
    torch.manual_seed(0)
    small = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    widths = {"d_model": 32, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 64}
    config = M2M100Config(vocab_size=len(tokenizer), **small, **widths, decoder_start_token_id=2)
    AutoModelForSeq2SeqLM.from_config(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def task(folder: Path, **settings: Any) -> Translation:
    return Translation(TranslationConfig(max_length=40, **settings), AutoTokenizer.from_pretrained(folder))


def test_both_sides_are_encoded_as_transformers_does(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder, src_lang="eng_Latn", tgt_lang="deu_Latn")
    for source, target in TEXTS:
        features = task(folder, **LANGUAGES).encode(Example({"source": source, "target": target}))
        expected = tokenizer(source, text_target=target)
        assert features["input_ids"] == expected["input_ids"]
        assert features["labels"] == expected["labels"]
        assert tokenizer.convert_ids_to_tokens([features["input_ids"][0], features["labels"][0]]) == list(
            LANGUAGES.values()
        )


def test_it_is_fitted_further_and_writes_in_the_language(folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps({"source": s, "target": t}) + "\n" for s, t in TEXTS * 4), "utf-8")
    settings = [f"task.{key}={value}" for key, value in LANGUAGES.items()]
    more = ["trainer.max_steps=2", "trainer.threads=1"]
    run = nlpkit.fit(
        "translation", str(data), dev=str(data), source=folder, out=tmp_path / "run", overrides=settings + more
    )
    predictor = nlpkit.load(run.folder)
    batch = predictor.task.collate([predictor.task.encode(Example({"source": text})) for text, _ in TEXTS])
    with torch.inference_mode():
        ids = predictor.module.head.predict(predictor.module.hidden(batch), batch)["ids"]
    assert set(ids[:, 0].tolist()) == {predictor.task.tokenizer.convert_tokens_to_ids("deu_Latn")}
    model = AutoModelForSeq2SeqLM.from_pretrained(run.model)
    plain = model.generate(
        **AutoTokenizer.from_pretrained(run.model)([s for s, _ in TEXTS], padding=True, return_tensors="pt")
    )
    width = min(ids.size(1), plain.size(1) - 1, 10)
    assert torch.equal(plain[:, 1 : 1 + width], ids[:, :width])
    french = nlpkit.load(run.folder, overrides="task.target_language=fra_Latn")
    assert french.module.head.search.begin == french.task.tokenizer.convert_tokens_to_ids("fra_Latn")


def test_an_engine_is_not_compared_in_languages_that_the_dev_part_is_not_in(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("ctranslate2", reason="the extra ct2 is not installed")
    config, model = M2M100Config.from_pretrained(folder), tmp_path / "model"
    fitted = task(folder, **LANGUAGES, languages=list(LANGUAGES.values()))
    bundle.save(model, fitted, backbone.build(config), fitted.build_head(config), {}, Registry())
    evaluate = f"nlpkit evaluate {model} FILES --engine"
    reasons = {
        "deu_Latn": f"{model}: not in the folder of its run, which knows the dev part",
        "fra_Latn": "the dev part is in other languages",
    }
    for language, reason in reasons.items():
        caplog.clear()
        with caplog.at_level(logging.INFO, "nlpkit"):
            nlpkit.load(model, overrides=["task.engine=ct2", f"task.target_language={language}"])
        said = f"ct2 was not compared with torch: {reason}; compare {evaluate} ct2 with {evaluate} torch"
        assert caplog.messages[-1] == said
    assert not (tmp_path / "model-ct2.json").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "task.source_language names none"),
        ({"source_language": "eng_Latn"}, "task.target_language names none"),
        (LANGUAGES | {"target_language": "German"}, "'German', which is no language of this model"),
    ],
)
def test_languages_that_are_missing_or_unknown_are_named(folder: Path, settings: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        task(folder, **settings)
    assert "task.target_language=deu_Latn" in caught.value.hint


def test_piece_of_a_word_that_is_spelled_like_a_language_is_none(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.convert_tokens_to_ids("de") not in (None, tokenizer.unk_token_id)
    for key in LANGUAGES:
        with pytest.raises(UsageError) as caught:
            task(folder, **(LANGUAGES | {key: "de"}))
        assert caught.value.message == f"task.{key} is 'de', which is no language of this model"
