"""Timing of several sides: every run is a process of its own, the sides take turns, medians are compared."""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

DATA = Path(os.environ.get("NLPKIT_DATA", Path(__file__).parents[3] / "shared" / "data"))
Side = Callable[[argparse.Namespace], dict[str, Any]]
Values = dict[str, Any]


class Clock:
    """CPU seconds of this process and wall seconds of a ``with`` block."""

    cpu_s = 0.0
    wall_s = 0.0

    def __enter__(self) -> Clock:
        self.start()
        return self

    def start(self) -> None:
        """Count from now on."""
        self._wall, self._cpu = time.perf_counter(), cpu_seconds()

    def stop(self) -> None:
        """Count no further; a second time changes nothing."""
        self.wall_s = self.wall_s or time.perf_counter() - self._wall
        self.cpu_s = self.cpu_s or cpu_seconds() - self._cpu

    def __exit__(self, *_: object) -> None:
        self.stop()

    def result(self, count: int, **quality: float) -> Values:
        """What a side returns: how much was done in what time, and how well."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {"count": count, "cpu_s": self.cpu_s, "wall_s": self.wall_s, "peak_mb": peak, **quality}


def begin(arguments: argparse.Namespace) -> None:
    """Threads and seed of a side, before it makes anything."""
    import torch

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)


def cpu_seconds() -> float:
    """User and system time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that every program has."""
    made = argparse.ArgumentParser(description=(description or "").split("\n")[0])
    made.add_argument("--runs", type=int, default=3, help="runs of each side; run N has seed N")
    made.add_argument("--threads", type=int, default=1, help="CPU threads; compare CPU seconds on 1 and wall on 2")
    made.add_argument("--only", default="", help="sides to run, with commas; the first is the peer")
    made.add_argument("--side", default="", help="run one side in this process and print its numbers")
    made.add_argument("--seed", type=int, default=0, help="seed of that run")
    return made


def main(
    made: argparse.ArgumentParser, sides: Mapping[str, Side], shared: Callable[[argparse.Namespace], None]
) -> None:
    """Run the comparison, or one side of it.

    Args:
        made: from `parser`, with the options of the program.
        sides: name to what it does; the first is the peer that the others are divided by.
        shared: makes what all sides read, once, before the first run.
    """
    arguments = made.parse_args()
    if arguments.side:
        work = {**sides, _SHARED: shared}[arguments.side]
        print(json.dumps(work(arguments)))
        return
    _spawn(_SHARED, 0, arguments.threads)  # not in this process, whose peak memory its children would inherit
    names = arguments.only.split(",") if arguments.only else list(sides)
    found: dict[str, list[Values]] = {name: [] for name in names}
    for seed in range(arguments.runs):
        for name in names:
            found[name].append(_spawn(name, seed, arguments.threads))
            print(f"run {seed} {name}: {json.dumps(_rounded(found[name][-1]))}", file=sys.stderr, flush=True)
    _report(found, arguments.threads)


def _spawn(name: str, seed: int, threads: int) -> Values:
    command = [sys.executable, *sys.argv, "--side", name, "--seed", str(seed)]
    limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), str(threads))
    environment = {**os.environ, **limits, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    if ended.returncode:
        sys.exit(ended.stderr[-4000:])
    return dict(json.loads(ended.stdout.splitlines()[-1]) or {})


def _report(found: dict[str, list[Values]], threads: int) -> None:
    peer, *others = found
    medians: dict[str, Values] = {}
    for name, rows in found.items():
        keys = [key for key, value in rows[0].items() if isinstance(value, int | float)]
        medians[name] = {key: statistics.median(row[key] for row in rows) for key in keys}
        per_second = {f"per_{clock}": _median_rate(rows, f"{clock}_s") for clock in ("cpu", "wall")}
        words = {key: value for key, value in rows[0].items() if isinstance(value, str)}
        means = {f"mean_{k}": statistics.mean(row[k] for row in rows) for k in keys if k not in _TIMES}
        print(
            json.dumps(
                _rounded(
                    {
                        "side": name,
                        "threads": threads,
                        "runs": len(rows),
                        **words,
                        **per_second,
                        **medians[name],
                        **means,
                    }
                )
            )
        )
    ratios: Values = {"peer": peer}
    for name in others:
        for clock in ("cpu_s", "wall_s"):
            ratios[f"{name}_{clock[:-2]}"] = _median_rate(found[name], clock) / _median_rate(found[peer], clock)
        pairs = zip(found[name], found[peer], strict=True)
        ratios[f"{name}_cpu_pairs"] = [round(_rate(a, "cpu_s") / _rate(b, "cpu_s"), 2) for a, b in pairs]
    print(json.dumps(_rounded(ratios)))


_SHARED = "shared"
_TIMES = {"count", "cpu_s", "wall_s", "peak_mb"}


def _rate(row: Values, clock: str) -> float:
    return float(row["count"]) / float(row[clock])


def _median_rate(rows: list[Values], clock: str) -> float:
    return statistics.median(_rate(row, clock) for row in rows)


def _rounded(values: Values) -> Values:
    return {k: round(v, 1 if v > 100 else 4) if isinstance(v, float) else v for k, v in values.items()}
