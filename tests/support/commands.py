"""Ways to run the command ``nlpkit`` in tests: importing torch again for each would cost seconds."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CLIENT = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as ours:
    ours.connect({socket!r})
    socket.send_fds(ours, [b"."], [0, 1, 2])
    asked = {{"arguments": sys.argv[1:], "folder": os.getcwd(), "environment": dict(os.environ)}}
    ours.sendall(json.dumps(asked).encode())
    ours.shutdown(socket.SHUT_WR)
    sys.exit(int(ours.recv(9) or b"70"))
"""
SERVER = """
import json, os, select, signal, socket, sys
import nlpkit.run
from nlpkit.cli import main
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(sys.argv[1])
    listener.listen()
    print("ready", flush=True)
    while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
        theirs, _ = listener.accept()
        if not os.fork():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for number, stream in enumerate(socket.recv_fds(theirs, 1, 3)[1]):
                os.dup2(stream, number)
            asked = json.loads(theirs.makefile().read())
            os.chdir(asked["folder"])
            os.environ.clear()
            os.environ.update(asked["environment"])
            sys.argv[:] = ["nlpkit", *asked["arguments"]]
            try:
                code = main(asked["arguments"])
            except SystemExit as end:  # as the interpreter would make of it
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
            sys.stdout.flush()
            sys.stderr.flush()
            theirs.sendall(str(code).encode())
            os._exit(code)
        theirs.close()
"""


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Args:
        code: exit code.
        out: what it printed on stdout.
        err: and on stderr.
    """

    code: int
    out: str
    err: str


def run_command(*arguments: object) -> Ended:
    """Run it in this process."""
    from nlpkit.cli import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(map(str, arguments)))
    return Ended(code, out.getvalue(), err.getvalue())


def run_process(*arguments: object) -> Ended:
    """Run it in a process of its own, as what starts further processes must be."""
    command = [sys.executable, "-m", "nlpkit", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    return Ended(done.returncode, done.stdout, done.stderr)


@contextlib.contextmanager
def forked() -> Iterator[Path]:
    """A folder, for the front of PATH, with an ``nlpkit`` whose every run is a fork of one process.

    A command has its own arguments, folder, environment and streams. What a library reads of the environment as it is
    imported is that of this moment.
    """
    with tempfile.TemporaryDirectory(prefix="nlpkit-") as folder:
        listens, client = Path(folder) / "socket", Path(folder) / "bin" / "nlpkit"
        client.parent.mkdir()
        client.write_text(CLIENT.format(python=sys.executable, socket=str(listens)), "utf-8")
        client.chmod(0o755)
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        with subprocess.Popen([sys.executable, "-c", SERVER, str(listens)], env=environment, **streams) as server:
            assert server.stdout and server.stdout.readline() == b"ready\n"
            yield client.parent
            server.communicate()
