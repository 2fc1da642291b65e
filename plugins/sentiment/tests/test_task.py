"""What the task reads of a text, and that plain transformers reads the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from nlpkit_sentiment import Sentiment, SentimentConfig
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from nlpkit import Example, tokenizer
from nlpkit.config import compose
from nlpkit.testing import task_test

LONG = Example({"text": "first " + "and then " * 40 + "last"})
EXAMPLES = [
    {"text": text, "label": label}
    for label, texts in {
        "good": ("lovely soft wool", "warm and well made", "a joy to wear", "fits me perfectly"),
        "bad": ("torn after a day", "cheap and itchy", "never arrived", "far too small for me"),
    }.items()
    for text in texts
]

test_the_task_keeps_the_rules = task_test(Sentiment, EXAMPLES)


@pytest.fixture
def words() -> PreTrainedTokenizerBase:
    return tokenizer.train([LONG["text"]], kind="wordpiece", vocabulary=80, lowercase=True, max_length=64)


@pytest.mark.parametrize(("keep", "read", "lost"), [("end", "last", "first"), ("start", "first", "last")])
def test_the_part_that_is_kept_is_the_one_asked_for(
    words: PreTrainedTokenizerBase, tmp_path: Path, keep: str, read: str, lost: str
) -> None:
    task = Sentiment(SentimentConfig(labels=["a", "b"], max_length=16, keep=keep), words)  # type: ignore[arg-type]
    ids = task.encode(LONG)["input_ids"]
    text = words.decode(ids)
    assert len(ids) == 16
    assert (ids[0], ids[-1]) == (words.cls_token_id, words.sep_token_id)
    assert read in text
    assert lost not in text

    task.tokenizer.save_pretrained(tmp_path)
    plain = AutoTokenizer.from_pretrained(tmp_path)
    assert plain(LONG["text"], truncation=True, max_length=16)["input_ids"] == ids


@pytest.mark.parametrize("keep", ["end", "start"])
def test_the_saved_tokenizer_cuts_alike_also_when_nothing_was_encoded(
    words: PreTrainedTokenizerBase, tmp_path: Path, keep: str
) -> None:
    task = Sentiment(SentimentConfig(labels=["a", "b"], max_length=16, keep=keep), words)  # type: ignore[arg-type]
    task.tokenizer.save_pretrained(tmp_path)
    plain = AutoTokenizer.from_pretrained(tmp_path)
    assert plain(LONG["text"], truncation=True, max_length=16)["input_ids"] == task.encode(LONG)["input_ids"]


def test_the_given_tokenizer_stays_as_it_is(words: PreTrainedTokenizerBase) -> None:
    before = words(LONG["text"], truncation=True, max_length=16)["input_ids"]
    Sentiment(SentimentConfig(labels=["a", "b"], max_length=16, keep="end"), words).encode(LONG)
    assert words(LONG["text"], truncation=True, max_length=16)["input_ids"] == before


def test_new_runs_keep_the_end_and_what_was_saved_without_the_setting_the_start() -> None:
    assert compose(Sentiment).config.task.keep == "end"  # type: ignore[attr-defined]
    assert SentimentConfig().keep == "start"


def test_a_short_text_is_read_whole(words: PreTrainedTokenizerBase) -> None:
    ends, starts = (
        Sentiment(SentimentConfig(labels=["a", "b"], max_length=64, keep=keep), words).encode(  # type: ignore[arg-type]
            Example({"text": "first and last"})
        )["input_ids"]
        for keep in ("end", "start")
    )
    assert ends == starts
    assert words.decode(ends, skip_special_tokens=True) == "first and last"
