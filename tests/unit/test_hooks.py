"""Every hook and every method of a task in the reference, by a plugin that has them: what nlpkit calls, and when."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from plugin_site import mood

import nlpkit
from nlpkit.plugins import Registry

PAGE = Path(nlpkit.__file__).parents[1] / "docs" / "reference" / "hooks.md"


def named(pattern: str) -> set[str]:
    """Headings of the reference."""
    return set(re.findall(rf"^### {pattern}$", PAGE.read_text("utf-8"), re.MULTILINE))


GIVES: dict[str, tuple[str, Callable[[Registry], bool]]] = {
    "nlpkit_tasks": (
        "[type('Mood', (nlpkit.Task,), {'name': 'moods', **dict.fromkeys(nlpkit.Task.__abstractmethods__, len)})]",
        lambda found: found.task("moods", stage="finetune").__name__ == "Mood",
    ),
    "nlpkit_datasets": (
        "{'log': nlpkit.Dataset(lambda path: [{'text': path}])}",
        lambda found: found.dataset("log").read("b.log") == [{"text": "b.log"}],
    ),
    "nlpkit_heads": (
        "{'pair': lambda task, backbone: (task, backbone)}",
        lambda found: found.head("pair")("task", "backbone") == ("task", "backbone"),
    ),
    "nlpkit_metrics": ("{'same': lambda task: task}", lambda found: found.metric("same")("task") == "task"),
}
"""Hook -> what it gives, and whether a registry has got it."""


@pytest.mark.parametrize("hook", sorted(named(r"(nlpkit_\w+)")))
def test_hook_is_called_and_what_it_gives_is_found(hook: str, tmp_path: Path) -> None:
    source, is_found = GIVES[hook]
    path = tmp_path / "one_hook.py"
    path.write_text(f"import nlpkit\n\n@nlpkit.hookimpl\ndef {hook}():\n    return {source}\n", "utf-8")
    assert is_found(Registry([str(path)], enabled=()))


CALLED_IN = {
    "check": "fit evaluate predict",
    "named_columns": "fit evaluate predict",
    "labels_of": "fit evaluate",
    "select": "fit",
    "prepare": "fit",
    "extra_tokens": "fit",
    "unfold": "fit",
    "encode": "fit evaluate predict",
    "lengths": "fit evaluate predict",
    "kind": "fit evaluate predict",
    "build_head": "fit evaluate predict",
    "start": "fit",
    "build_metrics": "fit evaluate predict",
    "collate": "fit evaluate predict",
    "as_predicted": "fit evaluate",
    "compare": "fit evaluate",
    "decode": "predict",
    "complete": "predict",
    "page": "predict",
    "about_scores": "fit evaluate",
    "baselines": "fit",
    "ready": "fit evaluate predict",
}
"""Method of a task -> the commands that call it; of `predict` with ``--html``."""
NOTED = """
import inspect

class Noted(Mood):
    name = "noted"

def noted(name):
    def call(self, *given):
        with open({calls!r}, "a") as stream:
            print(name, file=stream)
        return getattr(super(Noted, self), name)(*given)
    return classmethod(call) if isinstance(inspect.getattr_static(Mood, name), classmethod) else call

for name in {methods!r}:
    setattr(Noted, name, noted(name))

@nlpkit.hookimpl
def nlpkit_tasks():
    return [Noted]
"""
TINY = ("model.preset=tiny", "model.vocabulary=300", "model.sequence_length=32", "trainer.max_steps=2")


@pytest.fixture(scope="module")
def called(command: Any, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, set[str]]:
    """Command -> the methods that it called of a task which notes each."""
    work = tmp_path_factory.mktemp("noted")
    calls, plugin, run, data = work / "calls", work / "noted.py", work / "run", work / "moods.csv"
    noted = NOTED.format(calls=str(calls), methods=list(CALLED_IN))
    plugin.write_text(mood("    def page(self, rows):\n        yield str(list(rows))", noted))
    rows = [f"one {feeling} day of {days},{feeling}\n" for feeling in ("glad", "sad") for days in range(20)]
    data.write_text("".join(["text,label\n", *rows]))
    found = {}
    for verb, *more in (
        ("fit", "--task", "noted", data, "--out", run, *TINY),
        ("evaluate", run, data),
        ("predict", run, data, "--html", work / "page.html"),
    ):
        calls.write_text("")
        ended = command(verb, *more, "--plugin", plugin)
        assert ended.code == 0, ended.err
        found[verb] = set(calls.read_text().split())
    return found


@pytest.mark.parametrize("method", sorted(named(r"Task\.(\w+)")))
def test_method_of_a_task_is_called_by_these_commands(method: str, called: Mapping[str, set[str]]) -> None:
    assert " ".join(verb for verb, methods in called.items() if method in methods) == CALLED_IN[method]
