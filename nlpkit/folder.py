"""The run folder: made once, locked while it is written, never overwritten."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import json
import os
import platform
import re
import shlex
import shutil
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from nlpkit.errors import ModelError, RunFolderError
from nlpkit.files import explain_os_errors, write_json
from nlpkit.vetting import check_is_folder

_WRITTEN = {"lock", "model", "checkpoints", "setup", "config", "metrics", "results", "run"}  # names without ending
_WRITTEN |= {"tensorboard", "wandb", "mlruns", "profile"}  # by loggers and profilers
_VERSIONED = ("nlpkit-core", "torch", "pytorch-lightning", "transformers", "tokenizers", "numpy")


_NAME_IT = "give the folder that --out named"
_held: set[IO[str]] = set()


def _let_go() -> None:
    """In a forked process: the lock is that of its parent alone, and ends with it."""
    for lock in _held:
        lock.close()


os.register_at_fork(after_in_child=_let_go)


class RunFolder:
    """Paths of a run, and its lock.

    Args:
        path: the folder; use `create` or `open_existing`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model = path / "model"
        self.checkpoints = path / "checkpoints"
        self.config = path / "config.yaml"
        self.metrics = path / "metrics.jsonl"
        self.results = path / "results.json"
        self.facts = path / "run.json"
        self._lock: IO[str] | None = None

    @classmethod
    def create(cls, out: str | None, name: str) -> RunFolder:
        """Make a new folder: ``out``, or the next free ``runs/NAME-N``; locked.

        Raises:
            RunFolderError: it exists and is not empty, or cannot be made.
        """
        folder = cls(_make(Path(out)) if out else make_next(Path("runs"), name))
        folder._check_empty()
        folder.lock()
        try:
            folder._check_empty()  # somebody else may have come and gone before the lock
        except RunFolderError:
            folder.unlock()
            raise
        return folder

    def _check_empty(self) -> None:
        if any(p.name != ".lock" for p in self.path.iterdir()):
            can_go_on = self.facts.exists() and not self.results.exists()
            hint = "choose another --out" + (f", or go on with --resume {self.path}" if can_go_on else "")
            raise RunFolderError(f"{self.path}: is not empty, and a run is never overwritten", hint)

    @classmethod
    def open_existing(cls, path: str) -> RunFolder:
        """The folder of an earlier run, locked.

        Raises:
            RunFolderError: another process writes in it.
            ModelError: it is no run folder.
        """
        folder = cls(Path(path))
        folder.check_began()
        folder.lock()
        return folder

    def check_began(self) -> None:
        """Refuse what is no folder of a run.

        Raises:
            ModelError: saying why.
        """
        if self.facts.is_file():
            return
        check_is_folder(self.path, _NAME_IT)
        if (self.path / ".lock").exists():
            again = f"rm -r {self.path}, and start it again"
            raise ModelError(f"{self.path}: the run ended before it began to learn", again)
        raise ModelError(f"{self.path}: no run.json, so it is no run folder", _NAME_IT)

    def lock(self) -> None:
        """Hold the folder until `unlock` or the end of the process."""
        with explain_os_errors(self.path):
            self._lock = open(self.path / ".lock", "w")  # noqa: SIM115 - held until unlock
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            self._lock = None
            raise RunFolderError(
                f"{self.path}: another process is writing this run", "wait for it, or choose another --out"
            ) from None
        _held.add(self._lock)

    def unlock(self) -> None:
        """Let others write."""
        if self._lock:
            _held.discard(self._lock)
            self._lock.close()
            self._lock = None

    def remove_if_unused(self) -> None:
        """Take the folder away again if the run failed before it began."""
        if not self.facts.exists():
            self.remove()

    def remove(self) -> None:
        """Take away what a run has written, and the folder if nothing else is in it."""
        if not self._is_ours():
            return
        for path in self.path.iterdir():
            if path.name.lstrip(".").partition(".")[0] in _WRITTEN:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.path.rmdir()

    def check_in_place(self) -> None:
        """Make sure that the path still leads here, before something is written below it.

        Raises:
            RunFolderError: the folder was deleted or moved since.
        """
        if not self.path.is_dir() or (self._lock and not self._is_ours()):
            raise RunFolderError(
                f"{self.path}: deleted or moved while it was written; the run ends here",
                "what it has saved is where the folder went: --resume it there",
            )

    def _is_ours(self) -> bool:
        """Whether the path still leads to the folder that was locked, and not to another in its place."""
        if self._lock is None:
            return False
        try:
            found = os.stat(self.path / ".lock")
        except OSError:
            return False
        return os.path.samestat(os.fstat(self._lock.fileno()), found)

    def has_checkpoint(self) -> bool:
        """Whether any state of the run was saved."""
        return any(self.checkpoints.glob("step-*")) or any(self.checkpoints.glob(".step-*.old"))

    def verb(self) -> str:
        """The command that made the run, ``pretrain`` or ``fit``, once run.json is written."""
        return "pretrain" if self.read_facts().get("stage") == "pretrain" else "fit"

    def resume_command(self) -> str:
        """What to type to go on with the run, once run.json is written."""
        facts = self.read_facts()
        named, folder = facts.get("request", {}).get("plugins", ()), facts.get("folder", os.getcwd())
        files = [file if folder == os.getcwd() else os.path.join(folder, file) for file in named]
        plugins = [word for file in files for word in ("--plugin", file)]
        hub = ["--hub"] if facts.get("request", {}).get("hub") and not self.has_checkpoint() else []
        return shlex.join(["nlpkit", self.verb(), "--resume", str(self.path), *plugins, *hub])

    def read_facts(self) -> dict[str, Any]:
        """What run.json says.

        Raises:
            ModelError: it is not JSON.
        """
        return read_json(self.facts)

    def write_facts(self, facts: dict[str, Any]) -> None:
        """Write run.json: command, stage, data, parent; versions are added."""
        write_json(self.facts, {**facts, "versions": versions()})


def versions() -> dict[str, str]:
    """Versions of Python and the libraries that numbers depend on."""
    found = {"python": platform.python_version()}
    for name in _VERSIONED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of ours.

    Raises:
        ModelError: missing, not JSON, or no object.
    """
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path}: missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not JSON ({error})") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


def _make(path: Path) -> Path:
    with explain_os_errors(path):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            raise RunFolderError(f"{path}: is a file", "choose another --out") from None
    return path


def make_next(parent: Path, name: str) -> Path:
    """Make the next free folder; another process may take the same number at the same moment."""
    while True:
        path = _next_free(parent, name)
        with explain_os_errors(path), contextlib.suppress(FileExistsError):
            path.mkdir(parents=True)
            return path


def _next_free(parent: Path, name: str) -> Path:
    pattern = re.compile(re.escape(name) + r"-(\d+)")
    taken = [int(m[1]) for p in parent.glob(f"{glob.escape(name)}-*") if (m := pattern.fullmatch(p.name))]
    return parent / f"{name}-{max(taken, default=0) + 1}"
