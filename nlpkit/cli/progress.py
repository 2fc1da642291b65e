"""How far a run is, on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from nlpkit.callbacks import Progress as Shows

LINE_SECONDS = 10.0
_BAR_REFRESHES = 4  # a second: the processor is for training


class Standing:
    """Where a run stands, and how that looks in words.

    Args:
        score: name of the dev score that chooses.
        best: its best value before a resume.
        clock: seconds, from any start.
    """

    def __init__(
        self, score: str = "loss", best: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.score, self.best, self.clock = score, best, clock
        self.name, self.total, self.done = "", 0, 0
        self.loss: float | None = None
        self._began, self._first_step, self._tokens, self._first_tokens = 0.0, 0, 0, 0

    def start(self, name: str, total: int, done: int) -> None:
        """Start the clock; steps and tokens from before a resume count for no speed."""
        self.name, self.total, self.done = name, total, done
        self._began, self._first_step = self.clock(), done
        self._tokens = self._first_tokens = 0

    def step(self, step: int, tokens: int, loss: float | None) -> None:
        """Take in a step."""
        if self._first_step and not self._first_tokens:  # a resume does not say what was seen before
            self._began, self._first_step, self._first_tokens = self.clock(), step, tokens
        self.done, self._tokens, self.loss = step, tokens, loss

    def scores(self, scores: dict[str, float], best: bool) -> None:
        """Take in the scores of the dev part."""
        if best:
            self.best = scores.get(f"dev/{self.score}", self.best)

    @property
    def tokens_a_second(self) -> float | None:
        """Mean speed since the start, time for scores included."""
        seconds, tokens = self.clock() - self._began, self._tokens - self._first_tokens
        return tokens / seconds if seconds > 0 and tokens > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """Time to the last step of the whole run, at the mean speed since the start."""
        steps = self.done - self._first_step
        return (self.clock() - self._began) / steps * (self.total - self.done) if steps > 0 else None

    def facts(self) -> list[str]:
        """Loss, best score, speed and time left, as far as they are known."""
        speed, left = self.tokens_a_second, self.seconds_left
        return [
            *([] if self.loss is None else [f"loss {self.loss:.3f}"]),
            *([] if self.best is None else [f"best {self.score} {self.best:.3f}"]),
            *([] if speed is None else [f"{speed:,.0f} tokens/s"]),
            *([] if left is None or self.done >= self.total else [f"{duration(left)} left"]),
        ]


class LineProgress:
    """Plain lines: at the start, every ten seconds, and at each validation.

    Args:
        standing: of the run.
        say: prints a line.
    """

    def __init__(self, standing: Standing, say: Callable[[str], None]) -> None:
        self.standing, self.say = standing, say
        self._said = 0.0

    def start(self, name: str, total: int, done: int) -> None:
        """Say how long the run is."""
        self.standing.start(name, total, done)
        self._said = self.standing.clock()
        self.say(f"{name}: {total:,} steps" + (f", {done:,} of them done before" if done else ""))

    def step(self, step: int, tokens: int, loss: float | None) -> None:
        """Say a line when the last is old."""
        self.standing.step(step, tokens, loss)
        if self.standing.clock() - self._said >= LINE_SECONDS:
            self._said = self.standing.clock()
            self.say(", ".join([_place(self.standing), *self.standing.facts()]))

    def scores(self, step: int, scores: dict[str, float], best: bool) -> None:
        """Say the score that chooses."""
        self.standing.scores(scores, best)
        self.say(f"{_place(self.standing)}, {scored(scores, self.standing.score, best)}")

    def end(self) -> None:
        """Nothing: the results come next."""


class BarProgress:
    """A bar that stays at the bottom, lines of the log above it.

    Args:
        standing: of the run.
    """

    def __init__(self, standing: Standing) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

        self.standing = standing
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}", markup=False),
            console=Console(stderr=True, highlight=False),
            refresh_per_second=_BAR_REFRESHES,
            redirect_stdout=False,  # results are not for stderr
        )
        self._task: TaskID | None = None

    def start(self, name: str, total: int, done: int) -> None:
        """Show the bar."""
        self.standing.start(name, total, done)
        self._task = self._bar.add_task(name, total=total, completed=done, facts="")
        self._bar.start()

    def step(self, step: int, tokens: int, loss: float | None) -> None:
        """Move it."""
        self.standing.step(step, tokens, loss)
        self._update()

    def scores(self, step: int, scores: dict[str, float], best: bool) -> None:
        """Show the best score."""
        self.standing.scores(scores, best)
        self._update()

    def end(self) -> None:
        """Leave it as it is."""
        self._bar.stop()

    def _update(self) -> None:
        if self._task is not None:
            self._bar.update(self._task, completed=self.standing.done, facts=", ".join(self.standing.facts()))


def progress_for(quiet: bool, score: str, best: float | None = None) -> Shows | None:
    """The progress that suits stderr: a bar, lines, or none.

    Args:
        quiet: show none.
        score: name of the dev score that chooses.
        best: its best value before a resume.
    """
    if quiet:
        return None
    standing = Standing(score, best)
    if is_terminal(sys.stderr):
        return BarProgress(standing)
    return LineProgress(standing, lambda line: click.echo(line, err=True))


def is_terminal(stream: Any) -> bool:
    """Whether somebody looks at a stream, through something that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


def scored(scores: dict[str, float], score: str, best: bool) -> str:
    """``dev f1_macro 0.812 (best so far), dev loss 0.514``, and behind it the loss of a text that is watched."""
    names = dict.fromkeys([score, "loss"])
    values = {name: scores[f"dev/{name}"] for name in names if f"dev/{name}" in scores}
    parts = [f"dev {name} {value:.3f}" for name, value in values.items()]
    if best and parts:
        parts[0] += " (best so far)"
    if "watch/loss" in scores:
        parts.append(f"watch loss {scores['watch/loss']:.3f}")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """``45 s``, ``12 min`` or ``2 h 05 min``."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60:,} h {minutes % 60:02} min"


def _place(standing: Standing) -> str:
    share = 100 * standing.done // max(1, standing.total)
    return f"{standing.name}: step {standing.done:,} of {standing.total:,} ({share}%)"
