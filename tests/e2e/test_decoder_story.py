"""A decoder from raw text to generated text and to a task."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from stories import check_task_from

TINY = ("model.preset=tiny", "model.vocabulary=600", "model.sequence_length=64", "trainer.max_steps=6")


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def decoder(request: pytest.FixtureRequest, shop: Path, command: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / request.param
    settings = (*TINY, f"model.family={request.param}")
    ended = command("pretrain", shop / "reviews.csv", "--objective", "clm", "--out", out, *settings)
    assert ended.code == 0, ended.err
    dev = json.loads((out / "results.json").read_text())["dev"]
    assert set(dev) == {"accuracy", "perplexity", "bits_per_byte", "loss"}
    return out


def test_decoder_generates_the_same_for_the_same_seed(decoder: Path, command: Any) -> None:
    arguments = ("generate", decoder, "--prompt", "I bought", "-n", "2", "--tokens", "8", "--json")
    first, again, other = (command(*arguments, "--seed", seed) for seed in ("1", "1", "2"))
    rows = [json.loads(line) for line in first.out.splitlines()]
    assert (first.code, [row["prompt"] for row in rows]) == (0, ["I bought"] * 2)
    assert first.out == again.out != other.out


def test_prompts_come_from_a_file(decoder: Path, command: Any, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("The coat\nMy dog\n")
    ended = command("generate", decoder, "--prompts", tmp_path / "prompts.txt", "--tokens", "4", "--json")
    assert [json.loads(line)["prompt"] for line in ended.out.splitlines()] == ["The coat", "My dog"]


def test_decoder_serves_a_task(decoder: Path, shop: Path, command: Any, tmp_path: Path) -> None:
    check_task_from(decoder, "score.weight", shop, command, tmp_path / "sentiment")


def test_perplexity_of_a_text_is_that_of_the_recipe_of_transformers(
    decoder: Path, shop: Path, command: Any, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    text = " ".join((shop / "new.csv").read_text("utf-8").split())
    (tmp_path / "long.txt").write_text(text)
    ended = command("evaluate", decoder, tmp_path / "long.txt", "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    words = AutoTokenizer.from_pretrained(decoder / "model")
    model = AutoModelForCausalLM.from_pretrained(decoder / "model", dtype=torch.float32).eval()
    ids = torch.tensor([*words(text, add_special_tokens=False)["input_ids"], words.sep_token_id])  # (L)
    assert (found["documents"], found["tokens"]) == (1, len(ids) // 64 * 64)
    assert f"{found['tokens']:,} of the {len(ids):,} tokens are scored: the others fill no sample" in ended.err
    blocks = ids[: len(ids) // 64 * 64].view(-1, 1, 64)
    with torch.no_grad():
        losses = [float(model(block, labels=block).loss) for block in blocks]
    mean = sum(losses) / len(losses)
    assert found["scores"]["loss"] == pytest.approx(mean, rel=1e-4)
    assert found["scores"]["perplexity"] == pytest.approx(math.exp(mean), rel=1e-4)
    asked = "".join(words.decode(block[0, 1:]) for block in blocks)
    bits = mean / math.log(2) * 63 * len(blocks) / len(asked.encode())
    assert found["scores"]["bits_per_byte"] == pytest.approx(bits, rel=2e-3)  # a character may be cut by a block's edge


def test_decoder_is_gone_on_with(decoder: Path, shop: Path, command: Any, tmp_path: Path) -> None:
    settings = ("--objective", "clm", "--out", tmp_path / "run", "trainer.max_steps=2")
    ended = command("pretrain", shop / "reviews.csv", "--from", decoder, *settings)
    assert ended.code == 0, ended.err
    assert any("; new:" not in line and "loaded" in line for line in ended.err.splitlines())


def test_gpt2_of_plain_transformers_is_fitted_and_gone_on_with(shop: Path, command: Any, tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel, GPT2Tokenizer

    from nlpkit import tokenizer

    words = tokenizer.train(["a coat and a hat"] * 9, kind="bpe", vocabulary=300, lowercase=False, max_length=64)
    vocabulary = {**words.get_vocab()}
    plain = GPT2Tokenizer(vocab={**vocabulary, "<|endoftext|>": len(vocabulary)}, merges=[], model_max_length=64)
    assert plain.pad_token is None
    config = GPT2Config(vocab_size=len(vocabulary) + 1, n_embd=32, n_layer=1, n_head=2, n_positions=64)
    config.bos_token_id = config.eos_token_id = len(vocabulary)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    plain.save_pretrained(tmp_path / "gpt2")
    for verb, more in (("fit", ()), ("pretrain", ("--objective", "clm"))):
        given = (shop / "labelled.csv", *more, "--from", tmp_path / "gpt2", "--out", tmp_path / verb)
        ended = command(verb, *given, "trainer.max_steps=2")
        assert ended.code == 0, ended.err
    assert command("predict", tmp_path / "fit", shop / "new.csv").code == 0


def test_encoder_is_refused_by_generate(base: Any, command: Any) -> None:
    ended = command("generate", base.folder, "--prompt", "a")
    assert (ended.code, ended.out) == (4, "")
    assert ended.err.splitlines()[-2] == "error: a model of mlm generates no text"


def test_backbone_that_sees_ahead_is_refused(shop: Path, command: Any, tmp_path: Path) -> None:
    settings = (*TINY, "model.family=bert", "--objective", "clm", "--out", tmp_path / "run")
    ended = command("pretrain", shop / "reviews.csv", *settings)
    assert ended.code == 4
    assert "error: bert can see the word that clm asks it to guess" in ended.err.splitlines()
    assert not os.path.exists(tmp_path / "run")
