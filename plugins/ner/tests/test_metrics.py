"""Entity scores against seqeval, and kinds of errors against a slow reading of their definition."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch
from nlpkit_ner import Ner, schemes
from nlpkit_ner.metrics import ERRORS, SpanScores, match
from nlpkit_ner.spans import Mode, spans
from seqeval.metrics import classification_report  # type: ignore[import-untyped]
from seqeval.scheme import IOB2  # type: ignore[import-untyped]
from torch import Tensor
from torchmetrics import MetricCollection

from nlpkit.cli.results import score_table
from nlpkit.scores import values_of

MakeTask = Callable[..., Ner]
TYPES = ["person", "creative-work", "place", "never"]


def as_numbers(scores: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(value) for name, value in scores.items()}


def scored(found: list[list[int]], true: list[list[int]], types: list[str] = TYPES) -> dict[str, float]:
    metric = SpanScores(types)
    metric.update(torch.tensor(found).reshape(-1, 4), torch.tensor(true).reshape(-1, 4))
    return as_numbers(metric.compute())


@cache
def random_tags() -> tuple[Tensor, Tensor, Tensor]:
    """True tags (B, T), those of a model that is often right, and lengths; illegal ones among both."""
    torch.manual_seed(0)
    true = torch.randint(0, 7, (2000, 9)) * (torch.rand(2000, 9) < 0.7)
    found = torch.where(torch.rand(2000, 9) < 0.8, true, torch.randint(0, 7, (2000, 9)))
    return true, found, torch.randint(1, 10, (2000,))


def names(tags: Tensor, lengths: Tensor) -> list[list[str]]:
    all_names = ["O", *(f"{prefix}-{name}" for name in TYPES for prefix in "BI")]
    return [[all_names[tag] for tag in row[:n]] for row, n in zip(tags.tolist(), lengths.tolist(), strict=True)]


def mended(tags: Tensor) -> Tensor:
    """The same tags (B, T) with B for each I that goes on with nothing."""
    kinds = (tags + 1) // 2
    goes_on = kinds == kinds.roll(1, dims=1)
    goes_on[:, 0] = False
    return tags - ((tags > 0) & (tags % 2 == 0) & ~goes_on).long()


MODES = pytest.mark.parametrize("mode", ["strict", "conlleval"])


def agree_with_seqeval(metric: SpanScores, true: Tensor, found: Tensor, lengths: Tensor, mode: Mode) -> None:
    scores = as_numbers(metric.compute())
    settings = {"mode": "strict", "scheme": IOB2} if mode == "strict" else {}
    report = classification_report(
        names(true, lengths), names(found, lengths), output_dict=True, zero_division=0, **settings
    )
    assert sorted(report) == sorted([*TYPES[:3], "micro avg", "macro avg", "weighted avg"])
    assert scores["f1_macro"] == pytest.approx(report["macro avg"]["f1-score"], abs=1e-6)
    assert 0.3 < scores["f1"] < 0.9
    for title, suffix in [("micro avg", ""), *((name, f"/{name}") for name in TYPES[:3])]:
        expected = {
            name + suffix: report[title][name.replace("f1", "f1-score")] for name in ("precision", "recall", "f1")
        }
        assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert int(metric.true.sum()) == report["micro avg"]["support"]


@MODES
def test_scores_equal_seqeval(mode: Mode) -> None:
    true, found, lengths = random_tags()
    metric = SpanScores(TYPES)
    metric.update(spans(found, lengths, mode), spans(true, lengths, mode))
    agree_with_seqeval(metric, true, found, lengths, mode)


def compared(task: Ner, true: Tensor, found: Tensor, lengths: Tensor) -> Iterator[tuple[Any, ...]]:
    """What the task's metrics are updated with, 250 texts at a time; each piece is a character long."""
    for start in range(0, len(found), 250):
        rows = slice(start, start + 250)
        texts = [schemes.spans(tags) for tags in names(true[rows], lengths[rows])]
        entities = [[n for first, end, kind in text for n in (first, end, TYPES.index(kind))] for text in texts]
        places = torch.arange(found.size(1)).expand(len(texts), -1)
        batch = {
            "pieces": lengths[rows],
            "starts": places,
            "ends": places + 1,
            "entities": torch.tensor([text + [-1] * (30 - len(text)) for text in entities]),
        }
        yield task.compare({"tags": found[rows], "scores": torch.ones(places.shape)}, batch)


