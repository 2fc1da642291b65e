"""CPU time of commands that train nothing, against the bare interpreter: they are typed often and must feel instant.

Two are also timed with twenty more plugins installed, in a folder that is made for it. Prints one JSON line for each
side and two with ratios; exits 1 when a command imports what it must not or is above a limit.

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
import tempfile
from pathlib import Path

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
LIMITS = {
    "nlpkit --help": 6.0,  # click, and no verb
    "nlpkit fit --help": 7.0,  # the options of training as well, and no plugin
    "nlpkit tasks": 9.0,  # every plugin is imported, for the names of its tasks
    "nlpkit fit --task sentiment --help": 10.0,  # both
}
"""Times the CPU time of a bare interpreter."""
PLUGINS = 20
MORE = f", {PLUGINS} more plugins"
WITH_PLUGINS = ("nlpkit --help", "nlpkit tasks")
"""Sides that are timed with more plugins, too; the first of them, which needs none, must not be slower for it."""
LIMIT_OF_PLUGINS = 1.3
PLUGIN = """
import nlpkit

class Task{number}(nlpkit.Task):
    "Does what task {number} does."

    name = "task-{number}"

    def encode(self, example): return self.tokenizer(example["text"])
    def build_head(self, backbone): raise NotImplementedError
    def build_metrics(self): raise NotImplementedError
    def decode(self, predictions, batch): return []

@nlpkit.hookimpl
def nlpkit_tasks():
    return [Task{number}]
"""
# an installed package is compiled; a checkout must be allowed to write its compiled files, too
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
WATCH = """
import sys
from nlpkit.cli import main
code = main(sys.argv[1:])
print(*[name for name in {forbidden!r} if name in sys.modules], file=sys.stderr)
sys.exit(code)
"""


def install_plugins(site: Path) -> dict[str, str]:
    """Write distributions of one small task each; gives the environment in which they are found."""
    for number in range(PLUGINS):
        about = site / f"nlpkit_task{number}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: nlpkit-task{number}\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[nlpkit]\ntask-{number} = nlpkit_task{number}\n")
        (site / f"nlpkit_task{number}.py").write_text(PLUGIN.format(number=number))
    return {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join(filter(None, [str(site), ENVIRONMENT.get("PYTHONPATH")]))}


def cpu_seconds(command: list[str], environment: dict[str, str]) -> float:
    """User and system time of one process, in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def imported(arguments: list[str]) -> list[str]:
    """Which of the heavy modules a command imports."""
    watch = [sys.executable, "-c", WATCH.format(forbidden=FORBIDDEN), *arguments]
    last = subprocess.run(watch, capture_output=True, text=True, check=True).stderr.splitlines()[-1:]
    return [name for line in last for name in line.split() if name in FORBIDDEN]


def measure(sides: dict[str, tuple[list[str], dict[str, str]]], runs: int) -> dict[str, list[float]]:
    """Seconds of each side, taken in turn, so that a busy machine disturbs them alike."""
    times: dict[str, list[float]] = {side: [] for side in sides}
    for turn in range(runs + 1):
        for side, (command, environment) in sides.items():
            seconds = cpu_seconds(command, environment)
            if turn:  # the first is for compiled files and the disk's cache
                times[side].append(seconds)
    return times


def main() -> int:
    """Measure all sides and compare them."""
    runs = max(7, int(sys.argv[1]) if len(sys.argv) > 1 else 15)
    with tempfile.TemporaryDirectory() as site:
        crowded = install_plugins(Path(site))
        sides = {side: (command, ENVIRONMENT) for side, command in SIDES.items()}
        sides |= {side + MORE: (SIDES[side], crowded) for side in WITH_PLUGINS}
        times = measure(sides, runs)
    medians = {side: statistics.median(values) for side, values in times.items()}
    for side, values in times.items():
        seconds = {"median": medians[side], "least": min(values), "most": max(values)}
        print(json.dumps({"side": side, "runs": runs, "cpu_ms": {k: round(v * 1e3, 1) for k, v in seconds.items()}}))
    bare, *commands = SIDES
    ratios = {side: round(medians[side] / medians[bare], 2) for side in commands}
    heavy = {side: imported(SIDES[side][len(COMMAND) :]) for side in commands}
    print(json.dumps({"ratio": ratios, "limit": LIMITS, "imported": heavy}))
    slower = {side: round(medians[side + MORE] / medians[side], 2) for side in WITH_PLUGINS}
    print(json.dumps({"ratio with more plugins to none": slower, "limit": {WITH_PLUGINS[0]: LIMIT_OF_PLUGINS}}))
    too_slow = any(ratios[side] > limit for side, limit in LIMITS.items()) or slower[WITH_PLUGINS[0]] > LIMIT_OF_PLUGINS
    return int(any(heavy.values()) or too_slow)


if __name__ == "__main__":
    sys.exit(main())
