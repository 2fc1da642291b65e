"""Bad files at the command line: the exit code, and one message with the file and the line."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from nlpkit_ner import schemes

from nlpkit.cli import main

GOOD = "Ann\tB-PER\nmet\tO\n\nin\tO\nOslo\tB-LOC\n"
TINY = ("model.preset=tiny", "model.vocabulary=300", "model.sequence_length=32", "trainer.max_steps=1")
LEAVES = "leaves the text, which has 0 characters"
Write = Callable[..., str]


@pytest.fixture(autouse=True)
def _own_log_and_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command sets up the library's log for its process, which here is that of all tests."""
    monkeypatch.setenv("NLPKIT_CACHE", str(tmp_path / "cache"))
    log = logging.getLogger("nlpkit")
    before = list(log.handlers), log.propagate, log.level
    yield
    log.handlers, log.propagate = before[0], before[1]
    log.setLevel(before[2])


def fit(train: str, dev: str) -> tuple[int, list[str]]:
    """The exit code and what stands on stderr; in this process, as importing torch again costs seconds."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["fit", "--task", "ner", train, "--dev", dev, "--out", "run", *TINY])
    return code, err.getvalue().splitlines()


def row(text: str, *spans: tuple[int, int, str]) -> str:
    return json.dumps({"text": text, "entities": spans}) + "\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.conll", "Ann\tB-PER\n\nthe\tO\nTimes\tB-paper\n", "a.conll:3: label 'paper' is none of LOC, PER"),
        (
            "a.jsonl",
            row("Ann met", (0, 3, "PER")) + row("Ann met Lee", (0, 7, "PER"), (4, 11, "LOC")),
            "a.jsonl:2: span 0:7 'Ann met' (PER) and span 4:11 'met Lee' (LOC) overlap: they cross",
        ),
        (
            "a.conll",
            f"{GOOD}\nBo\tX\tB-PER\n",
            "a.conll:7: 'Bo': 3 columns; expected 2, divided by tabs, as on other lines",
        ),
        ("a.conll", f"{GOOD}\nBo\tX-PER\n", f"a.conll:7: 'Bo': 'X-PER' is no tag; expected {schemes.FORMS}"),
        ("a.conll", f"{GOOD}\nBo\tB_PER\n", f"a.conll:7: 'Bo': 'B_PER' is no tag; expected {schemes.FORMS}"),
        ("a.jsonl", row("Ann", (0, 3, "PER")) + row("", (0, 1, "LOC")), f"a.jsonl:2: span 0:1 (LOC) {LEAVES}"),
        ("a.jsonl", GOOD, "a.jsonl:1: not JSON at character 1: expecting value"),
        ("a.conll", f"{row('Ann', (0, 3, 'PER'))}{row('so')}", "a.conll:1: JSON; "),
    ],
)
def test_fit_names_file_and_line(write: Write, name: str, content: str, message: str) -> None:
    code, said = fit(write(GOOD, "train.conll"), write(content, name))
    assert code == 3, said
    (error,) = (line for line in said if line.startswith("error: "))
    assert error == f"error: {message}" or (message.endswith("; ") and error.startswith(f"error: {message}"))
    assert said[-1].startswith("hint: ")
    assert not Path("run").exists()


def test_fit_works_on_special_signs_and_leaves_empty_texts_out(write: Write) -> None:
    signs = row("\u200b\u00a0\ufeff ~ \U0001f600 [CLS]", (6, 7, "LOC")) + row("") + row("Ann", (0, 3, "PER"))
    code, said = fit(write(signs, "train.jsonl"), write(signs, "dev.jsonl"))
    assert code == 0, said
    assert said.count("warning: 1 of 3 rows are left out: 1 without text") == 2
