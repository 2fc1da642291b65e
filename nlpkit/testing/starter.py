"""Processes in which torch, transformers and Lightning are imported already, for which each would need seconds.

``python -m nlpkit.testing.starter`` is a process that starts others: a line on its stdin asks for some, and one on its
stdout says how they ended. On Linux it imports what takes long, and they are its forks, which have that and nothing of
any task. Elsewhere, where a fork after such an import is not safe, each begins with nothing.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import IO, Any

from nlpkit.processes import python, python_path
from nlpkit.testing import there

FIXED = {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "1"}
"""Variables of every process; the order of sets is another than here, as it is in two runs."""
_FORKS = sys.platform == "linux"
_PATIENCE = 600.0  # seconds that processes have for a few steps
_GRACE = 10.0  # and the second, when the first has failed


@functools.cache
def begin() -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    """Start the process that starts others, once for all tasks; it ends with this one. Its stderr is a file."""
    heard = tempfile.TemporaryFile()  # noqa: SIM115
    process = subprocess.Popen(
        python("nlpkit.testing.starter"),
        env={**os.environ, **python_path(), **FIXED},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=heard,
        start_new_session=True,
    )
    atexit.register(_end, process)
    return process, heard


def run(folder: Path, variables: Sequence[Mapping[str, str]]) -> list[int]:
    """Run `there` in a process for each of these sets of variables, at once.

    Args:
        folder: has the request, and gets the reports and what was ``said``.
        variables: of the environment, beside those of this process.

    Returns:
        How they ended; one code where the process that starts them did.
    """
    environments = [{**os.environ, **python_path(), **FIXED, **own} for own in variables]
    order = {"folder": str(folder), "cwd": os.getcwd(), "path": sys.path, "environments": environments}
    (process, heard), answer = begin(), b""
    assert process.stdin and process.stdout
    try:
        process.stdin.write(json.dumps(order).encode() + b"\n")
        process.stdin.flush()
        answer = process.stdout.readline()
    except BrokenPipeError:
        pass
    finally:
        if not answer:
            _end(process)
    if answer:
        codes: list[int] = json.loads(answer)
        return codes
    heard.seek(0)
    with (folder / "said").open("ab") as said:
        said.write(heard.read())
    return [process.returncode]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the process that starts others, and those that it has started."""
    begin.cache_clear()
    with contextlib.suppress(AttributeError, OSError):  # not every system has groups of processes
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    with contextlib.suppress(BrokenPipeError):
        process.communicate()


def main() -> None:
    """Start what each line asks for, and answer with exit codes when all have ended."""
    if _FORKS:
        import nlpkit.testing.together  # noqa: F401
    context: Any = multiprocessing.get_context("fork" if _FORKS else "spawn")
    for line in sys.stdin:
        order = json.loads(line)
        processes = [context.Process(target=_work, args=(order, own)) for own in order["environments"]]
        try:
            for process in processes:
                process.start()
            _wait(processes)
        finally:  # one that waits for another which could not be started would wait for ever
            for process in processes:
                if process.pid:
                    process.kill()
                    process.join()
        print(json.dumps([process.exitcode for process in processes]), flush=True)


def _work(order: Mapping[str, Any], environment: Mapping[str, str]) -> None:
    """Take over from the process that asks what a new one has of it, and do what there is to do."""
    folder = Path(order["folder"])
    with (folder / "said").open("ab") as said:
        for stream in (1, 2):
            os.dup2(said.fileno(), stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(order["cwd"])
    sys.path[:] = order["path"]
    sys.exit(there.main(folder))


def _wait(processes: Sequence[BaseProcess]) -> None:
    """Wait until all have ended, not long once one has failed, or until the time is up."""
    end = time.monotonic() + _PATIENCE
    while running := [process.sentinel for process in processes if process.exitcode is None]:
        if (left := end - time.monotonic()) <= 0:
            return
        wait(running, left)
        if any(process.exitcode for process in processes):
            end = min(end, time.monotonic() + _GRACE)


if __name__ == "__main__":
    main()
