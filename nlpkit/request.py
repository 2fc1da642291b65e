"""What a user asked for, seen from any working folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Request:
    """What a user asked for, as run.json keeps it.

    Args:
        task: name of the task or objective.
        data: files, folders or globs; empty: the task's sample.
        dev: files of the dev part; empty: held out of the data.
        source: model folder or hub name to start from; empty: from nothing.
        plugins: files of plugins that are not installed.
        hub: whether ``source`` may be a hub name.
        exclude: files whose texts are kept out of the corpus.
        watch: file, folder or glob of a text that is scored beside the dev part; empty: none.
        tokenizer: folder of the tokenizer of a new model; empty: one is trained on the data.
        data_of: the task of each of ``data``, where there are several tasks.
        dev_of: likewise of ``dev``.
    """

    task: str
    data: tuple[str, ...] = ()
    dev: tuple[str, ...] = ()
    source: str = ""
    plugins: tuple[str, ...] = ()
    hub: bool = False
    exclude: tuple[str, ...] = ()
    watch: str = ""
    tokenizer: str = ""
    data_of: tuple[str, ...] = ()
    dev_of: tuple[str, ...] = ()

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Request:
        """What run.json says of it, with files as seen from here.

        Raises:
            KeyError, TypeError, AttributeError: it says nothing of the kind.
        """
        asked: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in facts["request"].items()}
        return cls(**asked).seen_from(facts.get("folder", os.getcwd()))

    def seen_from(self, folder: str) -> Request:
        """The same with files that were named in another working folder, unless they are seen from here only."""

        def there(name: str) -> str:
            joined = os.path.join(folder, os.path.expanduser(name))
            return name if os.path.exists(name) and not os.path.exists(joined) else joined

        if folder == os.getcwd():
            return self
        is_name = self.hub and not os.path.isdir(os.path.join(folder, self.source))
        source = there(self.source) if self.source and not is_name else self.source
        files: dict[str, Any] = {
            name: tuple(map(there, getattr(self, name))) for name in ("data", "dev", "plugins", "exclude")
        }
        beside: dict[str, Any] = {
            name: there(value) for name in ("watch", "tokenizer") if (value := getattr(self, name))
        }
        return replace(self, source=source, **files, **beside)

    def part(self, task: str) -> Request:
        """What was asked for of one task: of a single one all."""
        if task == self.task:
            return self
        data = tuple(file for file, of in zip(self.data, self.data_of, strict=True) if of == task)
        dev = tuple(file for file, of in zip(self.dev, self.dev_of, strict=True) if of == task)
        return replace(self, task=task, data=data, dev=dev, data_of=(), dev_of=())

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def by_owner(settings: Sequence[str]) -> tuple[list[str], list[str]]:
    """Settings ``key=value`` of the task, and others, each in their order."""
    of_task = [setting for setting in settings if setting.strip().startswith("task.")]
    return of_task, [setting for setting in settings if setting not in of_task]
