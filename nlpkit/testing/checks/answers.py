"""What the task answers, and that an answer depends on its example alone."""

from __future__ import annotations

import copy
import json
import math

import torch

from nlpkit.task import Batch
from nlpkit.testing.alike import ROUNDING, TOLERANCE, apart, difference
from nlpkit.testing.check import Finding, check, require
from nlpkit.testing.under_test import TaskUnderTest


@check(
    "`nlpkit predict` writes a line of JSON for each text; where one is missing, all later ones are of another text."
)
def answers_are_json(it: TaskUnderTest) -> None:
    """decode gives one JSON object for each example of a batch."""
    answers = it.answers(it.batch())
    require(
        isinstance(answers, list) and len(answers) == len(it.examples),
        f"{len(answers)} answers for {len(it.examples)} examples",
        "return a list from decode, with one dict for each example",
    )
    for row, answer in enumerate(answers):
        try:
            plain = json.loads(json.dumps(answer, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise Finding(
                f"{it.named(row)}: {error}: {answer!r:.100}", "turn tensors into numbers: .tolist()"
            ) from None
        require(isinstance(plain, dict), f"{it.named(row)}: {plain!r:.100}", "return dicts, such as {'label': 'good'}")


@check(
    "An answer would depend on the length of the longest text that happens to stand in the same batch.",
    needs=("answers_are_json",),
)
def padding_changes_nothing(it: TaskUnderTest) -> None:
    """Padding behind an example changes neither its answer nor its loss."""
    lengths = [len(it.samples.features(row)["input_ids"]) for row in range(len(it.examples))]
    longest = lengths.index(max(lengths))
    shorter = [row for row, length in enumerate(lengths) if length < lengths[longest]]
    require(bool(shorter), f"all examples have {lengths[0]} tokens, so none is padded", "give examples of many lengths")
    advice = (
        'leave out places where batch["attention_mask"] is 0, and declare padding of labels as -100 in Task.padding'
    )
    it.nudged().module.eval()
    for row in shorter:
        padded = _first_of_two(it.batch(row, longest))
        if padded is None:  # its rows are not those of examples; that it has company says the rest
            return
        batches = it.batch(row), padded
        behind = f"{it.named(row)}, alone and padded from {lengths[row]} to {lengths[longest]} tokens: "
        with torch.no_grad():
            losses = [float(it.loss(batch)) for batch in batches]
        same = abs(losses[0] - losses[1]) <= TOLERANCE * max(1.0, abs(losses[0]))
        odd = not all(map(math.isfinite, losses))  # which is another check's matter
        require(same or odd, f"{behind}the loss is {losses[0]:.5g} and {losses[1]:.5g}", advice)
        before, after = (it.predictions(batch, 1)[0] for batch in batches)
        other = apart(before, after, ROUNDING) or difference(it.answers(batches[0])[0], it.answers(batches[1])[0])
        require(not other, behind + other, advice)


def _first_of_two(batch: Batch) -> Batch | None:
    """The first of two examples, still padded to the longer; None where rows are not those of examples."""
    if any(values.ndim == 0 or len(values) != 2 for values in batch.values()):
        return None
    return {key: values[:1] for key, values in batch.items()}


@check(
    "An answer would depend on which texts happen to be predicted together.",
    needs=("answers_are_json", "padding_changes_nothing"),
)
def company_changes_nothing(it: TaskUnderTest) -> None:
    """An example gets the same answer alone and in a batch of many."""
    count = len(it.examples)
    batch, each = it.nudged().batch(), [it.batch(row) for row in range(count)]
    alone, together = [it.predictions(one, 1)[0] for one in each], it.predictions(batch, count)
    for row, answer in enumerate(it.answers(batch)):
        # a tensor has a row for each example only if it has one row for every one that is alone
        mine = {place: values for place, values in alone[row].items() if all(place in one for one in alone)}
        other = apart(mine, together[row], ROUNDING) or difference(it.answers(each[row])[0], answer)
        require(
            not other,
            f"{it.named(row)}, alone and in a batch of {count}: {other}",
            "compute no mean, maximum or norm over the first dimension of a batch, which is that of examples",
        )


@check(
    "What is computed next from the same batch would be wrong: training scores, predicts and compares one batch.",
    needs=("loss_is_finite",),
)
def batch_is_not_changed(it: TaskUnderTest) -> None:
    """Head, decode and compare leave the batch as it is."""
    batch = it.batch()
    before = copy.deepcopy(batch)
    steps = {
        "the loss was computed": lambda: it.loss(batch),
        "it was predicted and decoded": lambda: it.answers(batch),
        "it was compared": lambda: it.task.compare(it.module.predictions(batch), batch),
    }
    for step, run in steps.items():
        with torch.no_grad():
            run()
        keys = sorted(set(batch) ^ set(before))
        keys += [k for k in batch if k in before and not torch.equal(batch[k], before[k])]
        require(not keys, f"after {step}, {', '.join(keys)} changed", "work on a copy: batch[key].clone(), dict(batch)")
