"""A tokenizer of its own: trained, looked at, taken by a new model, and what then becomes of it."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl

import nlpkit
from nlpkit import tokenizer

SHORT = ("model.preset=tiny", "model.sequence_length=64", "trainer.max_steps=4")
OPTIONS: dict[str, tuple[str, ...]] = {"mlm": (), "clm": ("--decoder",), "denoise": ("--sentinels",)}


@pytest.fixture(scope="module")
def made(shop: Path, command: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str]]:
    """For each objective the folder of a tokenizer, and the command that goes on from it."""
    folder, found = tmp_path_factory.mktemp("tokenizers"), {}
    for objective, option in OPTIONS.items():
        out = folder / objective
        given = ("tokenizer", "train", shop / "reviews.csv", "--vocab", "600", "--max-length", "64", *option)
        ended = command(*given, "--out", out)
        assert ended.code == 0, ended.err
        size, following, pretrain = ended.out.splitlines()
        assert (size, following) == (f"{out}: 600 tokens", "next:")
        found[objective] = out, pretrain.strip()
    return found


def test_story(made: Any, shop: Path, command: Any, tmp_path: Path) -> None:
    folder, following = made["mlm"]
    told = json.loads(command("tokenizer", "report", folder, shop / "labelled.csv", "--json").out)
    assert (told["vocabulary"], told["unknown"]) == (600, 0)
    assert following == f"nlpkit pretrain {shop / 'reviews.csv'} --tokenizer {folder}"
    ended = command(*shlex.split(following)[1:], "--out", tmp_path / "base", *SHORT)
    assert ended.code == 0, ended.err
    assert f"{folder}: a vocabulary of 600 tokens" in ended.err.splitlines()
    assert sum("csv, utf-8" in line for line in ended.err.splitlines()) == 1
    facts = json.loads((tmp_path / "base" / "run.json").read_text())
    assert facts["request"]["tokenizer"] == str(folder)
    given = ("fit", shop / "labelled.csv", "--from", tmp_path / "base", "--out", tmp_path / "sentiment")
    assert command(*given, "trainer.max_steps=2").code == 0
    from transformers import AutoTokenizer

    texts = ["Soft and warm", "", "Größe 5"]
    expected = AutoTokenizer.from_pretrained(folder)(texts)["input_ids"]
    for run in ("base", "sentiment"):
        assert AutoTokenizer.from_pretrained(tmp_path / run / "model")(texts)["input_ids"] == expected


@pytest.mark.parametrize("objective", ["clm", "denoise"])
def test_tokenizer_trained_apart_is_the_one_that_pretrain_trains(
    objective: str, made: Any, shop: Path, command: Any, tmp_path: Path
) -> None:
    _, following = made[objective]
    assert f" --objective {objective} --tokenizer " in following
    words = shlex.split(following)[1:]
    apart = command(*words, "--out", tmp_path / "apart", *SHORT)
    whole = command(*words[:-2], "--out", tmp_path / "whole", *SHORT, "model.vocabulary=600")
    assert (apart.code, whole.code) == (0, 0), apart.err + whole.err
    assert not any("warning:" in line and "--tokenizer" in line for line in apart.err.splitlines())
    generate = f'  nlpkit generate {tmp_path / "apart"} --prompt "TEXT"'
    assert (generate in apart.out.splitlines()) == (objective == "clm")
    extended = command("tokenizer", "extend", tmp_path / "apart", shop / "reviews.csv", "--out", tmp_path / "more")
    assert extended.out.splitlines()[-1].strip() == " ".join(["nlpkit", *words[:-2], "--from", str(tmp_path / "more")])
    assert command(*words[:-2], "--from", tmp_path / "more", "--out", tmp_path / "on", "trainer.max_steps=1").code == 0
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        files = [(tmp_path / run / "model" / name).read_bytes() for run in ("apart", "whole")]
        assert files[0] == files[1], name


def test_next_command_names_settings_and_leaves_out_many_files(shop: Path, command: Any, tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.csv" for number in range(4)]
    for file in files:
        shutil.copy(shop / "reviews.csv", file)
    given = ("tokenizer", "train", *files, "data.text=review", "--vocab", "300", "--out", tmp_path / "tok", "--json")
    ended = json.loads(command(*given).out)
    assert ended["next"] == [f"nlpkit pretrain FILES data.text=review --tokenizer {tmp_path / 'tok'}"]


def test_options_for_different_models_do_not_go_together(shop: Path, command: Any, tmp_path: Path) -> None:
    out = tmp_path / "tok"
    ended = command("tokenizer", "train", shop / "reviews.csv", "--decoder", "--sentinels", "--out", out)
    assert (ended.code, out.exists()) == (2, False)
    assert "error: --decoder and --sentinels are for different models" in ended.err.splitlines()


class StopAt(pl.Callback):
    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        if index == 1:
            raise KeyboardInterrupt


@pytest.mark.parametrize("checkpoint", [True, False])
def test_resume_needs_the_folder_no_more(checkpoint: bool, made: Any, shop: Path, tmp_path: Path) -> None:
    words = tmp_path / "tok"
    shutil.copytree(made["mlm"][0], words)
    asked: dict[str, Any] = {"tokenizer": words, "overrides": (*SHORT, "checkpoint.every_steps=1")}
    straight = nlpkit.pretrain(shop / "reviews.csv", out=tmp_path / "straight", **asked)
    with pytest.raises(SystemExit):
        nlpkit.pretrain(shop / "reviews.csv", out=tmp_path / "run", callbacks=[StopAt()], **asked)
    shutil.rmtree(words)
    if not checkpoint:  # killed before the first
        shutil.rmtree(tmp_path / "run" / "checkpoints")
    resumed = nlpkit.resume(tmp_path / "run")
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (resumed.model / name).read_bytes() == (straight.model / name).read_bytes()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["request"]["tokenizer"] == str(words)


def test_plan_counts_the_rows_of_the_tokenizer(made: Any, shop: Path, command: Any, tmp_path: Path) -> None:
    given = ("pretrain", shop / "reviews.csv", "--tokenizer", made["mlm"][0], "--plan", "--json", *SHORT)
    assert json.loads(command(*given).out)["embedding_parameters"] == 600 * 128


def test_tokenizer_of_a_run_serves_too_and_idle_settings_are_said(
    made: Any, base: Any, shop: Path, command: Any, tmp_path: Path
) -> None:
    idle = ("model.tokenizer=bpe", "model.lowercase=false", "model.vocabulary=700")
    given = ("pretrain", shop / "reviews.csv", "--tokenizer", base.folder, "--out", tmp_path / "run", *SHORT, *idle)
    ended = command(*given)
    assert ended.code == 0, ended.err
    named = "model.tokenizer, model.lowercase, model.vocabulary"
    warning = f"warning: {named}: only for a tokenizer that is trained; --tokenizer brings its own"
    assert warning in ended.err.splitlines()
    tokenizers = [tokenizer.load(run / "model") for run in (tmp_path / "run", base.folder)]
    assert len({tokenizer.tokenizer_hash(words) for words in tokenizers}) == 1


@pytest.mark.parametrize(
    ("more", "code", "message", "hint"),
    [
        (
            ("--from", "BASE"),
            2,
            "--tokenizer is for a new model, and --from brings its own",
            "leave out one of the two",
        ),
        (
            ("--objective", "denoise"),
            4,
            "TOK: the tokenizer has no eos_token, which denoise needs",
            "nlpkit tokenizer train FILES --sentinels --out DIR makes one that fits denoise",
        ),
        (("task.max_length=100",), 2, "task.max_length is 100, this model reads from 3 to 64 tokens", None),
    ],
)
def test_what_does_not_fit_is_refused(
    more: Any, code: int, message: str, hint: str | None, made: Any, base: Any, shop: Path, command: Any, tmp_path: Path
) -> None:
    folder, out = made["mlm"][0], tmp_path / "run"
    more = [str(base.folder) if word == "BASE" else word for word in more]
    ended = command("pretrain", shop / "reviews.csv", "--tokenizer", folder, "--out", out, *SHORT, *more)
    lines = ended.err.splitlines()
    assert (ended.code, out.exists()) == (code, False), ended.err
    assert f"error: {message.replace('TOK', str(folder))}" in lines
    assert hint is None or lines[-1] == f"hint: {hint}"


def test_resume_refuses_another_tokenizer(made: Any, base: Any, command: Any) -> None:
    ended = command("pretrain", "--resume", base.folder, "--tokenizer", made["mlm"][0])
    assert ended.code == 2
    assert "--tokenizer would change it" in ended.err


def test_text_of_another_language_names_the_option(made: Any, command: Any, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("\n".join(["日本語の文章です", "漢字だけの行"] * 50), "utf-8")
    given = ("pretrain", tmp_path / "other.txt", "--tokenizer", made["mlm"][0], "--out", tmp_path / "run", *SHORT)
    ended = command(*given)
    assert ended.code == 3, ended.err
    assert ended.err.splitlines()[-1] == ("hint: leave out --tokenizer, or give one that was trained on this language")


def test_generation_begins_as_documents_did_where_the_tokenizer_begins_texts_otherwise(
    made: Any, shop: Path, tmp_path: Path
) -> None:
    from transformers import LlamaTokenizer

    model = json.loads((made["clm"][0] / "tokenizer.json").read_text())["model"]
    entries = {**model["vocab"], **{token: 600 + i for i, token in enumerate(("<s>", "</s>", "<unk>"))}}
    merges = [tuple(pair) for pair in model["merges"]]
    LlamaTokenizer(vocab=entries, merges=merges, add_bos_token=True).save_pretrained(tmp_path / "tok")
    run = nlpkit.pretrain(
        shop / "reviews.csv", objective="clm", tokenizer=tmp_path / "tok", out=tmp_path / "run", overrides=SHORT
    )
    from nlpkit.run import load_generator

    generator = load_generator(run.folder)
    assert generator.tokenizer.bos_token == "<s>"  # which stood in no document
    assert generator._ids("") == [entries["</s>"]]
