"""What ``nlpkit config docs`` and ``nlpkit config show`` say about settings."""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nlpkit.config.compose import Composed, compose
from nlpkit.config.plain import flat, one_line, to_plain, to_yaml
from nlpkit.config.tree import tree_of
from nlpkit.task import Task


@dataclass(frozen=True)
class Description:
    """One setting for a table.

    Args:
        key: the dotted key.
        type: in the spelling of Python.
        default: a plain value; the task's own default where it has one.
        allowed: choices or limits in words; empty: any value of the type.
        doc: the string under the field, on one line.
    """

    key: str
    type: str
    default: Any
    allowed: str
    doc: str


def describe(task_class: type[Task[Any]]) -> list[Description]:
    """Describe every setting of a run of this task, in the order of the schema.

    Raises:
        PluginError: the task's own settings or defaults are wrong.
    """
    tree = tree_of(task_class)
    plain = to_plain(compose(task_class).config)
    rows = []
    for setting in tree.settings.values():
        value: Any = plain
        for name in setting.path:
            value = value[name]
        doc = documentation(setting.owner).get(setting.path[-1], "")
        rows.append(Description(setting.key, setting.kind.type, value, setting.kind.allowed, doc))
    return rows


@functools.cache
def documentation(cls: type) -> dict[str, str]:
    """The strings under the fields of a dataclass and of the classes it inherits from.

    Returns:
        field name -> text on one line; empty where the source is not at hand.
    """
    documents: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        documents.update(_strings_under_fields(base))
    return documents


def _strings_under_fields(cls: type) -> Iterator[tuple[str, str]]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, TypeError, SyntaxError):
        return
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    for statement, following in itertools.pairwise(body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            text = following.value if isinstance(following, ast.Expr) else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                yield statement.target.id, " ".join(text.value.split())


def show(composed: Composed, *, origin: bool = False) -> str:
    """Write a run's settings as YAML that ``--config`` takes.

    Args:
        composed: from ``compose``.
        origin: a line for each setting, with its dotted key, and where it comes from as a comment.
    """
    plain = to_plain(composed.config)
    if not origin:
        return to_yaml(plain)
    lines = [(f"{one_line(key)}: {one_line(value)}", composed.origins[key]) for key, value in flat(plain)]
    width = min(max(len(line) for line, _ in lines), 60)
    return "".join(f"{line:<{width}}  # {source}\n" for line, source in lines)
