"""A task is given the dev part of its finished model: as it is after `fit`, read again from its files after a load."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from nlpkit_sentiment import Sentiment

import nlpkit
from nlpkit import dev_part
from nlpkit.plugins import Registry

PLUGIN = """
import json
import nlpkit
from nlpkit_sentiment import Sentiment

class Told(Sentiment):
    name = "told"

    def ready(self, model, folder, dev):
        assert model.task is self and not model.backbone.training and not model.head.training
        assert (folder / "nlpkit.json").is_file()
        try:
            said = [example["text"] for example in dev()]
        except nlpkit.NlpkitError as error:
            said = error.message
        with open(folder.parent / "told.jsonl", "a") as file:
            print(json.dumps(said), file=file)

@nlpkit.hookimpl
def nlpkit_tasks():
    return [Told]
"""
SETTINGS = (
    "model.preset=tiny",
    "model.vocabulary=300",
    "trainer.max_steps=1",
    "trainer.threads=1",
    "data.dev_share=0.3",
)
WORDS = ("coat", "hat", "scarf", "shirt", "sock", "glove", "boot", "belt")


def rows(kind: str) -> list[str]:
    return [f"the {kind} {word} number {n},{'pos' if n % 2 else 'neg'}" for n, word in enumerate(WORDS * 3)]


@pytest.fixture(params=["held out", "given"])
def run(request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose files were named from its own working folder."""
    (tmp_path / "told.py").write_text(PLUGIN)
    for name in ("train", "dev"):
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label", *rows(name)]) + "\n")
    monkeypatch.chdir(tmp_path)
    dev = "dev.csv" if request.param == "given" else ()
    nlpkit.fit("told", "train.csv", dev=dev, out="run", overrides=SETTINGS, plugins="told.py")
    return tmp_path / "run"


def told(run: Path) -> list[Any]:
    return [json.loads(line) for line in (run / "told.jsonl").read_text().splitlines()]


def load(source: Path) -> Any:
    plugin = next(parent / "told.py" for parent in source.parents if (parent / "told.py").exists())
    nlpkit.load(source, plugins=plugin)
    return told(source.parent if source.name == "model" else source)[-1]


def file_of(run: Path) -> Path:
    """The file that the dev part is read from."""
    request = json.loads((run / "run.json").read_text())["request"]
    return run.parent / (request["dev"] or request["data"])[0]


def test_a_load_reads_again_what_fit_had(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (first,) = told(run)
    assert len(first) == json.loads((run / "results.json").read_text())["examples"]["dev"] > 3
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with caplog.at_level(logging.INFO, "nlpkit"):
        assert load(run) == first
    assert caplog.messages == []


def test_files_that_are_gone_or_changed_are_named(run: Path) -> None:
    file = file_of(run)
    file.write_text(file.read_text().replace("number", "no."))
    assert load(run) == f"{file.name}: the dev part is not what it was when the model was fitted"
    file.unlink()
    assert load(run).startswith(f"{file.name}: ")


def test_the_run_must_be_beside_its_model(run: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone" / "model"
    shutil.copytree(run / "model", alone)
    assert load(alone) == f"{alone}: not in the folder of its run, which knows the dev part"
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**facts, "data_fingerprint": "0"}))
    assert load(run) == f"{run / 'run.json'}: of other data than the model beside it"
    del facts["dev_fingerprint"]  # as of an earlier nlpkit
    (run / "run.json").write_text(json.dumps(facts))
    assert load(run) == f"{run / 'run.json'}: does not say what the dev part was"


def test_a_model_without_a_history_is_of_other_data(run: Path) -> None:
    path = run / "model" / "nlpkit.json"
    record = {**json.loads(path.read_text()), "history": []}
    with pytest.raises(nlpkit.NlpkitError) as caught:
        dev_part.read(run / "model", record, Sentiment, Registry())
    assert caught.value.message == f"{run / 'run.json'}: of other data than the model beside it"
