"""What the task leaves in files: a model that answers as before, made of plain values alone."""

from __future__ import annotations

import io
import re
import tempfile
import warnings
from pathlib import Path

import torch

from nlpkit.testing.alike import difference
from nlpkit.testing.check import Finding, check, require
from nlpkit.testing.under_test import TaskUnderTest, answers_of


@check(
    "The model of a run would not be the one that was trained and scored.",
    needs=("answers_are_json", "settings_are_described", "loss_is_finite"),
)
def saved_and_loaded_is_the_same(it: TaskUnderTest) -> None:
    """A model that was trained for a step, saved and loaded gives the same answers."""
    it.learn(1)
    expected = it.answers(it.batch())
    with tempfile.TemporaryDirectory() as folder:
        it.save(Path(folder) / "model")
        found = answers_of(Path(folder) / "model", type(it.task), it.examples)
    for row, (trained, loaded) in enumerate(zip(expected, found, strict=True)):
        other = difference(trained, loaded)
        require(
            not other,
            f"{it.named(row)}, trained and loaded: {other}",
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
        refused = re.search(r"GLOBAL (\S+)", str(error))
        what = refused[1] if refused else f"it: {type(error).__name__}"
        raise Finding(f"of a checkpoint torch.load(weights_only=True) refuses {what}", advice) from None
    lost = it.again().module.load_state_dict(state, strict=False)
    names = [*lost.missing_keys, *lost.unexpected_keys]
    require(not names, f"a checkpoint does not fit the same task: {', '.join(names)}", "make all states in __init__")
