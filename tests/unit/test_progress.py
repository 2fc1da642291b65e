"""Where a run stands, in words, in lines, and as a bar."""

from __future__ import annotations

import io
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nlpkit.cli.progress import BarProgress, LineProgress, Standing, duration, is_terminal, progress_for, scored


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lines(clock: Clock) -> tuple[LineProgress, list[str]]:
    said: list[str] = []
    return LineProgress(Standing("f1_macro", clock=clock), said.append), said


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_standing_foretells_the_end_of_the_whole_run(clock: Clock) -> None:
    standing = Standing(clock=clock)
    standing.start("base", 40, 0)
    clock.now += 20
    standing.step(10, 5000, 2.5)
    assert standing.facts() == ["loss 2.500", "250 tokens/s", "60 s left"]


def test_standing_says_nothing_that_it_does_not_know(clock: Clock) -> None:
    standing = Standing(clock=clock)
    standing.start("base", 40, 0)
    assert standing.facts() == []


def test_standing_of_a_resumed_run_counts_no_speed_from_before(clock: Clock) -> None:
    standing = Standing("accuracy", best=0.75, clock=clock)
    standing.start("base", 100, 50)
    clock.now += 5
    standing.step(51, 51_000, None)
    clock.now += 10
    standing.step(61, 61_000, None)
    assert standing.facts() == ["best accuracy 0.750", "1,000 tokens/s", "39 s left"]


def test_standing_keeps_the_best_score_when_a_worse_one_comes(clock: Clock) -> None:
    standing = Standing("accuracy", clock=clock)
    standing.scores({"dev/accuracy": 0.8, "dev/loss": 1.0}, best=True)
    standing.scores({"dev/accuracy": 0.7, "dev/loss": 0.5}, best=False)
    assert standing.best == 0.8


def test_standing_at_the_last_step_has_no_time_left(clock: Clock) -> None:
    standing = Standing(clock=clock)
    standing.start("base", 2, 0)
    clock.now += 1
    standing.step(2, 10, None)
    assert standing.facts() == ["10 tokens/s"]


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 9999), st.floats(0, 1e4)), max_size=20), st.integers(0, 50))
def test_standing_is_finite_whatever_the_steps(moves: list[tuple[int, int, float]], done: int) -> None:
    clock = Clock()
    standing = Standing(clock=clock)
    step, tokens = done, 7 * done
    standing.start("base", 200, done)
    for more, new, seconds in moves:
        step, tokens, clock.now = step + more, tokens + new, clock.now + seconds
        standing.step(step, tokens, None)
        known = [x for x in (standing.seconds_left, standing.tokens_a_second) if x is not None]
        assert all(math.isfinite(x) and x >= 0 for x in known)


def test_lines_come_every_ten_seconds(clock: Clock, lines: tuple[LineProgress, list[str]]) -> None:
    progress, said = lines
    progress.start("base", 1000, 0)
    for step in range(1, 26):
        clock.now += 1
        progress.step(step, 100 * step, 3.0)
    assert said == [
        "base: 1,000 steps",
        "base: step 10 of 1,000 (1%), loss 3.000, 100 tokens/s, 16 min left",
        "base: step 20 of 1,000 (2%), loss 3.000, 100 tokens/s, 16 min left",
    ]


def test_lines_say_every_score(clock: Clock, lines: tuple[LineProgress, list[str]]) -> None:
    progress, said = lines
    progress.start("fitted", 10, 4)
    progress.step(5, 100, 3.0)
    progress.scores(5, {"dev/loss": 0.5, "dev/f1_macro": 0.8125, "dev/accuracy": 0.8}, best=True)
    progress.scores(5, {"dev/loss": 0.6, "dev/f1_macro": 0.75, "dev/accuracy": 0.8}, best=False)
    assert said == [
        "fitted: 10 steps, 4 of them done before",
        "fitted: step 5 of 10 (50%), dev f1_macro 0.812 (best so far), dev loss 0.500",
        "fitted: step 5 of 10 (50%), dev f1_macro 0.750, dev loss 0.600",
    ]


def test_scored_names_the_loss_once_where_it_chooses() -> None:
    assert scored({"dev/loss": 0.5, "dev/accuracy": 0.1}, "loss", best=True) == "dev loss 0.500 (best so far)"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0, "0 s"), (99.4, "99 s"), (99.6, "2 min"), (5900, "98 min"), (7500, "2 h 05 min"), (400_000, "111 h 07 min")],
)
def test_duration_has_the_unit_that_suits_it(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_progress_is_none_when_quiet() -> None:
    assert progress_for(True, "loss") is None


def test_progress_is_lines_where_stderr_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert isinstance(progress_for(False, "loss"), LineProgress)


def test_progress_is_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", Terminal())
    assert isinstance(progress_for(False, "loss"), BarProgress)


def test_terminal_that_cannot_move_its_cursor_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert not is_terminal(Terminal())


def test_bar_shows_place_speed_and_score_without_colour_where_no_color_is_set(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    bar = BarProgress(Standing("accuracy", clock=clock))
    bar.start("runs [base]", 40, 0)
    clock.now += 20
    bar.step(10, 5000, 2.5)
    bar.scores(10, {"dev/accuracy": 0.5}, best=True)
    bar.end()
    shown = [line for line in screen.getvalue().splitlines() if "runs" in line][-1]
    assert "runs [base]" in shown
    assert "10/40 loss 2.500, best accuracy 0.500, 250 tokens/s, 60 s left" in shown
    assert "\x1b[3" not in screen.getvalue()
