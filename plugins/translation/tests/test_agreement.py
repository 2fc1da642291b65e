"""What an engine writes is compared with what torch does, once for each, on the dev part of the run."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from nlpkit_translation.agreement import check
from nlpkit_translation.engine import Engine

import nlpkit
from nlpkit import Example, bundle
from nlpkit.plugins import Registry

pytest.importorskip("ctranslate2", reason="the extra ct2 is not installed")

NOUNS = {"dog": "Hund", "man": "Mann", "bird": "Vogel", "tree": "Baum"}
VERBS = {"sees": "sieht", "finds": "findet", "loves": "liebt"}
PAIRS = [
    {"source": f"The {one} {verb} the {other}.", "target": f"Der {NOUNS[one]} {VERBS[verb]} den {NOUNS[other]}."}
    for one in NOUNS
    for other in NOUNS
    for verb in VERBS
]
DEV = PAIRS[::4]
SETTINGS = (
    "model.family=t5",
    "model.preset=tiny",
    "model.vocabulary=400",
    "model.dropout=0",
    "task.max_length=32",
    "trainer.threads=1",
    "trainer.batch_tokens=600",
    "trainer.max_steps=60",
)


@dataclass
class Fitted:
    """A run, beside its data, and what was said while it was made."""

    folder: Path
    said: list[str]

    @property
    def dev(self) -> Path:
        return self.folder.parent / "dev.jsonl"

    def kept(self, engine: str) -> dict[str, Any]:
        return json.loads((self.folder / f"model-{engine}.json").read_text())  # type: ignore[no-any-return]


class Heard(logging.Handler):
    """Keeps messages."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """A tiny model that is to be used with the engine, as `fit` leaves it."""
    folder, heard, log = tmp_path_factory.mktemp("made"), Heard(), logging.getLogger("nlpkit")
    for name, pairs in (("train", PAIRS * 10), ("dev", DEV)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs), "utf-8")
    level = log.level
    log.addHandler(heard)
    log.setLevel(logging.INFO)
    try:
        given = {"dev": str(folder / "dev.jsonl"), "out": str(folder / "run")}
        nlpkit.fit("translation", str(folder / "train.jsonl"), **given, overrides=(*SETTINGS, "task.engine=ct2"))
    finally:
        log.removeHandler(heard)
        log.setLevel(level)
    return Fitted(folder / "run", heard.messages)


@pytest.fixture
def run(made: Fitted, tmp_path: Path) -> Fitted:
    """The run and its data at another place, without what was compared."""
    folder = tmp_path / "moved"
    shutil.copytree(made.folder.parent, folder)
    facts = folder / "run" / "run.json"
    facts.write_text(facts.read_text().replace(str(made.folder.parent), str(folder)))
    (folder / "run" / "model-ct2.json").unlink()
    return Fitted(folder / "run", [])


def line(found: dict[str, Any], engine: str) -> str:
    said = f"{found['texts']} texts of the dev part, with beam {found['settings']['beam']}: "
    for title, name in (("BLEU", "bleu"), ("chrF", "chrf")):
        by_torch, other = found[f"{name}_torch"], found[f"{name}_engine"]
        said += f"{title} {by_torch:.2f} by torch, {other:.2f} by {engine} ({other - by_torch:+.2f}), "
    return f"{said}{found['equal']} translations are equal"


def begins(engine: str, texts: int = len(DEV)) -> str:
    """What is said before anything is compared."""
    return f"comparing {engine} with torch on {texts} texts of the dev part, once for these settings"


def written(run: Fitted, engine: str) -> list[str]:
    sources = [pair["source"] for pair in DEV]
    return [row["target"] for row in nlpkit.load(run.folder, overrides=f"task.engine={engine}").predict(sources)]


def test_fit_converts_and_says_how_both_score_its_dev_part(made: Fitted) -> None:
    found = made.kept("ct2")
    for engine, key in (("torch", "torch"), ("ct2", "engine")):
        scores = nlpkit.evaluate(made.folder, str(made.dev), overrides=f"task.engine={engine}")["scores"]
        for name in ("bleu", "chrf"):
            assert found[f"{name}_{key}"] == pytest.approx(scores[name], abs=1e-3)
    assert found["bleu_torch"] > 20  # it has learnt something that could be lost
    assert found["texts"] == len(DEV)
    assert found["equal"] == sum(map(str.__eq__, written(made, "torch"), written(made, "ct2")))
    assert made.said[-2:] == [begins("ct2"), line(found, "ct2")]


@pytest.mark.parametrize("engine", ["ct2", "ct2-int8"])
def test_a_first_use_reads_the_dev_part_again_and_a_second_does_not(
    engine: str, run: Fitted, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "nlpkit"):
        nlpkit.load(run.folder, overrides=f"task.engine={engine}")
    found = run.kept(engine)
    same = sum(map(str.__eq__, written(run, "torch"), written(run, engine)))
    assert (found["texts"], found["equal"]) == (len(DEV), same)
    assert found["settings"] == {"beam": 1, "length_penalty": 1.0, "prefix": ""}
    assert [message.split(";")[0] for message in caplog.messages] == [begins(engine), line(found, engine)]
    run.dev.unlink()
    caplog.clear()
    with caplog.at_level(logging.INFO, "nlpkit"):
        nlpkit.load(run.folder, overrides=f"task.engine={engine}")
    assert [message.split(";")[0] for message in caplog.messages] == [line(found, engine)]


def test_what_cannot_be_compared_is_said_with_what_to_type(run: Fitted, caplog: pytest.LogCaptureFixture) -> None:
    run.dev.write_text(json.dumps({"source": "A tree.", "target": "Ein Baum."}) + "\n")
    with caplog.at_level(logging.INFO, "nlpkit"):
        assert written(run, "ct2") == written(run, "torch")
    reason = f"{run.dev}: the dev part is not what it was when the model was fitted"
    evaluate = f"nlpkit evaluate {run.folder / 'model'} FILES --engine"
    said = f"ct2 was not compared with torch: {reason}; compare {evaluate} ct2 with {evaluate} torch"
    assert caplog.messages == [said]
    caplog.clear()
    disk = run.dev.rename(run.dev.with_suffix(".away"))
    with caplog.at_level(logging.INFO, "nlpkit"):
        written(run, "ct2-int8")
    assert len(caplog.messages) == 1 and caplog.messages[0].startswith("ct2-int8 was not compared with torch: ")
    assert str(run.dev) in caplog.messages[0]
    disk.rename(run.dev)
    run.dev.write_text("".join(json.dumps(pair) + "\n" for pair in DEV), "utf-8")
    caplog.clear()
    with caplog.at_level(logging.INFO, "nlpkit"):
        written(run, "ct2")
    assert caplog.messages == [begins("ct2"), line(run.kept("ct2"), "ct2")]  # the files are there again


@pytest.mark.parametrize(
    "setting", ["task.beam=2", "task.length_penalty=0.5", "'task.prefix=The '"], ids=["beam", "penalty", "prefix"]
)
def test_other_settings_of_predictions_are_compared_again(setting: str, run: Fitted) -> None:
    name, _, value = setting.strip("'").removeprefix("task.").partition("=")
    nlpkit.load(run.folder, overrides="task.engine=ct2")
    first = run.kept("ct2")
    nlpkit.load(run.folder, overrides=["task.engine=ct2", setting.strip("'")])
    again = run.kept("ct2")
    assert str(again["settings"][name]) == value
    assert again["settings"] == {**first["settings"], name: again["settings"][name]}


@pytest.mark.parametrize(
    "change", [{"model": "of another"}, {"chrf_engine": None}, {"bleu_torch": "20"}, {"settings": {}}]
)
def test_what_is_kept_must_be_whole_and_of_this_model(
    change: dict[str, Any], run: Fitted, caplog: pytest.LogCaptureFixture
) -> None:
    nlpkit.load(run.folder, overrides="task.engine=ct2")
    found = run.kept("ct2")
    damaged = {key: value for key, value in {**found, **change}.items() if value is not None}
    (run.folder / "model-ct2.json").write_text(json.dumps(damaged))
    caplog.clear()
    with caplog.at_level(logging.INFO, "nlpkit"):
        nlpkit.load(run.folder, overrides="task.engine=ct2")
    assert caplog.messages == [begins("ct2"), line(found, "ct2")]
    assert run.kept("ct2") == found


def test_a_dead_engine_is_seen_where_no_text_is_long_enough_for_bleu(
    run: Fitted, caplog: pytest.LogCaptureFixture
) -> None:
    class Dead(Engine):
        """One that ends each translation at once."""

        def _write(self, rows: list[list[int]], most: int) -> list[list[int]]:
            return [[self._end]] * len(rows)

    model: Any = bundle.load(str(run.folder), Registry(), settings=["task.engine=torch"])
    model.task.config.engine = "ct2"
    model.head.search = replace(model.head.search, longest=3)  # tokens
    engine = Dead(run.folder / "model", model.task.tokenizer, model.head.search, int8=False)
    pairs = [Example({"source": f"The {one}", "target": f"Der {other}"}) for one, other in NOUNS.items()]
    caplog.clear()
    check(engine, model, run.folder / "model", lambda: pairs)
    found = run.kept("ct2")
    assert (found["bleu_torch"], found["bleu_engine"], found["chrf_engine"], found["equal"]) == (0, 0, 0, 0)
    assert found["chrf_torch"] > 10
    assert caplog.records[-1].levelname == "WARNING"
    assert caplog.messages[-1].startswith(f"{line(found, 'ct2')}; they should agree to 0.5: compare nlpkit evaluate ")


def test_a_loss_of_bleu_is_a_warning_each_time(run: Fitted, caplog: pytest.LogCaptureFixture) -> None:
    loaded = bundle.load(str(run.folder), Registry(), settings=["task.engine=torch"])
    torch.manual_seed(0)
    with torch.no_grad():
        for weights in loaded.backbone.parameters():
            weights.add_(torch.randn_like(weights) * weights.std(), alpha=2) if weights.dim() > 1 else None
    other = run.folder / "other"
    bundle.save(other, loaded.task, loaded.backbone, loaded.head, {}, Registry())
    search: Any = loaded.head.search
    engine = Engine(other, loaded.task.tokenizer, search, int8=False)
    model = bundle.load(str(run.folder), Registry(), settings=["task.engine=ct2"])
    (run.folder / "model-ct2.json").unlink()
    pairs = [Example(pair) for pair in DEV]
    caplog.clear()
    for _ in range(2):
        check(engine, model, run.folder / "model", lambda: pairs)
    found = run.kept("ct2")
    assert found["bleu_torch"] - found["bleu_engine"] > 0.5
    evaluate = f"nlpkit evaluate {run.folder / 'model'} FILES --engine"
    said = f"{line(found, 'ct2')}; they should agree to 0.5: compare {evaluate} ct2 with {evaluate} torch"
    assert [(record.levelname, record.message) for record in caplog.records] == [("WARNING", said)] * 2


def test_two_hundred_texts_are_taken_evenly(run: Fitted) -> None:
    model = bundle.load(str(run.folder), Registry(), settings=["task.engine=torch"])
    model.task.config.engine = "ct2"
    search: Any = model.head.search
    engine = Engine(run.folder / "model", model.task.tokenizer, search, int8=False)
    taken = []

    class Pair(Example):
        """One that says that it was read."""

        def __getitem__(self, key: str) -> Any:
            taken.append(self.where)
            return super().__getitem__(key)

    check(engine, model, run.folder / "model", lambda: [Pair(PAIRS[n % len(PAIRS)], str(n)) for n in range(600)])
    assert run.kept("ct2")["texts"] == 200
    assert sorted(set(map(int, taken))) == list(range(0, 600, 3))
