"""A plugin of a few lines that gives only a head, only a reader or only a metric to a task of others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mean_head
import pytest

TAGGER = """
import nlpkit

@nlpkit.hookimpl
def nlpkit_heads():
    def two_layers(task, backbone):
        import torch

        class TwoLayers(nlpkit.Head):
            def __init__(self):
                super().__init__()
                width, tags = backbone.hidden_size, 1 + 2 * len(task.config.labels)
                self.inner, self.outer = torch.nn.Linear(width, width), torch.nn.Linear(width, tags)

            def forward(self, hidden, batch):
                return self.outer(self.inner(hidden).tanh()).flatten(0, 1)[batch["places"]]

            def predict(self, hidden, batch):
                scores, tags = super().predict(hidden, batch).max(-1)
                return {"tags": tags, "scores": scores}

        return TwoLayers()

    return {"two-layers": two_layers}
"""
READER = """
import nlpkit

def read(path):
    for line in open(path, encoding="utf-8"):
        label, _, text = line.strip().partition("|")
        yield {"text": text, "label": label}

def read_names(path):
    for line in open(path, encoding="utf-8"):
        name, _, rest = line.strip().partition("|")
        label = "person" if name.startswith("Ines") else "place"
        yield {"text": f"{name} {rest}", "entities": [{"start": 0, "end": len(name), "label": label}]}

def read_pairs(path):
    for line in open(path, encoding="utf-8"):
        source, _, target = line.strip().partition("|")
        yield {"source": source, "target": target}

@nlpkit.hookimpl
def nlpkit_datasets():
    readers = {"bars": read, "names": read_names, "pairs-of-bars": read_pairs}
    return {name: nlpkit.Dataset(function) for name, function in readers.items()}
"""
METRIC = """
import nlpkit

@nlpkit.hookimpl
def nlpkit_metrics():
    def kappa(task):
        from torchmetrics.classification import MulticlassCohenKappa
        return MulticlassCohenKappa(len(task.config.labels))

    def mean_of(values):
        def make(task):
            from torchmetrics import MeanMetric

            class Mean(MeanMetric):
                def update(self, *compared):
                    super().update([float(value) for value in values(*compared)] or 0.0)

            return Mean()
        return make

    spans = mean_of(lambda found, true: [len(found) / max(1, len(true))])
    lengths = mean_of(lambda found, true, *rest: [len(a) / max(1, len(b)) for a, b in zip(found, true)])
    two = mean_of(lambda found, true: [0.0])
    return {"kappa": kappa, "spans": spans, "found-per-true": spans, "length-ratio": lengths, "of-two": two}
"""
SMALL = ("model.preset=tiny", "model.vocabulary=400", "model.sequence_length=32", "trainer.max_steps=2")
WORDS = ("soft", "warm", "torn", "late", "fine", "cheap")


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the plugins and with a file for each reader."""
    folder = tmp_path_factory.mktemp("given")
    for name, text in (("head", mean_head.PLUGIN), ("tagger", TAGGER), ("reader", READER), ("metric", METRIC)):
        (folder / f"{name}.py").write_text(text)
    lines = [(("good", "bad")[i % 2], f"number {i} is {WORDS[i % 6]} and {WORDS[i % 5]}") for i in range(40)]
    (folder / "moods.txt").write_text("".join(f"{label}|{text}\n" for label, text in lines))
    (folder / "names.txt").write_text(
        "".join(f"{('Ines', 'Oslo')[i % 2]} {i}|{text}\n" for i, (_, text) in enumerate(lines))
    )
    (folder / "pairs.txt").write_text("".join(f"{text}|{' '.join(reversed(text.split()))}\n" for _, text in lines))
    return folder


