"""Going on with a finished pre-training on further text: ``nlpkit pretrain FILES --resume RUN``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import yaml
from safetensors.torch import load_file


class Rates(pl.Callback):
    """Note the weights that a run starts from, and the rate of each step."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.start: dict[str, torch.Tensor] = {}

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        self.start = {name: tensor.clone() for name, tensor in module.backbone.state_dict().items()}

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def further(shop: Path, base: Any, command: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("runs") / "further"
    ended = command("pretrain", shop / "labelled.csv", "--resume", base.folder, "--out", out, "trainer.max_steps=4")
    return out, ended


def test_further_text_makes_a_run_of_its_own_and_says_what_it_goes_on_from(further: Any, base: Any) -> None:
    out, ended = further
    assert ended.code == 0, ended.err
    best = read(base.folder / "results.json")["best_step"]
    said = f"{base.folder}: going on from its weights of step {best}, mlm as before, rates warmed up again"
    assert ended.err.splitlines()[0] == said
    assert read(out / "results.json")["steps"] == 4
    assert read(out / "run.json")["request"]["source"] == str(base.folder)


def test_further_text_keeps_tokenizer_architecture_and_settings(further: Any, base: Any) -> None:
    out, _ = further
    assert (out / "setup" / "tokenizer.json").read_bytes() == (base.folder / "setup" / "tokenizer.json").read_bytes()
    first, second = (read(folder / "setup" / "config.json") for folder in (base.folder, out))
    assert {**first, **second, "architectures": None} == {**second, **first, "architectures": None}
    before, after = (yaml.safe_load((folder / "config.yaml").read_text()) for folder in (base.folder, out))
    before["trainer"]["max_steps"] = 4  # as typed
    assert after["trainer"]["batch_tokens"] < before["trainer"]["batch_tokens"]  # the second text is smaller
    for chosen in ("batch_tokens", "max_epochs"):
        before["trainer"][chosen] = after["trainer"][chosen]
    assert {key: before[key] for key in ("task", "optim", "trainer")} == {
        key: after[key] for key in ("task", "optim", "trainer")
    }


def test_further_text_keeps_a_batch_that_its_user_has_set(shop: Path, command: Any, tmp_path: Path) -> None:
    tiny = ("model.preset=tiny", "model.vocabulary=300", "trainer.max_steps=2", "trainer.batch_tokens=300")
    assert command("pretrain", shop / "labelled.csv", "--out", tmp_path / "a", *tiny).code == 0
    more = ("pretrain", shop / "more-labelled.csv", "--resume", tmp_path / "a", "--out", tmp_path / "b")
    assert command(*more).code == 0
    trainer = yaml.safe_load((tmp_path / "b" / "config.yaml").read_text())["trainer"]
    assert (trainer["batch_tokens"], trainer["max_steps"]) == (300, 2)


def test_further_text_leaves_a_history_of_both(further: Any, base: Any) -> None:
    out, _ = further
    before, after = (read(folder / "model" / "nlpkit.json") for folder in (base.folder, out))
    assert after["history"][:-1] == before["history"]
    assert (after["history"][-1]["steps"], after["source"]) == (4, str(base.folder))


def test_further_text_starts_from_the_weights_and_warms_the_rates_up(shop: Path, base: Any, tmp_path: Path) -> None:
    from nlpkit import run

    seen = Rates()
    settings = ["trainer.max_steps=40", "trainer.batch_tokens=256", "trainer.validations_per_epoch=1"]
    run.further(base.folder, shop / "labelled.csv", out=tmp_path / "run", overrides=settings, callbacks=[seen])
    saved = load_file(base.folder / "model" / "model.safetensors")
    mine = {f"model.{name}": tensor for name, tensor in seen.start.items()}
    assert set(mine) < set(saved)
    assert all(torch.equal(mine[name], saved[name]) for name in mine)
    assert seen.rates[0] == pytest.approx(0.5 * seen.rates[1])  # 5% of 40 steps
    assert max(seen.rates) == seen.rates[1] > seen.rates[-1]


def test_pretraining_from_a_model_warms_the_rates_up(shop: Path, base: Any, tmp_path: Path) -> None:
    from nlpkit import run

    seen = Rates()
    settings = ["trainer.max_steps=40", "trainer.batch_tokens=256", "trainer.validations_per_epoch=1"]
    run.pretrain(shop / "labelled.csv", source=base.folder, out=tmp_path / "run", overrides=settings, callbacks=[seen])
    assert seen.rates[:2] == pytest.approx([1.5e-4, 3e-4])
    assert seen.rates[-1] < seen.rates[1] / 10


def test_further_text_can_be_planned(shop: Path, base: Any, command: Any) -> None:
    ended = command(
        "pretrain", shop / "labelled.csv", "--resume", base.folder, "--plan", "--json", "trainer.max_steps=3"
    )
    assert (ended.code, json.loads(ended.out)["steps"]) == (0, 3)


def test_unfinished_run_takes_no_further_text(shop: Path, base: Any, command: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(base.folder, run)
    (run / "results.json").unlink()
    ended = command("pretrain", shop / "labelled.csv", "--resume", run, "--out", tmp_path / "out", "--quiet")
    assert (ended.code, ended.err.splitlines()) == (
        4,
        [
            f"error: {run}: the run is unfinished, so further text cannot follow yet",
            f"hint: end it first: nlpkit pretrain --resume {run}",
        ],
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "named"),
    [
        (("--objective", "clm"), "--objective"),
        (("--from", "x"), "--from"),
        (("--resume-anyway",), "--resume-anyway"),
        (("--hub",), "--hub"),
    ],
)
def test_further_text_is_learnt_as_the_run_did(
    shop: Path, base: Any, command: Any, option: tuple[str, ...], named: str
) -> None:
    ended = command("pretrain", shop / "labelled.csv", "--resume", base.folder, *option, "--quiet")
    assert (ended.code, ended.err.splitlines()[0]) == (
        2,
        f"error: --resume goes on with the run as it began, and {named} would change it",
    )


def test_further_text_takes_over_watch_and_exclude_aloud_or_takes_others(
    shop: Path, command: Any, tmp_path: Path
) -> None:
    files = {name: tmp_path / f"{name}.csv" for name in ("first", "second", "watched", "other")}
    for file in files.values():
        rows = "".join(f"item {i} of {file.stem} is what I hoped for and fits me well\n" for i in range(40))
        file.write_text(f"text\n{rows}")
    first, second, watched, other = files.values()
    tiny = ("model.preset=tiny", "model.vocabulary=300", "trainer.max_steps=2")
    beside = ("--exclude", first, "--watch", watched)
    ended = command("pretrain", shop / "labelled.csv", *beside, "--out", tmp_path / "a", *tiny)
    assert ended.code == 0, ended.err
    more = ("pretrain", shop / "more-labelled.csv", "--resume", tmp_path / "a", "--out")
    same = command(*more, tmp_path / "same")
    assert same.err.splitlines()[1:3] == [f"--exclude {first}, as before", f"--watch {watched}, as before"]
    others = command(*more, tmp_path / "others", "--exclude", second, "--watch", other)
    assert "as before" not in "".join(others.err.splitlines()[1:])
    assert others.err.splitlines()[1] == (
        f"warning: {first}: left out of the earlier corpus, and not of this one; "
        "name it with --exclude, too, to keep it out"
    )
    both = command(*more, tmp_path / "both", "--exclude", second, "--exclude", first, "--watch", other, "--quiet")
    assert "left out of the earlier corpus" not in both.err
    asked = {name: read(tmp_path / name / "run.json")["request"] for name in ("same", "others", "both")}
    assert {name: (request["exclude"], request["watch"]) for name, request in asked.items()} == {
        "same": ([str(first)], str(watched)),
        "others": ([str(second)], str(other)),
        "both": ([str(second), str(first)], str(other)),
    }
    missing = command(*more, tmp_path / "none", "--watch", tmp_path / "nosuch.csv", "--quiet")
    assert (missing.code, "nosuch.csv" in missing.err) == (3, True)


def test_fit_takes_no_further_text(shop: Path, fitted: Any, command: Any) -> None:
    ended = command("fit", shop / "labelled.csv", "--resume", fitted.folder, "--quiet")
    assert (ended.code, ended.err.splitlines()[0]) == (
        2,
        f"error: --resume goes on with the run as it began, and {shop / 'labelled.csv'} would change it",
    )
    ended = command("pretrain", shop / "labelled.csv", "--resume", fitted.folder, "--quiet")
    assert (ended.code, ended.err.splitlines()) == (
        2,
        [
            f"error: {fitted.folder}: made by nlpkit fit, and further text is for a run of nlpkit pretrain",
            f"hint: more labelled rows: nlpkit fit --task sentiment FILES --from {fitted.folder}",
        ],
    )


def test_further_text_of_a_plugin_s_objective_finds_the_plugin_again(
    shop: Path, command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(
        "from nlpkit import hookimpl\nfrom nlpkit.objectives.mlm import Mlm\n"
        "class Own(Mlm):\n    name = 'own'\n"
        "@hookimpl\ndef nlpkit_tasks():\n    return [Own]\n"
    )
    tiny = ("model.preset=tiny", "model.vocabulary=300", "trainer.max_steps=2")
    first = command("pretrain", shop / "labelled.csv", "--objective", "own", "--plugin", "own.py", "--out", "a", *tiny)
    assert first.code == 0, first.err
    more = ("pretrain", shop / "new.csv", "data.dev_share=0.2", "--resume", "a", "--out", "b")
    assert command(*more).code == 2
    assert command(*more, "--plugin", "own.py").code == 0


def test_further_text_is_trained_on_as_its_config_file_says(
    shop: Path, base: Any, command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    asked: list[tuple[int, str]] = []
    monkeypatch.setattr("nlpkit.cli.launch.launch", lambda typed, count, run: asked.append((count, str(run.path))) or 0)
    (tmp_path / "two.yaml").write_text("trainer:\n  devices: 2\n")
    more = ("pretrain", shop / "labelled.csv", "--resume", base.folder, "--config", tmp_path / "two.yaml")
    assert command(*more, "--out", tmp_path / "out").code == 0
    assert asked == [(2, str(tmp_path / "out"))]
    assert command(*more, "--plan").code == 2
    assert len(asked) == 1
