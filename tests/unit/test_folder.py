from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nlpkit.errors import ModelError, RunFolderError
from nlpkit.folder import RunFolder, read_json, versions

Snapshot = Callable[[Path], dict[str, bytes]]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def begin(path: str = "run") -> RunFolder:
    folder = RunFolder.create(path, "mlm")
    folder.write_facts({"stage": "pretrain"})
    return folder


def test_run_folders_are_numbered_by_the_highest() -> None:
    for taken in ("mlm-1", "mlm-7", "mlm-x", "other-9", "mlm-8.old"):
        Path("runs", taken).mkdir(parents=True)
    assert RunFolder.create(None, "mlm").path == Path("runs/mlm-8")
    assert RunFolder.create(None, "mlm").path == Path("runs/mlm-9")


def test_number_that_another_process_takes_first_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    make = Path.mkdir

    def mkdir(path: Path, *arguments: object, **options: bool) -> None:
        if path == Path("runs/mlm-1") and not path.exists():
            make(path, parents=True)
        make(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "mkdir", mkdir)
    assert RunFolder.create(None, "mlm").path == Path("runs/mlm-2")


def test_run_folder_may_exist_when_it_is_empty() -> None:
    Path("a/b").mkdir(parents=True)
    assert RunFolder.create("a/b", "mlm").path == Path("a/b")


@pytest.mark.parametrize("name", ["run.json", "notes.txt", ".hidden"])
def test_run_folder_is_never_overwritten(name: str, snapshot: Snapshot) -> None:
    """D13."""
    Path("run").mkdir()
    Path("run", name).write_text("mine")
    before = snapshot(Path())
    with pytest.raises(RunFolderError) as caught:
        RunFolder.create("run", "mlm")
    assert caught.value.exit_code == 8
    assert caught.value.message == "run: is not empty, and a run is never overwritten"
    can_go_on = name == "run.json"
    assert caught.value.hint == "choose another --out" + (", or go on with --resume run" if can_go_on else "")
    assert snapshot(Path()) == before


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("file", "file: is a file"),
        ("file/run", "file/run: cannot be written (Not a directory)"),
        ("x" * 300, f"{'x' * 300}: cannot be written (File name too long)"),
    ],
)
def test_run_folder_that_cannot_be_made_is_named(path: str, message: str) -> None:
    Path("file").write_text("")
    with pytest.raises(RunFolderError) as caught:
        RunFolder.create(path, "mlm")
    assert caught.value.message == message


OTHER = """
import sys
from nlpkit.errors import NlpkitError
from nlpkit.folder import RunFolder
try:
    if sys.argv[2] == "create":
        folder = RunFolder.create(sys.argv[1], "mlm")
    else:
        folder = RunFolder.open_existing(sys.argv[1])
    print("held", flush=True)
    sys.stdin.read()
except NlpkitError as error:
    print(error.exit_code, error.message)
"""


