"""A task whose answer is a number, as `plugins new --form regression` writes it: its best step, gates, and labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nlpkit.scaffold import new_plugin

TINY = ("model.preset=tiny", "model.vocabulary=300", "trainer.max_steps=2")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("numbers")
    new_plugin("urgency", "regression", folder / "new")
    (folder / "new/nlpkit_urgency/__init__.py").rename(folder / "urgency.py")
    rows = "".join(f"please answer number {i} today,8\nno hurry with {i},1.5\n" for i in range(20))
    (folder / "messages.csv").write_text(f"message,urgency\n{rows}")
    return folder


def changed(work: Path, old: str, new: str) -> Path:
    code = (work / "urgency.py").read_text()
    assert code.count(old) == 1
    path = work / "changed.py"
    path.write_text(code.replace(old, new))
    return path


def fit(command: Any, work: Path, plugin: Path, out: str, data: str = "messages.csv") -> Any:
    given = ("--task", "urgency", "--plugin", plugin, "--out", work / out)
    return command("fit", work / data, *given, *TINY)


def error(ended: Any) -> str:
    return next(line for line in ended.err.splitlines() if line.startswith("error: "))


def test_error_rate_is_evaluated_and_is_no_gate(work: Path, command: Any) -> None:
    assert fit(command, work, work / "urgency.py", "run").code == 0
    arguments = ("evaluate", work / "run", work / "messages.csv", "--plugin", work / "urgency.py")
    found = json.loads(command(*arguments, "--json").out)
    assert found["lower_is_better"] == ["mean_error"]
    gate = command(*arguments, "--fail-under", "mean_error=1")
    said = "error: --fail-under mean_error: a lower mean_error is better, so this gate says nothing"
    assert (gate.code, error(gate)) == (2, said)


def test_cell_that_is_no_number_is_refused_with_its_line(work: Path, command: Any) -> None:
    (work / "bad.csv").write_text("message,urgency\nlater,1.5\nno hurry,\nnow,soon\n")
    ended = fit(command, work, work / "urgency.py", "bad", "bad.csv")
    assert (ended.code, error(ended)) == (3, f"error: {work}/bad.csv:4: 'soon' is no number")


def test_error_rate_does_not_choose_the_best_step(work: Path, command: Any) -> None:
    ended = fit(command, work, changed(work, 'score = "loss"', 'score = "mean_error"'), "worst")
    assert (ended.code, (work / "worst").exists()) == (5, False)
    said = "Urgency.score is 'mean_error', of which a lower one is better, and the step with the highest is kept"
    assert said in ended.err


def test_text_in_place_of_a_number_is_named_with_its_row(work: Path, command: Any) -> None:
    plugin = changed(work, '(float(example["value"]) - self.config.mean) / self.config.spread', 'example["value"]')
    ended = fit(command, work, plugin, "text")
    assert (ended.code, (work / "text").exists()) == (5, False)
    said = f"Urgency.encode gives 'labels' with '8', expected a number or a list of numbers; at {work}/messages.csv:2"
    assert said in error(ended)
