"""Errors that users meet: one sentence, a hint that can be typed, and the exit code of the command."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from typing import ClassVar

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says where nothing more can be written; a `ResourceError`."""


class NlpkitError(Exception):
    """Something the user can mend.

    Args:
        message: where, what was found, what was expected; lower case, no full stop.
        hint: what to type or change next; may be empty.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class UsageError(NlpkitError):
    """A command line, a setting or a missing extra."""

    exit_code = 2


class DataError(NlpkitError):
    """A file or a text that cannot be used as it is."""

    exit_code = 3


class ModelError(NlpkitError):
    """A model, checkpoint or bundle that is refused."""

    exit_code = 4


class PluginError(NlpkitError):
    """A plugin that is missing or broken."""

    exit_code = 5
    lines = ""
    """The lines of a traceback that are for the plugin's author; empty where nothing was raised."""


class ResourceError(NlpkitError):
    """Disk or memory ran out, or a worker died."""

    exit_code = 6


class DivergedError(NlpkitError):
    """The loss or the weights are no longer finite."""

    exit_code = 7


class RunFolderError(NlpkitError):
    """A run folder that exists already, is locked, or cannot be written."""

    exit_code = 8


class GateError(NlpkitError):
    """A score below the one that was asked for."""

    exit_code = 9


class Interrupted(NlpkitError):
    """Ctrl-C, SIGTERM or SIGHUP, after the run was saved.

    Args:
        signal_number: of it; the exit code is 128 plus it.
    """

    def __init__(self, message: str, hint: str = "", *, signal_number: int = 2) -> None:
        super().__init__(message, hint)
        self.exit_code = 128 + signal_number  # type: ignore[misc]


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which of the known names was probably meant.

    Returns:
        ``"did you mean 'label'? "`` or an empty string, to be put before the rest of a hint.
    """
    found = _closest(name, known)
    return f"did you mean '{found}'? " if found else ""


def nearest_path(path: str, beside: Iterable[str]) -> str:
    """The same of a file or folder, with its path; endings such as .csv, which many have, do not count.

    Args:
        path: as typed.
        beside: names in the same folder.
    """
    folder, name = os.path.split(path)
    stems: dict[str, list[str]] = {}
    for other in beside:
        stems.setdefault(os.path.splitext(other)[0], []).append(other)
    stem = _closest(os.path.splitext(name)[0], stems)
    found = (_closest(name, stems[stem]) or stems[stem][0]) if stem else None
    return f"did you mean '{os.path.join(folder, found)}'? " if found else ""


def _closest(name: str, known: Iterable[str]) -> str | None:
    import difflib  # only mistakes pay for it

    dashes = name[: len(name) - len(name.lstrip("-"))]  # which all options have
    alike = {one.removeprefix(dashes): one for one in known}
    found = difflib.get_close_matches(name.removeprefix(dashes), alike, n=1, cutoff=0.6)
    return alike[found[0]] if found else None
