"""`--resume` of runs that were killed, and of what became of them since; the ids are those of the reliability cases."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from safetensors.torch import load_file
from tables import first_rows

import nlpkit
from nlpkit import checkpoints
from nlpkit.errors import DivergedError, Interrupted, ResourceError

SETTINGS = [
    "model.preset=tiny",
    "model.vocabulary=300",
    "model.sequence_length=32",
    "trainer.max_steps=8",
    "trainer.batch_tokens=256",
    "trainer.threads=1",
    "checkpoint.every_steps=1",
]


class Copy(pl.Callback):
    """Copy the run folder at some steps: what a kill at that instant leaves."""

    def __init__(self, run: Path, steps: tuple[int, ...]) -> None:
        self.run, self.steps = run, steps

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step in self.steps:
            shutil.copytree(self.run, self.run.with_name(f"killed-{trainer.global_step}"), dirs_exist_ok=True)


@dataclass(frozen=True)
class Story:
    """A run that was never stopped, and copies of its folder from on the way.

    Args:
        straight: the finished run.
        killed: a copy, with two checkpoints or more.
        data: what it learns from.
    """

    straight: Path
    killed: Path
    data: Path


@pytest.fixture(scope="module")
def told(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("story")
    data, straight = first_rows(shop / "reviews.csv", 200, folder / "reviews.csv"), folder / "straight"
    nlpkit.pretrain(data, out=straight, overrides=SETTINGS, callbacks=[Copy(straight, (3,))])
    return Story(straight, folder / "killed-3", data)


@pytest.fixture
def story(told: Story, tmp_path: Path) -> Story:
    """The same with a killed run of one's own."""
    shutil.copytree(told.killed, tmp_path / "run")
    return Story(told.straight, tmp_path / "run", told.data)


def assert_same_end(run: Path, straight: Path) -> None:
    """Weights, losses and results are equal to the bit."""
    one, two = (load_file(folder / "model" / "model.safetensors") for folder in (run, straight))
    assert one.keys() == two.keys() and all(one[name].equal(two[name]) for name in one)
    for name in ("metrics.jsonl", "results.json"):
        assert (run / name).read_text() == (straight / name).read_text()


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), "utf-8")


def test_run_goes_on_and_ends_as_if_never_killed(story: Story, command: Any) -> None:
    ended = command("pretrain", "--resume", story.killed)
    assert ended.code == 0, ended.err
    assert "not promised" not in ended.err
    assert_same_end(story.killed, story.straight)


