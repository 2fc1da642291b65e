"""Several processes as one command: the exit code, what is said, signals, and that none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nlpkit.cli import launch
from nlpkit.folder import RunFolder

Ended = Callable[..., tuple[int, str]]
START = "import os, signal, sys, time; rank = int(os.environ['RANK']); here = sys.argv[1]\n"
WAIT = "time.sleep(300)"
OUTLIVE = """
import fcntl
if rank:  # until it ends, in whatever way, it holds a lock
    held = open(f'{here}/held', 'w')
    fcntl.flock(held, fcntl.LOCK_EX)
    os.rename(f'{here}/held', f'{here}/alive')
else:
    while not os.path.exists(f'{here}/alive'):
        time.sleep(0.01)
    fcntl.flock(open(f'{here}/alive'), fcntl.LOCK_EX)
"""


@pytest.fixture
def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Ended:
    """Run a script, which is told its ``rank``, in so many processes; gives the exit code and stderr."""
    monkeypatch.setattr(launch, "_PATIENCE", 5.0)

    def run(script: str, count: int = 2) -> tuple[int, str]:
        monkeypatch.setattr(launch, "_PROGRAM", (sys.executable, "-c", START + script))
        code = launch.launch([str(tmp_path)], count, RunFolder(tmp_path / "run"))
        return code, capfd.readouterr().err

    return run


def test_processes_are_told_their_places_as_by_torchrun(ended: Ended, tmp_path: Path) -> None:
    names = "'RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'GROUP_RANK'"
    assert ended(f"open(f'{{here}}/{{rank}}', 'w').write(' '.join(os.environ[n] for n in ({names})))", 3) == (0, "")
    assert [(tmp_path / str(r)).read_text() for r in range(3)] == [f"{r} {r} 3 127.0.0.1 0" for r in range(3)]


def test_the_first_speaks_for_all(ended: Ended) -> None:
    assert ended("print('error: as all say', file=sys.stderr); sys.exit(3)") == (3, "error: as all say\n")


def test_what_another_process_failed_with_is_said_with_its_number(ended: Ended) -> None:
    script = "if rank: print('error: bad row', file=sys.stderr)\nsys.exit(3 if rank else 6)"
    assert ended(OUTLIVE + script) == (3, "process 1: error: bad row\n")


def test_a_process_that_was_killed_is_named(ended: Ended) -> None:
    """R19."""
    script = "if rank: os.kill(os.getpid(), signal.SIGKILL)\nsys.exit(6)"
    assert ended(OUTLIVE + script) == (6, "error: process 1 of 2 was ended by SIGKILL\n")
    script = "os.kill(os.getpid(), signal.SIGKILL) if not rank else " + WAIT
    assert ended(script) == (6, "error: process 0 of 2 was ended by SIGKILL\n")


def test_where_the_first_was_killed_it_is_said_how_its_run_goes_on(ended: Ended, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.write_facts({"stage": "pretrain", "request": {"plugins": ["own.py"]}, "folder": "/elsewhere"})
    code, said = ended("os.kill(os.getpid(), signal.SIGKILL) if not rank else " + WAIT)
    hint = f"hint: nlpkit pretrain --resume {folder.path} --plugin /elsewhere/own.py"
    assert (code, said.splitlines()) == (6, ["error: process 0 of 2 was ended by SIGKILL", hint])


def test_none_outlives_the_first(ended: Ended, tmp_path: Path) -> None:
    """R19."""
    script = f"open(f'{{here}}/{{rank}}', 'w').write(str(os.getpid()))\nif rank: {WAIT}\n"
    script += "while not os.path.exists(f'{here}/1'): time.sleep(0.01)\ntime.sleep(0.1); sys.exit(4)"
    assert ended(script) == (4, "")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "1").read_text()), 0)


def test_none_waits_for_ever_for_one_that_ended(ended: Ended, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_PATIENCE", 0.2)
    assert ended(f"sys.exit(5) if rank else {WAIT}")[0] == 5


LAUNCHER = """
import sys
from pathlib import Path
from nlpkit.cli import launch
from nlpkit.folder import RunFolder
launch._PROGRAM = (sys.executable, "-c", sys.argv[1])
sys.exit(launch.launch([sys.argv[2]], 2, RunFolder(Path(sys.argv[2]) / "run")))
"""
SAVES = """
from nlpkit.cli import launch
launch.end_with_launcher()
def leave(number, frame):
    open(f'{here}/{rank}.saved', 'w')
    sys.exit(128 + number)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, leave)
open(f'{here}/{rank}', 'w')
time.sleep(300)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signals_reach_all_and_the_launchers_death_counts_as_one(number: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-c", LAUNCHER, START + SAVES, str(tmp_path)]
    process = subprocess.Popen(command)
    _wait_for(tmp_path, "0", "1")
    process.send_signal(number)
    assert process.wait(60) == (-number if number == signal.SIGKILL else 128 + number)
    _wait_for(tmp_path, "0.saved", "1.saved")


EARLY = """
import os, signal, sys
from pathlib import Path
from nlpkit.cli import launch
from nlpkit.folder import RunFolder
launch._PROGRAM = (sys.executable, "-c", sys.argv[1])
start = launch._start
def then_interrupt(arguments, environment, rank, said):
    process = start(arguments, environment, rank, said)
    if rank == 0:
        os.kill(os.getpid(), signal.SIGTERM)
    return process
launch._start = then_interrupt
sys.exit(launch.launch([sys.argv[2]], 2, RunFolder(Path(sys.argv[2]) / "run")))
"""


def test_signal_before_any_can_take_it_ends_all(tmp_path: Path) -> None:
    alive = f"os.open(f'{{here}}/fifo', os.O_WRONLY); {WAIT}"
    os.mkfifo(tmp_path / "fifo")
    command = [sys.executable, "-c", EARLY, START + alive, str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    held = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    assert (process.communicate(timeout=60)[1], process.returncode) == ("interrupted\n", 143)
    assert os.read(held, 1) == b"", "nobody has it open"


def _wait_for(folder: Path, *names: str) -> None:
    end = time.monotonic() + 60
    while not all((folder / name).exists() for name in names):
        assert time.monotonic() < end, sorted(folder.iterdir())
        time.sleep(0.01)
