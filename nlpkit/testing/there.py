"""What another process does with a task: ``python -m nlpkit.testing.there FOLDER``, started by `elsewhere`.

It imports the task's module, loads the model that was saved, and trains with the other processes if there are any;
each of these leaves a report in the folder.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import reduce
from pathlib import Path
from types import ModuleType
from typing import Any

from nlpkit.plugins.installed import Plugin
from nlpkit.plugins.loading import HEAVY, import_file
from nlpkit.testing.check import described


def main(folder: Path) -> int:
    """Do what the file ``request`` asks for; the exit code is 1 where something of it failed."""
    request = json.loads((folder / "request").read_text("utf-8"))
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    watch = _Watch(request["file"])
    sys.meta_path.insert(0, watch)
    task_class = _report(folder, "module", lambda: reduce(getattr, request["task"].split("."), _module(request)))
    sys.meta_path.remove(watch)
    if task_class is None:
        return 1
    found = []
    if rank == 0:
        found.append(_report(folder, "imported", lambda: watch.found))
    if rank == 0 and request["model"]:
        found.append(_report(folder, "answers", lambda: _answers(task_class, request)))
    if count > 1:
        found.append(_report(folder, f"trained-{rank}", lambda: _trained(task_class, request, count)))
    return int(None in found)


def _report(folder: Path, name: str, ask: Callable[[], Any]) -> Any:
    """Write what was found out, or the error; of a module only the error. None where there was one."""
    try:
        value = ask()
        content = {"value": value}
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # which may be a SystemExit of an author's code
        value, content = None, {"error": described(error)}
    if name != "module" or value is None:
        (folder / f"{name}.json").write_text(json.dumps(content), "utf-8")
    return value


class _Watch:
    """Notes which line of a file imported each heavy module, itself or through others."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.found: dict[str, str] = {}

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        """Look at who asks; finds nothing itself."""
        if name in HEAVY and name not in self.found:
            line = next((f.f_lineno for f, _ in traceback.walk_stack(None) if f.f_code.co_filename == self.file), None)
            self.found[name] = f"{self.file}:{line}" if line else self.file


def _module(request: dict[str, Any]) -> ModuleType:
    """The task's module: by its name where that leads to the same file, else from the file, as ``--plugin`` does."""
    name, file = request["module"], request["file"]
    try:
        found = importlib.util.find_spec(name) if name != "__main__" else None
    except (ImportError, ValueError, AttributeError):
        found = None
    if found and found.origin and os.path.realpath(found.origin) == os.path.realpath(file):
        return importlib.import_module(name)
    return import_file(Plugin(Path(file).stem, "", "", file))


def _answers(task_class: Any, request: dict[str, Any]) -> list[dict[str, Any]]:
    from nlpkit.testing.under_test import answers_of, as_read

    return answers_of(Path(request["model"]), task_class, as_read(task_class, request["examples"]))


def _trained(task_class: Any, request: dict[str, Any], count: int) -> dict[str, float]:
    from nlpkit.config import from_plain
    from nlpkit.testing.together import train
    from nlpkit.testing.under_test import TaskUnderTest

    config = request["config"]
    settings = None if config is None else from_plain(task_class, {"task": config}).task
    return train(TaskUnderTest(task_class, request["examples"], settings), count)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
