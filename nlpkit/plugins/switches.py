"""Plugins that the user has switched off, by name, in a small file of the user's own; no plugin is imported for it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from nlpkit.errors import UsageError

_ELSEWHERE = "keep it in another folder: NLPKIT_CONFIG=DIR"


def path() -> Path:
    """The file: in ``NLPKIT_CONFIG``, or the user's folder for settings."""
    folder = os.environ.get("NLPKIT_CONFIG")
    if not folder:
        import platformdirs

        folder = platformdirs.user_config_dir("nlpkit")
    return Path(folder) / "plugins.json"


def switched_off() -> list[str]:
    """Names of plugins and distributions that are switched off, installed or not.

    Raises:
        UsageError: the file says something else.
    """
    file = path()
    try:
        text = file.read_text("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise UsageError(f"{file}: cannot be read ({reason.lower()})", _ELSEWHERE) from error
    import json

    try:
        names = json.loads(text)["disabled"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UsageError(
            f'{file}: does not say which plugins are switched off, expected {{"disabled": ["NAME"]}}',
            "correct or remove it; without it all are in use",
        ) from None
    return names


def change(add: Iterable[str] = (), remove: Iterable[str] = ()) -> None:
    """Let some names be off, and others no longer; of several processes that do so at once each has its way.

    Raises:
        RunFolderError: nobody may write there.
        UsageError: the file says something else.
    """
    from nlpkit.files import explain_os_errors, write_json

    file = path()
    with explain_os_errors(file, _ELSEWHERE):
        file.parent.mkdir(parents=True, exist_ok=True)
        with _locked(file.with_name(f".{file.name}.lock")):
            names = {*switched_off(), *add} - {*remove}
            write_json(file, {"disabled": sorted(names)})


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Wait until no other process is in such a ``with`` block; its end, or that of the process, frees the lock."""
    import fcntl

    with open(path, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
