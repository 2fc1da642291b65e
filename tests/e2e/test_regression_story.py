"""A task whose answer is a number, as docs/how-to/regression.md has it: its best step, gates, and labels."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs/how-to/regression.md"
TINY = ("model.preset=tiny", "model.vocabulary=300", "trainer.max_steps=2")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("numbers")
    code = re.search(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.S)
    assert code
    rows = "".join(f"please answer number {i} today,8\nno hurry with {i},1.5\n" for i in range(20))
    (folder / "urgency.py").write_text(code[1])
    (folder / "messages.csv").write_text(f"message,urgency\n{rows}")
    return folder


def changed(work: Path, old: str, new: str) -> Path:
    code = (work / "urgency.py").read_text()
    assert code.count(old) == 1
    path = work / "changed.py"
    path.write_text(code.replace(old, new))
    return path


def fit(command: Any, work: Path, plugin: Path, out: str) -> Any:
    given = ("--task", "urgency", "--plugin", plugin, "--out", work / out)
    return command("fit", work / "messages.csv", *given, *TINY)


def error(ended: Any) -> str:
    return next(line for line in ended.err.splitlines() if line.startswith("error: "))


def test_error_rate_is_evaluated_and_is_no_gate(work: Path, command: Any) -> None:
    assert fit(command, work, work / "urgency.py", "run").code == 0
    arguments = ("evaluate", work / "run", work / "messages.csv", "--plugin", work / "urgency.py")
    found = json.loads(command(*arguments, "--json").out)
    assert found["lower_is_better"] == ["mae"]
    gate = command(*arguments, "--fail-under", "mae=1")
    assert (gate.code, error(gate)) == (2, "error: --fail-under mae: a lower mae is better, so this gate says nothing")


def test_error_rate_does_not_choose_the_best_step(work: Path, command: Any) -> None:
    ended = fit(command, work, changed(work, 'name = "urgency"', 'name, score = "urgency", "mae"'), "worst")
    assert (ended.code, (work / "worst").exists()) == (5, False)
    assert "Urgency.score is 'mae', of which a lower one is better, and the step with the highest is kept" in ended.err


def test_text_in_place_of_a_number_is_named_with_its_row(work: Path, command: Any) -> None:
    plugin = changed(work, '= float(example["urgency"])', '= example["urgency"]')
    ended = fit(command, work, plugin, "text")
    assert (ended.code, (work / "text").exists()) == (5, False)
    said = f"Urgency.encode gives 'labels' with '8', expected a number or a list of integers; at {work}/messages.csv:2"
    assert said in error(ended)