@MODES
def test_the_scoring_that_a_user_chose_equals_seqeval_over_batches_and_processes(
    mode: Mode, make_task: MakeTask
) -> None:
    true, found, lengths = random_tags()
    true = mended(true)  # no file with others is read
    task = make_task(labels=TYPES, transitions="none", scoring=mode)
    processes: list[Any] = [task.build_metrics()["spans"] for _ in range(2)]
    for number, spans_of_batch in enumerate(compared(task, true, found, lengths)):
        processes[number % 2].update(*spans_of_batch)
    processes[0].merge_state(processes[1])
    agree_with_seqeval(processes[0], true, found, lengths, mode)


@pytest.mark.parametrize("legal", [True, False])
def test_scoring_matters_where_tags_are_illegal_alone(legal: bool, make_task: MakeTask) -> None:
    true, found, lengths = random_tags()
    scores = {}
    for mode in ("strict", "conlleval"):
        task = make_task(labels=TYPES, transitions="none", scoring=mode)
        metrics = task.build_metrics()
        for spans_of_batch in compared(task, mended(true), mended(found) if legal else found, lengths):
            metrics.update(*spans_of_batch)
        scores[mode] = as_numbers(metrics.compute())
    assert (scores["strict"] == scores["conlleval"]) is legal


def test_tables_begin_with_f1_and_end_with_errors_and_loss(make_task: MakeTask) -> None:
    metrics = MetricCollection({"spans": SpanScores(["b", "a"])})
    metrics.update(torch.tensor([[0, 0, 2, 0]]), torch.tensor([[0, 0, 2, 1]]))
    scores = {"loss": 0.5, **{name: float(value) for name, value in values_of(make_task(), metrics).items()}}
    _, rows = score_table(scores, {})
    by_type = ["f1/b", "f1/a", "precision/b", "precision/a", "recall/b", "recall/a"]
    errors = [f"errors/{name}" for name in ERRORS]
    assert [row[0] for row in rows] == ["f1", "precision", "recall", "f1_macro", *by_type, *errors, "loss"]


def test_scores_by_hand() -> None:
    scores = scored([[0, 0, 2, 0], [0, 3, 4, 1], [1, 0, 1, 0]], [[0, 0, 2, 0], [0, 3, 4, 2]])
    expected = dict.fromkeys(scores, 0.0) | {
        "precision": 1 / 3,
        "recall": 1 / 2,
        "f1": 2 / 5,
        "precision/person": 1 / 2,
        "recall/person": 1.0,
        "f1/person": 2 / 3,
        "f1_macro": 2 / 9,  # over three types: the fourth occurs nowhere
        "errors/type": 1.0,
        "errors/spurious": 1.0,
    }
    assert scores == pytest.approx(expected)
    of_types = [f"{score}/{name}" for score in ("precision", "recall", "f1") for name in TYPES]
    assert set(scores) == {"precision", "recall", "f1", "f1_macro", *of_types, *(f"errors/{name}" for name in ERRORS)}


def test_of_nothing_all_is_zero() -> None:
    assert set(scored([], []).values()) == {0.0}


@pytest.mark.parametrize(
    ("found", "true", "errors"),
    [
        ([[0, 1, 3, 0]], [[0, 1, 3, 1]], {"type": 1}),
        ([[0, 1, 3, 0]], [[0, 2, 5, 0]], {"boundary": 1}),
        ([[0, 1, 3, 0]], [[0, 2, 5, 1]], {"both": 1}),
        ([[0, 1, 3, 0]], [[0, 3, 5, 0]], {"spurious": 1, "missing": 1}),  # side by side
        ([[0, 1, 3, 0]], [[1, 1, 3, 0]], {"spurious": 1, "missing": 1}),  # in another text
        ([[0, 0, 2, 0], [0, 2, 5, 0]], [[0, 0, 5, 0]], {"boundary": 1, "spurious": 1}),  # one partner each
        ([[0, 0, 5, 0]], [[0, 0, 2, 1], [0, 2, 5, 0]], {"boundary": 1, "missing": 1}),  # the one that shares more
        ([[0, 0, 4, 0]], [[0, 0, 2, 1], [0, 2, 4, 0]], {"both": 1, "missing": 1}),  # of equals the first
        ([[0, 0, 9, 0], [0, 0, 2, 1]], [[0, 0, 2, 0]], {"type": 1, "spurious": 1}),  # the same tokens first
    ],
)
def test_kinds_of_errors_by_hand(found: list[list[int]], true: list[list[int]], errors: dict[str, int]) -> None:
    scores = scored(found, true)
    assert {name: scores[f"errors/{name}"] for name in ERRORS} == dict.fromkeys(ERRORS, 0) | errors


