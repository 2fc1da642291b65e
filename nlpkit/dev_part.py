"""The dev part of a finished run, read again from its files: a run keeps no text."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nlpkit import config as config_module
from nlpkit.errors import DataError, ModelError
from nlpkit.examples import fingerprint
from nlpkit.folder import RunFolder
from nlpkit.joint.parts import divided
from nlpkit.labelled import read_dev
from nlpkit.plugins import Registry
from nlpkit.request import Request
from nlpkit.silence import silenced
from nlpkit.task import Example, Task


def read(model: Path, record: Mapping[str, Any], task_class: type[Task[Any]], registry: Registry) -> list[Example]:
    """The examples that chose the best step of a model.

    Args:
        model: its folder, in that of its run.
        record: what its nlpkit.json says.
        task_class: of the model, or one of its tasks.
        registry: of readers.

    Raises:
        ModelError: there is no run beside it, or one that made another model.
        DataError: the files are not there any more, or say something else.
        UsageError: their reader is of a plugin that is not there.
    """
    folder = RunFolder(model.resolve().parent)
    if folder.model.name != model.resolve().name or not folder.facts.is_file():
        raise ModelError(f"{model}: not in the folder of its run, which knows the dev part")
    facts = folder.read_facts()
    if facts.get("data_fingerprint") != (record.get("history") or [{}])[-1].get("data_fingerprint"):
        raise ModelError(f"{folder.facts}: of other data than the model beside it")
    try:
        request, expected = Request.of(facts), facts["dev_fingerprint"]
    except (KeyError, TypeError, AttributeError, ValueError):
        raise ModelError(f"{folder.facts}: does not say what the dev part was") from None
    whole = registry.task(request.task)
    config = config_module.load(whole, folder.config)
    with silenced("nlpkit", below=logging.ERROR):  # what is said of files was said when the run began
        rows = read_dev(whole, request, config, registry)
    examples = list(whole.unfold(config.task, rows))
    if fingerprint(examples) != expected:
        files = ", ".join(request.dev or request.data) or "the sample"
        raise DataError(f"{files}: the dev part is not what it was when the model was fitted")
    return divided(whole, examples).get(task_class.name, examples)
