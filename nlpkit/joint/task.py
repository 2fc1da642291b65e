"""One task made of several: each reads, encodes and answers as by itself, and all share a backbone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from nlpkit import given, score_notes
from nlpkit.errors import UsageError
from nlpkit.joint.config import JointConfig, config_class
from nlpkit.joint.names import GROUP, OF_ROWS, attribute
from nlpkit.limits import LOSS_TERMS
from nlpkit.task import Batch, Example, Features, Task

if TYPE_CHECKING:
    from torchmetrics import MetricCollection
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from nlpkit.heads import Head


class TaskExample(Example):
    """A row of one of several tasks.

    Args:
        example: as its task has it.
        task: name of it.
    """

    __slots__ = ("task",)

    def __init__(self, example: Example, task: str) -> None:
        super().__init__(example, getattr(example, "where", ""))
        self.task = task


class NewExample(Example):
    """A new text for several tasks.

    Args:
        example: as it was read.
        parts: as each task has checked it.
    """

    __slots__ = ("parts",)

    def __init__(self, example: Example, parts: Mapping[str, Example]) -> None:
        super().__init__(example, example.where)
        self.parts = parts


class JointTask(Task[JointConfig]):
    """Several tasks on one backbone; `joint_task` makes the class of some.

    Features are those of each task by its name: in training of the one that an example is of, for a new text of all.
    """

    classes: ClassVar[Mapping[str, type[Task[Any]]]] = {}
    """The tasks by name."""
    score = "mean_score"

    def __init__(self, config: JointConfig, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(config, tokenizer)
        self.parts: dict[str, Task[Any]] = {name: own(config.of(name), tokenizer) for name, own in self.classes.items()}

    @classmethod
    def named_columns(cls) -> tuple[str, ...]:
        """``text`` of every task that has such a field; of one ``sentiment.text``, and its ``sentiment.group``."""
        fields = {name: list(own.fields) for name, own in cls.classes.items()}
        shared = dict.fromkeys(field for own in fields.values() for field in own)
        of_one = [f"{attribute(name)}.{key}" for name, own in fields.items() for key in dict.fromkeys((*own, GROUP))]
        return (*shared, *of_one)

    @classmethod
    def divided(cls, examples: Iterable[Example]) -> dict[str, list[Example]]:
        """Examples by task, each in its order."""
        found: dict[str, list[Example]] = {name: [] for name in cls.classes}
        for example in examples:
            assert isinstance(example, TaskExample)
            found[example.task].append(example)
        return found

    @classmethod
    def extra_tokens(cls, config: JointConfig) -> Sequence[str]:
        """Those of all tasks."""
        tokens = [given.texts(own, "extra_tokens", config.of(name)) for name, own in cls.classes.items()]
        return list(dict.fromkeys(token for own in tokens for token in own))

    def encode(self, example: Example) -> Features:
        """Features of the task that an example is of; of a new text those of every task."""
        names = [example.task] if isinstance(example, TaskExample) else list(self.parts)
        return {name: self.parts[name].encode(_own(example, name)) for name in names}

    def lengths(self, features: Features) -> int:
        """Tokens of the longest."""
        found = [self.parts[name].lengths(own) for name, own in features.items()]
        return max(max(length) if isinstance(length, tuple) else length for length in found)

    def kind(self, features: Features) -> int:
        """The number of its task, so that batches have of each task its share."""
        return list(self.parts).index(next(iter(features)))

    def collate(self, features: Sequence[Features]) -> Batch:
        """The rows of all tasks in one batch, padded together; see `nlpkit.joint.rows`."""
        from nlpkit.joint.rows import pool

        places = {name: [i for i, each in enumerate(features) if name in each] for name in self.parts}
        places = {name: found for name, found in places.items() if found}
        batches = {}
        for name, found in places.items():
            seed = [{"seed": features[i]["seed"]} if self.parts[name].seeded else {} for i in found]
            own = [{**features[i][name], **s} for i, s in zip(found, seed, strict=True)]
            batches[name] = given.batch(self.parts[name], own)
        return pool(batches, places, self.tokenizer.pad_token_id)

    def build_head(self, backbone: PretrainedConfig) -> Head:
        """The head of each task over the same backbone."""
        return self.head_from({name: given.head(part, backbone) for name, part in self.parts.items()})

    def head_from(self, heads: Mapping[str, Head]) -> Head:
        """The same from given heads of each task."""
        from nlpkit.joint.head import JointHead

        return JointHead(heads, self.config.weights, self.classes)

    def start(self, head: Head, backbone: PretrainedConfig) -> Sequence[str]:
        """What each task does as a run begins."""
        from nlpkit.joint.head import JointHead

        assert isinstance(head, JointHead)
        own = [given.texts(part, "start", head.of(name), backbone) for name, part in self.parts.items()]
        return [folder for folders in own for folder in folders]

    def build_metrics(self) -> MetricCollection:
        """The metrics of each task behind its name, and the mean of the scores that choose."""
        return self.metrics_from({name: given.metrics(part) for name, part in self.parts.items()})

    def metrics_from(self, metrics: Mapping[str, MetricCollection]) -> MetricCollection:
        """The same from given metrics of each task."""
        from torchmetrics import MetricCollection

        from nlpkit.joint.scores import JointScores

        return MetricCollection({"tasks": JointScores(metrics, self.classes)}, compute_groups=False)

    def compare(self, predictions: Any, batch: Batch) -> tuple[Any, ...]:
        """What the metrics of each task are updated with, and the terms of its loss."""
        from nlpkit.joint.rows import batch_of

        found = predictions.items()
        parts = {name: given.compared(self.parts[name], own, batch_of(batch, name)) for name, own in found}
        return parts, predictions.terms

    def decode(self, predictions: Any, batch: Batch) -> list[dict[str, Any]]:
        """The answers of the tasks for each example, by their names."""
        from nlpkit.joint.rows import batch_of, examples_of

        places = {name: examples_of(batch, name) for name in predictions}
        answers: list[dict[str, Any]] = [{} for _ in range(1 + max(max(found) for found in places.values()))]
        for name, own in predictions.items():
            part = self.parts[name]
            found = given.answers(part, part.decode(own, batch_of(batch, name)), len(places[name]))
            for place, answer in zip(places[name], found, strict=True):
                answers[place][name] = answer
        return answers

    def complete(self, answer: dict[str, Any], example: Example) -> dict[str, Any]:
        """Each answer as its task completes it."""
        return {name: given.completed(self.parts[name], own, _own(example, name)) for name, own in answer.items()}

    def page(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
        """Each task draws a page of its own answers alone."""
        able = [name for name, own in self.classes.items() if own.page is not Task.page]
        ways = " or ".join(f"--task {name}" for name in able)
        raise UsageError(f"{', '.join(self.parts)} draw no page together", ways or "leave out --html")

    def about_scores(self) -> dict[str, str]:
        """What the mean is, and what each task says of its own."""
        chosen = [f"-{name}/loss" if p.score == "loss" else f"{name}/{p.score}" for name, p in self.parts.items()]
        about = {"mean_score": f"the mean of {' and '.join(chosen)}, which chooses the best step"}
        own = {name: score_notes.about_scores(part) for name, part in self.parts.items()}
        return about | {f"{name}/{key}": line for name, lines in own.items() for key, line in lines.items()}

    def baselines(self, train: Sequence[Example], test: Sequence[Example]) -> dict[str, dict[str, float]]:
        """Those of each task, its scores behind its name."""
        learnt, held_out = self.divided(train), self.divided(test)
        found: dict[str, dict[str, float]] = {}
        for name, part in self.parts.items():
            for method, scores in score_notes.baselines(part, learnt[name], held_out[name]).items():
                found.setdefault(method, {}).update({f"{name}/{key}": value for key, value in scores.items()})
        return found


def _own(example: Example, name: str) -> Example:
    """An example as one of the tasks has it."""
    return example.parts[name] if isinstance(example, NewExample) else example


def joint_task(classes: Mapping[str, type[Task[Any]]]) -> type[JointTask]:
    """Make one task of several.

    A setting that is none of a task's own, such as ``strategy``, is changed as the tasks want it where all agree.

    Args:
        classes: by name, in their order.

    Raises:
        UsageError: one that cannot share a backbone.
    """
    for name, own in classes.items():
        if any(field.written for field in own.fields.values()) or own.as_predicted is not Task.as_predicted:
            raise UsageError(
                f"'{name}' writes, and only tasks that read share a model with others", f"nlpkit fit --task {name}"
            )
        if own.unfold.__func__ is not Task.unfold.__func__ or own.ready is not Task.ready:  # type: ignore[attr-defined]
            raise UsageError(
                f"'{name}' makes several examples of a row, or its head ready, which it cannot do beside other tasks",
                f"nlpkit fit --task {name}",
            )
    if len(classes) > LOSS_TERMS:
        raise UsageError(f"{len(classes)} tasks, and at most {LOSS_TERMS} share a model", "fit some of them")
    fields = {key: field for own in classes.values() for key, field in own.fields.items() if field.required}
    taken = dict.fromkeys((*fields, *OF_ROWS))
    for name in classes:
        if name in taken:
            what = f"a task that shares a model cannot be called '{name}': a row has {', '.join(taken)} already"
            raise UsageError(what, f"nlpkit fit --task {name}")
    members = {
        "__doc__": f"{', '.join(classes)} on one backbone.",
        "__module__": __name__,
        "name": ",".join(classes),
        "classes": dict(classes),
        "config_class": config_class(classes),
        "fields": fields,
        "seeded": any(own.seeded for own in classes.values()),
        **{kind: _shared(classes, kind) for kind in ("defaults", "defaults_new", "defaults_public")},
    }
    return type("JointTask", (JointTask,), members)


def _shared(classes: Mapping[str, type[Task[Any]]], kind: str) -> dict[str, Any]:
    """Settings that the tasks change: their own in their sections, others where all want the same."""
    found: dict[str, Any] = {}
    wanted = [dict(getattr(own, kind)) for own in classes.values()]
    for name, settings in zip(classes, wanted, strict=True):
        for key, value in settings.items():
            if key.startswith("task."):
                found[f"task.{attribute(name)}.{key.removeprefix('task.')}"] = value
            elif all(key in other and other[key] == value for other in wanted):
                found[key] = value
    return found
