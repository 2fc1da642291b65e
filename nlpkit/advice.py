"""What to type where data does not suit a task: the readers, tasks and labels that may have been meant."""

from __future__ import annotations

import contextlib
import difflib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from nlpkit import readers
from nlpkit.errors import DataError
from nlpkit.plugins import Registry
from nlpkit.readers.columns import listed
from nlpkit.task import Task

_ALIKE = 0.65  # of difflib's ratio: two letters of three that are swapped
_RARE = 10  # times rarer than what it is like: a typo


def readers_for(task_class: type[Task[Any]], registry: Registry) -> list[str]:
    """Names of the readers that plugins bring, those of the task's own plugin first."""
    named = sorted(name for name, dataset in registry.datasets().items() if dataset.read and not dataset.files)
    if registry.tasks().get(task_class.name) is not task_class:
        return named
    owner = registry.owner("task", task_class.name)
    return sorted(named, key=lambda name: registry.owner("dataset", name) != owner)


def other_fields(
    path: str, missing: str, found: Collection[str], task_class: type[Task[Any]], registry: Registry
) -> str:
    """A hint where the reader of a file does not give a field.

    Args:
        path: of the file.
        missing: the field.
        found: fields that there are.
        task_class: needs it.
        registry: has other tasks and readers.
    """
    parts = []
    if path != readers.STDIN and readers.format_of(path) in ("csv", "tsv", "jsonl"):
        columns: list[str] = []
        with contextlib.suppress(DataError):  # such as one long array: its reader knows it, we do not
            columns = readers.inspect(path).columns
        parts.append(f"name its column with data.{missing}=COLUMN" + (f" ({listed(columns)})" if columns else ""))
    tasks = registry.tasks("finetune").items()
    parts += [f"such files are for nlpkit fit --task {name}" for name, task in tasks if set(task.fields) <= set(found)]
    parts.append(f"another reader is named with data.reader=NAME ({', '.join(readers_for(task_class, registry))})")
    return "; ".join(parts)


def typo(label: str, known: Iterable[str] | Mapping[str, int]) -> str:
    """Ask whether another label was meant.

    Args:
        label: as the file has it.
        known: labels; with their counts, where it must be much rarer than the other to be a typo.

    Returns:
        ``"is it a typo of 'bad'? "`` or an empty string, to be put before the rest of a hint.
    """
    counts = known if isinstance(known, Mapping) else Counter[str]()
    usual = [name for name in known if name != label and counts.get(name, 0) >= _RARE * counts.get(label, 0)]
    folded = {name.casefold(): name for name in reversed(usual)}
    found = difflib.get_close_matches(label.casefold(), list(folded), n=1, cutoff=_ALIKE)
    return f"is it a typo of '{folded[found[0]]}'? " if found else ""