def test_damaged_newest_checkpoint_is_passed_over(story: Story, command: Any) -> None:
    """C01; more ways to damage one are in unit/test_checkpoints.py."""
    state = checkpoints.newest(story.killed / "checkpoints") / "state.ckpt"
    whole = state.stat().st_size
    os.truncate(state, whole // 2)
    ended = command("pretrain", "--resume", story.killed)
    found = f"{state}: {whole // 2} bytes, the manifest says {whole}; the file is damaged"
    said = f"warning: {found}; going back to an earlier checkpoint"
    assert (ended.code, ended.err.splitlines()[0]) == (0, said)
    assert_same_end(story.killed, story.straight)


def test_all_checkpoints_damaged_is_refused(story: Story, command: Any) -> None:
    """R13: never from scratch."""
    for state in story.killed.glob("checkpoints/*/state.ckpt"):
        os.truncate(state, 10)
    ended = command("pretrain", "--resume", story.killed)
    assert ended.code == 4
    assert f"error: {story.killed / 'checkpoints'}: no whole checkpoint" in ended.err


def test_run_without_any_checkpoint_says_that_it_starts_again(story: Story, command: Any) -> None:
    shutil.rmtree(story.killed / "checkpoints")
    ended = command("pretrain", "--resume", story.killed)
    assert ended.err.startswith(f"{story.killed}: no checkpoint was saved yet; the run starts again\n")
    assert_same_end(story.killed, story.straight)


def test_only_checkpoint_that_a_kill_left_aside_is_taken(story: Story, command: Any) -> None:
    """D14: between the two renames of a swap; never from scratch."""
    newest = checkpoints.newest(story.killed / "checkpoints")
    for other in set((story.killed / "checkpoints").iterdir()) - {newest}:
        shutil.rmtree(other)
    newest.rename(newest.with_name(f".{newest.name}.old"))
    ended = command("pretrain", "--resume", story.killed)
    assert (ended.code, "no checkpoint was saved" in ended.err) == (0, False), ended.err
    assert_same_end(story.killed, story.straight)


def test_finished_training_ends_though_its_log_was_cut(story: Story, command: Any, tmp_path: Path) -> None:
    """A kill in the last export, and a power cut in a row of the log that no checkpoint waited for."""
    shutil.copytree(story.straight, tmp_path / "ended")
    for name in ("model", "results.json"):
        path = tmp_path / "ended" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with open(tmp_path / "ended" / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"step": 8, "trai')
    ended = command("pretrain", "--resume", tmp_path / "ended")
    assert ended.code == 0, ended.err
    one, two = (json.loads((run / "results.json").read_text()) for run in (tmp_path / "ended", story.straight))
    assert one == two


def test_damaged_best_checkpoint_leaves_the_last_weights(
    shop: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Damage(pl.Callback):
        """Damage every checkpoint before the last step, in a run whose best step is its first."""

        def on_train_end(self, trainer: pl.Trainer, *_: Any) -> None:
            for state in sorted((tmp_path / "run" / "checkpoints").glob("step-*/state.ckpt"))[:-1]:
                os.truncate(state, 10)

    settings = [*SETTINGS, "trainer.max_steps=6", "trainer.validations_per_epoch=6", "optim.learning_rate=10.0"]
    run = nlpkit.pretrain(shop / "new.csv", out=tmp_path / "run", overrides=settings, callbacks=[Damage()])
    results = json.loads((run.folder / "results.json").read_text())
    assert results["best_step"] == results["steps"]
    assert "are kept in place of the best" in caplog.text


ANYWAY = "hint: put it back, or start a new run; to go on all the same: --resume-anyway"


def test_settings_that_were_changed_are_refused_with_both_values(
    story: Story, command: Any, snapshot: Callable[[Path], dict[str, bytes]]
) -> None:
    """R10."""
    config = story.killed / "config.yaml"
    change(config, "batch_tokens: 256", "batch_tokens: 128")
    change(config, "\nseed: 0", "\nseed: 3")
    before = snapshot(story.killed)
    ended = command("pretrain", "--resume", story.killed)
    found = f"{config}: changed since the run began: trainer.batch_tokens from 256 to 128, seed from 0 to 3"
    assert (ended.code, ended.err.splitlines()) == (2, [f"error: {found}", ANYWAY])
    assert snapshot(story.killed) == before
    ended = command("pretrain", "--resume", story.killed, "--resume-anyway")
    assert (ended.code, ended.err.splitlines()[0]) == (0, f"warning: {found}")


def test_settings_that_no_weight_depends_on_may_be_changed(story: Story, command: Any) -> None:
    change(story.killed / "config.yaml", "every_steps: 1", "every_steps: 0")
    ended = command("pretrain", "--resume", story.killed)
    assert ended.code == 0, ended.err
    assert_same_end(story.killed, story.straight)


@pytest.mark.parametrize("rows", [20, 150])
def test_data_that_was_changed_is_refused(rows: int, story: Story, command: Any, tmp_path: Path) -> None:
    """R10; the epoch of 20 rows ends before the place where the run was killed."""
    data = tmp_path / "reviews.csv"
    data.write_text("".join(story.data.read_text("utf-8").splitlines(keepends=True)[:rows]), "utf-8")
    facts = json.loads((story.killed / "run.json").read_text())
    before = facts["data_fingerprint"]
    facts["request"]["data"] = [str(data)]
    (story.killed / "run.json").write_text(json.dumps(facts))
    ended = command("pretrain", "--resume", story.killed)
    said = f"{data}: the data has changed since the run began (fingerprint {before[:12]}, now "
    errors = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert ended.code == 3
    assert len(errors) == 1 and errors[0].startswith(f"error: {said}")
    assert ended.err.splitlines()[-1] == ANYWAY
    ended = command("pretrain", "--resume", story.killed, "--resume-anyway")
    assert (ended.code, said in ended.err) == (0, True), ended.err


def test_tokenizer_that_was_changed_is_refused(story: Story, command: Any) -> None:
    """R10."""
    path = story.killed / "setup" / "tokenizer.json"
    path.write_text(path.read_text("utf-8").replace('"the":', '"teh":'), "utf-8")
    ended = command("pretrain", "--resume", story.killed)
    found = f"{path}: its sha256 differs from the manifest; the file is damaged or was changed"
    assert (ended.code, ended.err.splitlines()[0]) == (4, f"error: {found}")


def test_token_store_that_is_damaged_is_made_again(
    story: Story, command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(os.environ["NLPKIT_CACHE"], cache)
    monkeypatch.setenv("NLPKIT_CACHE", str(cache))
    for tokens in cache.glob("stores/*/tokens.bin"):
        tokens.write_bytes(b"\x05" * tokens.stat().st_size)
    ended = command("pretrain", "--resume", story.killed)
    assert ended.err.splitlines()[0].endswith("; the token store is damaged; it is made again")
    assert_same_end(story.killed, story.straight)


def test_other_versions_are_said_in_one_line(story: Story, command: Any) -> None:
    """C04."""
    facts = json.loads((story.killed / "run.json").read_text())
    now = facts["versions"]["torch"]
    facts["versions"]["torch"], facts["threads"] = "2.10.0", 7
    (story.killed / "run.json").write_text(json.dumps(facts))
    ended = command("pretrain", "--resume", story.killed)
    changed = f"torch 2.10.0, now {now}; threads 7, now 1"
    said = f"warning: the run began with {changed}: what follows is not promised equal to the bit"
    assert said in ended.err.splitlines()
    assert ended.code == 0


def test_other_device_is_said(story: Story, command: Any) -> None:
    facts = json.loads((story.killed / "run.json").read_text())
    (story.killed / "run.json").write_text(json.dumps({**facts, "accelerator": "gpu"}))
    ended = command("pretrain", "--resume", story.killed)
    said = "warning: the run began with accelerator gpu, now cpu: what follows is not promised equal to the bit"
    assert said in ended.err.splitlines()
    assert "numpy" in facts["versions"]


def test_run_of_somebody_else_runs_no_code_that_it_names(story: Story, command: Any, tmp_path: Path) -> None:
    canary, plugin = tmp_path / "canary", tmp_path / "own.py"
    plugin.write_text(f"open({str(canary)!r}, 'w')\n")
    facts = json.loads((story.killed / "run.json").read_text())
    facts["request"]["plugins"] = [str(plugin)]
    (story.killed / "run.json").write_text(json.dumps(facts))
    for more in ((), ("new.csv", "--out", tmp_path / "out")):
        ended = command("pretrain", *more, "--resume", story.killed)
        assert ended.code in (2, 3)
        assert not canary.exists()
    assert command("pretrain", "--resume", story.killed).err.splitlines() == [
        f"error: {story.killed}: the run began with --plugin {plugin}, which is code and must be asked for again",
        f"hint: add --plugin {plugin}, if you trust it",
    ]
    plugin.rename(tmp_path / "moved.py")
    hint = command("pretrain", "--resume", story.killed).err.splitlines()[-1]
    assert hint == f"hint: add --plugin {plugin}, if you trust it; one that was moved, from where it is now"


def test_run_of_somebody_else_fetches_no_model_that_it_names(story: Story, command: Any) -> None:
    shutil.rmtree(story.killed / "checkpoints")
    facts = json.loads((story.killed / "run.json").read_text())
    facts["request"] |= {"source": "some/model", "hub": True}
    (story.killed / "run.json").write_text(json.dumps(facts))
    ended = command("pretrain", "--resume", story.killed)
    assert ended.code == 4
    assert ended.err.splitlines()[-1].endswith("add --hub"), ended.err


def test_plugin_that_a_run_did_not_begin_with_is_refused(story: Story, command: Any, tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text("from nlpkit import hookimpl\n@hookimpl\ndef nlpkit_tasks():\n    return []\n")
    ended = command("pretrain", "--resume", story.killed, "--plugin", tmp_path / "other.py")
    said = f"error: {story.killed}: the run began without the plugin other.py"
    assert (ended.code, ended.err.splitlines()[0]) == (2, said)


class Fail(pl.Callback):
    """Run out of something."""

    def on_train_batch_end(self, *_: Any) -> None:
        raise ResourceError("no more of it", "get some")


def test_resumed_run_that_fails_or_is_interrupted_early_says_how_it_goes_on(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    going_on = f"nlpkit pretrain --resume {story.killed}"
    with pytest.raises(ResourceError) as failed:
        nlpkit.resume(story.killed, callbacks=[Fail()])
    assert failed.value.hint == f"get some; then {going_on}"

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt(15)

    monkeypatch.setattr("nlpkit.resuming.Began.read", interrupt)
    with pytest.raises(Interrupted) as interrupted:
        nlpkit.resume(story.killed)
    assert (interrupted.value.hint, interrupted.value.exit_code) == (going_on, 143)


class Poison(pl.Callback):
    """Make the loss of a batch NaN, and note its texts."""

    def __init__(self) -> None:
        self.rows = 0

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, index: int) -> None:
        if index == 3:
            self.rows = len(batch["input_ids"])
            usual = module.head.loss
            module.head.loss = lambda logits, batch: usual(logits, batch) * float("nan")


def test_loss_of_nan_names_the_documents_or_lines_of_its_batch(story: Story, shop: Path, tmp_path: Path) -> None:
    """M01; the rest of it is in unit/test_module.py."""
    poison = Poison()
    with pytest.raises(DivergedError, match=r"; in the batch of documents? \d+( to \d+)?, ") as caught:
        nlpkit.pretrain(story.data, out=tmp_path / "one", overrides=SETTINGS, callbacks=[poison])
    assert f" and {poison.rows - 8} more" in caught.value.message or poison.rows <= 8
    assert (tmp_path / "one" / "checkpoints" / "step-00000003").is_dir()
    labelled = shop / "labelled.csv"
    with pytest.raises(DivergedError) as caught:
        nlpkit.fit(data=labelled, out=tmp_path / "two", overrides=SETTINGS, callbacks=[poison])
    places = caught.value.message.partition("in the batch of ")[2].partition(" and ")[0].split(", ")
    assert len(places) == min(8, poison.rows)
    lines = [int(place.removeprefix(f"{labelled}:")) for place in places]
    assert all(1 < line <= len(labelled.read_text("utf-8").splitlines()) for line in lines)
