"""A test kit for task authors: ``check_task(MyTask, EXAMPLES)`` is a task's whole test.

It builds a tiny tokenizer and a backbone of the task's family, so it runs offline in seconds.
"""

from __future__ import annotations

import copy
import json
import math
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from nlpkit import backbone, bundle, tokenizer
from nlpkit.config import ModelConfig, OptimConfig, from_plain, to_plain
from nlpkit.data import EncodedExamples, make_batch
from nlpkit.errors import NlpkitError
from nlpkit.module import TaskModule
from nlpkit.plugins import Plugin, Registry
from nlpkit.task import Batch, Example, Task, TaskConfig

ODD_TEXTS = ("", " \t\n", "🙂🙃", "e\u0301\u0327\u200b", "שלום עולם", "word " * 2000)
_TOLERANCE = 1e-4


class TaskUnderTest:
    """A task on a tiny backbone, with examples.

    Args:
        task_class: what is tested.
        examples: eight or so, labelled, as the task's reader would give them.
        settings: of the task; labels are found in the examples.
    """

    def __init__(
        self, task_class: type[Task[Any]], examples: Sequence[Mapping[str, Any]], settings: Any = None
    ) -> None:
        self.examples = [e if isinstance(e, Example) else Example(e, f"example {i}") for i, e in enumerate(examples)]
        needed = [name for name, field in task_class.fields.items() if field.required]
        written = [name for name, field in task_class.fields.items() if field.written]
        texts = [str(e[name]) for e in self.examples for name in needed + written]
        model = ModelConfig(preset="tiny", family=task_class.defaults.get("model.family", "bert"), sequence_length=64)
        try:
            config = task_class.prepare(settings or task_class.config_class(), self.examples)
        except NlpkitError as error:
            raise AssertionError(f"these examples are no data for {task_class.__name__}: {error.message}") from None
        words = tokenizer.train(
            iter(texts),
            kind="wordpiece",
            vocabulary=400,
            lowercase=True,
            max_length=64,
            generates=model.family in backbone.DECODERS,
            denoises=model.family in backbone.ENCODER_DECODERS,
            special=task_class.extra_tokens(config),
        )
        self.task = task_class(replace(config, max_length=config.max_length or 64), words)
        self.architecture = backbone.architecture(model, words)
        torch.manual_seed(0)
        optim = OptimConfig(learning_rate=5e-4, schedule="constant", warmup=0.0)
        self.module = TaskModule(
            self.task, backbone.build(self.architecture), self.task.build_head(self.architecture), optim, total_steps=60
        )
        self.samples = EncodedExamples(self.task, self.examples)

    def batch(self, *rows: int) -> Batch:
        """A batch of some examples; of all where none is named."""
        chosen = torch.tensor(rows or range(len(self.examples))).numpy()
        return make_batch(self.task, self.samples, chosen, 0, 0)

    def loss(self, batch: Batch) -> torch.Tensor:
        """The loss of a batch, as training has it."""
        return self.module.head.loss_from(self.module.hidden(batch), batch)

    def answers(self, batch: Batch) -> list[dict[str, Any]]:
        """Predictions in evaluation mode."""
        self.module.eval()
        with torch.no_grad():
            return self.module.predict_step(batch)


def check_task(
    task_class: type[Task[Any]],
    examples: Sequence[Mapping[str, Any]],
    *,
    config: TaskConfig | None = None,
    skip: Collection[str] = (),
) -> None:
    """Run every check over a task.

    Args:
        task_class: a subclass of Task.
        examples: some labelled examples, eight or so, with two labels at least.
        config: settings other than the defaults.
        skip: names of checks that do not apply.

    Raises:
        AssertionError: one line for each check that failed, with its reason.
    """
    TaskUnderTest(task_class, examples, config)  # what fails here is no check's
    failures = []
    for name, check in CHECKS.items():
        if name in skip:
            continue
        try:
            check(TaskUnderTest(task_class, examples, config))
        except Exception as error:  # an author's code may raise anything, and the other checks still count
            failures.append(f"{name}: {check.__doc__ or ''} {type(error).__name__}: {error}".strip())
    assert not failures, f"{task_class.__name__} fails {len(failures)} of {len(CHECKS)} checks:\n" + "\n".join(failures)


def encodes_without_label(it: TaskUnderTest) -> None:
    """New texts have no label, and the same input ids."""
    optional = [name for name, f in it.task.fields.items() if not f.required]
    for example in it.examples:
        bare = Example({k: v for k, v in example.items() if k not in optional}, example.where)
        assert it.task.encode(bare)["input_ids"] == it.task.encode(example)["input_ids"]


def takes_odd_texts(it: TaskUnderTest) -> None:
    """Empty, emoji, right-to-left and very long texts get one answer each."""
    field = next(iter(it.task.fields))
    bare = {k: it.examples[0][k] for k, f in it.task.fields.items() if f.required}
    odd = EncodedExamples(it.task, [Example({**bare, field: text}) for text in ODD_TEXTS])
    batch = make_batch(it.task, odd, torch.arange(len(ODD_TEXTS)).numpy(), 0, 0)
    assert len(it.answers(batch)) == len(ODD_TEXTS)


