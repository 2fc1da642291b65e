"""The forms that a new plugin may have, and its folder, written from their templates.

Below ``templates``, ``distribution`` holds what every plugin has and ``forms/FORM`` what those of a form have, in the
folders that they are written to; PACKAGE and TASK stand for names. A file that ends with ``.jinja`` is filled in, any
other is copied. ``base`` has the templates that forms extend.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nlpkit
from nlpkit.errors import RunFolderError, UsageError, nearest
from nlpkit.files import explain_os_errors
from nlpkit.hookspecs import API_VERSION
from nlpkit.scaffold.names import Names, check_free, check_name

if TYPE_CHECKING:
    from nlpkit.plugins import Registry

FORMS = {
    "classification": "a label for each text",
    "multilabel": "any number of labels for each text",
    "tagging": "a tag for each word of a text",
    "regression": "a number for each text, such as how many stars it gives",
    "pair": "a label for two texts, such as a question and an answer",
    "generation": "a text that is written for each text",
}
"""Form -> what a task of it gives."""
_TEMPLATES = Path(__file__).parent / "templates"
_FILLED_IN = ".jinja"
_ELSEWHERE = "choose another folder with --out DIR"


def new_plugin(
    name: str, form: str = "classification", out: str | Path | None = None, registry: Registry | None = None
) -> list[Path]:
    """Write the distribution of a new plugin, all of it or nothing.

    Args:
        name: of the task: lower-case words joined by ``-``.
        form: one of `FORMS`.
        out: folder to make; None: ``nlpkit-NAME`` where we are.
        registry: of the plugins whose names are taken; None: those that are installed.

    Returns:
        The files, below ``out`` as it was given.

    Raises:
        UsageError: a name that no plugin can have, or one that is taken; an unknown form.
        RunFolderError: the folder exists, or cannot be written.
    """
    if form not in FORMS:
        raise UsageError(f"unknown form '{form}'", f"{nearest(form, FORMS)}forms: {', '.join(FORMS)}")
    names = check_name(name)
    check_free(names, registry or _installed())
    folder = Path(names.distribution if out is None else out)
    files = dict(_rendered(names, form))
    _write(folder, files)
    return [folder / path for path in files]


def _installed() -> Registry:
    from nlpkit.plugins import Registry

    return Registry()


def _rendered(names: Names, form: str) -> Iterator[tuple[str, bytes]]:
    """Path in the new folder -> content."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    values: dict[str, Any] = {"names": names, "form": form, "core": bounds(nlpkit.__version__), "api": API_VERSION}
    for part in (_TEMPLATES / "distribution", _TEMPLATES / "forms" / form):
        for file in sorted(path for path in part.rglob("*") if path.is_file()):
            path = file.relative_to(part).as_posix().replace("PACKAGE", names.package).replace("TASK", names.module)
            if file.suffix == _FILLED_IN:
                template = environment.get_template(file.relative_to(_TEMPLATES).as_posix())
                yield path.removesuffix(_FILLED_IN), template.render(values).encode()
            else:
                yield path, file.read_bytes()


def bounds(version: str) -> str:
    """The versions of nlpkit-core that a plugin written for this one runs with: ``>=0.1,<0.2``, ``>=1.4,<2``."""
    major, minor = map(int, version.split(".")[:2])
    return f">={major}.{minor},<{major + 1 if major else f'0.{minor + 1}'}"


def _write(folder: Path, files: dict[str, bytes]) -> None:
    """Fill a folder beside the place, and move it there."""
    target = Path(os.path.abspath(folder))
    if os.path.lexists(target):
        hint = f"{_ELSEWHERE}, or delete this one first"
        raise RunFolderError(f"{folder}: exists already, and nothing in it is overwritten", hint)
    stage = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    with explain_os_errors(folder, _ELSEWHERE):
        try:
            for path, content in files.items():
                (stage / path).parent.mkdir(parents=True, exist_ok=True)
                (stage / path).write_bytes(content)
            stage.rename(target)
        finally:
            shutil.rmtree(stage, ignore_errors=True)
