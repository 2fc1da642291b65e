"""Text from a decoder, beside plain transformers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from nlpkit import backbone, bundle, tokenizer
from nlpkit.config import ModelConfig
from nlpkit.errors import ModelError, UsageError
from nlpkit.generation import Generator, Sampling
from nlpkit.objectives.clm import Clm, ClmConfig
from nlpkit.plugins import Registry
from nlpkit.run import load_generator

TEXTS = ["the coat is soft and warm", "it tore on day two", "I would buy it again"]


@pytest.fixture(scope="module")
def decoder_words() -> PreTrainedTokenizerBase:
    texts = [f"{text} number {i}" for i in range(30) for text in TEXTS]
    return tokenizer.train(texts, kind="bpe", vocabulary=300, lowercase=False, max_length=64, generates=True)


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def folder(
    request: pytest.FixtureRequest, decoder_words: PreTrainedTokenizerBase, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A bundle with random weights."""
    torch.manual_seed(1)
    settings = ModelConfig(preset="tiny", family=request.param, sequence_length=64)
    task = Clm(ClmConfig(max_length=64), decoder_words)
    architecture = backbone.architecture(settings, decoder_words)
    body, head = backbone.build(architecture), task.build_head(architecture)
    with torch.no_grad():
        body.get_input_embeddings().weight.mul_(3)
    head.tie(body)
    path = tmp_path_factory.mktemp("models") / request.param
    bundle.save(path, task, body, head, {}, Registry())
    return path


@pytest.fixture(scope="module")
def generator(folder: Path) -> Generator:
    return Generator(bundle.load(str(folder), Registry()))


def texts(generator: Generator, prompt: str = "the coat", count: int = 1, seed: int = 0, **how: object) -> list[str]:
    sampling = Sampling(**{"tokens": 12, **how})  # type: ignore[arg-type]
    return [written.text for written in next(generator.generate([prompt], count, sampling, seed=seed))]


def test_greedy_text_is_that_of_plain_transformers(
    folder: Path, generator: Generator, decoder_words: PreTrainedTokenizerBase
) -> None:
    ids = decoder_words("the coat", return_tensors="pt")["input_ids"][:, :-1]
    plain = AutoModelForCausalLM.from_pretrained(folder).eval()
    found = plain.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
    whole = decoder_words.decode(found[0], skip_special_tokens=True)
    assert f"the coat{texts(generator, temperature=0)[0]}" == whole.removeprefix(" ")


def test_the_same_seed_gives_the_same_texts_and_another_does_not(generator: Generator) -> None:
    first = texts(generator, count=3, seed=5)
    assert texts(generator, count=3, seed=5) == first
    assert texts(generator, count=3, seed=6) != first
    assert len(set(first)) == 3


def test_a_prompt_gets_the_same_text_whatever_stands_after_it(generator: Generator) -> None:
    both = list(generator.generate(["the coat", "it"], 1, Sampling(tokens=8), seed=3))
    assert both[0] == next(generator.generate(["the coat"], 1, Sampling(tokens=8), seed=3))


def test_text_ends_before_a_stop(generator: Generator) -> None:
    whole = texts(generator, seed=2)[0]
    stop = whole[4:7]
    assert texts(generator, seed=2, stop=(stop,)) == [whole[: whole.index(stop)]]


def test_pieces_are_the_text(generator: Generator) -> None:
    pieces: list[str] = []
    found = next(generator.generate(["the coat"], 1, Sampling(tokens=12), seed=1, write=pieces.append))
    assert "".join(pieces) == found[0].text


@pytest.mark.parametrize(("begin", "end"), [(4, 7), (0, 2), (8, 40)])
def test_pieces_end_before_a_stop(generator: Generator, begin: int, end: int) -> None:
    def written(*stop: str) -> tuple[str, str]:
        pieces: list[str] = []
        found = next(generator.generate(["the coat"], 1, Sampling(30, stop=stop), seed=2, write=pieces.append))
        return "".join(pieces), found[0].text

    whole, _ = written()
    stop = whole[begin:end]
    assert written(stop) == (whole[: whole.index(stop)],) * 2
    assert written(f"{stop}, and what never comes") == (whole, whole)


def test_many_texts_are_written_in_groups(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    hook = generator.backbone.register_forward_hook(lambda _, __, output: sizes.append(len(output[0])))
    monkeypatch.setattr("nlpkit.generation._TOGETHER", 3)
    found = texts(generator, count=8, tokens=4)
    hook.remove()
    assert len(set(found)) > 3
    assert sizes == [3] * 4 + [3] * 4 + [2] * 4


def test_text_ends_where_the_model_does_and_a_prompt_must_leave_room(generator: Generator) -> None:
    long = " ".join(["soft"] * 200)
    with pytest.raises(UsageError) as caught:
        texts(generator, prompt=long)
    assert caught.value.message.startswith("prompt 1 has ")
    assert caught.value.message.endswith(" tokens, and the model reads 64")
    ids = generator._ids("the coat" + texts(generator, tokens=500, temperature=0)[0])
    assert len(ids) <= 65


def test_encoder_generates_nothing(make_bundle: object, tmp_path: Path, registry: Registry) -> None:
    make_bundle("model")  # type: ignore[operator]
    with pytest.raises(ModelError) as caught:
        Generator(bundle.load(str(tmp_path / "model"), registry))
    assert caught.value.message == "a model of sentiment generates no text"


def test_folder_that_nlpkit_did_not_make_is_told_what_makes_a_model_that_writes(
    make_bundle: object, tmp_path: Path
) -> None:
    make_bundle("model")  # type: ignore[operator]
    (tmp_path / "model" / bundle.RECORD).unlink()
    with pytest.raises(ModelError) as caught:
        load_generator(tmp_path / "model")
    assert caught.value.message.endswith("no nlpkit.json, so it is no model of nlpkit")
    assert caught.value.hint == "nlpkit pretrain FILES --objective clm makes a model that writes"


def test_an_empty_stop_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        Sampling(stop=("end", ""))
    assert caught.value.message == "a text to stop at is empty"
