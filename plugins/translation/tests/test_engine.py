"""CTranslate2 writes what the model itself does, row by row."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from nlpkit_translation import Translation, TranslationConfig
from nlpkit_translation.engine import Engine

import nlpkit
from nlpkit import Batch, Example, TaskModule, backbone, bundle
from nlpkit.config import ModelConfig
from nlpkit.errors import UsageError
from nlpkit.plugins import Registry

pytest.importorskip("ctranslate2", reason="the extra ct2 is not installed")

STEPS = {"m2m100": 150, "t5": 60}
NOUNS = {"dog": "Hund", "man": "Mann", "bird": "Vogel", "tree": "Baum", "bear": "Bär"}
VERBS = {"sees": "sieht", "finds": "findet", "loves": "liebt"}
PAIRS = [
    {"source": f"The {one} {verb} the {other}.", "target": f"Der {NOUNS[one]} {VERBS[verb]} den {NOUNS[other]}."}
    for one in NOUNS
    for other in NOUNS
    for verb in VERBS
]


@pytest.fixture(scope="module", params=["m2m100", "t5"])
def run(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that has learnt a little German by heart."""
    folder = tmp_path_factory.mktemp(request.param)
    data, dev = folder / "pairs.jsonl", folder / "dev.jsonl"
    dev.write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS[::5]), "utf-8")
    data.write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS * 10), "utf-8")  # few passes, few validations
    small = ["model.preset=tiny", "model.vocabulary=500", "task.max_length=32", "trainer.threads=1", "model.dropout=0"]
    settings = [
        *small,
        f"model.family={request.param}",
        "trainer.batch_tokens=600",
        "trainer.validations_per_epoch=1",
        f"trainer.max_steps={STEPS[request.param]}",
    ]
    nlpkit.fit("translation", str(data), dev=str(dev), out=str(folder / "run"), overrides=settings)
    return folder / "run"


def written(run: Path, *settings: str) -> list[str]:
    answers = nlpkit.load(run, overrides=settings).predict([pair["source"] for pair in PAIRS] + ["", "A tree!"])
    return [answer["target"] for answer in answers]


@pytest.mark.parametrize("beam", [1, 4])
def test_both_engines_write_the_same(run: Path, beam: int) -> None:
    found = written(run, f"task.beam={beam}", "task.engine=ct2")
    expected = written(run, f"task.beam={beam}")
    assert len(set(expected)) > 5
    same = sum(a == b for a, b in zip(found, expected, strict=True))
    assert (
        same >= len(expected) - 1
    )  # where two translations are as likely to the last digit, one may win here or there
    assert found[-2] == ""


def test_eight_bits_write_nearly_the_same_and_scores_are_of_what_is_written(run: Path, tmp_path: Path) -> None:
    exact, found = written(run, "task.engine=ct2"), written(run, "task.engine=ct2-int8")
    assert sum(a == b for a, b in zip(found, exact, strict=True)) > 0.7 * len(exact)
    data = tmp_path / "test.jsonl"
    data.write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS), "utf-8")
    scores = {
        engine: nlpkit.evaluate(run, str(data), overrides=f"task.engine={engine}")["scores"]
        for engine in ("torch", "ct2")
    }
    assert scores["ct2"]["bleu"] == pytest.approx(scores["torch"]["bleu"], abs=1.0)
    assert scores["ct2"]["loss"] == pytest.approx(scores["torch"]["loss"])


HEAD = """
import nlpkit

class Other(nlpkit.SequenceHead):
    def answers(self, batch):
        return batch["labels"]

@nlpkit.hookimpl
def nlpkit_heads():
    return {"other": lambda task, backbone: Other(backbone)}
"""


def test_a_head_that_it_does_not_know_is_refused_before_anything_is_learnt(tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text(HEAD)
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS), "utf-8")
    settings = ["model.preset=tiny", "model.vocabulary=400", "trainer.threads=1", "trainer.max_steps=1"]
    given: dict[str, Any] = {"out": str(tmp_path / "run"), "plugins": str(tmp_path / "other.py")}
    with pytest.raises(UsageError) as caught:
        nlpkit.fit("translation", str(data), **given, overrides=[*settings, "task.head=other", "task.engine=ct2"])
    assert caught.value.message == "--engine ct2 knows no head of another plugin"
    assert caught.value.hint == "--engine torch"
    assert not (tmp_path / "run").exists()


# rows that never end


