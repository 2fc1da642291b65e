"""Checkpoints for resuming: written whole or not at all, verified before use, never a pickle."""

from __future__ import annotations

import io
import logging
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import CheckpointIO

from nlpkit.errors import ModelError, NlpkitError, ResourceError
from nlpkit.files import new_folder, recover, verify_manifest

_STATE = "state.ckpt"
_AGAIN = "start the run again with another --out"
_NAME = re.compile(r"step-(\d+)")
_OF_TRAINER = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks")  # the rest callbacks may add
log = logging.getLogger("nlpkit")


class AtomicCheckpointIO(CheckpointIO):
    """Lightning's reading and writing of checkpoints, replaced: a folder with a manifest, tensors and plain values."""

    def __init__(self) -> None:
        self._strange: set[str] = set()  # callbacks, and keys of what they add, that no checkpoint can hold

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write one checkpoint folder and read it back: until that is done, its caller deletes none before it.

        What callbacks of others want kept, and cannot be read back, is left out with a warning: no run is lost by it.

        Raises:
            ModelError: what was written cannot be read.
            ResourceError: the disk is full.
        """
        _leave_out(checkpoint, self._strange)
        try:
            self._write(checkpoint, path)
        except (ResourceError, MemoryError):
            raise
        except Exception:
            found = _strange(checkpoint)
            if not found:
                raise
            log.warning(
                "callbacks: what '%s' keeps is more than tensors and plain values, and is in no checkpoint; "
                "a resume goes on without it",
                "', '".join(sorted(found)),
            )
            self._strange |= found
            _leave_out(checkpoint, found)
            self._write(checkpoint, path)

    def _write(self, checkpoint: dict[str, Any], path: Any) -> None:
        try:
            with new_folder(Path(path)) as folder:
                torch.save(checkpoint, folder / _STATE)
        except ResourceError as error:
            free = shutil.disk_usage(next(filter(Path.exists, Path(path).parents))).free
            error.message += f": a checkpoint takes {size_of(checkpoint):,} bytes, {free:,} are free"
            raise
        prove(Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read one, after its hashes were checked; code in it never runs."""
        return load(Path(path), map_location or "cpu")

    def remove_checkpoint(self, path: Any) -> None:
        """Delete one."""
        shutil.rmtree(path, ignore_errors=True)


def _strange(checkpoint: dict[str, Any]) -> set[str]:
    """Callbacks whose states cannot be read back, and keys of what they add that cannot."""
    added = {key: value for key, value in checkpoint.items() if key not in _OF_TRAINER}
    return {name for name, value in {**checkpoint.get("callbacks", {}), **added}.items() if not _is_plain(value)}


def _leave_out(checkpoint: dict[str, Any], names: set[str]) -> None:
    for name in names:
        checkpoint.pop(name, None)
        checkpoint.get("callbacks", {}).pop(name, None)


def _is_plain(value: Any) -> bool:
    file = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.save(value, file)
            file.seek(0)
            torch.load(file, weights_only=True)
    except MemoryError:
        raise
    except Exception:
        return False
    return True


def load(folder: Path, map_location: Any = "cpu", *, mmap: bool = False) -> dict[str, Any]:
    """Read a checkpoint folder.

    Raises:
        ModelError: no manifest, damaged, or holding anything but tensors and plain values.
    """
    verify_manifest(folder)
    try:
        with warnings.catch_warnings():  # of pickles that are not torch's own: they are refused
            warnings.simplefilter("ignore")
            # passed explicitly: only then is TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD ignored
            return torch.load(folder / _STATE, map_location=map_location, weights_only=True, mmap=mmap)
    except Exception as error:
        if isinstance(error, MemoryError):
            raise
        raise ModelError(f"{folder / _STATE}: no checkpoint of nlpkit ({type(error).__name__})", _AGAIN) from None


def prove(folder: Path) -> None:
    """Make sure that a checkpoint is whole and can be loaded; the tensors are mapped, not copied.

    Raises:
        ModelError: it is not, or cannot.
    """
    load(folder, mmap=True)


def path_of(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step stands."""
    return folder / f"step-{step:08d}"


def step_of(path: Path) -> int:
    """The step of a checkpoint, by its name."""
    return int(path.name.removeprefix("step-"))


def newest(folder: Path) -> Path:
    """The newest checkpoint that is whole; damaged ones are passed over with a warning.

    What interrupted saves left is put back or removed: only the run that holds the folder's lock may ask.

    Raises:
        ModelError: there is none.
    """
    _sweep(folder)
    found = sorted(p for p in folder.glob("step-*") if _NAME.fullmatch(p.name))
    for path in reversed(found):
        try:
            prove(path)
            return path
        except NlpkitError as error:
            log.warning("%s; going back to an earlier checkpoint", error.message)
    what = "no whole checkpoint" if found else "no checkpoint was saved yet"
    raise ModelError(f"{folder}: {what}", _AGAIN)


def prune(folder: Path, keep: set[int]) -> None:
    """Delete all checkpoints but those of the given steps, and leavings of interrupted saves."""
    for path in folder.glob("step-*"):
        match = _NAME.fullmatch(path.name)
        if match and int(match[1]) not in keep:
            shutil.rmtree(path, ignore_errors=True)
    _sweep(folder)


def _sweep(folder: Path) -> None:
    for left in folder.glob(".step-*"):
        recover(folder / left.name.removeprefix(".").split(".")[0])


def size_of(state: Any) -> int:
    """Bytes of a file that torch writes."""
    file = _Counted()
    torch.save(state, file)  # type: ignore[arg-type]
    return file.bytes


class _Counted:
    """A file that forgets what is written and knows how much it was."""

    def __init__(self) -> None:
        self.bytes = 0

    def write(self, content: Any) -> int:
        """Count."""
        self.bytes += len(content)
        return len(content)

    def flush(self) -> None:
        """Nothing is held back."""
