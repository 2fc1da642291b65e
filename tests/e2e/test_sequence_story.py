"""An encoder-decoder from raw text to a task, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import yaml
from stories import check_task_from

import nlpkit

TINY = ("model.preset=tiny", "model.vocabulary=600", "model.sequence_length=64", "trainer.max_steps=4")


@pytest.fixture(scope="module")
def denoised(shop: Path, command: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "t5"
    ended = command("pretrain", shop / "reviews.csv", "--objective", "denoise", "--out", out, *TINY)
    assert ended.code == 0, ended.err
    assert set(json.loads((out / "results.json").read_text())["dev"]) == {"accuracy", "perplexity", "loss"}
    return out


def test_encoder_of_a_t5_serves_a_task(denoised: Path, shop: Path, command: Any, tmp_path: Path) -> None:
    check_task_from(denoised, "classification_head.dense.bias", shop, command, tmp_path / "sentiment")


def test_t5_is_gone_on_with(denoised: Path, shop: Path, command: Any, tmp_path: Path) -> None:
    settings = ("--objective", "denoise", "--out", tmp_path / "run", "trainer.max_steps=2")
    ended = command("pretrain", shop / "reviews.csv", "--from", denoised, *settings)
    assert ended.code == 0, ended.err
    assert any("; new:" not in line and "loaded" in line for line in ended.err.splitlines())


def test_m2m100_is_pretrained_and_its_smaller_embeddings_learn_at_a_lower_rate(
    denoised: Path, shop: Path, command: Any, tmp_path: Path
) -> None:
    settings = (*TINY, "model.family=m2m100", "--objective", "denoise", "--out", tmp_path / "run")
    ended = command("pretrain", shop / "reviews.csv", *settings)
    assert ended.code == 0, ended.err
    assert json.loads((tmp_path / "run" / "model" / "config.json").read_text())["decoder_layers"] == 2
    small, large = (rate_of(run) for run in (tmp_path / "run", denoised))
    assert small < 0.002 and large == pytest.approx(0.02, rel=0.05)


def rate_of(run: Path) -> float:
    return float(yaml.safe_load((run / "config.yaml").read_text())["optim"]["learning_rate"])


class StopAt(pl.Callback):
    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        if index == 2:
            raise KeyboardInterrupt


def test_resumed_run_ends_with_the_same_weights(denoised: Path, shop: Path, tmp_path: Path) -> None:
    settings = (*TINY, "checkpoint.every_steps=1")
    with pytest.raises(SystemExit):
        nlpkit.pretrain(
            shop / "reviews.csv", objective="denoise", out=tmp_path / "run", overrides=settings, callbacks=[StopAt()]
        )
    run = nlpkit.resume(tmp_path / "run")
    for name in ("model.safetensors", "config.json"):
        assert (run.model / name).read_bytes() == (denoised / "model" / name).read_bytes()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("--objective", "denoise", "model.family=bert"), "bert is no encoder with a decoder, which denoise needs"),
        (
            ("--objective", "mlm", "model.family=t5"),
            "t5 has an encoder and a decoder, of which mlm trains only one",
        ),
    ],
)
def test_objective_and_family_that_do_not_fit_are_refused(
    settings: Any, message: str, shop: Path, command: Any, tmp_path: Path
) -> None:
    ended = command("pretrain", shop / "reviews.csv", *TINY, *settings, "--out", tmp_path / "run")
    assert ended.code == 4
    assert f"error: {message}" in ended.err.splitlines()
    assert not (tmp_path / "run").exists()


def test_encoder_is_refused_as_a_start_of_denoise(base: Any, shop: Path, command: Any, tmp_path: Path) -> None:
    given = (shop / "reviews.csv", "--objective", "denoise", "--from", base.folder, "--out", tmp_path / "run")
    ended = command("pretrain", *given)
    assert ended.code == 4
    assert "error: modernbert is no encoder with a decoder, which denoise needs" in ended.err.splitlines()


def test_model_that_fills_gaps_is_refused_by_generate(denoised: Path, command: Any) -> None:
    ended = command("generate", denoised, "--prompt", "a")
    assert (ended.code, ended.out) == (4, "")
    assert ended.err.splitlines()[-2] == "error: a model of denoise generates no text"
