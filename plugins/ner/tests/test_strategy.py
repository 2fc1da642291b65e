"""What learns: all of a new model and of one that nlpkit made, the upper part of a public one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from nlpkit_ner import Ner
from transformers import AutoModelForTokenClassification, BertConfig

from nlpkit import bundle, running

MakeTask = Callable[..., Ner]
SAMPLE = str(Path(__file__).parents[1] / "nlpkit_ner" / "sample.conll")


@pytest.fixture
def public(make_task: MakeTask, tmp_path: Path) -> Path:
    """A folder of plain transformers."""
    words = make_task().tokenizer
    config = BertConfig(
        vocab_size=len(words), hidden_size=64, num_hidden_layers=3, num_attention_heads=1, intermediate_size=128
    )
    AutoModelForTokenClassification.from_config(config).save_pretrained(tmp_path / "public")
    words.save_pretrained(tmp_path / "public")
    return tmp_path / "public"


def strategy_of(source: str, *overrides: str) -> str:
    asked = running.fine_tuning("ner", SAMPLE, source=source, overrides=overrides)
    return asked.config.strategy


def test_the_lower_third_of_a_public_model_stays(public: Path) -> None:
    assert strategy_of(str(public)) == "upper"
    assert strategy_of(str(public), "strategy=layerwise") == "layerwise"


def test_all_of_a_new_model_learns() -> None:
    assert strategy_of("") == "full"


def test_all_of_a_model_that_nlpkit_made_learns(public: Path) -> None:
    (public / bundle.RECORD).write_text("{}")
    assert strategy_of(str(public)) == "full"
