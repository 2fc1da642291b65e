"""What the user typed to files: folders, globs, ``-``, and which format a name promises."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence

from nlpkit.errors import DataError, nearest_path

STDIN = "-"
_FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".txt": "txt",
}
_EXPECTED = "expected .csv, .tsv, .jsonl or .txt, each plain or .gz"


def expand(paths: Sequence[str]) -> list[str]:
    """List the files meant by paths, folders and globs, each file once, in the order given.

    Folders are searched recursively for known endings, sorted, without hidden files; ``-`` is standard input.

    Raises:
        DataError: a path that is missing, or a folder or glob without data.
    """
    if not paths:
        raise DataError("no data given", "name a file, a folder, a glob, or - for standard input")
    unique: dict[str, str] = {}
    for path in paths:
        for file in _files(os.fspath(path)):
            unique.setdefault(file if file == STDIN else os.path.realpath(file), file)
    return list(unique.values())


def format_of(path: str) -> str | None:
    """The format that the ending of a name promises, ``.gz`` left aside."""
    name = os.path.basename(path).lower().removesuffix(".gz")
    return _FORMATS.get(os.path.splitext(name)[1])


def shown(path: str) -> str:
    """A path as it stands in messages: never a surrogate, so that it can be printed."""
    return "stdin" if path == STDIN else path.encode("utf-8", "replace").decode()


NO_ROWS = "give a file with rows; nlpkit demo shop writes some to look at"


def missing(path: str) -> DataError:
    """The error for a path that does not exist, with the nearest name beside it."""
    if "://" in path:
        return DataError(f"{shown(path)}: an address, expected a local file", "download it first")
    folder = os.path.dirname(path) or "."
    beside = os.listdir(folder) if os.path.isdir(folder) and os.access(folder, os.R_OK) else []
    near = nearest_path(path, beside).strip()
    return DataError(f"{shown(path)}: no such file or folder", near or f"look what is there: ls {shown(folder)}")


def _files(path: str) -> list[str]:
    if path == STDIN:
        return [path]
    if path.startswith("~") and not os.path.lexists(path):
        path = os.path.expanduser(path)
    if os.path.isdir(path):
        return _folder(path)
    if os.path.lexists(path):
        return [path]
    if not glob.has_magic(path):
        raise missing(path)
    found = sorted(glob.glob(path, recursive=True))
    files = [file for match in found for file in (_walk(match) if os.path.isdir(match) else [match])]
    if not files:
        raise DataError(f"{shown(path)}: no file matches", _EXPECTED)
    return files


def _folder(path: str) -> list[str]:
    files = list(_walk(path))
    if not files:
        raise DataError(f"{shown(path)}: no data in this folder", _EXPECTED)
    return files


def _walk(folder: str) -> Iterator[str]:
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and format_of(name):
                yield os.path.join(here, name)
