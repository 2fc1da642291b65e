"""Checkpoints are whole or absent, one is read back before those older are deleted, and no code in one runs."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tiny_runs import run, sentiment

from nlpkit import checkpoints, files
from nlpkit.errors import ModelError, ResourceError

STATE = {"step": 1, "weights": torch.arange(1000.0), "names": ["a"], "rate": 0.5, "nothing": None}


def save(folder: Path, step: int, state: dict[str, Any] | None = None) -> Path:
    path = checkpoints.path_of(folder, step)
    checkpoints.AtomicCheckpointIO().save_checkpoint({**STATE, "step": step} if state is None else state, path)
    return path


def test_checkpoint_comes_back(tmp_path: Path) -> None:
    found = checkpoints.load(save(tmp_path, 7))
    assert torch.equal(found.pop("weights"), STATE["weights"])
    assert found == {"step": 7, "names": ["a"], "rate": 0.5, "nothing": None}


def truncate(size: Callable[[int], int]) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, size(path.stat().st_size))


def flip(place: Callable[[int], int]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[place(len(content))] ^= 1
        path.write_bytes(content)

    return change


DAMAGE: dict[str, Callable[[Path], None]] = {
    "0 bytes": truncate(lambda size: 0),
    "1 byte": truncate(lambda size: 1),
    "100 bytes": truncate(lambda size: 100),
    "half": truncate(lambda size: size // 2),
    "all but one": truncate(lambda size: size - 1),
    "first bit": flip(lambda size: 0),
    "middle bit": flip(lambda size: size // 2),
    "last bit": flip(lambda size: size - 1),
    "gone": lambda path: path.unlink(),
    "no manifest": lambda path: (path.parent / "manifest.json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_newest_is_passed_over_with_a_message(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """C01."""
    before, newest = save(tmp_path, 1), save(tmp_path, 2)
    DAMAGE[damage](newest / "state.ckpt")
    with caplog.at_level(logging.WARNING, "nlpkit"):
        assert checkpoints.newest(tmp_path) == before
    (said,) = caplog.messages
    assert said.startswith(str(newest)) and said.endswith("; going back to an earlier checkpoint")


def test_newest_that_holds_no_plain_values_is_passed_over(tmp_path: Path) -> None:
    """C06: whole by its hashes, and yet nothing that is ever loaded."""
    before, newest = save(tmp_path, 1), save(tmp_path, 2)
    torch.save({"path": Path("a")}, newest / "state.ckpt")
    files.write_manifest(newest)
    assert checkpoints.newest(tmp_path) == before


@pytest.mark.parametrize("value", [np.float64(1.0), Path("a"), object], ids=["numpy", "path", "class"])
def test_state_that_is_not_plain_is_in_no_checkpoint(
    value: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """C21: what a callback keeps is left out and named, anything else refused, and not only on a resume."""
    path = save(tmp_path, 1, {"callbacks": {"Mine": value, "Other": {"n": 1}}})
    assert checkpoints.load(path)["callbacks"] == {"Other": {"n": 1}}
    assert "callbacks: what 'Mine' keeps is more than tensors and plain values" in caplog.text
    with pytest.raises(ModelError, match=r"state.ckpt: no checkpoint of nlpkit \("):
        save(tmp_path, 2, {"state_dict": {"weight": value}})


def test_checkpoints_of_a_run_hold_plain_values_only(tmp_path: Path) -> None:
    """C21."""
    run(tmp_path / "run", sentiment(), epochs=1)
    state = checkpoints.load(checkpoints.newest(tmp_path / "run/checkpoints"))

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            walk(list(value.items()))
        elif isinstance(value, (list, tuple)):
            for inner in value:
                walk(inner)
        else:
            assert type(value) in (str, int, float, bool, type(None), torch.Tensor), type(value)

    walk(state)


def test_one_that_cannot_be_read_back_deletes_none_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """N6: what the disk gives back may differ from what it was given."""
    write, made = files.write_manifest, []

    def rot(folder: Path) -> None:
        write(folder)
        made.append(folder)
        if len(made) == 3:
            DAMAGE["middle bit"](folder / "state.ckpt")

    monkeypatch.setattr(files, "write_manifest", rot)
    with pytest.raises(ModelError, match=r"step-00000003.*its sha256 differs"):
        run(tmp_path / "run", sentiment())
    names = sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir())
    assert names == ["step-00000001", "step-00000002", "step-00000003"]
    assert checkpoints.newest(tmp_path / "run/checkpoints").name == "step-00000002"


def test_two_are_there_until_the_next_was_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D12."""
    seen: list[list[str]] = []
    prove = checkpoints.prove

    def look(folder: Path) -> None:
        seen.append(sorted(path.name for path in folder.parent.glob("step-*")))
        prove(folder)

    monkeypatch.setattr(checkpoints, "prove", look)
    run(tmp_path / "run", sentiment(), epochs=1)
    names = [f"step-{step:08d}" for step in range(1, len(seen) + 1)]
    assert len(seen) > 3
    assert all(set(names[max(0, i - 2) : i + 1]) <= set(found) for i, found in enumerate(seen))


