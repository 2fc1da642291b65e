"""Texts that do not fit: what is scored of them is what `predict` writes, and many lines are translated bit by bit."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sacrebleu
import torch
from nlpkit_translation import Translation

import nlpkit
from nlpkit import Example, TaskModule, bundle
from nlpkit.data import EncodedExamples, make_batch
from nlpkit.plugins import Registry

MakeTask = Callable[..., Translation]
MakeModule = Callable[..., TaskModule]
SHORT = [
    ("the dog sleeps", "der Hund schläft"),
    ("we read the book", "wir lesen das Buch"),
    ("where is the key?", "wo ist der Schlüssel?"),
]
LONG = [
    ("the dog sleeps. we read the book. she has a red car. they are late. " * 2, "der Hund schläft. " * 5),
    ("the coat is warm\n\n  my hat is new\n", "der Mantel ist warm\n\n  mein Hut ist neu\n"),
]


def batch_of(task: Any, pairs: list[tuple[str, str]]) -> Any:
    examples = [Example({"source": source, "target": target}) for source, target in pairs]
    return make_batch(task, EncodedExamples(task, examples), torch.arange(len(examples)).numpy(), 0, -1)


class Seen:
    """How often the encoder reads a row, and the shapes of what it reads at a time."""

    def __init__(self, module: TaskModule) -> None:
        self.rows: Counter[tuple[int, ...]] = Counter()
        self.shapes: list[tuple[int, int]] = []
        self._pad = module.task.tokenizer.pad_token_id
        module.backbone.register_forward_pre_hook(self._look, with_kwargs=True)

    def _look(self, _: Any, __: Any, inputs: dict[str, Any]) -> None:
        ids = inputs["input_ids"]
        self.shapes.append(tuple(ids.shape))
        self.rows.update(tuple(i for i in row if i != self._pad) for row in ids.tolist())


@pytest.mark.parametrize("engine", [False, True])
def test_what_is_scored_is_what_predict_writes(
    engine: bool, make_task: MakeTask, make_module: MakeModule, tmp_path: Path
) -> None:
    module = make_module(make_task(max_length=24))
    bundle.save(tmp_path / "model", module.task, module.backbone, module.head, {}, Registry())
    predictor = nlpkit.load(tmp_path / "model", device="cpu")
    if engine:  # whatever writes in place of the head gets the same rows
        predictor.module.head.engine = predictor.module._predicted
    pairs = [*SHORT, *LONG]
    found = [answer["target"] for answer in predictor.predict([source for source, _ in pairs])]
    scores = predictor.score([Example({"source": source, "target": target}) for source, target in pairs])
    true = [target for _, target in pairs]
    assert scores["bleu"] == pytest.approx(sacrebleu.corpus_bleu(found, [true]).score, abs=1e-4)
    assert scores["chrf"] == pytest.approx(sacrebleu.corpus_chrf(found, [true]).score, abs=1e-4)
    assert found[-1].count("\n") == 3 and len(found[-2].split()) > len(found[0].split())
    with torch.inference_mode():
        batch = batch_of(module.task, pairs)
        assert scores["loss"] == pytest.approx(float(module.head.loss_from(module.hidden(batch), batch)), rel=1e-4)


def test_evaluate_scores_divided_sources(make_task: MakeTask, make_module: MakeModule, tmp_path: Path) -> None:
    module = make_module(make_task(max_length=24))
    bundle.save(tmp_path / "model", module.task, module.backbone, module.head, {}, Registry())
    sources = [source for source, _ in LONG * 3]
    answers = nlpkit.load(tmp_path / "model", device="cpu").predict(sources)
    data = tmp_path / "test.jsonl"
    data.write_text(
        "".join(json.dumps({"source": s, **a}) + "\n" for s, a in zip(sources, answers, strict=True)), "utf-8"
    )
    scores = nlpkit.evaluate(tmp_path / "model", data, device="cpu")["scores"]
    assert scores["chrf"] == pytest.approx(100)


def test_only_what_does_not_fit_is_read_twice(make_task: MakeTask, make_module: MakeModule) -> None:
    module = make_module(make_task(max_length=24))
    task: Any = module.task
    seen = Seen(module)
    with torch.inference_mode():
        module.score([batch_of(task, SHORT)], task.build_metrics())
    assert seen.shapes and len(seen.shapes) == 1

    with torch.inference_mode():
        module.score([batch_of(task, [SHORT[0], LONG[0], SHORT[1]])], task.build_metrics())
    whole = [tuple(task.encode(Example({"source": source}))["input_ids"]) for source, _ in SHORT]
    assert [seen.rows[row] for row in whole] == [2, 2, 1]  # once in each of the batches that they stand in
    parts = task.encode(Example({"source": LONG[0][0]}))["parts"]
    assert seen.rows.total() == len(SHORT) + 2 + 1 + len(parts)


@pytest.mark.parametrize("beam", [1, 2])
def test_a_text_of_many_lines_is_translated_in_groups(beam: int, make_task: MakeTask, make_module: MakeModule) -> None:
    module = make_module(make_task(beam=beam))
    task, head = module.task, module.head
    texts = [source.strip() for source, _ in [*SHORT, *LONG[1:]]]
    lines = [f"{texts[n % 4].splitlines()[0]} {n}" if n % 7 else "" for n in range(300)]
    with torch.inference_mode():
        apart = [
            task.collate([task.encode(Example({"source": line})) for line in lines[i : i + 50]])
            for i in range(0, 300, 50)
        ]
        alone = [answer for batch in apart for answer in module.predict_step(batch)]  # each of one group
        head.tokens = 120  # type: ignore[assignment]
        seen = Seen(module)
        (found,) = module.predict_step(task.collate([task.encode(Example({"source": "\n".join(lines)}))]))
    assert found["target"].split("\n") == [answer["target"] for answer in alone]
    assert len(seen.shapes) > 10 and all(rows * length <= 120 for rows, length in seen.shapes)
    widths = [length for _, length in seen.shapes]
    assert widths == sorted(widths, reverse=True)
    padded = sum(rows * length for rows, length in seen.shapes)
    assert padded < 1.2 * sum(len(row) * count for row, count in seen.rows.items())