@pytest.fixture(scope="module")
def untaught(words: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Translation, TaskModule]:
    """A model with large random weights, whose beams keep changing, and its folder."""
    task = Translation(TranslationConfig(max_length=64), words())
    torch.manual_seed(3)
    architecture = backbone.architecture(ModelConfig(preset="tiny", family="m2m100"), task.tokenizer)
    module = TaskModule(task, backbone.build(architecture), task.build_head(architecture)).eval()
    with torch.no_grad():
        for weights in module.parameters():
            weights.mul_(3 if weights.dim() > 1 else 1)
    folder = tmp_path_factory.mktemp("untaught") / "model"
    bundle.save(folder, task, module.backbone, module.head, {}, Registry())
    return folder, task, module


def batch_of(task: Translation, *texts: str) -> Batch:
    return task.collate([task.encode(Example({"source": text})) for text in texts])


@pytest.mark.parametrize("begin", [None, 7])
@pytest.mark.parametrize("beams", [1, 5])
def test_a_row_is_written_as_it_would_be_alone_and_by_torch(beams: int, begin: int | None, untaught: Any) -> None:
    folder, task, module = untaught
    search = replace(module.head.search, beams=beams, begin=begin)
    engine, module.head.search = Engine(folder, task.tokenizer, search, int8=False), search
    texts = [
        "the dog sleeps under the table",
        "we read",
        "the coat is warm and the hat is new",
        "a soup",
        "the dog " * 12,
    ]
    batch = batch_of(task, *texts)
    together = engine(batch)
    with torch.inference_mode():
        by_torch = module.head.predict(module.hidden(batch), batch)
    assert bool(together["ended"].all()) == (beams == 1 and begin is None)  # there all are empty, else none ends
    for name, values in by_torch.items():
        assert together[name].tolist() == values.tolist()
    for row, text in enumerate(texts):
        alone = engine(batch_of(task, text))
        length = int(alone["lengths"][0])
        assert alone["ids"][0, :length].tolist() == together["ids"][row, : int(together["lengths"][row])].tolist()
        assert alone["ended"][0] == together["ended"][row]


@pytest.mark.parametrize("beams", [1, 3])
def test_padding_is_never_written(beams: int, untaught: Any, tmp_path: Path) -> None:
    folder, task, _ = untaught
    model: Any = bundle.load(str(folder), Registry())
    search = replace(model.head.search, beams=beams, begin=7)
    module, batch = TaskModule(task, model.backbone, model.head).eval(), batch_of(task, "we read", "the coat is warm")
    likeliest, pad = Engine(folder, task.tokenizer, search, int8=False)(batch)["ids"][:, 1], task.tokenizer.pad_token_id
    with torch.no_grad():
        rows = model.head.output_embeddings.weight
        rows[pad] = 3 * rows[likeliest].mean(0)
    bundle.save(tmp_path / "model", task, model.backbone, model.head, {}, Registry())
    found = Engine(tmp_path / "model", task.tokenizer, search, int8=False)(batch)
    model.head.search = search
    with torch.inference_mode():
        by_torch = model.head.predict(module.hidden(batch), batch)
    for ids, length in zip(found["ids"].tolist(), found["lengths"].tolist(), strict=True):
        assert length > 1 and pad not in ids[:length]
    if beams == 1:  # a beam of torch weighs the others as if padding had kept its share
        assert found["ids"].tolist() == by_torch["ids"].tolist()


@pytest.mark.parametrize("begin", [None, 7])
def test_a_source_without_text_ends_whatever_stands_beside_it(begin: int | None, untaught: Any) -> None:
    folder, task, module = untaught
    search = replace(module.head.search, beams=2, begin=begin)
    engine = Engine(folder, task.tokenizer, search, int8=False)
    for texts in (("",), ("", "the dog sleeps under the table")):
        found = engine(batch_of(task, *texts))
        assert (int(found["lengths"][0]), bool(found["ended"][0])) == (int(begin is not None), True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_model_on_a_gpu_is_scored_by_the_engine_beside_it(run: Path, tmp_path: Path) -> None:
    data = tmp_path / "test.jsonl"
    data.write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS), "utf-8")
    scores = [
        nlpkit.evaluate(run, str(data), overrides="task.engine=ct2", device=device)["scores"]
        for device in ("cpu", "cuda")
    ]
    assert scores[0] == pytest.approx(scores[1], rel=1e-3)
    predictor = nlpkit.load(run, overrides="task.engine=ct2", device="cuda")
    assert predictor.predict(["The dog sees the man."]) == nlpkit.load(run, device="cpu").predict(
        ["The dog sees the man."]
    )