def answers_are_json(it: TaskUnderTest) -> None:
    """One JSON object for each example."""
    answers = it.answers(it.batch())
    assert len(answers) == len(it.examples), f"{len(answers)} answers for {len(it.examples)} examples"
    assert all(isinstance(json.loads(json.dumps(a, allow_nan=False)), dict) for a in answers)


def company_changes_nothing(it: TaskUnderTest) -> None:
    """An example gets the same answer alone and padded in a batch."""
    together = it.answers(it.batch())
    for i, answer in enumerate(together):
        assert _close(it.answers(it.batch(i))[0], answer), f"example {i}"


def batch_is_not_changed(it: TaskUnderTest) -> None:
    """Head and metrics leave the batch as it is."""
    batch = it.batch()
    before = copy.deepcopy(batch)
    it.loss(batch)
    it.answers(batch)
    assert set(batch) == set(before) and all(torch.equal(batch[k], before[k]) for k in before)


def loss_reaches_every_weight(it: TaskUnderTest) -> None:
    """The loss is a finite number and every weight of the head gets a gradient."""
    batch = it.batch()
    loss = it.loss(batch)
    assert torch.isfinite(loss) and loss.ndim == 0, f"the loss is {loss}"
    loss.backward()
    idle = [n for n, p in it.module.head.named_parameters() if p.requires_grad and p.grad is None]
    assert not idle, f"no gradient: {', '.join(idle)}"


def loss_is_a_mean_by_count(it: TaskUnderTest) -> None:
    """Parts of a batch, weighted by what the head counts, have the loss of the whole: so several devices share it."""
    it.module.eval()
    halves = [it.batch(*range(start, len(it.examples), 2)) for start in (0, 1)]
    with torch.no_grad():
        whole = float(it.loss(it.batch()))
        terms = [it.module.head.terms(it.module.hidden(half), half) for half in halves]
        scored = [it.module.head.scored(it.module.hidden(half), half)[0] for half in halves]
    for name, found in (("terms", terms), ("scored", scored)):
        parts = list(zip(*found, strict=True))
        mean = sum(sum(float(m) * n for m, n in same) / max(1, sum(n for _, n in same)) for same in parts)
        assert math.isclose(mean, whole, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE), f"{name}: {mean}, not {whole}"


def learns_a_few_examples(it: TaskUnderTest) -> None:
    """Sixty steps on the same examples halve the loss."""
    optimizer = it.module.configure_optimizers()["optimizer"]
    losses = []
    it.module.train()
    for _ in range(60):
        batch = it.batch()
        loss = it.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 2, f"from {losses[0]:.3f} to {losses[-1]:.3f}"


def metrics_are_finite(it: TaskUnderTest) -> None:
    """Metrics are finite numbers, and the one that chooses the best step is among them."""
    batch = it.batch()
    metrics = it.task.build_metrics()
    it.module.eval()
    with torch.no_grad():
        predictions = it.module.head.predict(it.module.hidden(batch), batch)
    metrics.update(*it.task.compare(predictions, batch))
    scores = {k: float(v) for k, v in metrics.compute().items()}
    assert scores and all(math.isfinite(v) for v in scores.values()), str(scores)
    assert it.task.score == "loss" or it.task.score in scores, f"score '{it.task.score}' is none of {sorted(scores)}"


def settings_survive_a_file(it: TaskUnderTest) -> None:
    """The settings are the same after they were written and read as JSON."""
    plain = json.loads(json.dumps({"task": to_plain(it.task.config)}))
    assert from_plain(type(it.task), plain).task == it.task.config


def saved_and_loaded_is_the_same(it: TaskUnderTest) -> None:
    """A bundle gives the same answers as the model that was saved."""
    expected = it.answers(it.batch())
    registry: Any = _OneTask(type(it.task))
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "model"
        bundle.save(target, it.task, it.module.backbone, it.module.head, {}, registry)
        loaded = bundle.load(str(target), registry)
    it.module = TaskModule(loaded.task, loaded.backbone, loaded.head)
    assert all(_close(a, b) for a, b in zip(it.answers(it.batch()), expected, strict=True))


CHECKS: dict[str, Callable[[TaskUnderTest], None]] = {
    check.__name__: check
    for check in (
        encodes_without_label,
        takes_odd_texts,
        answers_are_json,
        company_changes_nothing,
        batch_is_not_changed,
        loss_reaches_every_weight,
        loss_is_a_mean_by_count,
        learns_a_few_examples,
        metrics_are_finite,
        settings_survive_a_file,
        saved_and_loaded_is_the_same,
    )
}
"""Name -> check; the names are what ``skip`` takes."""


class _OneTask(Registry):
    """A registry that knows the task under test and the installed heads."""

    def __init__(self, task_class: type[Task[Any]]) -> None:
        super().__init__()
        self.task_class = task_class

    def task(self, name: str, stage: Any = None) -> type[Task[Any]]:
        return self.task_class

    def owner(self, kind: Any, name: str) -> Plugin:
        return Plugin(name="under-test", distribution="under-test", version="0", value=self.task_class.__module__)


def _close(left: Any, right: Any) -> bool:
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(_close(left[k], right[k]) for k in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(_close, left, right))
    if isinstance(left, float):
        return math.isclose(left, right, abs_tol=_TOLERANCE)
    return bool(left == right)
