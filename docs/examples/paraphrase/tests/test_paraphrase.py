from __future__ import annotations

import csv
from pathlib import Path

import nlpkit_paraphrase
import pytest
from nlpkit_paraphrase import Paraphrase

from nlpkit import Example, TaskConfig, tokenizer
from nlpkit.testing import task_test

SAMPLE = Path(nlpkit_paraphrase.__file__).with_name("sample.csv")
EXAMPLES = list(csv.DictReader(SAMPLE.open(encoding="utf-8")))[:8]
SHORT, LONG = "is it", "is it blue " * 40

test_paraphrase = task_test(Paraphrase, EXAMPLES)


@pytest.mark.parametrize(
    ("first", "second", "kept"), [(SHORT, LONG, (2, 27)), (LONG, SHORT, (27, 2)), (LONG, LONG, (14, 15))]
)
def test_of_too_long_a_pair_the_longer_text_is_cut(first: str, second: str, kept: tuple[int, int]) -> None:
    words = tokenizer.train([SHORT, LONG], kind="wordpiece", vocabulary=80, lowercase=True, max_length=32)
    task = Paraphrase(TaskConfig(labels=["different", "same"], max_length=32), words)

    features = task.encode(Example({"first": first, "second": second}))

    tokens = words.convert_ids_to_tokens(features["input_ids"])
    end = tokens.index("[SEP]")
    assert (len(tokens[1:end]), len(tokens[end + 1 : -1])) == kept
    assert features["token_type_ids"] == [0] * (end + 1) + [1] * (len(tokens) - end - 1)
