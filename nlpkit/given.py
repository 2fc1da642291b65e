"""What a task gives, looked at before anything is done with it: of a single task, and of each of several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nlpkit.errors import DataError
from nlpkit.limits import LOSS_TERMS
from nlpkit.owners import kind, useless
from nlpkit.task import Batch, Example, Features, Task, TaskConfig, files_of

if TYPE_CHECKING:
    from torch import Tensor
    from torchmetrics import MetricCollection
    from transformers import PretrainedConfig

    from nlpkit.heads import Head

Terms = list[tuple["Tensor", int]]


def examples(task_class: type[Task[Any]], method: str, config: TaskConfig, rows: Sequence[Example]) -> list[Example]:
    """What ``select`` or ``unfold`` makes of examples.

    Raises:
        PluginError: no list of them; so it is with all functions here.
        DataError: none is left.
    """
    found = _listed(task_class, method, getattr(task_class, method)(config, rows), Example, "a list of nlpkit.Example")
    if rows and not found:
        raise DataError(
            f"{files_of(rows)}: {task_class.__name__}.{method} leaves none of {len(rows):,} examples",
            f"look at the data, and at the settings of {task_class.name}",
        )
    return found


def settings(task_class: type[Task[Any]], config: TaskConfig, rows: Sequence[Example]) -> TaskConfig:
    """The settings that ``prepare`` completes."""
    found = task_class.prepare(config, rows)
    if not isinstance(found, task_class.config_class):
        expected = f"expected the settings, a {task_class.config_class.__qualname__}"
        raise useless(task_class, "prepare", f"gives {kind(found)}, {expected}")
    return found


def texts(owner: type[Task[Any]] | Task[Any], method: str, *arguments: Any) -> list[str]:
    """The texts of a method that gives a list of some."""
    task_class = owner if isinstance(owner, type) else type(owner)
    return _listed(task_class, method, getattr(owner, method)(*arguments), str, "a list of texts")


def mapping(task: Task[Any], method: str, *arguments: Any) -> Mapping[str, Any]:
    """The values by name of a method that gives such."""
    found = getattr(task, method)(*arguments)
    if not isinstance(found, Mapping):
        raise useless(type(task), method, f"gives {kind(found)}, expected a dict")
    return found


def check_features(task: Task[Any], features: Any, where: str) -> None:
    """Look at what ``encode`` makes of the first example; the others will be alike."""
    at = f"; at {where}" if where else ""
    if not isinstance(features, dict):
        wanted = "dict(...) of it" if isinstance(features, Mapping) else "a dict such as {'input_ids': [...]}"
        what = f"gives {kind(features)}, expected {wanted}{at}"
        raise useless(type(task), "encode", what)
    if type(task).lengths is Task.lengths and not isinstance(features.get("input_ids"), list):
        found = kind(features["input_ids"]) if "input_ids" in features else f"only {', '.join(features) or 'nothing'}"
        what = f"gives {found} where 'input_ids' was expected, a list of token numbers{at}"
        raise useless(type(task), "encode", what)
    for key, value in features.items() if type(task).collate is Task.collate else ():
        odd = [one for one in (value if isinstance(value, list) else [value]) if one is None or isinstance(one, str)]
        if odd:
            what = f"gives '{key}' with {odd[0]!r}, expected a number or a list of numbers{at}"
            raise useless(type(task), "encode", what)


def batch(task: Task[Any], features: Sequence[Features]) -> Batch:
    """The tensors that ``collate`` makes of some examples."""
    import torch

    found = task.collate(features)
    if not isinstance(found, dict):
        raise useless(type(task), "collate", f"gives {kind(found)}, expected a dict of tensors")
    for key, value in found.items():
        if not isinstance(value, torch.Tensor):
            raise useless(type(task), "collate", f"gives {kind(value)} as '{key}', expected a tensor")
    return found


def head(task: Task[Any], backbone: PretrainedConfig) -> Head:
    """The head that ``build_head`` makes."""
    from nlpkit.heads import Head

    found = task.build_head(backbone)
    if not isinstance(found, Head):
        raise useless(type(task), "build_head", f"gives {kind(found)}, expected an nlpkit.Head")
    return found


def metrics(task: Task[Any]) -> MetricCollection:
    """The metrics that ``build_metrics`` makes, at zero."""
    from torchmetrics import MetricCollection

    found = task.build_metrics()
    if not isinstance(found, MetricCollection):
        raise useless(type(task), "build_metrics", f"gives {kind(found)}, expected a torchmetrics MetricCollection")
    return found


def loss(head: Head, hidden: Tensor, batch: Batch) -> Tensor:
    """The loss of a batch."""
    return _number(head, head.loss_from(hidden, batch), "loss_from", "loss")


def terms(head: Head, hidden: Tensor, batch: Batch) -> Terms:
    """The terms of the loss."""
    return _terms(head, head.terms(hidden, batch), "terms", "loss_from", "loss")


def scored(head: Head, hidden: Tensor, batch: Batch) -> tuple[Terms, Any]:
    """The terms of the loss, and predictions."""
    found = head.scored(hidden, batch)
    if not isinstance(found, tuple) or len(found) != 2:
        raise useless(type(head), "scored", f"gives {kind(found)}, expected a tuple (terms, predictions)")
    return _terms(head, found[0], "scored", "terms", "loss_from", "loss"), found[1]


def as_predicted(task: Task[Any], batch: Batch) -> Iterator[tuple[Batch, Batch]]:
    """The parts of a batch that is scored."""
    found: Any = task.as_predicted(batch)
    if not isinstance(found, Iterable):
        raise useless(type(task), "as_predicted", f"gives {kind(found)}, expected pairs of batches")
    for pair in found:
        if not isinstance(pair, Sequence) or len(pair) != 2:
            raise useless(type(task), "as_predicted", f"gives {kind(pair)}, expected pairs of batches")
        yield pair[0], pair[1]


def numbers(task_class: type[Task[Any]], scores: Mapping[str, Any]) -> dict[str, Tensor]:
    """What the metrics come to."""
    import torch

    found = {name: torch.as_tensor(value) for name, value in scores.items()}
    for name, value in found.items():
        if value.numel() != 1:
            what = f"gives the score '{name}' of {value.numel()} values, expected one number: average it"
            raise useless(task_class, "build_metrics", f"{what}, or wrap the metric in torchmetrics' ClasswiseWrapper")
    return {name: value.reshape(()) for name, value in found.items()}


def compared(task: Task[Any], predictions: Any, batch: Batch) -> tuple[Any, ...]:
    """What ``compare`` gives the metrics."""
    found = task.compare(predictions, batch)
    if not isinstance(found, tuple):
        what = f"gives {kind(found)}, expected a tuple such as (predictions, batch['labels'])"
        raise useless(type(task), "compare", what)
    return found


def answers(task: Task[Any], found: Any, expected: int) -> list[dict[str, Any]]:
    """What ``decode`` has given for so many examples."""
    found = _listed(type(task), "decode", found, dict, "a list of dicts")
    if len(found) != expected:
        raise useless(type(task), "decode", f"gives {len(found)} answers for {expected} examples")
    return found


def completed(task: Task[Any], answer: dict[str, Any], example: Example) -> dict[str, Any]:
    """What ``complete`` makes of an answer."""
    found = task.complete(answer, example)
    if not isinstance(found, dict):
        raise useless(type(task), "complete", f"gives {kind(found)}, expected a dict")
    return found


def used(task_class: type[Task[Any]], function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function gives that works on what one of several tasks gave: errors are told by this call whose it is."""
    return function(*arguments)


def _terms(head: Head, found: Any, *methods: str) -> Terms:
    for odd in [found] if not isinstance(found, Sequence) else found:
        if not isinstance(odd, Sequence) or len(odd) != 2:
            what = kind(found) if odd is found else f"{kind(found)} with {kind(odd)}"
            raise useless(type(head), _written(head, methods), f"gives {what}, expected a list of (mean, count)")
    if len(found) > LOSS_TERMS:
        what = f"gives {len(found)} terms, expected {LOSS_TERMS} at most: add some up"
        raise useless(type(head), _written(head, methods), what)
    return [(_number(head, mean, *methods), count) for mean, count in found]


def _number(head: Head, found: Any, *methods: str) -> Tensor:
    import torch

    if not isinstance(found, torch.Tensor) or found.numel() != 1:
        what = f"a tensor of {found.numel()} values" if isinstance(found, torch.Tensor) else kind(found)
        raise useless(type(head), _written(head, methods), f"gives {what}, expected one number, as a tensor")
    return found.reshape(())


def _written(head: Head, methods: Sequence[str]) -> str:
    """The first of some methods that is not as in `Head`; where all are, the last."""
    from nlpkit.heads import Head

    return next((one for one in methods if getattr(type(head), one) is not getattr(Head, one)), methods[-1])


def _listed(task_class: type[Task[Any]], method: str, found: Any, of: type, expected: str) -> list[Any]:
    """The entries of a list, all of one type."""
    if isinstance(found, str | Mapping) or not isinstance(found, Iterable):
        raise useless(task_class, method, f"gives {kind(found)}, expected {expected}")
    entries = list(found)
    for odd in entries:
        if not isinstance(odd, of):
            raise useless(task_class, method, f"gives {kind(found)} with {kind(odd)}, expected {expected}")
    return entries
