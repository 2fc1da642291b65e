"""What --plan foretells, beside the run that is then made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

SETTINGS = ("model.preset=tiny", "model.vocabulary=300", "trainer.max_steps=6", "trainer.batch_tokens=512")


def bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def plan_of(command: Any, *arguments: Any) -> dict[str, Any]:
    ended = command(*arguments, "--plan", "--json", "--quiet")
    assert (ended.code, ended.err) == (0, "")
    found: dict[str, Any] = json.loads(ended.out)
    return found


def assert_foretold(plan: dict[str, Any], folder: Path) -> None:
    from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification

    results = json.loads((folder / "results.json").read_text())
    auto = AutoModelForMaskedLM if results["stage"] == "pretrain" else AutoModelForSequenceClassification
    model = auto.from_pretrained(folder / "model")
    assert plan["parameters"] == model.num_parameters()
    assert plan["embedding_parameters"] == model.get_input_embeddings().weight.numel()
    assert (plan["steps"], plan["tokens"]) == (results["steps"], results["tokens"])
    checkpoints = list((folder / "checkpoints").glob("step-*"))
    for checkpoint in checkpoints:
        assert plan["checkpoint_bytes"] == pytest.approx(bytes_of(checkpoint), rel=0.01)
    assert plan["bundle_bytes"] == pytest.approx(bytes_of(folder / "model"), rel=0.02)
    kept = min(2, plan["validations"]) - len(checkpoints)  # where the last is the best, one is enough
    assert plan["disk"] - kept * plan["checkpoint_bytes"] == pytest.approx(bytes_of(folder), rel=0.02)


def test_plan_of_pretraining_foretells_the_run(shop: Path, command: Any, tmp_path: Path) -> None:
    arguments = ("pretrain", shop / "reviews.csv", *SETTINGS, "trainer.accumulate=2")
    plan = plan_of(command, *arguments)
    assert command(*arguments, "--out", tmp_path / "run").code == 0
    assert_foretold(plan, tmp_path / "run")
    assert plan["step_tokens"] == 1024
    assert plan["probed_steps"] == plan["steps"] == 6
    assert plan["memory"] > 50_000_000
    assert plan["seconds"] > 0


def test_plan_of_a_fit_foretells_the_run(shop: Path, base: Any, command: Any, tmp_path: Path) -> None:
    settings = ("trainer.max_epochs=1", "trainer.patience=0", "optim.name=muon")
    arguments = ("fit", "--task", "sentiment", shop / "labelled.csv", "--from", base.folder, *settings)
    plan = plan_of(command, *arguments)
    assert command(*arguments, "--out", tmp_path / "run").code == 0
    assert_foretold(plan, tmp_path / "run")
    assert (plan["store_bytes"], plan["documents"]) == (0, 340)
    assert plan["epochs"] == pytest.approx(1, abs=0.1)


def test_plan_counts_what_the_strategy_trains(shop: Path, base: Any, command: Any) -> None:
    arguments = ("fit", "--task", "sentiment", shop / "labelled.csv", "--from", base.folder, "trainer.max_steps=2")
    plan = plan_of(command, *arguments, "strategy=freeze")
    everything = plan_of(command, *arguments)
    assert plan["parameters"] == everything["parameters"] == everything["trained_parameters"]
    assert plan["trained_parameters"] < plan["parameters"] / 4


def test_plan_leaves_nothing_but_the_token_store(
    shop: Path, command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NLPKIT_CACHE", str(tmp_path / "cache"))
    plan = plan_of(command, "pretrain", shop / "reviews.csv", *SETTINGS, "--out", "run")
    (store,) = (tmp_path / "cache" / "stores").iterdir()
    assert plan["store_bytes"] == bytes_of(store)
    assert list(tmp_path.iterdir()) == [tmp_path / "cache"]


def test_plan_trains_nothing_that_a_later_run_would_feel(shop: Path, command: Any, tmp_path: Path) -> None:
    arguments = ("pretrain", shop / "reviews.csv", *SETTINGS)
    assert command(*arguments, "--out", tmp_path / "before").code == 0
    plan_of(command, *arguments)
    assert command(*arguments, "--out", tmp_path / "after").code == 0
    before, after = ((tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("before", "after"))
    assert before == after


def test_plan_as_a_table_says_what_is_counted_and_what_is_estimated(shop: Path, command: Any) -> None:
    ended = command("pretrain", shop / "reviews.csv", *SETTINGS, "--plan", "--quiet")
    lines = ended.out.splitlines()
    assert (ended.code, lines[0]) == (0, "PLAN")
    assert "steps                 6 (0.0 epochs, scored 1 times)" in lines
    assert lines[-2:] == [
        "time and memory are estimates from 6 steps on this machine; nothing was trained",
        "the token store stays in the cache, where the run will find it",
    ]


def test_plan_refuses_what_the_run_would_refuse(shop: Path, command: Any) -> None:
    ended = command("pretrain", shop / "reviews.csv", "--plan", "trainer.max_stps=1")
    assert (ended.code, ended.out) == (2, "")
    ended = command("pretrain", shop / "reviews.csv", "--plan", "--from", "absent")
    assert (ended.code, ended.out) == (4, "")


def test_plan_for_several_devices_is_refused(shop: Path, command: Any) -> None:
    ended = command("pretrain", shop / "reviews.csv", "--plan", "trainer.devices=2", "--quiet")
    assert (ended.code, ended.err.splitlines()) == (
        2,
        [
            "error: a plan tries its steps on one device, not on 2",
            "hint: trainer.devices=1 trainer.nodes=1; all but the time is the same",
        ],
    )
