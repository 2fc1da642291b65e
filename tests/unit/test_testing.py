"""The test kit passes every registered task and catches a broken one."""

from __future__ import annotations

import pytest
from torchmetrics import MetricCollection

from nlpkit.plugins import Registry
from nlpkit.testing import CHECKS, check_task

GOOD = ["lovely soft wool", "warm and well made", "a joy to wear", "fits me perfectly"]
BAD = ["torn after a day", "cheap and itchy", "never arrived", "far too small for me"]
EXAMPLES = [
    {
        "text": text,
        "source": text,
        "target": text,
        "label": label,
        "entities": [{"start": 0, "end": len(text.split()[0]), "label": label}],
    }
    for label, texts in (("good", GOOD), ("bad", BAD))
    for text in texts
]


@pytest.mark.parametrize("name", sorted(Registry().tasks()))
def test_check_task_passes_every_registered_task(name: str) -> None:
    check_task(Registry().task(name), EXAMPLES)


def test_check_task_names_each_broken_part() -> None:
    sentiment = Registry().task("sentiment")

    class Broken(sentiment):  # type: ignore[misc, valid-type]
        score = "bleu"

        def encode(self, example):
            return {**super().encode(example), "labels": self.config.labels.index(example["label"])}

        def decode(self, predictions, batch):
            return super().decode(predictions, batch)[:-1]

        def build_metrics(self):
            return MetricCollection({})

    with pytest.raises(AssertionError) as caught:
        check_task(Broken, EXAMPLES)
    failed = [line.split(":")[0] for line in str(caught.value).splitlines()[1:] if line.split(":")[0] in CHECKS]
    assert failed == [
        "encodes_without_label",
        "takes_odd_texts",
        "answers_are_json",
        "company_changes_nothing",
        "metrics_are_finite",
    ]


def test_check_task_skips_what_it_is_told() -> None:
    class Broken(Registry().task("sentiment")):  # type: ignore[misc]
        score = "bleu"

    check_task(Broken, EXAMPLES, skip=["metrics_are_finite"])


def test_check_task_notices_a_loss_that_cannot_be_shared() -> None:
    sentiment = Registry().task("sentiment")

    class Summed(sentiment):  # type: ignore[misc, valid-type]
        def build_head(self, backbone):
            head = super().build_head(backbone)
            mean = head.loss
            head.loss = lambda logits, batch: mean(logits, batch) * len(batch["labels"])
            return head

    with pytest.raises(AssertionError) as caught:
        check_task(Summed, EXAMPLES, skip=set(CHECKS) - {"loss_is_a_mean_by_count"})
    assert str(caught.value).splitlines()[1].startswith("loss_is_a_mean_by_count: ")


def test_check_task_notices_a_head_that_scores_another_loss_than_it_learns() -> None:
    sentiment = Registry().task("sentiment")

    class Other(sentiment):  # type: ignore[misc, valid-type]
        def build_head(self, backbone):
            head = super().build_head(backbone)
            head.scored = lambda hidden, batch: ([(head.loss_from(hidden, batch) + 1, head.count(batch))], None)
            return head

    with pytest.raises(AssertionError) as caught:
        check_task(Other, EXAMPLES, skip=set(CHECKS) - {"loss_is_a_mean_by_count"})
    assert "AssertionError: scored: " in str(caught.value)
