"""Plugins as `plugins new` writes them: found like any other, they learn from samples and pass their own tests."""

from __future__ import annotations

import csv
import importlib
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nlpkit import TaskConfig
from nlpkit.scaffold import FORMS, new_plugin
from nlpkit.testing import check_task

FIELDS = {
    "classification": (["text"], ["label", "score"]),
    "multilabel": (["text"], ["labels", "scores"]),
    "regression": (["text"], ["value"]),
    "pair": (["first", "second"], ["label", "score"]),
    "generation": (["source"], ["target"]),
}
"""Form -> what new rows have, and what answers add."""
SHORT = ("trainer.max_steps=2", "trainer.accelerator=cpu")


def installed(form: str, folder: Path) -> Path:
    """Write a plugin, and beside it what an installation would say of it."""
    new_plugin(f"new-{form}", form, folder)
    project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
    name, version, entries = project["name"], project["version"], project["entry-points"]["nlpkit"]
    metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (metadata / "entry_points.txt").write_text("[nlpkit]\n" + "".join(f"{k} = {v}\n" for k, v in entries.items()))
    return folder


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """One of each form, on ``sys.path``."""
    home = tmp_path_factory.mktemp("plugins")
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("NLPKIT_PLUGINS", raising=False)
        folders = {form: installed(form, home / form) for form in FORMS}
        patch.setattr(sys, "path", [*map(str, folders.values()), *sys.path])
        yield folders
    for name in set(sys.modules) - before:
        if name.startswith("nlpkit_new_"):
            del sys.modules[name]


def rows_of(folder: Path) -> list[dict[str, str]]:
    (sample,) = folder.glob("nlpkit_new_*/sample.csv")
    with open(sample, encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_new_plugins_are_listed_and_sound(plugins: dict[str, Path], command: Any) -> None:
    listed = {task["name"]: task for task in json.loads(command("tasks", "--json").out)}
    told = json.loads(command("plugins", "doctor", "--json").out)
    sound = {plugin["name"]: plugin for plugin in told["plugins"] if plugin["ok"]}
    for form in FORMS:
        assert listed[f"new-{form}"]["summary"]
        assert sound[f"new-{form}"]["tasks"] == [f"new-{form}"]
    assert told["problems"] == []


@pytest.mark.parametrize("form", FIELDS)
def test_new_plugin_learns_from_its_sample_and_answers(
    plugins: dict[str, Path], command: Any, tmp_path: Path, form: str
) -> None:
    fit = command("fit", "--task", f"new-{form}", "--out", tmp_path / "run", *SHORT)
    assert fit.code == 0, fit.err
    simple = json.loads((tmp_path / "run/results.json").read_text()).get("baselines", {})
    assert list(simple) == {"regression": ["mean"], "generation": []}.get(form, ["majority"])

    needed, answered = FIELDS[form]
    with open(tmp_path / "new.csv", "w", encoding="utf-8") as file:
        writer = csv.DictWriter(file, needed, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows_of(plugins[form]))
    predicted = command("predict", tmp_path / "run", tmp_path / "new.csv")
    assert predicted.code == 0, predicted.err
    answers = [json.loads(line) for line in predicted.out.splitlines()]
    assert len(answers) == len(rows_of(plugins[form]))
    assert all(list(answer) == [*needed, *answered] for answer in answers)


def test_new_tagging_learns_has_a_tag_for_each_word_and_refuses_other_numbers(
    plugins: dict[str, Path], command: Any, tmp_path: Path
) -> None:
    assert command("fit", "--task", "new-tagging", "--out", tmp_path / "run", "task.max_length=6", *SHORT).code == 0
    (tmp_path / "new.txt").write_text("add two cups of flour, cream and 🙂 to the bowl\n", "utf-8")
    answer = json.loads(command("predict", tmp_path / "run", tmp_path / "new.txt").out)
    assert list(answer) == ["text", "tags"]
    assert len(answer["tags"]) == len(answer["text"].split())

    (tmp_path / "odd.csv").write_text("text,tags\ncut onions,O FOOD\nboil rice,O\n", "utf-8")
    odd = command("evaluate", tmp_path / "run", tmp_path / "odd.csv")
    assert odd.code == 3
    assert f"error: {tmp_path}/odd.csv:3: 2 words and 1 tags\nhint: give each word one tag\n" in odd.err


@pytest.mark.parametrize("form", FORMS)
def test_new_plugin_keeps_the_contract(plugins: dict[str, Path], form: str) -> None:
    module = importlib.import_module(f"nlpkit_new_{form}")
    task = getattr(module, f"New{form.title()}")
    config = TaskConfig(max_length=16) if form == "generation" else None  # as in the plugin's own tests
    check_task(task, rows_of(plugins[form])[:8], config=config)


def test_new_plugin_passes_its_own_tests(plugins: dict[str, Path], tmp_path: Path) -> None:
    """Without those that take the longest, which `test_new_plugin_keeps_the_contract` has."""
    path = os.pathsep.join([str(plugins["classification"]), *filter(None, sys.path)])
    options = ("-k", "not process", "-p", "no:cacheprovider", "--basetemp", str(tmp_path / "of-tests"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *options],
        cwd=plugins["classification"],
        env={**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout
