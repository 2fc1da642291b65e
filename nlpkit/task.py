"""The text side of a problem: read, encode, batch, decode. Nothing here imports torch, so plugins list fast."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from nlpkit.errors import DataError, UsageError
from nlpkit.owners import fed_by, useless

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor
    from torchmetrics import MetricCollection
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from nlpkit.bundle import Loaded
    from nlpkit.heads import Head

Features = dict[str, Any]  # a list of numbers is padded, a number is stacked
Batch = dict[str, "Tensor"]
SPARE = "spare"
"""Key of a batch that counts for nothing: what a process gets of a batch with fewer examples than processes."""

TEXT_COLUMNS = ("text", "review text", "review", "sentence", "comment", "content", "body", "message", "document")
LABEL_COLUMNS = ("label", "sentiment", "class", "category", "target", "rating", "stars", "score")


class Example(dict[str, Any]):
    """One row under the task's own field names; ``where`` is ``file:line`` for messages."""

    __slots__ = ("where",)

    def __init__(self, values: Mapping[str, Any], where: str = "") -> None:
        super().__init__(values)
        self.where = where


@dataclass
class TaskConfig:
    """Settings that every task has; a task adds its own by subclassing.

    One with ``at_prediction`` true in its field's ``metadata`` may be given to a finished model, too:
    ``predict --beam 5``.
    """

    labels: list[str] = field(default_factory=list)
    """Label names in the order of the model's outputs; empty: found in the training data, sorted."""
    max_length: int = field(default=0, metadata={"at_least": 0})
    """Longest input in tokens; longer texts are cut and counted. 0: what the model was trained for, at most 256."""
    head: str = ""
    """Name of another head, registered through nlpkit_heads; empty: the task's own."""
    metrics: list[str] = field(default_factory=list)
    """Names of further metrics, registered through nlpkit_metrics."""


@dataclass(frozen=True)
class Field:
    """A column that a task reads.

    Args:
        columns: header names that are recognised, best first; in any case, with blanks or ``_``.
        required: False for what new texts do not have (the label).
        structured: values may be lists and objects, as JSON has them, and `Task.check` sees an empty cell, too: none of
            several labels is an answer. Else each is a text, and a row in which it is empty is not learnt from.
        written: a text that the model learns to write: a tokenizer of its own learns from it, too.
    """

    columns: tuple[str, ...]
    required: bool = True
    structured: bool = False
    written: bool = False


ConfigT = TypeVar("ConfigT", bound=TaskConfig)


class Task(ABC, Generic[ConfigT]):
    """The text side of a problem; holds a config and a tokenizer, no weights.

    Subclasses set ``name`` and write the four abstract methods. Import torch inside methods, so that
    ``nlpkit tasks`` stays fast.

    Args:
        config: an instance of ``config_class``; ``labels`` are filled in by then.
        tokenizer: of the backbone that is used.
    """

    name: ClassVar[str]
    """What ``--task`` takes: words in lower case, joined by hyphens."""
    stage: ClassVar[Literal["pretrain", "finetune"]] = "finetune"
    """Whether it learns from plain text or from labelled examples; an `Objective` is of the first stage."""
    config_class: ClassVar[type[TaskConfig]] = TaskConfig
    """Its settings, ``task.KEY``: a dataclass that goes on from TaskConfig."""
    fields: ClassVar[dict[str, Field]] = {"text": Field(TEXT_COLUMNS), "label": Field(LABEL_COLUMNS, required=False)}
    """The columns that it reads, by the names that its examples have; equal texts of the first are kept on one side."""
    defaults: ClassVar[dict[str, Any]] = {}
    """Settings this task changes for everybody, as dotted keys: ``{"optim.learning_rate": 1e-3}``."""
    defaults_new: ClassVar[dict[str, Any]] = {}
    """Settings it changes further for a new model, without ``--from``; or a new decoder, where it writes."""
    defaults_public: ClassVar[dict[str, Any]] = {}
    """Settings it changes further where ``--from`` is a model that nlpkit has not made, such as a public one."""
    score: ClassVar[str] = "loss"
    """Name of the metric that chooses the best checkpoint (higher is better), or ``loss`` (lower is better)."""
    seeded: ClassVar[bool] = False
    """Whether ``collate`` draws at random: each features dict then has a ``seed`` of (run, epoch, example)."""
    sample: ClassVar[str] = ""
    """Name of a dataset from nlpkit_datasets with files of its own, used when ``fit`` is given no data."""
    readers: ClassVar[dict[str, str]] = {}
    """Readers of labelled files by format (csv, tsv, jsonl, txt), where the task does not take them as tables.

    One that takes ``columns`` serves where columns are named, and for tables of new texts, too.
    """
    sides: ClassVar[str] = ""
    """Name of a reader with ``sides``, for which ``fit`` has options: ``--source FILE`` and ``--dev-source FILE``."""
    slow_tokenizers: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Classes of tokenizers without a fast form that it encodes with all the same, and the files that each is made of.

    Such a one has no ``backend_tokenizer``; the task encodes by calling it.
    """
    padding: ClassVar[dict[str, int]] = {"attention_mask": 0, "token_type_ids": 0, "labels": -100, "documents": 0}
    """Padding value of every list in the features; ``input_ids`` is padded with the tokenizer's own.

    Tokens with equal ``documents`` side by side are read as if they stood alone in their row.
    """

    def __init__(self, config: ConfigT, tokenizer: PreTrainedTokenizerBase) -> None:
        self.config = config
        self.tokenizer = tokenizer

    @classmethod
    def check(cls, example: Example) -> Example:
        """The example as the task wants it, from what was read; for tasks whose fields have a form of their own.

        Cells of a file are texts. An empty one is no label: where labels are needed its row is left out, and elsewhere
        the example comes without it. A structured field may well be empty.

        Raises:
            DataError: it cannot be used; the message begins with ``example.where``.
        """
        return example

    @classmethod
    def named_columns(cls) -> tuple[str, ...]:
        """What ``data.NAME=COLUMN`` may name: here the fields."""
        return tuple(cls.fields)

    @classmethod
    def labels_of(cls, example: Example) -> Sequence[str]:
        """The labels in an example: every one must be known to a model, and each is on both sides of a split."""
        label = example.get("label") if "label" in cls.fields else None
        return [] if label is None else [label]

    @abstractmethod
    def encode(self, example: Example) -> Features:
        """Turn one example into the model's input; must also work where the label is missing."""

    @fed_by("encode")
    def lengths(self, features: Features) -> int | tuple[int, ...]:
        """Tokens of an example, by which batches are put together; of a pair one for each list padded by itself."""
        return len(features["input_ids"])

    def kind(self, features: Features) -> int:
        """A number for the kind of an example, where there are several: batches and processes have of each a share."""
        return 0

    @abstractmethod
    def build_head(self, backbone: PretrainedConfig) -> Head:
        """Make the head for a backbone of this configuration; its width is ``backbone.hidden_size``."""

    def start(self, head: Head, backbone: PretrainedConfig) -> Sequence[str]:
        """Called once as a new run begins, when the weights of ``--from`` are there: a head may get others' as well.

        Returns:
            Folders of the models that they are of; the run remembers what these were made of.
        """
        return ()

    def ready(self, model: Loaded, folder: Path, dev: Callable[[], Sequence[Example]]) -> None:
        """Called when a finished model was saved or loaded; here its head may get an engine of another kind.

        Args:
            model: this task, with backbone and head, on the CPU.
            folder: of the model.
            dev: gives the examples that chose its best step, to try an engine on; of a model that was loaded they are
                read again from the files of its run, and an `NlpkitError` says why they cannot be had.
        """
        return None

    @abstractmethod
    def build_metrics(self) -> MetricCollection:
        """Make the scores, all at zero."""

    @abstractmethod
    def decode(self, predictions: Any, batch: Batch) -> list[dict[str, Any]]:
        """Turn what the head predicts into JSON values, one for each example of the batch."""

    @classmethod
    @fed_by("labels_of")
    def prepare(cls, config: ConfigT, examples: Sequence[Example]) -> ConfigT:
        """Complete the config from the training examples: here the label names that `labels_of` finds, sorted.

        Those that are numbers come by value.

        Raises:
            DataError: fewer than two labels in the data.
            UsageError: fewer than two in ``config.labels``, or one of them twice.
        """
        if "label" not in cls.fields and getattr(cls.labels_of, "__func__", None) is Task.labels_of.__func__:  # type: ignore[attr-defined]
            return config
        if config.labels:
            _check_named(config.labels)
            return config
        labels = sorted({label for e in examples for label in cls.labels_of(e)}, key=_label_order)
        if len(labels) < 2:
            found = f"only the label '{labels[0]}'" if labels else "no label"
            raise DataError(
                f"{files_of(examples)}: {found} in the training data; {cls.name} needs two or more",
                "add rows with another label, or name another column with data.label=COLUMN",
            )
        return replace(config, labels=labels)

    @classmethod
    def select(cls, config: ConfigT, examples: Sequence[Example]) -> Sequence[Example]:
        """The examples to learn from, of those that are there for it; what is scored is never passed through here."""
        return examples

    @classmethod
    def unfold(cls, config: ConfigT, examples: Sequence[Example]) -> Sequence[Example]:
        """The examples that rows stand for, where one may stand for several; of both parts, after they were divided."""
        return examples

    @classmethod
    def extra_tokens(cls, config: ConfigT) -> Sequence[str]:
        """Tokens that a tokenizer of its own gets, and that no text can spell; ``config`` is complete."""
        return ()

    @fed_by("encode")
    def collate(self, features: Sequence[Features]) -> Batch:
        """Pad lists to the longest of the batch (B, L) and stack numbers (B,).

        Raises:
            PluginError: a list whose padding value is declared nowhere.
        """
        import torch

        batch: Batch = {}
        for key, first in features[0].items():
            values = [f[key] for f in features]
            if not isinstance(first, list):
                batch[key] = torch.tensor(values)
                continue
            fill = self.tokenizer.pad_token_id if key == "input_ids" else self.padding.get(key)
            if fill is None:
                what = f"gives a list '{key}' that padding has no value for"
                raise useless(type(self), "encode", f"{what}: write padding = {{**Task.padding, '{key}': 0}}")
            length = max(map(len, values))
            batch[key] = torch.tensor([v + [fill] * (length - len(v)) for v in values])  # (B, L)
        return batch

    def complete(self, answer: dict[str, Any], example: Example) -> dict[str, Any]:
        """What `decode` gives of one example, completed by what its fields say."""
        return answer

    def page(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
        """Parts of an HTML page, whole in itself, that shows answers; ``predict --html`` writes it.

        Args:
            rows: each answer, behind the fields that it was made from.

        Raises:
            UsageError: the task draws none.
        """
        raise UsageError(f"{self.name} draws no page of its answers", "leave out --html")

    def as_predicted(self, batch: Batch) -> Iterator[tuple[Batch, Batch]]:
        """Parts of a batch that is scored, each beside the batch that its predictions are made from: here itself.

        For tasks that read new texts otherwise than those with an answer; the loss is always that of the part.
        """
        yield batch, batch

    @fed_by("collate", "encode")
    def compare(self, predictions: Any, batch: Batch) -> tuple[Any, ...]:
        """What the metrics are updated with: here the predictions and ``batch["labels"]``."""
        return predictions, batch["labels"]

    def about_scores(self) -> dict[str, str]:
        """What scores are exactly, where their name does not say it: name -> a line, printed below the scores."""
        return {}

    def baselines(self, train: Sequence[Example], test: Sequence[Example]) -> dict[str, dict[str, float]]:
        """Scores of simple methods on the same data, printed beside the result: name -> metric -> value."""
        return {}


def files_of(examples: Sequence[Example]) -> str:
    """The files that examples come from, for messages about all of them."""
    names = list(dict.fromkeys(example.where.rpartition(":")[0] for example in examples))
    more = [f"{len(names) - 3} more"] if len(names) > 3 else []
    return ", ".join(names[:3] + more) or "the data"


def _check_named(labels: Sequence[str]) -> None:
    if twice := [name for i, name in enumerate(labels) if name in labels[:i]]:
        raise UsageError(f"task.labels has '{twice[0]}' twice, expected each label once", "leave one of them out")
    if len(labels) < 2:
        raise UsageError(f"task.labels has only '{labels[0]}', expected two or more", "name every label, or none")


def _label_order(label: str) -> tuple[int, float, str]:
    try:
        return 0, float(label), label
    except ValueError:
        return 1, 0.0, label


@dataclass(frozen=True)
class Dataset:
    """A reader with a name, and optionally with files of its own.

    Args:
        read: path -> examples; None reads the files as any table (csv, tsv, jsonl, txt). What the user set of
            ``data`` reaches it where it has such arguments: ``columns``, ``encoding``, ``errors``.
        files: split name (``train``, ``dev``, ``test``) -> path.
        about: one line that is printed when the files are used.
        endings: of names, such as ``.conll``: files that are read by this reader without being told to.
        sides: fields that stand in a file each, line by line. ``read`` then gets a path for each, in this order; of
            fields that new texts lack, which come last, only where they must be there.
        settings: of a new model that is fitted on ``files`` because no data was given, where its user says nothing; as
            dotted keys. For a sample that would else take long, or teach nothing.
    """

    read: Any = None
    files: Mapping[str, str] = field(default_factory=dict)
    about: str = ""
    endings: tuple[str, ...] = ()
    sides: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
