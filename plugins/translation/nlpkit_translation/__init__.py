"""Translation: pairs of texts that say the same in two languages."""

from __future__ import annotations

from typing import Any

from nlpkit import Task, hookimpl
from nlpkit_translation.translation import Translation


@hookimpl
def nlpkit_tasks() -> list[type[Task[Any]]]:
    """Register translation."""
    return [Translation]
