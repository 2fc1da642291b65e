"""``pretrain --watch``: what it says, where it stands, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

GENERAL = "\n".join(
    f"The {noun} of the {place} was said to be older than the {thing} that stood {where} it."
    for noun in ("keeper", "tower", "song", "bridge", "name")
    for place in ("harbour", "valley", "city", "island")
    for thing in ("church", "law", "river")
    for where in ("beside", "above", "behind")
)


@pytest.fixture(scope="module")
def watched(base: Any, shop: Path, command: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run that goes on from the tiny backbone and watches a text."""
    folder = tmp_path_factory.mktemp("watched")
    (folder / "general.txt").write_text(GENERAL)
    arguments = ("pretrain", shop / "reviews.csv", "--from", base.folder, "--watch", folder / "general.txt")
    ended = command(*arguments, "--out", folder / "run", "trainer.max_steps=4", "optim.learning_rate=0.02")
    assert ended.code == 0, ended.err
    return folder, ended


def test_run_has_the_scores_of_the_start_and_of_the_kept_weights(watched: Any) -> None:
    folder, _ = watched
    rows = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    results = json.loads((folder / "run" / "results.json").read_text())
    assert rows[0]["step"] == 0
    start, end = results["watch"]["start"], results["watch"]["end"]
    assert start == {"loss": rows[0]["watch/loss"], "accuracy": rows[0]["watch/accuracy"]}
    last = next(row for row in rows if row["step"] == results["best_step"] and "watch/loss" in row)
    assert end == {"loss": last["watch/loss"], "accuracy": last["watch/accuracy"]}
    assert results["watch"]["file"] == str(folder / "general.txt")


def test_table_and_sentence_say_what_was_forgotten(watched: Any) -> None:
    folder, ended = watched
    watch = json.loads((folder / "run" / "results.json").read_text())["watch"]
    lines = ended.out.splitlines()
    assert lines[0].split() == ["SCORE", "MODEL", "WORD", "FREQUENCIES", "WATCH", "AT", "START", "WATCH", "AT", "END"]
    loss = next(line for line in lines if line.startswith("loss"))
    assert loss.split()[-2:] == [f"{watch[at]['loss']:.4f}" for at in ("start", "end")]
    rise = watch["end"]["loss"] - watch["start"]["loss"]
    said = [line for line in lines if line.startswith("forgot ")]
    expected = f"forgot {rise:.2f} nats on {folder / 'general.txt'}: loss "
    assert len(said) == (rise >= 0.005)
    assert all(line.startswith(expected) for line in said)


def test_progress_says_the_loss_of_the_watched_text(watched: Any) -> None:
    _, ended = watched
    assert any("watch loss " in line for line in ended.err.splitlines() if line.startswith("run: step 4 of 4"))


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (None, 3, "error: FILE: no such file or folder"),
        ("", 3, "error: FILE: empty file"),
        ("Мы живём в тихом доме у реки\n", 3, "error: FILE: the tokenizer knows no word of these texts"),
        ("One line.\n", 0, "warning: FILE: 5 tokens are too few for a sure score of what is forgotten"),
    ],
)
def test_text_that_cannot_be_watched_is_refused_and_a_short_one_warned_of(
    base: Any, shop: Path, command: Any, tmp_path: Path, content: str | None, code: int, message: str
) -> None:
    file, out = tmp_path / "general.txt", tmp_path / "run"
    if content is not None:
        file.write_text(content, "utf-8")
    arguments = ("pretrain", shop / "reviews.csv", "--from", base.folder, "--watch", file, "--out", out)
    ended = command(*arguments, "trainer.max_steps=1", "--quiet")
    assert (ended.code, out.exists()) == (code, code == 0)
    assert message.replace("FILE", str(file)) in ended.err.splitlines()


def test_text_of_many_unknown_words_is_warned_of(base: Any, shop: Path, command: Any, tmp_path: Path) -> None:
    (tmp_path / "mixed.txt").write_text("it is good and Ω Ж 家\n" * 40, "utf-8")
    arguments = ("pretrain", shop / "reviews.csv", "--from", base.folder, "--watch", tmp_path / "mixed.txt")
    ended = command(*arguments, "--out", tmp_path / "run", "trainer.max_steps=1", "--quiet")
    assert ended.code == 0
    assert f"{tmp_path / 'mixed.txt'}: the tokenizer does not know 38% of the tokens" in ended.err
