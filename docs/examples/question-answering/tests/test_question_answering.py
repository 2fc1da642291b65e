from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from nlpkit_question_answering import QuestionAnswering
from transformers import PreTrainedTokenizerBase

from nlpkit import Example, TaskConfig, tokenizer
from nlpkit.errors import DataError
from nlpkit.testing import task_test

SAMPLE = Path(__file__).parents[1] / "sample.jsonl"
EXAMPLES = [json.loads(line) for line in SAMPLE.read_text("utf-8").splitlines()]

test_question_answering = task_test(QuestionAnswering, EXAMPLES[:8])


@pytest.fixture(scope="module")
def words() -> PreTrainedTokenizerBase:
    texts = [text for example in EXAMPLES for text in example.values()]
    return tokenizer.train(texts, kind="wordpiece", vocabulary=600, lowercase=True, max_length=64)


def task(words: PreTrainedTokenizerBase, max_length: int = 64) -> QuestionAnswering:
    return QuestionAnswering(TaskConfig(max_length=max_length), words)


def answers(of: QuestionAnswering, example: dict[str, Any]) -> tuple[dict[str, Any], dict[str, float]]:
    """What comes out, and its scores, where the head is right."""
    batch = of.collate([of.encode(Example(example))])
    found = (batch["labels"].clamp(min=0), torch.ones(1))
    metrics = of.build_metrics()
    metrics.update(*of.compare(found, batch))
    scores = {name: float(value) for name, value in metrics.compute().items()}
    return of.complete(of.decode(found, batch)[0], Example(example)), scores


def test_every_answer_of_the_sample_comes_back_letter_by_letter(words: PreTrainedTokenizerBase) -> None:
    for example in EXAMPLES:
        answer, scores = answers(task(words), example)
        assert answer["answer"] == example["answer"]
        assert example["context"][answer["start"] : answer["end"]] == example["answer"]
        assert scores == {"f1": 1.0, "exact": 1.0}


def test_a_long_context_is_cut_and_says_up_to_where_it_was_read(words: PreTrainedTokenizerBase) -> None:
    example = {**EXAMPLES[0], "context": EXAMPLES[0]["context"] + " The end." * 40}

    answer, _ = answers(task(words), example)

    assert answer["answer"] == "1871"
    assert len(EXAMPLES[0]["context"]) < answer["read"] < len(example["context"])


def test_an_answer_that_is_cut_off_teaches_nothing_and_is_missed(words: PreTrainedTokenizerBase) -> None:
    example = {**EXAMPLES[0], "context": "So it goes. " * 40 + EXAMPLES[0]["context"]}

    features = task(words).encode(Example(example))

    assert features["labels"] == [-100, -100]
    assert answers(task(words), example)[1] == {"f1": 0.0, "exact": 0.0}


def test_an_answer_that_does_not_stand_in_its_context_is_refused(words: PreTrainedTokenizerBase) -> None:
    with pytest.raises(DataError) as caught:
        task(words).encode(Example({**EXAMPLES[0], "answer": "1902"}, "rows.jsonl:1"))
    assert caught.value.message == "rows.jsonl:1: the context has no '1902'"
    assert caught.value.hint == "copy the answer from its context"