CASES = {
    "sentiment head": ("sentiment", "head.py", "moods", "bars", "task.head=mean", "accuracy"),
    "sentiment metric": ("sentiment", "metric.py", "moods", "bars", "task.metrics=kappa", "kappa"),
    "ner head": ("ner", "tagger.py", "names", "names", "task.head=two-layers", "f1"),
    "ner metric": ("ner", "metric.py", "names", "names", "task.metrics=found-per-true", "found-per-true"),
    "translation metric": (
        "translation",
        "metric.py",
        "pairs",
        "pairs-of-bars",
        "task.metrics=length-ratio",
        "length-ratio",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_part_and_a_reader_of_plugins_serve_a_task_of_others(
    case: str, given: Path, command: Any, tmp_path: Path
) -> None:
    task, plugin, file, reader, setting, score = CASES[case]
    out, data = tmp_path / "run", given / f"{file}.txt"
    plugins = ("--plugin", given / plugin, "--plugin", given / "reader.py")
    ended = command("fit", "--task", task, data, *plugins, "--out", out, f"data.reader={reader}", setting, *SMALL)
    assert ended.code == 0, ended.err
    assert score in json.loads((out / "results.json").read_text())["dev"]
    ended = command("evaluate", out, data, *plugins, "--json")
    assert ended.code == 0 and score in json.loads(ended.out)["scores"], ended.err
    ended = command("predict", out, data, *plugins)
    assert (ended.code, len(ended.out.splitlines())) == (0, 40), ended.err


@pytest.mark.parametrize(
    ("task", "plugin", "setting", "message", "hint"),
    [
        (
            "ner",
            "head.py",
            "task.head=mean",
            "head 'mean' does not go with ner: ",
            "leave it out; what a head of ner is given and gives back, its README says",
        ),
        (
            "sentiment",
            "tagger.py",
            "task.head=two-layers",
            "head 'two-layers' does not go with sentiment: KeyError: 'places'",
            "leave it out; what a head of sentiment is given and gives back, its README says",
        ),
        (
            "ner",
            "metric.py",
            "task.metrics=kappa",
            "metric 'kappa' does not go with ner: ",
            "ner compares: Spans found (N, 4) and true (M, 4): row, first character, the character behind the last, "
            "type.",
        ),
        (
            "translation",
            "metric.py",
            "task.metrics=of-two",
            "metric 'of-two' does not go with translation: TypeError: ",
            "translation compares: Translations, references, sources, whether each came to its end, "
            "and its direction where there are two.",
        ),
    ],
)
def test_a_part_that_does_not_go_with_the_task_is_named_before_training_and_leaves_nothing(
    task: str, plugin: str, setting: str, message: str, hint: str, given: Path, command: Any, tmp_path: Path
) -> None:
    file, reader = {"ner": ("names", "names"), "sentiment": ("moods", "bars")}.get(task, ("pairs", "pairs-of-bars"))
    plugins = ("--plugin", given / plugin, "--plugin", given / "reader.py")
    settings = (f"data.reader={reader}", setting, *SMALL)
    ended = command("fit", "--task", task, given / f"{file}.txt", *plugins, "--out", tmp_path / "run", *settings)
    said = ended.err.splitlines()
    assert ended.code == 5, ended.err
    name = plugin.removesuffix(".py")
    assert said[-2].startswith(f"error: plugin '{name}' ({given / plugin}): {message}") and said[-1] == f"hint: {hint}"
    assert not (tmp_path / "run").exists()


def test_a_part_that_does_not_go_with_one_of_several_tasks_is_named_before_training(
    given: Path, command: Any, tmp_path: Path
) -> None:
    moods = tmp_path / "moods.csv"
    moods.write_text("text,label\n" + "".join(f"{a} and {b} coat,{a}\n" for a in WORDS[:2] for b in WORDS), "utf-8")
    names = tmp_path / "names.conll"
    entities = [f"{name}\tB-{kind}\nwaits\tO\n\n" for name in map(str.title, WORDS) for kind in ("PER", "LOC")]
    names.write_text("".join(entities), "utf-8")
    data = ("--data", f"sentiment={moods}", "--data", f"ner={names}", "--out", tmp_path / "run")
    plugins = ("--plugin", given / "head.py", "--plugin", given / "metric.py")
    for setting, said in (("head=mean", "head 'mean'"), ("metrics=kappa", "metric 'kappa'")):
        ended = command("fit", "--task", "sentiment,ner", *data, *plugins, f"task.ner.{setting}", *SMALL)
        assert ended.code == 5 and f"): {said} does not go with ner: " in ended.err, ended.err
    ended = command("fit", "--task", "sentiment,ner", *data, *plugins, "task.sentiment.head=mean", *SMALL)
    assert ended.code == 0, ended.err
