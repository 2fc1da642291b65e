"""Writes docs/reference/hooks.md from the code: python tests/support/hooks_page.py"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import sys
import textwrap
from pathlib import Path
from typing import Any

from docstrings import cell, code, prose, signature

from nlpkit import hookspecs
from nlpkit.config.describe import documentation
from nlpkit.heads import Head
from nlpkit.plugins import Registry
from nlpkit.readers import open_text, split_lines
from nlpkit.task import Dataset, Field, Task, TaskConfig

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "hooks.md"
HOOKS = {
    "nlpkit_tasks": "a command looks up a task or an objective, or a model is loaded.",
    "nlpkit_datasets": "`fit` is given no data, a file is no table by its ending, or `data.reader` names a reader.",
    "nlpkit_heads": "`task.head` names a head: in `fit`, and whenever that model is loaded again.",
    "nlpkit_metrics": "`task.metrics` names metrics: in `fit` and in `evaluate`.",
}
TASK = {
    "check": "a row was read, in `fit`, `evaluate` and `predict`; before anything else sees it.",
    "named_columns": "settings are read, for those that name columns.",
    "labels_of": "rows are divided into train and dev parts, and the labels of each are counted.",
    "select": "`fit` has divided the rows, for those to learn from.",
    "prepare": "the rows to learn from are there; the settings become complete.",
    "extra_tokens": "a new model gets a tokenizer of its own.",
    "unfold": "both parts are there, and a row may become several examples.",
    "encode": "training, scoring or predicting begins, for each example.",
    "lengths": "an example was encoded.",
    "kind": "an example was encoded.",
    "build_head": "the backbone's configuration is known: in `fit`, and whenever a model is loaded.",
    "start": "a new run begins.",
    "build_metrics": "training or scoring begins, and in `predict` as the model is put together.",
    "baselines": "training is about to begin, or to go on.",
    "collate": "a batch is made.",
    "as_predicted": "a batch is scored, in validation and `evaluate`.",
    "compare": "a batch that is scored has its predictions.",
    "decode": "a batch of new texts has its predictions, in `predict`.",
    "complete": "`decode` is done, for each answer.",
    "page": "`predict --html` writes its page.",
    "about_scores": "training is about to begin, or to go on, and in `evaluate`.",
    "ready": "a model was finished, or loaded.",
}
HEAD = {
    "tie": "a model is put together, saved or loaded.",
    "takes_pooler": "a body is loaded.",
    "adopt_pooler": "several heads share a body, and it is put together.",
    "places": "a batch is about to go through the backbone.",
    "forward": "a batch has its hidden states.",
    "loss": "`loss_from` needs it, in training and scoring.",
    "loss_from": "a training step is made, on one device.",
    "terms": "a training step is made in several processes, or a batch is scored.",
    "count": "a loss is added to others: how much its batch weighs.",
    "by_rows": "a pre-training step on a CPU might be computed in pieces.",
    "predict": "predictions are needed: validation, `evaluate`, `predict`.",
    "in_groups": "predictions are needed, around `predict`.",
    "scored": "a batch is scored, for loss and predictions in one.",
}
SOME = {
    "Task.fields": "it reads other columns than a text and its label",
    "Task.score": "a metric is to choose the best step",
    "Task.sample": "`fit` is to run without data",
    "Task.defaults": "its settings are others than nlpkit's own",
    "Task.config_class": "it has settings of its own",
    "Task.padding": "`encode` gives lists of its own",
    "Task.check": "a cell may be no number, or a list has a form of its own",
    "Task.labels_of": "its labels stand in another field than `label`, or several in one",
    "Task.prepare": "its settings depend on the data: its labels, the mean of its numbers",
    "Task.lengths": "`encode` gives two lists of tokens, as where it writes",
    "Task.compare": "metrics are given something else",
    "Task.complete": "an answer needs the text that it was made from",
    "Task.baselines": "a simple method could be as good",
    "Head.loss": "it is not the cross entropy of one class of many: numbers, several labels",
    "Head.predict": "it gives anything else than shares of classes that add up to 1: several labels, numbers, places",
    "Head.count": "the loss is a mean of something else",
}
"""Attributes and methods that some tasks have of their own -> where."""
HARDLY_ANY = {
    "Task": (
        *("stage", "defaults_new", "defaults_public", "seeded", "readers", "sides", "slow_tokenizers", "named_columns"),
        *("select", "unfold", "extra_tokens", "kind", "start", "collate", "as_predicted", "page"),
        *("about_scores", "ready"),
    ),
    "Head": (
        *("searches", "engine", "tie", "takes_pooler", "adopt_pooler", "places", "loss_from", "terms", "by_rows"),
        *("in_groups", "scored"),
    ),
}
"""Class -> what hardly any task has of its own."""
_LONG = "see there"
_EXAMPLES = {
    "emotion": "nlpkit_emotion:Emotion",
    "paraphrase": "nlpkit_paraphrase:Paraphrase",
    "question-answering": "nlpkit_question_answering:QuestionAnswering",
}
_INTRODUCTION = f"""# Hooks, and the methods of a task

