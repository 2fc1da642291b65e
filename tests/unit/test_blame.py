"""Where a function of ours cannot use what a task gives, the method that gave it is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from plugin_site import mood
from tiny_runs import make_module, small_tokenizer
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from nlpkit import examples, given, prepare, scores, splits
from nlpkit.config import RunConfig
from nlpkit.data import EncodedExamples, make_batch
from nlpkit.errors import DataError, PluginError
from nlpkit.heads import Head, TransformersHead
from nlpkit.owners import FED_BY
from nlpkit.plugins import Registry
from nlpkit.plugins.blame import isolated
from nlpkit.task import Example, Task, TaskConfig

ODD = """
    check = classmethod(lambda cls, example: nlpkit.Example({}))
    labels_of = classmethod(lambda cls, example: None)
    lengths = lambda self, features: None
    compare = lambda self, predictions, batch: (None,)
    collate = lambda self, features: None
    seeded = True
"""
ROW = Example({"text": "a"})
IDS = torch.tensor([[2, 5, 3]])
NOTHING: Any = None
METRICS = MetricCollection({"accuracy": MulticlassAccuracy(2)})
CALLS: dict[str, Callable[[Any], Any]] = {
    "Task.prepare": lambda task: Task.prepare.__func__(type(task), TaskConfig(), [ROW]),  # type: ignore[attr-defined]
    "Task.lengths": lambda task: Task.lengths(task, {}),
    "Task.collate": lambda task: Task.collate(task, [{"labels": ["a"]}]),
    "Task.compare": lambda task: Task.compare(task, None, {}),
    "read_labelled": lambda task: examples.read_labelled(type(task), ["a.csv"], RunConfig(), Registry(enabled=())),
    "check_parts": lambda task: examples.check_parts(type(task), [ROW], [], []),
    "check_labels": lambda task: examples.check_labels(type(task), [ROW], [], "", ""),
    "split": lambda task: splits.split([ROW, ROW], 0.5, seed=0, labels_of=lambda example: NOTHING or 7),
    "EncodedExamples.__init__": lambda task: EncodedExamples(task, [ROW]),
    "make_batch": lambda task: make_batch(task, SimpleNamespace(features=lambda *_: [1]), [0], 0, 0),  # type: ignore
    "_first_tokens": lambda task: prepare._first_tokens(task, SimpleNamespace(lengths=[1], features=lambda _: {})),  # type: ignore
    "TaskModule.hidden": lambda task: make_module(task).hidden({"input_ids": IDS * 1000}),
    "update_metrics": lambda task: make_module(task).score([{"input_ids": IDS, "labels": IDS[0, :1] - 2}], METRICS),
    "Head.loss": lambda task: Head.loss(NOTHING, NOTHING, {}),
    "Head.count": lambda task: Head.count(NOTHING, {"input_ids": NOTHING}),
    "Head.predict": lambda task: Head.predict(lambda *_: None, NOTHING, {}),  # type: ignore[arg-type]
    "TransformersHead.forward": lambda task: TransformersHead.forward(NOTHING, NOTHING, {"input_ids": IDS}),
    "TransformersHead.places": lambda task: make_module(task).head.places({}),
    "values_of": lambda task: scores.values_of(task, SimpleNamespace(compute=lambda: {"accuracy": "high"})),  # type: ignore
}
"""What each function of ours cannot use, by its name."""


class Odd(Head):
    """Gives what it is told to."""

    def __init__(self, **gives: Any) -> None:
        super().__init__()
        self.gives = gives

    def forward(self, hidden: Any, batch: Any) -> Any:
        return hidden

    def loss(self, logits: Any, batch: Any) -> Any:
        return self.gives["loss"]


class OddTerms(Odd):
    def terms(self, hidden: Any, batch: Any) -> Any:
        return self.gives["terms"]

    def scored(self, hidden: Any, batch: Any) -> Any:
        return self.gives.get("scored", (self.gives.get("terms"), None))


class NoRows(Task[TaskConfig]):
    name = "no-rows"

    @classmethod
    def unfold(cls, config: Any, examples: Any) -> Any:
        return []


BATCH = {"input_ids": IDS}
NUMBER = "expected one number, as a tensor"
GIVEN: dict[str, tuple[Callable[[], Any], str]] = {
    "loss": (lambda: given.loss(Odd(loss=None), IDS, BATCH), f"Odd.loss gives None, {NUMBER}"),
    "loss of rows": (lambda: given.loss(Odd(loss=IDS), IDS, BATCH), f"Odd.loss gives a tensor of 3 values, {NUMBER}"),
    "loss in terms": (lambda: given.terms(Odd(loss=2.0), IDS, BATCH), f"Odd.loss gives a float, {NUMBER}"),
    "terms": (
        lambda: given.terms(OddTerms(terms=IDS.sum()), IDS, BATCH),
        "OddTerms.terms gives a Tensor, expected a list of (mean, count)",
    ),
    "many terms": (
        lambda: given.terms(OddTerms(terms=[(IDS.sum(), 1)] * 33), IDS, BATCH),
        "OddTerms.terms gives 33 terms, expected 32 at most: add some up",
    ),
    "scored": (
        lambda: given.scored(OddTerms(scored=IDS), IDS, BATCH),
        "OddTerms.scored gives a Tensor, expected a tuple (terms, predictions)",
    ),
    "terms that are scored": (
        lambda: given.scored(OddTerms(terms=[(None, 1)]), IDS, BATCH),
        f"OddTerms.scored gives None, {NUMBER}",
    ),
}
"""What a head or a task gives that cannot be used."""


@pytest.mark.parametrize("case", GIVEN)
def test_method_that_gives_what_cannot_be_used_is_named(case: str) -> None:
    ask, message = GIVEN[case]

    with pytest.raises(PluginError) as caught:
        ask()

    assert caught.value.message == message


def test_where_no_example_is_left_the_data_and_the_settings_are_named() -> None:
    with pytest.raises(DataError) as caught:
        given.examples(NoRows, "unfold", TaskConfig(), [Example({"text": "a"}, "rows.csv:2")])
    assert caught.value.message == "rows.csv: NoRows.unfold leaves none of 1 examples"
    assert caught.value.hint == "look at the data, and at the settings of no-rows"


def test_loss_may_be_a_tensor_of_one_number() -> None:
    assert given.loss(Odd(loss=torch.ones(1)), IDS, BATCH).shape == ()


def test_every_function_that_a_task_feeds_is_tried() -> None:
    assert {code.co_qualname for code in FED_BY} == set(CALLS)
    assert {name for names in FED_BY.values() for name in names} <= set(dir(Task))


@pytest.mark.parametrize("name", CALLS)
def test_method_that_feeds_a_function_of_ours_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mood.py").write_text(mood(ODD))
    (tmp_path / "a.csv").write_text("text,label\na,b\n")
    monkeypatch.chdir(tmp_path)
    task = Registry(["mood.py"], enabled=()).task("mood")(TaskConfig(labels=["a", "b"]), small_tokenizer())
    ours: dict[str, Any] = {"__name__": "nlpkit.around"}
    exec("def run(task, call): return call(task)", ours)
    (method,) = (names[0] for code, names in FED_BY.items() if code.co_qualname == name)

    with pytest.raises(PluginError) as caught, isolated():
        ours["run"](task, CALLS[name])

    said = f"plugin 'mood' (mood.py): Mood.{method}: nlpkit's {name} cannot use what it gives: "
    assert caught.value.message.startswith(said)
