"""Files and folders that are written whole or not at all, with a manifest of hashes written last."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nlpkit.errors import DISK_FULL, ModelError, NlpkitError, ResourceError, RunFolderError

MANIFEST = "manifest.json"
FORMAT_VERSION = 1
_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)
_IN_THE_WAY = (errno.ENOENT, errno.EEXIST, errno.EISDIR)  # of a folder above: /proc/x, or a file where one should be
_AGAIN = "copy the whole folder again"
_LOADED = {".json", ".safetensors", ".ckpt"}
_FULL = re.compile(
    r"No space left|File too large|os error (?:28|27|122)\b|PytorchStreamWriter failed|unexpected pos \d+ vs \d+"
)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: a temporary name beside it, fsync, rename."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    with explain_os_errors(path):
        try:
            with open(temporary, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _fsync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all; NaN is refused."""
    write_bytes(path, _json(value))


def _json(value: Any) -> bytes:
    """JSON in UTF-8; half a surrogate pair, as in the name of a file that is not UTF-8, becomes its JSON escape."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode("utf-8", "backslashreplace")


@contextlib.contextmanager
def new_folder(target: Path, *, replace: bool = True) -> Iterator[Path]:
    """Fill a folder beside the target, then put it in the target's place, with a manifest.

    An older folder at the target is removed only after the new one is complete; `recover` ends an interrupted swap.

    Args:
        target: becomes the folder.
        replace: False: a folder that another process has put there meanwhile stays, and this one is dropped.
    """
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    with explain_os_errors(target):
        try:
            temporary.mkdir(parents=True)
            yield temporary
            write_manifest(temporary)
            _fsync_folder(temporary)
            _swap(temporary, target) if replace else _claim(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _swap(new: Path, target: Path) -> None:
    old = target.with_name(f".{target.name}.old")
    if target.exists():  # otherwise the old folder is the last whole one: an earlier swap was killed half-way
        shutil.rmtree(old, ignore_errors=True)
        os.replace(target, old)
    try:
        os.replace(new, target)
    except OSError:
        if old.exists() and not target.exists():
            os.replace(old, target)
        raise
    _fsync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _claim(new: Path, target: Path) -> None:
    """Put a folder in a place that is free; of several processes one does."""
    try:
        os.rename(new, target)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
    _fsync_folder(target.parent)


def recover(target: Path) -> None:
    """Put back what a kill between the two renames of a swap left aside, and remove leavings."""
    old = target.with_name(f".{target.name}.old")
    if old.exists() and not target.exists():
        os.replace(old, target)
    for left in leavings(target):
        shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


def leavings(target: Path) -> list[Path]:
    """What interrupted saves left beside a file or folder."""
    pattern = f".{glob.escape(target.name)}."
    return [*target.parent.glob(f"{pattern}*.tmp"), *target.parent.glob(f"{pattern}old")]


def write_manifest(folder: Path) -> None:
    """List every file of a folder with size and sha256; the file whose presence makes the folder complete."""
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST):
        with open(path, "rb+") as file:
            os.fsync(file.fileno())
        files[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    write_json(folder / MANIFEST, {"format_version": FORMAT_VERSION, "files": files})


def verify_manifest(folder: Path) -> None:
    """Check every listed file by size and hash.

    Raises:
        ModelError: no manifest, a newer format, or a file that is missing or differs, named.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"), object_pairs_hook=_no_twins)
        files = {str(name): (int(f["bytes"]), str(f["sha256"])) for name, f in manifest["files"].items()}
        version = int(manifest["format_version"])
    except FileNotFoundError:
        raise ModelError(f"{folder}: no {MANIFEST}, so it was never completely written", _AGAIN) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ModelError(f"{folder / MANIFEST}: not a manifest of nlpkit", _AGAIN) from None
    if version > FORMAT_VERSION:
        raise ModelError(f"{folder}: format {version}, this nlpkit reads up to {FORMAT_VERSION}", "upgrade nlpkit-core")
    if outside := [n for n in files if Path(n).is_absolute() or ".." in Path(n).parts]:
        raise ModelError(f"{folder / MANIFEST}: '{outside[0]}' leaves the folder")
    loaded = (p.name for p in sorted(folder.iterdir()) if p.suffix in _LOADED and p.name != MANIFEST)
    if strange := [name for name in loaded if name not in files]:
        raise ModelError(f"{folder / strange[0]}: not in the manifest, so it was put there later", "take it away")
    for name, (size, digest) in files.items():
        path = folder / name
        if not path.is_file():
            raise ModelError(f"{path}: missing, though the manifest lists it", _AGAIN)
        if path.stat().st_size != size:
            raise ModelError(
                f"{path}: {path.stat().st_size} bytes, the manifest says {size}; the file is damaged", _AGAIN
            )
        if sha256(path) != digest:
            raise ModelError(
                f"{path}: its sha256 differs from the manifest; the file is damaged or was changed", _AGAIN
            )


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; a key that stands in it twice is a ValueError."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key twice")
    return found


def sha256(path: Path) -> str:
    """Hash of a file, as hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def explain_os_errors(path: Path, elsewhere: str = "use another --out") -> Iterator[None]:
    """Turn a full disk and an unwritable folder into errors of ours.

    Args:
        path: what is being written, as the user knows it.
        elsewhere: how the user chooses another place.

    Raises:
        ResourceError: the disk is full.
        RunFolderError: nobody may write there.
    """
    try:
        yield
    except Exception as error:
        # what was explained further in names a temporary file; the user knows the folder that it was for
        cause = error.__cause__ if isinstance(error, NlpkitError) else error
        if known := _explained(cause, path, elsewhere):
            raise known from cause
        raise


def _explained(error: BaseException | None, path: Path, elsewhere: str) -> NlpkitError | None:
    if isinstance(error, OSError):
        full = error.errno in DISK_FULL
        if error.errno in _UNWRITABLE or (error.errno in _IN_THE_WAY and _is_above(error.filename, path)):
            return RunFolderError(f"{path}: cannot be written ({error.strerror})", elsewhere)
    else:  # the writers of torch, safetensors and tokenizers wrap the system's error in text
        full = error is not None and not isinstance(error, NlpkitError) and bool(_FULL.search(str(error)))
    if full:
        return ResourceError(f"{path}: the disk is full; nothing was changed", f"free some space, or {elsewhere}")
    return None


def _is_above(name: object, path: Path) -> bool:
    """Whether the name in an error of the system is that of a path, or of a folder that it lies in."""
    if not isinstance(name, (str, Path)):
        return False
    target = Path(os.path.abspath(path))
    return Path(os.path.abspath(name)) in (target, *target.parents)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
