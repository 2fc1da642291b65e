"""What happens to the folder of a run while it is written: taken away, replaced, left in the middle of a save."""

from __future__ import annotations

import json
import logging
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from tiny_runs import run, sentiment
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from nlpkit import checkpoints
from nlpkit.errors import RunFolderError
from nlpkit.folder import RunFolder


class Meddle(pl.Callback):
    """Do something to the run folder after the fourth batch."""

    def __init__(self, meddle: Callable[[], object]) -> None:
        self.meddle = meddle

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, index: int) -> None:
        if index == 3:
            self.meddle()


@pytest.mark.parametrize("every", [0, 1])
@pytest.mark.parametrize("how", ["deleted", "moved"])
def test_folder_that_is_gone_ends_the_run_and_is_not_made_anew(how: str, every: int, tmp_path: Path) -> None:
    """D08."""
    path, away = tmp_path / "run", tmp_path / "away"
    meddle = Meddle(lambda: path.rename(away) if how == "moved" else shutil.rmtree(path))
    with pytest.raises(RunFolderError) as caught:
        run(path, sentiment(), every=every, callbacks=[meddle])
    assert caught.value.message == f"{path}: deleted or moved while it was written; the run ends here"
    assert caught.value.exit_code == 8
    assert not path.exists()
    assert away.exists() == (how == "moved")
    if away.exists():
        checkpoints.newest(away / "checkpoints")


def test_another_run_in_the_place_of_a_moved_one_is_not_written(tmp_path: Path, snapshot: Any) -> None:
    """D08: as when a run is moved aside and started again while it goes on."""
    first = RunFolder.create(str(tmp_path / "run"), "mlm")
    first.write_facts({})
    first.check_in_place()
    first.path.rename(tmp_path / "away")
    second = RunFolder.create(str(tmp_path / "run"), "mlm")
    before = snapshot(tmp_path)
    with pytest.raises(RunFolderError, match="deleted or moved while it was written"):
        first.check_in_place()
    second.check_in_place()
    assert snapshot(tmp_path) == before


class Odd(type(sentiment())):  # type: ignore[misc]
    """Has scores whose names would be bad names of files, and chooses by one."""

    score = "/etc/x"

    def build_metrics(self) -> MetricCollection:
        names = ("/etc/x", "two\nlines", "😀", "x" * 300)
        return MetricCollection({name: MulticlassAccuracy(num_classes=2) for name in names})


def test_no_name_of_a_score_leads_out_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D10."""
    monkeypatch.chdir(tmp_path)
    run(Path("run"), Odd(sentiment().config, sentiment().tokenizer), epochs=1)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert sorted(path.name for path in Path("run").iterdir()) == ["checkpoints", "metrics.jsonl"]
    rows = [json.loads(line) for line in Path("run/metrics.jsonl").read_text("utf-8").splitlines()]
    assert {"dev//etc/x", "dev/two\nlines", "dev/😀"} < set(rows[-1])


@pytest.mark.parametrize("name", ["two\nlines", "😀 [1]*", "x" * 255, "~", "caf\udce9", "https:", " a ", "-"])
def test_path_of_a_run_is_taken_as_it_is_written(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D10, K07."""
    monkeypatch.chdir(tmp_path)
    folder = RunFolder.create(name, "mlm")
    folder.write_facts({})
    assert [path.name for path in tmp_path.iterdir()] == [name]
    folder.unlock()
    RunFolder.open_existing(name).unlock()


def test_a_resume_sweeps_away_what_fifty_kills_in_a_save_left(tmp_path: Path) -> None:
    """D11."""
    run(tmp_path / "run", sentiment(), epochs=1)
    folder = tmp_path / "run" / "checkpoints"
    names = sorted(path.name for path in folder.iterdir())
    for number in range(50):
        left = folder / f".step-{number % 3:08d}.{number:08x}.tmp"
        left.mkdir()
        (left / "state.ckpt").write_bytes(b"half")
    checkpoints.newest(folder)
    assert sorted(path.name for path in folder.iterdir()) == names


def test_run_outside_the_main_thread_says_that_signals_are_not_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """R17."""
    ended: list[Any] = []
    with caplog.at_level(logging.WARNING, "nlpkit"):
        thread = threading.Thread(target=lambda: ended.append(run(tmp_path, sentiment(), epochs=1)))
        thread.start()
        thread.join()
    assert ended[0].outcome.steps > 3
    said = "not in the main thread: Ctrl-C and SIGTERM do not save; the last checkpoint serves"
    assert caplog.messages == [said]
