"""What the task leaves in files: a model that answers as before, made of plain values alone."""

from __future__ import annotations

import io
import tempfile
import warnings
from pathlib import Path

import torch

from nlpkit.testing.check import Finding, check, require
from nlpkit.testing.under_test import TaskUnderTest, difference


@check("The model of a run would not be the one that was trained and scored.", needs=("answers_are_json",))
def saved_and_loaded_is_the_same(it: TaskUnderTest) -> None:
    """A model that was trained for a step, saved and loaded gives the same answers."""
    it.learn(1)
    expected = it.answers(it.batch())
    with tempfile.TemporaryDirectory() as folder:
        it.save(Path(folder) / "model")
        it.load(Path(folder) / "model")
    other = difference(expected, it.answers(it.batch()))
    require(
        not other,
        f"saved and loaded {other}",
        "keep what the head learns in parameters and buffers, and what the task knows in its settings",
    )


@check(
    "nlpkit runs no code from files, so a run with such a checkpoint could not be resumed.",
    needs=("saved_and_loaded_is_the_same",),
)
def files_hold_plain_values(it: TaskUnderTest) -> None:
    """Weights and states of metrics are tensors and plain values: torch loads them with weights_only=True."""
    advice = "keep tensors, numbers and texts in states, in lists and dicts; nothing else in get_extra_state"
    file = io.BytesIO()
    torch.save(it.module.state_dict(), file)
    file.seek(0)
    try:
        with warnings.catch_warnings():  # of pickles that are not torch's own, which are refused
            warnings.simplefilter("ignore")
            state = torch.load(file, weights_only=True)
    except Exception as error:
        raise Finding(f"a checkpoint does not load: {str(error).splitlines()[0]}", advice) from error
    lost = it.again().module.load_state_dict(state, strict=False)
    names = [*lost.missing_keys, *lost.unexpected_keys]
    require(not names, f"a checkpoint does not fit the same task: {', '.join(names)}", "make all states in __init__")
