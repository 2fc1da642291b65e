"""Files and folders that are written whole or not at all, with a manifest of hashes written last."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nlpkit.errors import ModelError, NlpkitError, ResourceError, RunFolderError

MANIFEST = "manifest.json"
FORMAT_VERSION = 1


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
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Fill a folder beside the target, then put it in the target's place, with a manifest.

    An older folder at the target is removed only after the new one is complete; `recover` ends an interrupted swap.
    """
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    with explain_os_errors(target):
        try:
            temporary.mkdir(parents=True)
            yield temporary
            write_manifest(temporary)
            _fsync_folder(temporary)
            _swap(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _swap(new: Path, target: Path) -> None:
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.replace(target, old)
    os.replace(new, target)
    _fsync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def recover(target: Path) -> None:
    """Put back what a kill between the two renames of a swap left aside, and remove leavings."""
    old = target.with_name(f".{target.name}.old")
    if old.exists() and not target.exists():
        os.replace(old, target)
    for left in target.parent.glob(f".{target.name}.*.tmp"):
        shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
    shutil.rmtree(old, ignore_errors=True)


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
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        files = {str(name): (int(f["bytes"]), str(f["sha256"])) for name, f in manifest["files"].items()}
        version = int(manifest["format_version"])
    except FileNotFoundError:
        raise ModelError(f"{folder}: no {MANIFEST}, so it was never completely written") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ModelError(f"{folder / MANIFEST}: not a manifest of nlpkit") from None
    if version > FORMAT_VERSION:
        raise ModelError(f"{folder}: format {version}, this nlpkit reads up to {FORMAT_VERSION}", "upgrade nlpkit-core")
    for name, (size, digest) in files.items():
        path = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ModelError(f"{folder / MANIFEST}: '{name}' leaves the folder")
        if not path.is_file():
            raise ModelError(f"{path}: missing, though the manifest lists it")
        if path.stat().st_size != size:
            raise ModelError(f"{path}: {path.stat().st_size} bytes, the manifest says {size}; the file is damaged")
        if sha256(path) != digest:
            raise ModelError(f"{path}: its sha256 differs from the manifest; the file is damaged or was changed")


def sha256(path: Path) -> str:
    """Hash of a file, as hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def explain_os_errors(path: Path) -> Iterator[None]:
    """Turn a full disk and an unwritable folder into errors of ours, with the path."""
    try:
        yield
    except OSError as error:
        raise _explained(error, path) from error
    except RuntimeError as error:  # torch's and safetensors' writers wrap the system's error in text
        if "No space left" in str(error) or "PytorchStreamWriter failed" in str(error):
            raise ResourceError(f"{path}: the disk is full; nothing was changed", "free some space") from error
        raise
    except Exception as error:
        if not isinstance(error, NlpkitError) and "No space left" in str(error):
            raise ResourceError(f"{path}: the disk is full; nothing was changed", "free some space") from error
        raise


def _explained(error: OSError, path: Path) -> NlpkitError | OSError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return ResourceError(f"{path}: the disk is full; nothing was changed", "free some space, or use another --out")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
        return RunFolderError(f"{path}: cannot be written ({error.strerror})", "use another --out")
    return error


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
