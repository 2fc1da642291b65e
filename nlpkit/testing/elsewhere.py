"""The same task in other processes: started from here, and what they found out."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpkit.processes import python, python_path
from nlpkit.task import Task, TaskConfig
from nlpkit.testing.check import Finding

if TYPE_CHECKING:
    from nlpkit.testing.under_test import TaskUnderTest

_PATIENCE = 600.0  # seconds that two processes have to import torch and train a few steps
_GRACE = 10.0  # and the second, when the first has failed
_POLL_SECONDS = 0.05
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
        reports = _run(self._request(None), 1)
        return self._of(reports, "imported")

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
        """Start two processes: importing torch takes most of the time, so they serve both questions."""
        if self._reports is None:
            with tempfile.TemporaryDirectory() as folder:
                model = Path(folder) / "model"
                it.again().save(model)
                self._reports = _run(self._request(model), 2)
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


def _run(request: dict[str, Any], count: int) -> dict[str, Any]:
    """Start processes and wait until all have ended; returns their reports by name, and how they ended."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "request").write_text(json.dumps(request), "utf-8")
        said = Path(folder) / "said"
        with said.open("wb") as log:
            processes = [
                subprocess.Popen(
                    [*python("nlpkit.testing.there"), folder],
                    env={**os.environ, **python_path(), **_environment(rank, count, port)},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
                for port in [_free_port()]
                for rank in range(count)
            ]
            try:
                _wait(processes)
            finally:
                for process in processes:
                    process.kill()
                    process.wait()
        reports = {path.stem: json.loads(path.read_text("utf-8")) for path in Path(folder).glob("*.json")}
        lines = said.read_text("utf-8", "replace").strip().splitlines()[-5:]
        codes = ", ".join(str(process.returncode) for process in processes)
        return {**reports, "ended": "\n".join([f"the process ended with {codes} and said", *lines])}


def _wait(processes: list[subprocess.Popen[bytes]]) -> None:
    """Wait until all have ended, not long once one has failed, or until the time is up."""
    end, failed = time.monotonic() + _PATIENCE, False
    while time.monotonic() < end:
        codes = [process.poll() for process in processes]
        if None not in codes:
            return
        if any(codes) and not failed:
            end, failed = time.monotonic() + _GRACE, True
        time.sleep(_POLL_SECONDS)


def _environment(rank: int, count: int, port: int) -> dict[str, str]:
    """What torchrun sets; the order of sets is another in each process, as it is in two runs."""
    shared = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "GROUP_RANK": "0"}
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    if sys.platform != "linux":
        del where["GLOO_SOCKET_IFNAME"]
    return {**shared, **where, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": str(rank + 1)}


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
