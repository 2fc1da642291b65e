from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from namespaces import needs_namespaces

from nlpkit import files
from nlpkit.errors import ModelError, NlpkitError

Snapshot = Callable[[Path], dict[str, bytes]]


def fill(target: Path, **content: str) -> None:
    with files.new_folder(target) as folder:
        for name, text in content.items():
            (folder / f"{name}.txt").write_text(text)


def run(code: str, *arguments: object, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*prefix, sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


# one file


def test_written_file_has_its_content_and_leaves_nothing(tmp_path: Path) -> None:
    files.write_bytes(tmp_path / "a.bin", b"old")
    files.write_bytes(tmp_path / "a.bin", b"\x00new")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"a.bin": b"\x00new"}


def test_write_that_fails_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write_bytes(tmp_path / "a", b"old")

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        files.write_bytes(tmp_path / "a", b"new")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"a": b"old"}


def test_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D12."""
    events: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append("fsync"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (events.append("rename"), replace(a, b)))
    files.write_bytes(tmp_path / "a", b"content")
    assert events == ["fsync", "rename", "fsync"]


def test_json_keeps_odd_text(tmp_path: Path) -> None:
    value = {"text": "é\u2028\x00🙂", "name of a file": os.fsdecode(b"caf\xe9.csv")}
    files.write_json(tmp_path / "a.json", value)
    assert json.loads((tmp_path / "a.json").read_bytes().decode("utf-8")) == value


def test_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


# folders


def test_new_folder_has_a_manifest_of_all_its_files(tmp_path: Path) -> None:
    fill(tmp_path / "model", a="one", b="two")
    manifest = json.loads((tmp_path / "model" / "manifest.json").read_text())
    digest = hashlib.sha256(b"one").hexdigest()
    assert manifest["format_version"] == 1
    assert set(manifest["files"]) == {"a.txt", "b.txt"}
    assert manifest["files"]["a.txt"] == {"bytes": 3, "sha256": digest}
    files.verify_manifest(tmp_path / "model")


def test_new_folder_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    fill(tmp_path / "model", a="old", b="old")
    fill(tmp_path / "model", a="new")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["a.txt", "manifest.json"]
    assert (tmp_path / "model" / "a.txt").read_text() == "new"


def test_folder_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D12: first every file, then the manifest, then the name, each on the disk before the next."""
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def plain(path: Any) -> str:
        return re.sub(r"\.[0-9a-f]{8}\.tmp", "", Path(path).name).removeprefix(".")

    def sync(descriptor: int) -> None:
        events.append(f"sync {plain(os.readlink(f'/proc/self/fd/{descriptor}'))}")
        fsync(descriptor)

    def rename(source: Any, target: Any) -> None:
        events.append(f"rename {plain(target)}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", rename)
    fill(tmp_path / "model", a="one")
    manifest = ["sync manifest.json", "rename manifest.json", "sync model"]
    assert events == ["sync a.txt", *manifest, "sync model", "rename model", f"sync {tmp_path.name}"]


def test_folder_that_is_not_finished_leaves_the_old_one(tmp_path: Path, snapshot: Snapshot) -> None:
    fill(tmp_path / "model", a="old")
    before = snapshot(tmp_path)

    def stop() -> None:
        with files.new_folder(tmp_path / "model") as folder:
            (folder / "a.txt").write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert snapshot(tmp_path) == before


KILL = """
import os, sys
from pathlib import Path
from nlpkit import files
target, moment = Path(sys.argv[1]), int(sys.argv[2])
rename, done = os.replace, []
def replace(a, b):
    if len(done) == moment:
        os._exit(9)
    done.append(b)
    rename(a, b)
os.replace = replace
with files.new_folder(target) as folder:
    (folder / "a.txt").write_text("new")
    if moment == -1:
        os._exit(9)
"""


# The manifest is the first file that is renamed, the old folder the second, the new one the third.
@pytest.mark.parametrize(("moment", "content"), [(-1, "old"), (0, "old"), (1, "old"), (2, "old")])
def test_kill_at_any_rename_costs_nothing(moment: int, content: str, tmp_path: Path) -> None:
    """D14."""
    target = tmp_path / "model [1]*"
    fill(target, a="old")
    assert run(KILL, target, moment).returncode == 9
    assert target.exists() == (moment < 2)
    files.recover(target)
    assert [p.name for p in tmp_path.iterdir()] == [target.name]
    assert (target / "a.txt").read_text() == content
    files.verify_manifest(target)