class Stopped(Exception):
    """A kill."""


class Folder(RuleBasedStateMachine):
    """Saves, kills at any rename, damage to the newest, prunes and resumes in any order: the newest whole one is found.

    D11, D14.
    """

    def __init__(self) -> None:
        super().__init__()
        self.path, self.step, self.whole = Path(), 0, set[int]()

    @initialize(step=st.integers(0, 3))
    def begin(self, step: int) -> None:
        self.path, self.step = Path(tempfile.mkdtemp()), step

    @rule()
    def save(self) -> None:
        self.step += 1
        save(self.path, self.step, {"step": self.step})
        self.whole.add(self.step)

    @rule(moment=st.integers(0, 3), again=st.booleans())
    def save_and_be_killed(self, moment: int, again: bool) -> None:
        """At the n-th rename or removal; ``again``: of a step that is saved already, as after a resume."""
        step = self.step if again and self.step in self.whole else self.step + 1
        usual, count = (os.replace, shutil.rmtree), 0

        def killed(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **more: Any) -> None:
                nonlocal count
                count += 1
                if count > moment:
                    raise Stopped
                real(*arguments, **more)

            return call

        os.replace, shutil.rmtree = (killed(real) for real in usual)  # type: ignore[misc]
        try:
            save(self.path, step, {"step": step})
            self.whole.add(step)
        except Stopped:
            pass
        finally:
            os.replace, shutil.rmtree = usual  # type: ignore[misc]
        self.step = max(self.step, step) if (checkpoints.path_of(self.path, step)).exists() else self.step

    @precondition(lambda self: len(self.whole) > 1)
    @rule(how=st.sampled_from(sorted(DAMAGE)))
    def damage(self, how: str) -> None:
        newest = max(self.whole)
        state = checkpoints.path_of(self.path, newest) / "state.ckpt"
        if state.exists():
            DAMAGE[how](state)
            self.whole.discard(newest)

    @precondition(lambda self: self.whole)
    @rule()
    def prune(self) -> None:
        newest = int(checkpoints.newest(self.path).name.removeprefix("step-"))
        checkpoints.prune(self.path, {newest})
        assert [path.name for path in self.path.iterdir()] == [f"step-{newest:08d}"]
        self.whole = {newest}

    @invariant()
    def the_newest_whole_one_is_found(self) -> None:
        if self.whole:
            newest = checkpoints.newest(self.path)
            assert int(newest.name.removeprefix("step-")) >= max(self.whole)
            assert checkpoints.load(newest)["step"] == int(newest.name.removeprefix("step-"))

    def teardown(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


TestFolder = Folder.TestCase
TestFolder.settings = settings(max_examples=10, stateful_step_count=12)


def test_full_disk_in_the_middle_of_a_save_keeps_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D01, D04 with real disks are in unit/test_files.py and e2e/test_bad_input.py; here every call may fail."""
    before = save(tmp_path, 1)
    content = (before / "state.ckpt").read_bytes()

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    for call in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, fail)
            with pytest.raises(ResourceError, match="step-00000002: the disk is full; nothing was changed"):
                save(tmp_path, 2)
        assert [path.name for path in tmp_path.iterdir()] == [before.name]
    assert (before / "state.ckpt").read_bytes() == content
