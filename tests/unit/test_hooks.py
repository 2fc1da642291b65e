"""Each hook by a plugin that has only this one, and what becomes of it; a test for each is named after it."""

from __future__ import annotations

import inspect
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from nlpkit import hookspecs
from nlpkit.plugins import Registry
from nlpkit.task import Dataset

HOOKS = [name for name, value in vars(hookspecs).items() if hasattr(value, "nlpkit_spec")]


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_has_a_test_named_after_it(hook: str) -> None:
    here = [name for name, value in vars(sys.modules[__name__]).items() if inspect.isfunction(value)]
    assert [name for name in here if name.startswith(f"test_{hook}_")]


def registry(folder: Path, source: str) -> Registry:
    path = folder / "one_hook.py"
    path.write_text("import nlpkit\n\n@nlpkit.hookimpl\n" + textwrap.dedent(source), "utf-8")
    return Registry([str(path)], enabled=())


def test_nlpkit_tasks_gives_classes_that_are_found_by_their_own_names(tmp_path: Path) -> None:
    source = """
    def nlpkit_tasks():
        class Mood(nlpkit.Task):
            name = "mood-of-texts"
            def encode(self, example): return {}
            def build_head(self, backbone): return None
            def build_metrics(self): return None
            def decode(self, predictions, batch): return []
        return [Mood]
    """
    found = registry(tmp_path, source)
    assert found.task("mood-of-texts", stage="finetune").__name__ == "Mood"
    assert found.owner("task", "mood-of-texts").name == "one_hook"


def test_nlpkit_datasets_gives_readers_and_samples_by_name(tmp_path: Path) -> None:
    source = """
    def nlpkit_datasets():
        return {"log": nlpkit.Dataset(lambda path: [{"text": path}]), "some": nlpkit.Dataset(files={"train": "a.csv"})}
    """
    found: dict[str, Dataset] = dict(registry(tmp_path, source).datasets())
    assert list(found["log"].read("x.log")) == [{"text": "x.log"}]
    assert found["some"].files == {"train": "a.csv"}


def test_nlpkit_heads_gives_what_makes_a_head_of_a_task_and_a_backbone(tmp_path: Path) -> None:
    made: Any = registry(tmp_path, 'def nlpkit_heads(): return {"pair": lambda task, backbone: (task, backbone)}\n')
    assert made.head("pair")("a task", "a backbone") == ("a task", "a backbone")


def test_nlpkit_metrics_gives_what_makes_a_metric_of_a_task(tmp_path: Path) -> None:
    made: Any = registry(tmp_path, 'def nlpkit_metrics(): return {"same": lambda task: task}\n')
    assert made.metric("same")("a task") == "a task"
