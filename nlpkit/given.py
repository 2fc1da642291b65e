"""What a task gives, looked at before anything is done with it: of a single task, and of each of several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nlpkit.owners import kind, useless
from nlpkit.task import Batch, Example, Features, Task, TaskConfig

if TYPE_CHECKING:
    from torchmetrics import MetricCollection
    from transformers import PretrainedConfig

    from nlpkit.heads import Head


def examples(task_class: type[Task[Any]], method: str, config: TaskConfig, rows: Sequence[Example]) -> list[Example]:
    """What ``select`` or ``unfold`` makes of examples.

    Raises:
        PluginError: no list of them; so it is with all functions here.
    """
    return _listed(task_class, method, getattr(task_class, method)(config, rows), Example, "a list of nlpkit.Example")


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
        what = f"gives {kind(features)}, expected a dict such as {{'input_ids': [...]}}{at}"
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


def _listed(task_class: type[Task[Any]], method: str, found: Any, of: type, expected: str) -> list[Any]:
    """The entries of a list, all of one type."""
    if isinstance(found, str | Mapping) or not isinstance(found, Iterable):
        raise useless(task_class, method, f"gives {kind(found)}, expected {expected}")
    entries = list(found)
    for odd in entries:
        if not isinstance(odd, of):
            raise useless(task_class, method, f"gives {kind(found)} with {kind(odd)}, expected {expected}")
    return entries