def test_kill_between_the_renames_and_another_before_the_next_swap_loses_nothing(tmp_path: Path) -> None:
    target = tmp_path / "model"
    fill(target, a="old")
    run(KILL, target, 2)
    run(KILL, target, 1)  # the old folder stands aside already, so the new one is the second rename
    files.recover(target)
    assert (target / "a.txt").read_text() == "old"
    files.verify_manifest(target)


def test_saving_goes_on_after_a_kill_between_the_renames(tmp_path: Path) -> None:
    target = tmp_path / "model"
    fill(target, a="old")
    run(KILL, target, 2)
    fill(target, a="newer")
    files.recover(target)
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert (target / "a.txt").read_text() == "newer"


def test_swap_whose_second_rename_fails_puts_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model"
    fill(target, a="old")
    rename = os.replace

    def replace(source: Any, to: Any) -> None:
        if str(source).endswith(".tmp") and Path(to) == target:
            raise OSError(5, "Input/output error")
        rename(source, to)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="Input/output error"):
        fill(target, a="new")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert (target / "a.txt").read_text() == "old"


def test_fifty_kills_leave_one_folder(tmp_path: Path) -> None:
    """D11."""
    target = tmp_path / "model"
    fill(target, a="old")
    for i in range(50):
        left = tmp_path / f".model.{i:08x}.tmp"
        left.mkdir()
        (left / "big.bin").write_bytes(b"x")
    files.recover(target)
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


# manifests


def test_manifest_is_written_last(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(ModelError) as caught:
        files.verify_manifest(tmp_path)
    assert caught.value.message == f"{tmp_path}: no manifest.json, so it was never completely written"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format_version": 1}',
        '{"format_version": 1, "files": []}',
        '{"format_version": 1, "files": {"a.txt": 3}}',
        '{"format_version": 1, "files": {"a.txt": {"bytes": 1}}}',
        '{"format_version": "x", "files": {}}',
        '{"format_version": null, "files": {}}',
        '{"format_version": 1, "files": {"a.txt": {"bytes": 1, "sha256": "0"}, "a.txt": {"bytes": 1, "sha256": "1"}}}',
        "[" * 100_000,
    ],
)
def test_damaged_manifest_is_refused(text: str, tmp_path: Path) -> None:
    """C22."""
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ModelError) as caught:
        files.verify_manifest(tmp_path)
    assert caught.value.message == f"{tmp_path / 'manifest.json'}: not a manifest of nlpkit"


