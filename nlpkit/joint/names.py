"""Names of tasks that are learnt together, and which of them a file or a setting is for."""

from __future__ import annotations

import keyword
import os
import re
from collections.abc import Mapping, Sequence

from nlpkit.errors import UsageError, nearest

Name = str | os.PathLike[str]
Paths = Name | Sequence[Name]
Data = Paths | Mapping[str, Paths]
"""Files of one task, or of each of several by its name."""
GROUP = "group"
"""``data.NAME.group`` is ``data.group`` of one task, and stands among its columns."""
_TAKEN = ("labels", "max_length", "head", "metrics", "weights", "of", "sections", "changed", "columns")
"""What is something else already in the settings of several tasks, or in ``data.columns``."""

OF_ROWS = ("text", "seed")
"""What a row has in nearly every task, so that no task which shares a model can be called so."""


def names_of(tasks: str) -> list[str]:
    """The names in ``sentiment,ner``; of a single task its own.

    Raises:
        UsageError: one is empty, or stands twice.
    """
    names = [name.strip() for name in tasks.split(",")]
    if not all(names):
        raise UsageError(f"--task '{tasks}': a name is missing beside a comma", "--task sentiment,ner")
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise UsageError(f"--task '{tasks}': '{twice[0]}' stands twice", "name each task once")
    return names


def attribute(name: str) -> str:
    """What a task is called in settings, where only a word of Python may stand."""
    word = re.sub(r"\W", "_", name)
    word = word if word.isidentifier() else f"_{word}"
    return f"{word}_" if keyword.iskeyword(word) or word in _TAKEN else word


def module_name(name: str) -> str:
    """What the parts of a task are called in a module, whose own methods have names such as ``type``, too."""
    return f"task_{attribute(name)}"


def typed_data(tasks: str, files: Sequence[str], typed: Sequence[str], option: str) -> Data:
    """Files as a user typed them: by themselves, or behind the name of their task.

    Args:
        tasks: as ``--task`` takes them.
        files: that stand by themselves.
        typed: values of the option: ``TASK=FILE``; of ``--dev`` for a single task files, too.
        option: its name.

    Raises:
        UsageError: files of both kinds, or one that names no task.
    """
    if not typed or (option == "--dev" and not names_of(tasks)[1:]):
        return [*files, *typed]
    if files:
        raise UsageError(f"{', '.join(files)} beside {option}: for which task?", f"{option} TASK=FILE for every file")
    found: dict[str, list[str]] = {}
    for one in typed:
        task, equals, file = one.partition("=")
        if not (task and equals and file):
            raise UsageError(f"{option} {one}: expected TASK=FILE", f"{option} {names_of(tasks)[0]}={file or one}")
        found.setdefault(task, []).append(file)
    return found


def files_of(tasks: str, data: Data, option: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Files in their order, and the task of each; a single task needs not be named.

    Args:
        tasks: as ``--task`` takes them.
        data: files, by task where there are several.
        option: by which a user types them, for messages.

    Raises:
        UsageError: a task that is none of these, or files of several tasks without a word of which.
    """
    known = names_of(tasks)
    if isinstance(data, Mapping):
        for name in data:
            if name not in known:
                hint = f"{nearest(name, known)}{option} {known[0]}=FILE"
                raise UsageError(f"{option} {name}=...: '{name}' is none of the tasks {', '.join(known)}", hint)
        pairs = [(file, name) for name in known for file in paths_of(data.get(name, ()))]
    elif known[1:] and (files := paths_of(data)):
        raise UsageError(
            f"{', '.join(files)}: for which of {', '.join(known)}?",
            " ".join(f"{option} {name}=FILE" for name in known),
        )
    else:
        pairs = [(file, "") for file in paths_of(data)]
    files = tuple(file for file, _ in pairs)
    return files, tuple(name for _, name in pairs) if known[1:] else ()


def paths_of(data: Paths) -> tuple[str, ...]:
    """Paths as text, of one or several."""
    return tuple(os.fspath(path) for path in ((data,) if isinstance(data, str | os.PathLike) else data))


def check_named(task: str, data: Data) -> None:
    """Make sure that files of several tasks are not said to be of one.

    Args:
        task: that files are for; empty: nothing is said.
        data: files, by task where there are several.

    Raises:
        UsageError: they are.
    """
    if task and isinstance(data, Mapping):
        raise UsageError("--task beside --data, which names the task of each file", "leave out --task")


def check_all(tasks: str, named: Sequence[str]) -> None:
    """Make sure that each of several tasks has data.

    Args:
        tasks: as ``--task`` takes them.
        named: the task of each file, as `files_of` gives them.

    Raises:
        UsageError: one has none.
    """
    known = names_of(tasks)
    for name in known if len(known) > 1 else ():
        if name not in named:
            raise UsageError(f"no data for '{name}'", f"--data {name}=FILE, labelled; samples are for single tasks")


def settings_of(settings: Sequence[str], name: str, names: Sequence[str]) -> list[str]:
    """Settings as one of several tasks has them by itself: ``task.ner.stride=8`` is ``task.stride=8`` of ner.

    Args:
        settings: ``key=value`` as typed; those of other tasks are left out, and those of no task are for all.
        name: of the task.
        names: of all.
    """
    shared, own = [], []  # those of the task itself count for more
    for setting in settings:
        section, _, rest = setting.partition(".")
        owner = next((one for one in names if rest.startswith(f"{attribute(one)}.")), None)
        if owner == name:
            own.append(f"{section}.{rest.partition('.')[2]}")
        elif owner is None:
            shared.append(setting)
    return shared + own


def agreed(columns: Mapping[str, str]) -> dict[str, str]:
    """Columns of fields that have the same one in all tasks which name any."""
    found: dict[str, set[str]] = {}
    for field, column in columns.items():
        found.setdefault(field.rpartition(".")[2], set()).add(column)
    return {field: of.pop() for field, of in found.items() if len(of) == 1}


def columns_of(columns: Mapping[str, str], name: str) -> dict[str, str]:
    """Columns by field, as one of several tasks has them: ``sentiment.text`` of sentiment alone, ``text`` of all."""
    prefix = f"{attribute(name)}."
    own = {field.removeprefix(prefix): column for field, column in columns.items() if field.startswith(prefix)}
    own.pop(GROUP, None)
    return {**{field: column for field, column in columns.items() if "." not in field}, **own}


def group_of(columns: Mapping[str, str], name: str, shared: str) -> str:
    """The column whose rows stay together, of one of several tasks: ``data.sentiment.group`` before ``data.group``."""
    return columns.get(f"{attribute(name)}.{GROUP}", shared)
