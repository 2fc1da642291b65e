"""The same task in other processes: started from here, and what they found out."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpkit.processes import python, python_path
from nlpkit.task import Task, TaskConfig
from nlpkit.testing import starter
from nlpkit.testing.check import Finding

if TYPE_CHECKING:
    from nlpkit.testing.under_test import TaskUnderTest

_LEFT = "another process of this run has ended"


class Elsewhere:
    """A task in other processes; they are started when something is asked of them, and once.

    Args:
        task_class: defined at the top of a module that has a file.
        examples: values as JSON has them.
        config: settings.
    """

    def __init__(
        self, task_class: type[Task[Any]], examples: Sequence[Mapping[str, Any]], config: TaskConfig | None
    ) -> None:
        self.task_class, self.examples, self.config = task_class, examples, config
        self._reports: dict[str, Any] | None = None

    def imported(self) -> dict[str, str]:
        """Import the task's module alone; returns the heavy modules that came with it, and the line of each."""
        return self._of(_reports(self._request(None), _alone), "imported")

    def answers(self, it: TaskUnderTest) -> Any:
        """What a new process answers with the model of the task under test, loaded from its files."""
        return self._of(self._both(it), "answers")

    def trained(self, it: TaskUnderTest) -> list[dict[str, float]]:
        """What each of two processes that train together has at the end."""
        reports = self._both(it)
        # one that fails leaves the other waiting, whose report only says so
        left = [_LEFT in reports.get(f"trained-{rank}", {}).get("error", _LEFT) for rank in (0, 1)]
        found = {rank: self._of(reports, f"trained-{rank}") for rank in sorted((0, 1), key=left.__getitem__)}
        return [found[0], found[1]]

    def _both(self, it: TaskUnderTest) -> dict[str, Any]:
        """Start two processes, which serve both questions."""
        if self._reports is None:
            with tempfile.TemporaryDirectory() as folder:
                model = Path(folder) / "model"
                it.again().save(model)
                self._reports = _reports(self._request(model), _together)
        return self._reports

    def _of(self, reports: dict[str, Any], part: str) -> Any:
        found = reports.get("module") or reports.get(part) or {"error": reports["ended"]}
        if "error" in found:
            raise Finding(
                found["error"],
                "put the task at the top of a module that can be imported, without what only this process has",
            )
        return found["value"]

    def _request(self, model: Path | None) -> dict[str, Any]:
        """What another process needs to know.

        Raises:
            Finding: no other process could find the class, or read the examples.
        """
        name, task = self.task_class.__module__, self.task_class.__qualname__
        file = getattr(sys.modules.get(name), "__file__", None)
        if "<locals>" in task:
            raise Finding(f"{task} is defined inside a function", "define it at the top of its module")
        if file is None:
            raise Finding(f"{task} is defined in {name}, which has no file", "define it in a file")
        from nlpkit.config import to_plain

        request = {"module": name, "file": os.path.abspath(file), "task": task, "model": model and str(model)}
        request |= {"examples": list(map(dict, self.examples)), "config": self.config and to_plain(self.config)}
        try:
            json.dumps(request)
        except TypeError as error:
            raise Finding(f"examples: {error}", "give them values as JSON has them") from None
        return request


def _reports(request: Mapping[str, Any], run: Callable[[Path], Sequence[int]]) -> dict[str, Any]:
    """What processes report, by name, and how they ended."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "request").write_text(json.dumps(request), "utf-8")
        (folder / "said").touch()
        codes = ", ".join(map(str, run(folder)))
        reports = {path.stem: json.loads(path.read_text("utf-8")) for path in folder.glob("*.json")}
        lines = (folder / "said").read_text("utf-8", "replace").strip().splitlines()[-5:]
        return {**reports, "ended": "\n".join([f"the process ended with {codes} and said", *lines])}


def _alone(folder: Path) -> Sequence[int]:
    """A process in which nothing is imported before the task's module."""
    with (folder / "said").open("wb") as said:
        command = [*python("nlpkit.testing.there"), str(folder)]
        environment = {**os.environ, **python_path(), **starter.FIXED, **_place(0, 1)}
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    return [done.returncode]


def _together(folder: Path) -> Sequence[int]:
    """Two processes that train together."""
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    if sys.platform == "linux":
        where["GLOO_SOCKET_IFNAME"] = "lo"
    return starter.run(folder, [{**_place(rank, 2), **where} for rank in (0, 1)])


def _place(rank: int, count: int) -> dict[str, str]:
    """What torchrun says of a process."""
    return {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "GROUP_RANK": "0"}


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