def test_manifest_of_a_newer_format_is_refused_with_both_versions(tmp_path: Path) -> None:
    """C04."""
    (tmp_path / "manifest.json").write_text('{"format_version": 2, "files": {}}')
    with pytest.raises(ModelError) as caught:
        files.verify_manifest(tmp_path)
    assert (caught.value.message, caught.value.hint) == (
        f"{tmp_path}: format 2, this nlpkit reads up to 1",
        "upgrade nlpkit-core",
    )


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../secret"])
def test_manifest_that_leads_out_of_the_folder_is_refused(name: str, tmp_path: Path) -> None:
    """C22."""
    (tmp_path / "secret").write_text("s")
    folder = tmp_path / "model"
    fill(folder, a="a")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"bytes": 1, "sha256": hashlib.sha256(b"s").hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelError) as caught:
        files.verify_manifest(folder)
    assert caught.value.message == f"{folder / 'manifest.json'}: '{name}' leaves the folder"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.unlink(), "{path}: missing, though the manifest lists it"),
        (lambda p: p.write_text("on"), "{path}: 2 bytes, the manifest says 3; the file is damaged"),
        (
            lambda p: p.write_text("onE"),
            "{path}: its sha256 differs from the manifest; the file is damaged or was changed",
        ),
    ],
)
def test_file_that_differs_from_the_manifest_is_named(
    change: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    fill(tmp_path / "model", a="one")
    path = tmp_path / "model" / "a.txt"
    change(path)
    with pytest.raises(ModelError) as caught:
        files.verify_manifest(tmp_path / "model")
    assert caught.value.message == message.format(path=path)


def test_manifest_with_another_kind_of_hash_is_refused(tmp_path: Path) -> None:
    """C22."""
    fill(tmp_path / "model", a="one")
    path = tmp_path / "model" / "manifest.json"
    path.write_text(path.read_text().replace(hashlib.sha256(b"one").hexdigest(), hashlib.md5(b"one").hexdigest()))
    with pytest.raises(ModelError, match="its sha256 differs"):
        files.verify_manifest(tmp_path / "model")


@pytest.mark.parametrize("name", ["adapter_config.json", "more.safetensors", "state.ckpt"])
def test_file_that_would_be_loaded_but_is_in_no_manifest_is_refused(name: str, tmp_path: Path) -> None:
    fill(tmp_path / "model", a="one")
    (tmp_path / "model" / "README.md").write_text("a note of the user's does no harm")
    files.verify_manifest(tmp_path / "model")
    (tmp_path / "model" / name).write_text("{}")
    with pytest.raises(ModelError) as caught:
        files.verify_manifest(tmp_path / "model")
    assert caught.value.message == (f"{tmp_path / 'model' / name}: not in the manifest, so it was put there later")


def test_of_two_that_make_a_folder_at_once_the_first_stays(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with files.new_folder(target, replace=False) as slow:
        (slow / "a.txt").write_text("slow")
        with files.new_folder(target, replace=False) as quick:
            (quick / "a.txt").write_text("quick")
        before = target.stat().st_ino
    assert ((target / "a.txt").read_text(), target.stat().st_ino) == ("quick", before)
    files.verify_manifest(target)
    assert list(tmp_path.iterdir()) == [target]


# disks

SAVE = """
import os, resource, signal, subprocess, sys
from pathlib import Path
from nlpkit import files
from nlpkit.errors import NlpkitError
target, kind = Path(sys.argv[1]), sys.argv[2]
if kind in ("full", "read-only"):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "x", str(target.parent)], check=True)
with files.new_folder(target) as folder:
    (folder / "a.txt").write_text("old")
if kind == "read-only":
    subprocess.run(["mount", "-o", "remount,ro", str(target.parent)], check=True)
if kind == "limit":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
def attempt(name, save):
    try:
        save()
        print(name, "saved")
    except NlpkitError as error:
        print(name, error.exit_code, error.message.replace(str(target.parent), "DISK"))
def folder():
    with files.new_folder(target) as new:
        (new / "a.txt").write_bytes(b"x" * 2**19)
attempt("folder", folder)
attempt("file", lambda: files.write_bytes(target.parent / "b.bin", b"x" * 2**19))
print(sorted(os.listdir(target.parent)), (target / "a.txt").read_text())
files.verify_manifest(target)
"""


@pytest.mark.parametrize("kind", ["full", "limit"])
def test_full_disk_leaves_the_old_folder_and_nothing_else(kind: str, tmp_path: Path) -> None:
    """D01, D04."""
    done = run(SAVE, tmp_path / "model", kind, prefix=needs_namespaces() if kind == "full" else ())
    assert done.stderr == ""
    assert done.stdout == (
        "folder 6 DISK/model: the disk is full; nothing was changed\n"
        "file 6 DISK/b.bin: the disk is full; nothing was changed\n"
        "['model'] old\n"
    )


def test_read_only_disk_is_named_and_nothing_changes(tmp_path: Path) -> None:
    """D05."""
    done = run(SAVE, tmp_path / "model", "read-only", prefix=needs_namespaces())
    assert done.stderr == ""
    assert done.stdout == (
        "folder 8 DISK/model: cannot be written (Read-only file system)\n"
        "file 8 DISK/b.bin: cannot be written (Read-only file system)\n"
        "['model'] old\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        "I/O error: No space left on device (os error 28)",
        "Error while serializing: IoError(Os { code: 27 }): File too large (os error 27)",
        "[enforce fail] PytorchStreamWriter failed writing file data/3: file write failed",
        "[enforce fail at inline_container.cc:672] . unexpected pos 9664 vs 9558",
    ],
)
def test_full_disk_is_known_by_the_text_of_other_libraries(text: str) -> None:
    with pytest.raises(NlpkitError) as caught, files.explain_os_errors(Path("m")):
        raise RuntimeError(text)
    assert (caught.value.exit_code, caught.value.message) == (6, "m: the disk is full; nothing was changed")


def test_other_errors_pass_as_they_are() -> None:
    with pytest.raises(ZeroDivisionError), files.explain_os_errors(Path("m")):
        raise ZeroDivisionError
    with pytest.raises(FileNotFoundError) as caught, files.explain_os_errors(Path("m")):
        raise FileNotFoundError(2, "No such file")
    assert caught.value.__cause__ is None


def test_name_too_long_for_the_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(NlpkitError) as caught:
        fill(tmp_path / ("x" * 300), a="a")
    assert caught.value.exit_code == 8
    assert caught.value.message.endswith("cannot be written (File name too long)")
