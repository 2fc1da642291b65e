"""What a new plugin is called: one name that is typed, and those that follow from it."""

from __future__ import annotations

import builtins
import keyword
import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

import nlpkit
from nlpkit.errors import UsageError
from nlpkit.joint.names import OF_ROWS

if TYPE_CHECKING:
    from nlpkit.plugins import Registry

PREFIX = "nlpkit-"
LONGEST = 40
_FORM = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_USED = {
    *("Any", "ClassVar", "Mapping", "Path", "SAMPLE", "Sequence", "Settings"),
    *("BaseModelOutput", "MetricCollection", "PretrainedConfig", "Tensor"),
    *("DataError", "Writer"),
}
_OURS = ("core", "sentiment", "ner", "translation")


@dataclass(frozen=True)
class Names:
    """The names of a plugin.

    Args:
        task: as ``--task`` takes it: lower-case words joined by ``-``.
    """

    task: str

    @property
    def distribution(self) -> str:
        """What pip installs, and the folder."""
        return PREFIX + self.task

    @property
    def module(self) -> str:
        """The name as Python writes it."""
        return self.task.replace("-", "_")

    @property
    def package(self) -> str:
        """What is imported."""
        return f"nlpkit_{self.module}"

    @property
    def title(self) -> str:
        """The name as words of a sentence."""
        return self.task.replace("-", " ").capitalize()

    @property
    def task_class(self) -> str:
        """The class of the task."""
        return "".join(word.capitalize() for word in self.task.split("-"))


def check_name(name: str) -> Names:
    """The names of a plugin, from the one that is typed.

    Raises:
        UsageError: no name of a plugin, or one that Python or nlpkit has already.
    """
    if name.startswith(PREFIX) and _FORM.fullmatch(rest := name.removeprefix(PREFIX)):
        raise UsageError(f"'{name}': the name is that of the task, without '{PREFIX}'", _command(rest))
    if not _FORM.fullmatch(name):
        expected = "expected lower-case words joined by '-', such as two-words"
        raise UsageError(f"{name!r} cannot name a plugin: {expected}", _command(_like(name)))
    if len(name) > LONGEST:
        raise UsageError(f"'{name}' has {len(name)} characters: a name may have {LONGEST}", _command("NAME"))
    names = Names(name)
    if keyword.iskeyword(name) or keyword.iskeyword(names.task_class):
        raise UsageError(f"'{name}' is a keyword of Python and cannot name a plugin", _command(f"my-{name}"))
    if names.task_class in _USED or hasattr(builtins, names.task_class) or names.task_class in nlpkit.__all__:
        taken = f"its class would be {names.task_class}, a name that its code has another use for"
        raise UsageError(f"'{name}' cannot name a plugin: {taken}", _command(f"my-{name}"))
    if names.task_class in ("I", "O"):
        digit = f"its class would be {names.task_class}, which is hard to tell from a digit"
        raise UsageError(f"'{name}' cannot name a plugin: {digit}", _command(f"my-{name}"))
    if name in OF_ROWS:
        taken = "a row has that already, so that the task could share a model with no other"
        raise UsageError(f"'{name}' cannot name a plugin: {taken}", _command(f"my-{name}"))
    if name in _OURS:
        raise UsageError(f"'{name}' cannot name a plugin: {names.distribution} is nlpkit's own", _command(f"my-{name}"))
    return names


def check_free(names: Names, registry: Registry) -> None:
    """Refuse the name of a plugin that is installed, or of a task of one.

    Raises:
        UsageError: with the plugin that has it.
    """
    for plugin, _ in registry.installed():  # those that are switched off, too
        if names.task == plugin.name or names.distribution == plugin.distribution:
            raise UsageError(f"'{names.task}' is taken by plugin {plugin}", _command(f"my-{names.task}"))
    if names.task in registry.tasks():
        owner = registry.owner("task", names.task)
        raise UsageError(f"'{names.task}' is a task of plugin {owner}", _command(f"my-{names.task}"))


def _like(name: str) -> str:
    """The name that was probably meant."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", plain).lower()
    words = re.sub(r"[^a-z0-9]+", "-", spaced).strip("-").removeprefix(PREFIX)
    return "emotion" if not words else words if words[0].isalpha() else f"my-{words}"


def _command(name: str) -> str:
    return f"nlpkit plugins new {name}"
