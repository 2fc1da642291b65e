"""A loader that two integers describe, at every position and across every epoch's end."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from nlpkit_sentiment import Sentiment
from tiny_runs import examples, mlm, sentiment

from nlpkit.data import CountedLoader, EncodedExamples, FixedLoader, TaskDataModule

EPOCHS = 3


def loader(epochs: int = 1, seed: int = 0) -> CountedLoader:
    return TaskDataModule(sentiment(), examples(), batch_tokens=160, epochs=epochs, seed=seed).train_dataloader()


def stream(source: CountedLoader, batches: int) -> list[list[list[int]]]:
    """The token ids of so many batches, over as many passes as that takes."""
    found: list[list[list[int]]] = []
    while len(found) < batches:
        for batch in source:
            found.append(batch["input_ids"].tolist())
            if len(found) == batches:
                break
    return found


def test_the_state_is_two_plain_integers() -> None:
    source = loader()
    stream(source, 2)
    assert source.state_dict() == {"epoch": 0, "batch": 2}
    assert json.loads(json.dumps(source.state_dict())) == source.state_dict()


def test_the_state_moves_with_the_batch_that_is_handed_over_and_rolls_over_at_the_end() -> None:
    source = loader()
    last = len(source) - 1
    for i, _ in enumerate(source):
        expected = {"epoch": 0, "batch": i + 1} if i < last else {"epoch": 1, "batch": 0}
        assert source.state_dict() == expected


@pytest.mark.parametrize("epochs", [1, EPOCHS])
def test_a_loader_resumed_at_any_position_goes_on_as_the_straight_one(epochs: int) -> None:
    total = len(loader(EPOCHS))
    straight = stream(loader(epochs), total)
    for position in range(total):
        first = loader(epochs)
        stream(first, position)
        second = loader(epochs)
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        assert stream(second, total - position) == straight[position:], position


def test_every_epoch_of_a_long_pass_has_every_example_once() -> None:
    source = loader(EPOCHS)
    taken = [tuple(ids[: ids.index(0)] if 0 in ids else ids) for batch in source for ids in batch["input_ids"].tolist()]
    expected = sorted(tuple(sentiment().encode(e)["input_ids"]) for e in examples())
    for epoch in range(EPOCHS):
        assert sorted(taken[epoch * 40 : (epoch + 1) * 40]) == expected


def test_a_pass_has_always_as_many_batches_as_len_says() -> None:
    source = TaskDataModule(sentiment(), examples(300), batch_tokens=64).train_dataloader()
    sizes = [len(source.plan.epoch(e)) for e in range(20)]
    assert len(set(sizes)) > 1, "the epochs of this data must differ in length, or this tests nothing"
    promised = len(source)
    for _ in range(20):
        assert sum(1 for _ in source) == promised == len(source)


def test_the_order_depends_on_the_seed_and_the_epoch() -> None:
    source = loader()
    one, two = list(stream(source, len(source))), list(stream(source, len(source)))
    assert one != two
    assert stream(loader(seed=1), 5) != one[:5]
    assert stream(loader(), 5) == one[:5]


def test_dev_batches_are_the_same_each_time_and_hold_every_example_once() -> None:
    data = TaskDataModule(mlm(), dev=examples())
    one, two = list(data.val_dataloader()), list(data.val_dataloader())
    assert all(torch.equal(a[k], b[k]) for a, b in zip(one, two, strict=True) for k in a)
    assert sum(len(b["input_ids"]) for b in one) == 40


def test_without_a_dev_part_there_are_no_dev_batches() -> None:
    assert TaskDataModule(sentiment(), examples()).val_dataloader() == []


def test_without_training_examples_there_are_no_batches() -> None:
    data = TaskDataModule(sentiment())
    assert len(data.train_dataloader()) == 0
    assert list(data.train_dataloader()) == []


def test_a_batch_size_without_a_token_budget_is_about_the_number_of_rows() -> None:
    sizes = [len(b["input_ids"]) for b in TaskDataModule(sentiment(), examples(400), batch_size=16).train_dataloader()]
    assert 12 < sum(sizes) / len(sizes) < 20
    assert max(sizes) <= 32


def test_only_a_seeded_task_gets_seeds() -> None:
    seen: list[Any] = []

    class Noting(type(sentiment())):  # type: ignore[misc]
        def collate(self, features: Any) -> Any:
            seen.extend(features)
            return super().collate(features)

    task = Noting(sentiment().config, sentiment().tokenizer)
    next(iter(TaskDataModule(task, examples()).train_dataloader()))
    assert seen
    assert all("seed" not in f for f in seen)


class Doubled(Sentiment):
    """A second list, padded by itself, that is short where the text is long."""

    def encode(self, example: Any) -> Any:
        features = super().encode(example)
        return {**features, "documents": [1] * (40 - len(features["input_ids"]))}

    def lengths(self, features: Any) -> tuple[int, int]:
        return len(features["input_ids"]), len(features["documents"])


def test_batches_are_put_together_by_every_list_that_is_padded_by_itself() -> None:
    task = Doubled(sentiment().config, sentiment().tokenizer)
    samples = EncodedExamples(task, examples())
    assert samples.lengths.shape == (40, 2)
    assert (samples.lengths.sum(1) == 40).all()
    parts = TaskDataModule(task, samples, batch_tokens=160)
    for batch in parts.train_dataloader():
        assert len(batch["input_ids"]) * (batch["input_ids"].size(1) + batch["documents"].size(1)) <= 160
    for batch in FixedLoader(task, samples, 160, 128):
        assert len(batch["input_ids"]) * (batch["input_ids"].size(1) + batch["documents"].size(1)) <= 160


def test_a_task_that_says_nothing_is_batched_by_the_tokens_of_its_text() -> None:
    samples = EncodedExamples(sentiment(), examples())
    assert samples.lengths.tolist() == [len(samples.features(i)["input_ids"]) for i in range(40)]