def random_spans(rows: int) -> list[list[int]]:
    """Spans of any kind, also such as overlap each other or occur twice."""
    numbers = torch.randint(0, 7, (5 * rows, 4))
    return [
        [row % rows, first, first + 1 + size % 3, kind % 2]
        for row, (first, size, kind, _) in enumerate(numbers.tolist())
    ]


def slow_errors(found: list[list[int]], true: list[list[int]]) -> dict[str, int]:
    """The definition word by word: again and again the best pair of all that are left."""
    tokens = [[{(row, token) for token in range(a, b)} for row, a, b, _ in side] for side in (found, true)]
    ours, theirs = list(range(len(found))), list(range(len(true)))
    counts = dict.fromkeys((*ERRORS, "right"), 0)
    while True:
        best = None
        for i in ours:
            for j in theirs:
                shared = len(tokens[0][i] & tokens[1][j])
                same = tokens[0][i] == tokens[1][j]
                worth = (same and found[i][3] == true[j][3], same, shared)
                if shared and (best is None or worth > best[0]):
                    best = worth, i, j
        if best is None:
            return counts | {"spurious": len(ours), "missing": len(theirs)}
        (right, same, _), i, j = best
        wrong = {(True, False): "type", (False, True): "boundary", (False, False): "both"}
        counts["right" if right else wrong[same, found[i][3] == true[j][3]]] += 1
        ours.remove(i)
        theirs.remove(j)


def test_kinds_of_errors_equal_the_slow_reference_text_by_text() -> None:
    torch.manual_seed(0)
    found, true = random_spans(200), random_spans(200)
    metric, expected = SpanScores(["a", "b"]), dict.fromkeys((*ERRORS, "right"), 0)
    metric.update(torch.tensor(found), torch.tensor(true))
    for row in range(200):
        for name, count in slow_errors(*([span for span in side if span[0] == row] for side in (found, true))).items():
            expected[name] += count
    scores = as_numbers(metric.compute())
    assert {name: scores[f"errors/{name}"] for name in ERRORS} | {"right": int(metric.right.sum())} == expected
    assert min(expected.values()) > 20
    wrong = sum(expected[name] for name in ("type", "boundary", "both"))
    assert len(found) == expected["right"] + wrong + expected["spurious"]
    assert len(true) == expected["right"] + wrong + expected["missing"]


def test_match_gives_places_on_both_sides() -> None:
    found, true = [[0, 0, 1, 0], [0, 4, 6, 0]], [[0, 5, 7, 0], [0, 8, 9, 0], [0, 0, 1, 0]]
    assert sorted(match(found, true)) == [(0, 2), (1, 0)]


def test_two_processes_and_many_batches_are_as_one() -> None:
    true, found, lengths = random_tags()
    whole, first, second = (SpanScores(TYPES) for _ in range(3))
    whole.update(spans(found, lengths), spans(true, lengths))
    for start in range(0, 2000, 250):
        rows = slice(start, start + 250)
        process = (first, second)[start // 250 % 2]
        process.update(spans(found[rows], lengths[rows]), spans(true[rows], lengths[rows]))
    first.merge_state(second)
    assert as_numbers(first.compute()) == as_numbers(whole.compute())
    assert whole.errors.min() > 0


def test_reset_forgets() -> None:
    metric = SpanScores(TYPES)
    metric.update(torch.tensor([[0, 0, 2, 0]]), torch.tensor([[0, 0, 2, 1]]))
    metric.reset()
    metric.update(torch.zeros(0, 4, dtype=torch.int64), torch.zeros(0, 4, dtype=torch.int64))
    assert set(as_numbers(metric.compute()).values()) == {0.0}


def test_scores_pass_through_a_collection_as_single_numbers_that_lightning_logs(make_task: MakeTask) -> None:
    metrics = MetricCollection({"entities": SpanScores(["a/b", "creative-work"])})
    metrics.update(torch.tensor([[0, 0, 2, 0]]), torch.tensor([[0, 0, 2, 1]]))
    values = values_of(make_task(), metrics)
    assert {"f1", "f1_macro", "f1/a/b", "f1/creative-work", "errors/type"} <= set(values)
    assert all(value.is_floating_point() and value.shape == () for value in values.values())
    assert values["errors/type"] == 1
