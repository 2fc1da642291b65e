"""What is left to us and chosen by the size of the data."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
from nlpkit_sentiment import Sentiment
from tiny_runs import make_module, sentiment

from nlpkit.config import RunConfig, TrainerConfig
from nlpkit.prepare import Prepared
from nlpkit.recipes import complete
from nlpkit.task import Field, Task


class Writes(Sentiment):
    """As far as a recipe can tell."""

    fields: ClassVar[dict[str, Field]] = {
        **Sentiment.fields,
        "answer": Field(("answer",), required=False, written=True),
    }


class Lengths:
    """Samples of which only the lengths are looked at."""

    def __init__(self, lengths: list[tuple[int, int]] | list[int]) -> None:
        self.lengths = np.array(lengths, np.int64)


def batch_tokens(task: Task[Any], samples: Lengths, **settings: Any) -> int | None:
    module: Any = make_module(sentiment())
    config = RunConfig(task=task.config, trainer=TrainerConfig(**settings))
    prepared = Prepared(  # type: ignore[arg-type]
        task, config, module.backbone.config, module.backbone, module.head, samples, samples, ""
    )
    return complete(prepared, "finetune", continued=False).trainer.batch_tokens


@pytest.mark.parametrize(("pairs", "expected"), [(10, 256), (500, 500), (3000, 3000), (30_000, 4096)])
def test_a_task_that_writes_has_larger_batches_the_more_data_there_is(pairs: int, expected: int) -> None:
    task = Writes(sentiment().config, sentiment().tokenizer)
    assert batch_tokens(task, Lengths([(12, 8)] * pairs)) == expected
    assert batch_tokens(sentiment(), Lengths([20] * pairs)) == 16 * 20


def test_what_a_user_says_of_batches_counts_for_tasks_that_write_too() -> None:
    task = Writes(sentiment().config, sentiment().tokenizer)
    samples = Lengths([(12, 8)] * 500)
    assert batch_tokens(task, samples, batch_size=4) == 4 * 20
    assert batch_tokens(task, samples, batch_tokens=77) == 77
