"""What the task is judged by: metrics that are numbers, and one that chooses the best step."""

from __future__ import annotations

import math
from typing import Any

from torchmetrics import Metric

from nlpkit.testing.check import check, require
from nlpkit.testing.under_test import TaskUnderTest

_ABOVE = "the metric's class says higher_is_better = True, or Task.score names another, or 'loss'"


@check("A score that is no number chooses no step, and cannot be written to results.json.", needs=("loss_is_finite",))
def metrics_are_finite(it: TaskUnderTest) -> None:
    """Metrics are finite numbers, and the one that chooses the best step is among them."""
    scores = it.scores(it.batch())
    require(bool(scores), "build_metrics gives no metric", "return a MetricCollection with one at least")
    odd = [f"{name} is {value}" for name, value in scores.items() if not math.isfinite(value)]
    require(
        not odd, ", ".join(odd), "say what a metric is where there is nothing to count: zero_division, clamp(min=1)"
    )
    require(
        it.task.score == "loss" or it.task.score in scores,
        f"Task.score is '{it.task.score}', the metrics are {', '.join(sorted(scores))}",
        "name one of them, or 'loss'",
    )


@check("Each score of the dev part would be mixed with those before it.", needs=("metrics_are_finite",))
def metrics_start_anew(it: TaskUnderTest) -> None:
    """After reset a metric has forgotten what it was updated with."""
    metrics = it.task.build_metrics()
    first = it.scores(it.batch(), metrics)
    metrics.reset()
    for row in range(len(it.examples) // 2):
        it.scores(it.batch(row), metrics)
    metrics.reset()
    again = it.scores(it.batch(), metrics)
    odd = [
        f"{name} is {first[name]:.4f} and {again[name]:.4f}" for name in first if abs(first[name] - again[name]) > 1e-6
    ]
    require(not odd, f"before and after reset {', '.join(odd)}", "keep sums in states that Metric.add_state makes")


@check(
    "Training keeps the step with the highest score; of an error rate it would keep the worst.",
    needs=("metrics_are_finite",),
)
def score_has_a_direction(it: TaskUnderTest) -> None:
    """The metric that chooses the best step says that higher is better; 'loss' alone is better lower."""
    if it.task.score == "loss":
        return
    chosen = _metric_of(it)
    direction = next((m.higher_is_better for m in chosen if m.higher_is_better is not None), None)
    name = f"'{it.task.score}' ({type(chosen[0]).__name__})"
    require(direction is not None, f"{name} does not say whether higher is better", _ABOVE)
    require(
        bool(direction),
        f"{name} says that lower is better, nlpkit keeps the highest",
        f"turn it round, so that {_ABOVE}",
    )


def _metric_of(it: TaskUnderTest) -> list[Any]:
    """The metric that Task.score is a value of, and those that it wraps."""
    metrics = it.task.build_metrics()
    it.scores(it.batch(), metrics)
    found: list[Any] = []
    for name, metric in metrics.items(keep_base=False, copy_state=False):
        value = metric.compute()
        keys = (
            [name, *(f"{prefix}{key}" for key in value for prefix in ("", f"{name}_"))]
            if isinstance(value, dict)
            else [name]
        )
        if it.task.score in keys:
            found.append(metric)
    while isinstance(inner := getattr(found[-1], "metric", None), Metric):
        found.append(inner)
    return found


@check("Training would keep a step that has learnt less.", needs=("metrics_are_finite", "learns_a_few_examples"))
def learning_raises_the_score(it: TaskUnderTest) -> None:
    """The score that chooses the best step is no lower on examples that were learnt by heart than before."""
    if it.task.score == "loss":
        return
    batch = it.batch()
    before = it.scores(batch)[it.task.score]
    it.learn_by_heart()
    after = it.scores(batch)[it.task.score]
    require(
        after >= before,
        f"'{it.task.score}' was {before:.4f} before, and is {after:.4f} when the loss is a fifth of what it was",
        "see that compare gives metrics what they expect, and that the score is better when it is higher",
    )
