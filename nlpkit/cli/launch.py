"""Several processes of one run on this machine: each the same command, started from here, and none left behind."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import IO

import click

from nlpkit import signals
from nlpkit.cli.failures import report
from nlpkit.errors import Interrupted, ResourceError
from nlpkit.folder import RunFolder
from nlpkit.processes import python, python_path

_LAUNCHED = "NLPKIT_LAUNCHED"
_PROGRAM = python("nlpkit")
_PATIENCE = 30.0  # seconds that the others have to end by themselves when one has ended
_POLL_SECONDS = 0.05


def launch(arguments: Sequence[str], count: int, run: RunFolder) -> int:
    """Run this very program in several processes, as torchrun would, until all have ended.

    The first speaks for all. A signal is passed on to each; when one fails the others end, too.

    Args:
        arguments: of the program.
        count: processes.
        run: its folder, to say how it goes on where the first process cannot.

    Returns:
        The exit code.
    """
    with contextlib.ExitStack() as files:
        said = [files.enter_context(tempfile.TemporaryFile()) for _ in range(count)]
        processes: list[subprocess.Popen[bytes]] = []
        try:
            with _received() as numbers:
                environment = _environment(count)
                for rank in range(count):
                    processes.append(_start(arguments, environment, rank, said[rank]))
                ended = _wait(processes, numbers)
        finally:
            for process in processes:
                process.kill()
                process.wait()
        return _verdict(processes, ended, said[ended], numbers, run)


def end_with_launcher() -> None:
    """Take the end of the process that launched this one, if `launch` did, as SIGTERM: the run is saved and ends."""
    if os.environ.pop(_LAUNCHED, None):
        threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    while os.read(0, 1):  # nothing is ever written; it ends when the launcher does
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _environment(count: int) -> dict[str, str]:
    """What torchrun sets; and cores divided, since several times all of them are slower than one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    usual = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // count))}
    if sys.platform == "linux":
        usual["GLOO_SOCKET_IFNAME"] = "lo"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TORCHELASTIC_")}
    return {
        **usual,
        **inherited,
        **python_path(),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(count),
        "GROUP_RANK": "0",
        _LAUNCHED: "1",
    }


def _start(
    arguments: Sequence[str], environment: dict[str, str], rank: int, said: IO[bytes]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*_PROGRAM, *arguments],
        env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL if rank else None,
        stderr=said if rank else None,
        start_new_session=True,  # Ctrl-C reaches each once, from here
    )


@contextlib.contextmanager
def _received() -> Iterator[list[int]]:
    """Collect the signals that would end this process."""
    numbers: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        numbers.append(number)
        signals.leave_terminal()

    taken = signals.take(receive)
    try:
        yield numbers
    finally:
        signals.give_back(taken)


def _wait(processes: list[subprocess.Popen[bytes]], numbers: list[int]) -> int:
    """Wait until all have ended, not for ever once it is settled how; returns the rank that settled it.

    Signals that were received are passed on to each process.
    """
    ranks, end, settled, passed = [*range(1, len(processes)), 0], math.inf, None, 0
    while True:
        for number in numbers[passed:]:
            passed += 1
            for process in processes:
                process.send_signal(number)
        codes = [process.poll() for process in processes]
        if settled is None:
            settled = next((r for r in ranks if codes[r] or (not r and codes[r] == 0)), None)
            if settled is not None:  # nothing is lost with the others: the first alone writes
                end = time.monotonic() + (0.0 if codes[0] else _PATIENCE)
        if None not in codes or time.monotonic() > end:
            return settled or 0
        time.sleep(_POLL_SECONDS)


def _verdict(
    processes: list[subprocess.Popen[bytes]], settled: int, said: IO[bytes], numbers: list[int], run: RunFolder
) -> int:
    """The exit code of the whole; what the first cannot have said is said here."""
    first, code = processes[0].returncode, processes[settled].returncode
    if numbers and first == -numbers[0]:  # it came before the process could take it
        return report(Interrupted("interrupted", signal_number=numbers[0]))
    if first >= 0 and (first != ResourceError.exit_code or not settled):
        return first
    if code < 0:
        name = signal.Signals(-code).name
        go_on = run.resume_command() if not settled and run.facts.is_file() else ""
        return report(ResourceError(f"process {settled} of {len(processes)} was ended by {name}", go_on))
    said.seek(0)
    for line in said.read().decode(errors="replace").splitlines():
        click.echo(f"process {settled}: {line}", err=True)
    return code or ResourceError.exit_code