All that nlpkit calls in a plugin, in the order of a run; `tests/support/hooks_page.py` makes this page from the code,
and a test compares the two. [Write a task](../write-a-task.md) is the way in, and [the promise of
stability](../explanation/stability.md) says what may change and when. This is API version {hookspecs.API_VERSION}.

A plugin is a module that a distribution names in its entry points, `[project.entry-points.nlpkit]`, or a file that
`--plugin FILE.py` names; `--plugin FOLDER` names a package, whose modules import each other as `.NAME` or by the
folder's name. It has any of four hooks, each a function without parameters under `@nlpkit.hookimpl`. All plugins are
asked; where two register one name, both are named and neither is taken. `nlpkit plugins doctor` says what is wrong.
"""
_FIRST = """
## What to read first

Every task writes {always}; a head that is no `nlpkit.TransformersHead` writes {head}.

Some write these besides:

| | where | by default |
|---|---|---|
{some}
Hardly any needs {seldom}.
"""
_TASK = """
## Task

`class Task(ABC, Generic[ConfigT])`: the text side of a problem: read, encode, batch, decode. It holds settings and a
tokenizer, no weights. Four methods are to be written; the others do for most tasks as they are. Class methods are
called where there is no tokenizer yet.
"""
_HEAD = """
## Head

`class Head(nn.Module, ABC)`: the tensor side of a task: hidden states to logits, loss and predictions. B batch, L
length, D width, C classes. One method is to be written. `nlpkit.TransformersHead(auto_class, backbone, **settings)`
is a head that is ready: that of any `AutoModelFor...` class, in which the saved model then opens.
"""
_VALUES = """
## What methods take and give

`Example` is a dict of one row under the task's field names; its `where` is `file:line`, for messages. `Features` is
the dict that `encode` makes of it: a list of numbers is padded, a number is stacked. `Batch` is a dict of tensors.
"""
_READERS = """
## What readers open files with

A reader of a plugin is a function from a path to rows. These two of `nlpkit.readers` read files for it, so that what
cannot be read is said with file and line, as by nlpkit's own readers:

```py
def read(path, encoding="", errors="strict"):
    with open_text(path, encoding or None, errors) as text:
        for number, line in enumerate(split_lines(text), 1):
            label, _, words = line.strip().partition("|")
            yield nlpkit.Example({"text": words, "label": label}, f"{path}:{number}")
```
"""


def page() -> str:
    """The page as Markdown."""
    parts = [_INTRODUCTION, _first(), "\n## The four hooks\n", *(_hook(name, when) for name, when in HOOKS.items())]
    for cls, introduction, moments in ((Task, _TASK, TASK), (Head, _HEAD, HEAD)):
        parts += [introduction, _attributes(cls), *(_method(cls, name, when) for name, when in moments.items())]
    parts += [_VALUES, *(_values(cls) for cls in (TaskConfig, Field, Dataset))]
    return "".join([*parts, _READERS, *(_reader(function) for function in (open_text, split_lines))])


def named() -> dict[str, list[str]]:
    """All attributes and methods of a task and its head, by class."""
    return {cls.__name__: [*inspect.get_annotations(cls), *offered(cls)] for cls in (Task, Head)}


def to_write() -> list[str]:
    """Those that have no default."""
    return [
        f"{cls.__name__}.{name}"
        for cls in (Task, Head)
        for name in named()[cls.__name__]
        if name not in vars(cls) or name in cls.__abstractmethods__
    ]


def _first() -> str:
    some = (f"| {_linked(path)} | {where} | {cell(_default_of(path))} |\n" for path, where in SOME.items())
    seldom = [f"{cls}.{name}" for cls, names in HARDLY_ANY.items() for name in names]
    (*always, head) = to_write()
    return _FIRST.format(always=_listed(always), head=_linked(head), some="".join(some), seldom=_listed(seldom))


def _listed(paths: list[str]) -> str:
    *first, last = map(_linked, paths)
    return f"{', '.join(first)} and {last}"


def _linked(path: str) -> str:
    """The name, with a link to where it is described: the heading of a method, the table of attributes."""
    cls, _, name = path.partition(".")
    place = path.replace(".", "") if name in (*TASK, *HEAD) else cls
    return f"[`{path}`](#{place.lower()})"


def _default_of(path: str) -> str:
    """What stands in the class, of a method what it returns where that is all that it does."""
    cls, _, name = path.partition(".")
    found = inspect.getattr_static({"Task": Task, "Head": Head}[cls], name)
    function = _function(found)
    if not inspect.isfunction(function):
        return f"`{_plain(found)}`"
    body = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(body, ast.FunctionDef)
    (_, *steps) = body.body
    if len(steps) == 1 and isinstance(steps[0], ast.Return) and steps[0].value:
        return f"`{ast.unparse(steps[0].value)}`"
    return _LONG


def offered(cls: type) -> list[str]:
    """Methods and properties of a class that may be overridden, by name."""
    found = {n: v for n, v in vars(cls).items() if not n.startswith("_")}
    return [n for n, v in found.items() if inspect.isfunction(v) or isinstance(v, classmethod | property)]


def _hook(name: str, when: str) -> str:
    hook = getattr(hookspecs, name)
    about, _, example = (inspect.getdoc(hook) or "").partition("Example::\n")
    run = f"```python\nimport nlpkit\n\n\n{textwrap.dedent(example).strip()}\n```\n"
    return f"\n### {name}\n\n{code(f'def {signature(hook)}')}\n{prose(about)}\n\n**When** {when}\n\n{run}"


def _attributes(cls: type) -> str:
    about, lines = documentation(cls), ["\n| attribute | default | meaning |\n|---|---|---|\n"]
    for name, kind in inspect.get_annotations(cls).items():
        kind = kind.removeprefix("ClassVar[").removesuffix("]") if kind.startswith("ClassVar") else kind
        default = f"`{_plain(vars(cls)[name])}`" if name in vars(cls) else "*to write*"
        lines.append(f"| {cell(f'`{name}: {kind}`')} | {cell(default)} | {cell(about.get(name, ''))} |\n")
    return "".join(lines)


def _plain(value: Any) -> str:
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, dict) and any(isinstance(field, Field) for field in value.values()):
        shown = (f'"{n}": Field(...{"" if field.required else ", required=False"})' for n, field in value.items())
        return "{" + ", ".join(shown) + "}"
    return repr(value).replace("'", '"')


def _method(cls: type, name: str, when: str) -> str:
    found = inspect.getattr_static(cls, name)
    function = _function(found)
    mark = f"@{type(found).__name__}\n" if isinstance(found, classmethod | property) else ""
    must = " *To write.*" if getattr(found, "__isabstractmethod__", False) else ""
    by = ", ".join(who for who, other in _writers() if issubclass(other, cls) and name in vars(other))
    written = f" Written by {by}." if by else ""
    about = prose(inspect.getdoc(function) or "")
    default = _default_of(f"{cls.__name__}.{name}")
    given = f" **Default** {default}." if default != _LONG else ""
    shown = code(f"{mark}def {signature(function)}")
    return f"\n### {cls.__name__}.{name}\n\n{shown}\n{about}\n\n**When** {when}{given}{must}{written}\n"


def _function(found: Any) -> Any:
    """The function of a method or a property."""
    return found.fget if isinstance(found, property) else getattr(found, "__func__", found)


def _writers() -> list[tuple[str, type]]:
    """Classes whose methods may serve as examples, each with what the page calls it."""
    found = []
    for name, path in _EXAMPLES.items():
        if (place := str(ROOT / "docs" / "examples" / name)) not in sys.path:
            sys.path.append(place)
        module, _, attribute = path.partition(":")
        found.append((f"[{name}](../examples/{name}/README.md)", getattr(importlib.import_module(module), attribute)))
    ours = ("sentiment", "ner", "translation")
    tasks = Registry(enabled=[f"nlpkit-{name}" for name in ours]).tasks("finetune")
    return [*found, *((name, tasks[name]) for name in ours)]


def _values(cls: type) -> str:
    lines = [f"class {cls.__name__}:"]
    for field in dataclasses.fields(cls):
        missing, made = dataclasses.MISSING, field.default_factory
        value = made() if made is not dataclasses.MISSING else field.default
        lines.append(f"    {field.name}: {field.type}" + ("" if value is missing else f" = {_plain(value)}"))
    fields = "".join(f"* `{name}`: {cell(text)}\n" for name, text in documentation(cls).items())
    shown = code("\n".join(lines))
    return f"\n### {cls.__name__}\n\n{shown}\n{prose(inspect.getdoc(cls) or '')}\n" + (f"\n{fields}" if fields else "")


def _reader(function: Any) -> str:
    shown = code(f"def {signature(function)}")
    return f"\n### {function.__name__}\n\n{shown}\n{prose(inspect.getdoc(function) or '')}\n"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