def other(path: str, how: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", OTHER, path, how]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_two_processes_cannot_write_one_run() -> None:
    """D07."""
    first = begin()
    answer, _ = other("run", "open").communicate(timeout=60)
    assert answer == "8 run: another process is writing this run\n"
    first.unlock()
    answer, _ = other("run", "open").communicate(timeout=60)
    assert answer == "held\n"


def test_two_processes_cannot_begin_one_run() -> None:
    """D07."""
    Path("run").mkdir()
    process = other("run", "create")
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(RunFolderError, match="another process is writing this run"):
        RunFolder.create("run", "mlm")
    process.communicate()


def test_lock_of_a_killed_process_is_free() -> None:
    """D07."""
    begin().unlock()
    process = other("run", "open")
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    process.kill()
    process.communicate()
    RunFolder.open_existing("run").unlock()


def test_run_that_began_and_ended_before_the_lock_is_not_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    lock = RunFolder.lock

    def late(folder: RunFolder) -> None:
        (folder.path / "run.json").write_text("{}")
        lock(folder)

    monkeypatch.setattr(RunFolder, "lock", late)
    with pytest.raises(RunFolderError, match="is not empty, and a run is never overwritten"):
        RunFolder.create("run", "mlm")
    lock(RunFolder(Path("run")))


def test_folder_without_run_json_is_no_run() -> None:
    Path("run").mkdir()
    with pytest.raises(ModelError) as caught:
        RunFolder.open_existing("run")
    assert caught.value.message == "run: no run.json, so it is no run folder"
    assert os.listdir("run") == []


def test_run_folder_that_is_not_there_gets_the_nearest_name() -> None:
    Path("runs/reviews").mkdir(parents=True)
    with pytest.raises(ModelError) as caught:
        RunFolder.open_existing("runs/review")
    assert caught.value.message == "runs/review: no such folder"
    assert caught.value.hint == "did you mean 'runs/reviews'? give the folder that --out named"


def test_run_that_was_killed_before_it_began_says_so() -> None:
    Path("run").mkdir()
    Path("run/.lock").touch()
    with pytest.raises(ModelError) as caught:
        RunFolder.open_existing("run")
    assert caught.value.message == "run: the run ended before it began to learn"
    assert caught.value.hint == "rm -r run, and start it again"


def test_run_that_failed_before_it_began_leaves_nothing() -> None:
    folder = RunFolder.create("a/run", "mlm")
    Path("a/run/setup").mkdir()
    Path("a/run/setup/config.json").write_text("{}")
    folder.remove_if_unused()
    assert os.listdir("a") == []


def test_run_that_began_is_kept() -> None:
    folder = begin()
    folder.remove_if_unused()
    assert folder.facts.is_file()


def test_facts_have_the_versions_that_numbers_depend_on() -> None:
    facts = begin().read_facts()
    assert facts["stage"] == "pretrain"
    assert facts["versions"] == versions()
    assert {"python", "nlpkit-core", "torch", "pytorch-lightning", "transformers", "tokenizers", "numpy"} == set(
        facts["versions"]
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "run.json: not JSON (Expecting value: line 1 column 1 (char 0))"),
        ("[1]", "run.json: expected a JSON object, found list"),
        (None, "run.json: missing"),
    ],
)
def test_damaged_json_of_a_run_is_refused(text: str | None, message: str) -> None:
    if text is not None:
        Path("run.json").write_text(text)
    with pytest.raises(ModelError) as caught:
        read_json(Path("run.json"))
    assert caught.value.message == message


def test_facts_with_a_file_name_that_is_no_unicode_come_back() -> None:
    folder = begin()
    name = os.fsdecode(b"caf\xe9.csv")
    folder.write_facts({"command": name})
    assert folder.read_facts()["command"] == name
    json.loads(folder.facts.read_bytes().decode("utf-8"))


def test_removing_leaves_what_others_have_put_there(tmp_path: Path) -> None:
    folder = RunFolder.create(str(tmp_path / "run"), "mlm")
    folder.write_facts({})
    (folder.path / "checkpoints").mkdir()
    (folder.path / ".model.abc.tmp").mkdir()
    (folder.path / "notes.txt").write_text("mine")
    folder.remove()
    assert sorted(path.name for path in folder.path.iterdir()) == ["notes.txt"]


def test_removing_takes_the_folder_where_nothing_else_is_in_it(tmp_path: Path) -> None:
    folder = RunFolder.create(str(tmp_path / "run"), "mlm")
    folder.write_facts({})
    folder.remove()
    assert not folder.path.exists()


def test_another_folder_in_the_place_of_the_run_is_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = RunFolder.create("run", "mlm")
    other = tmp_path / "elsewhere" / "run"
    other.mkdir(parents=True)
    (other / ".lock").touch()
    (other / "run.json").write_text("{}")
    monkeypatch.chdir(tmp_path / "elsewhere")
    folder.remove()
    assert (other / "run.json").exists() and (tmp_path / "run").exists()
