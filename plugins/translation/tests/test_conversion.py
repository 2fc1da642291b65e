"""A model is converted once, whoever else does it at the same time, and never taken for another."""

from __future__ import annotations

import logging
import multiprocessing
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nlpkit_translation import Translation
from nlpkit_translation.conversion import convert, converted
from transformers import BartConfig

import nlpkit
from nlpkit import TaskModule, bundle
from nlpkit.errors import ModelError, UsageError
from nlpkit.files import verify_manifest
from nlpkit.plugins import Registry

pytest.importorskip("ctranslate2", reason="the extra ct2 is not installed")
TEXTS = ["the dog sleeps under the table", "we read"]


@pytest.fixture
def save(make_task: Callable[..., Translation], make_module: Callable[..., TaskModule]) -> Callable[[Path], Path]:
    """Save a tiny model as a folder; one of another prefix is another model."""

    def make(folder: Path, **changes: Any) -> Path:
        task = make_task(**changes)
        module = make_module(task)
        bundle.save(folder, task, module.backbone, module.head, {}, Registry())
        return folder

    return make


def written(model: Path, engine: str = "ct2") -> list[dict[str, Any]]:
    return nlpkit.load(model, overrides=f"task.engine={engine}").predict(TEXTS)


def test_it_is_kept_beside_the_model_for_all_engines(save: Any, tmp_path: Path) -> None:
    model = save(tmp_path / "model")
    written(model)
    made = (tmp_path / "model-ct2" / "model.bin").stat().st_mtime_ns
    written(model, "ct2-int8")
    assert (tmp_path / "model-ct2" / "model.bin").stat().st_mtime_ns == made
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model-ct2"]


def test_that_of_a_model_which_stood_there_before_is_refused(save: Any, tmp_path: Path) -> None:
    model = save(tmp_path / "model")
    written(model)
    save(model, prefix="other ")
    with pytest.raises(ModelError) as caught:
        written(model)
    target = tmp_path / "model-ct2"
    assert caught.value.message == f"{target}: converted from another model that stood here"
    assert caught.value.hint == f"rm -r {target}"
    shutil.rmtree(target)
    assert written(model) == written(model, "torch")


def test_a_damaged_one_is_refused(save: Any, tmp_path: Path) -> None:
    model = save(tmp_path / "model")
    written(model)
    weights = tmp_path / "model-ct2" / "model.bin"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ModelError, match="the file is damaged"):
        written(model)


def test_what_was_made_first_stays(save: Any, tmp_path: Path) -> None:
    model, target = save(tmp_path / "model"), tmp_path / "model-ct2"
    convert(model, target)
    before = target.stat().st_ino
    convert(model, target)  # by somebody who began when there was none
    assert target.stat().st_ino == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model-ct2"]


def test_processes_that_make_it_at_the_same_time_share_the_first(save: Any, tmp_path: Path) -> None:
    model, processes = save(tmp_path / "model"), multiprocessing.get_context("fork")
    start, found = processes.Barrier(2), processes.Queue()

    def use() -> None:
        start.wait(60)
        with converted(model) as folder:
            verify_manifest(folder)
            found.put(folder.stat().st_ino)

    together = [processes.Process(target=use) for _ in range(2)]
    for one in together:
        one.start()
    for one in together:
        one.join(60)
    assert [one.exitcode for one in together] == [0, 0]
    assert {found.get(timeout=5) for _ in together} == {(tmp_path / "model-ct2").stat().st_ino}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model-ct2"]


def test_where_nothing_can_be_written_it_is_made_for_the_time_being(
    save: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = "m" * 240  # beside which nobody can write, not even root: names end at 255 bytes
    model = save(tmp_path / "model").rename(tmp_path / name)
    with caplog.at_level(logging.WARNING, "nlpkit"):
        assert written(model) == written(model, "torch")
    reason = "cannot be written (File name too long)"
    what = "converted for this time alone; to keep it, copy the folder to where you may write"
    assert caplog.messages == [f"{tmp_path / name}-ct2: {reason}; {what}"]
    assert list(tmp_path.iterdir()) == [model]


def test_without_the_package_the_hint_installs_it(save: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    with pytest.raises(UsageError, match="needs the package ctranslate2") as caught:
        written(save(tmp_path / "model"))
    assert caught.value.hint == "pip install 'nlpkit-translation[ct2]', or --engine torch"


def test_a_family_that_it_does_not_know_is_refused_before_anything_is_learnt(make_task: Any) -> None:
    with pytest.raises(UsageError) as caught:
        make_task(engine="ct2").build_head(BartConfig())
    assert caught.value.message == "--engine ct2 knows no model of the family bart"
