"""CPU time of commands that train nothing, against the bare interpreter: they are typed often and must feel instant.

Prints one JSON line for each side and one with the ratios; exits 1 when a command imports what it must not or is above
the limit.

    python tests/benchmarks/startup.py [RUNS]
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys

FORBIDDEN = ("torch", "pytorch_lightning", "numpy", "omegaconf")
SCRIPT = shutil.which("nlpkit", path=os.path.dirname(sys.executable))
COMMAND = [SCRIPT] if SCRIPT else [sys.executable, "-m", "nlpkit"]
SIDES = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "nlpkit --help": [*COMMAND, "--help"],
    "nlpkit fit --help": [*COMMAND, "fit", "--help"],
    "nlpkit fit --task sentiment --help": [*COMMAND, "fit", "--task", "sentiment", "--help"],
    "nlpkit tasks": [*COMMAND, "tasks"],
}
LIMIT = 8.0
# an installed package is compiled; a checkout must be allowed to write its compiled files, too
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
WATCH = """
import sys
from nlpkit.cli import main
code = main(sys.argv[1:])
print(*[name for name in {forbidden!r} if name in sys.modules], file=sys.stderr)
sys.exit(code)
"""


def cpu_seconds(command: list[str]) -> float:
    """User and system time of one process, in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, env=ENVIRONMENT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def imported(arguments: list[str]) -> list[str]:
    """Which of the heavy modules a command imports."""
    watch = [sys.executable, "-c", WATCH.format(forbidden=FORBIDDEN), *arguments]
    last = subprocess.run(watch, capture_output=True, text=True, check=True).stderr.splitlines()[-1:]
    return [name for line in last for name in line.split() if name in FORBIDDEN]


def main() -> int:
    """Measure all sides in turn, so that a busy machine disturbs them alike."""
    runs = max(7, int(sys.argv[1]) if len(sys.argv) > 1 else 15)
    times: dict[str, list[float]] = {side: [] for side in SIDES}
    for side in SIDES:
        cpu_seconds(SIDES[side])  # compiled files and the disk's cache
    for _ in range(runs):
        for side, command in SIDES.items():
            times[side].append(cpu_seconds(command))
    medians = {side: statistics.median(values) for side, values in times.items()}
    for side, values in times.items():
        seconds = {"median": medians[side], "least": min(values), "most": max(values)}
        print(json.dumps({"side": side, "runs": runs, "cpu_ms": {k: round(v * 1e3, 1) for k, v in seconds.items()}}))
    bare, *commands = medians
    ratios = {side: round(medians[side] / medians[bare], 2) for side in commands}
    heavy = {side: imported(SIDES[side][len(COMMAND) :]) for side in commands}
    print(json.dumps({"ratio": ratios, "limit": LIMIT, "imported": heavy}))
    return int(any(heavy.values()) or max(ratios.values()) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
