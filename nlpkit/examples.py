"""Files to a task's examples: read, completed, divided into what is learnt and what chooses the best step, checked."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from nlpkit import readers, splits
from nlpkit.config import RunConfig
from nlpkit.errors import DataError, UsageError
from nlpkit.plugins import Registry
from nlpkit.task import Example, Task, files_of

log = logging.getLogger("nlpkit")


def read_examples(
    task_class: type[Task[Any]],
    paths: Sequence[str],
    config: RunConfig,
    registry: Registry,
    *,
    need: tuple[str, ...] = (),
    extra: tuple[str, ...] = (),
    report: bool = True,
) -> Iterator[Example]:
    """Examples under the task's field names, from tables or the reader that ``data.reader`` names.

    Args:
        task_class: whose fields.
        paths: files, folders, globs.
        config: its ``data`` says how to read.
        registry: of readers.
        need: optional fields that must be there.
        extra: further columns to carry along.
        report: log what was detected of each file.

    Raises:
        DataError: anything in a file that cannot be read as it should, with its line.
        UsageError: ``data.reader`` names no reader.
    """
    data, files = config.data, readers.expand(list(paths))
    if data.reader:
        must = [name for name, f in task_class.fields.items() if f.required or name in need]
        yield from _by_reader(data.reader, files, [*must, *extra], registry)
        return
    yield from readers.read_examples(
        files,
        task_class.fields,
        data.columns,
        need=need,
        encoding=data.encoding or None,
        delimiter=data.delimiter or None,
        errors=data.errors,
        on_source=_report_source if report else None,
        extra=extra,
    )


def _report_source(source: readers.Source, mapping: dict[str, str]) -> None:
    log.info("%s", readers.describe(source, mapping))


def _by_reader(name: str, paths: Sequence[str], must: Sequence[str], registry: Registry) -> Iterator[Example]:
    read = registry.dataset(name).read
    if read is None:
        raise UsageError(f"data.reader is '{name}', which has files and no reader of its own", "leave data.reader out")
    for path in paths:
        for number, row in enumerate(read(path), 1):
            example = row if isinstance(row, Example) else Example(row, f"{path}:{number}")
            if lacking := [key for key in must if example.get(key) is None]:
                found = ", ".join(f"'{key}'" for key in example) or "nothing"
                raise DataError(
                    f"{example.where}: no '{lacking[0]}' in what reader '{name}' gives, found {found}",
                    "choose another data.reader, or leave it out",
                )
            yield example


def read_labelled(
    task_class: type[Task[Any]],
    paths: Sequence[str],
    config: RunConfig,
    registry: Registry,
    *,
    extra: tuple[str, ...] = (),
) -> list[Example]:
    """Examples with every field of the task; rows with an empty text or label are counted and left out.

    Args:
        task_class: has the fields.
        paths: labelled files.
        config: its ``data`` section says how to read them.
        registry: has the readers.
        extra: further columns to keep.

    Raises:
        DataError: no row is left.
    """
    need = tuple(name for name, f in task_class.fields.items() if not f.required)
    examples = list(read_examples(task_class, paths, config, registry, need=need, extra=extra))
    kept = [e for e in examples if all(str(e[name]).strip() for name in task_class.fields)]
    if lost := len(examples) - len(kept):
        log.warning("%d of %d rows have an empty text or label and are left out", lost, len(examples))
    if not kept:
        raise DataError(f"{', '.join(paths)}: no labelled row", "check data.text=COLUMN data.label=COLUMN")
    return kept


def read_parts(
    task_class: type[Task[Any]], data: Sequence[str], dev: Sequence[str], config: RunConfig, registry: Registry
) -> tuple[list[Example], list[Example]]:
    """Labelled examples to train on, and those that choose the best step.

    Args:
        task_class: has the fields.
        data: labelled files; none: the sample that the task's plugin brings.
        dev: labelled files; none: a share of the data is held out.
        config: its ``data`` section says how to read and divide.
        registry: has the readers and the sample.

    Raises:
        DataError: no labelled row.
        UsageError: no data, and the task brings no sample.
    """
    column = "" if dev else config.data.group
    files = data or _sample(task_class, registry)
    examples = read_labelled(task_class, files, config, registry, extra=(column,) if column else ())
    text = next(iter(task_class.fields))
    if "label" in task_class.fields and (differing := splits.conflicts(examples, text=text)):
        where = ", ".join(examples[i].where for i in differing[0][:2])
        log.warning("%d texts stand more than once, with different labels (the first: %s)", len(differing), where)
    if dev:
        chooses = read_labelled(task_class, dev, config, registry)
        if both := splits.overlap(examples, chooses, text=text):
            what = f"{len(both)} of {len(chooses)} dev texts"
            log.warning("%s are also in the training data: scores are too high", what)
        return examples, chooses
    first, second = splits.split(
        examples, config.data.dev_share, seed=config.seed, group=column or None, text=text, label="label"
    )
    return [examples[i] for i in first], [examples[i] for i in second]


def _sample(task_class: type[Task[Any]], registry: Registry) -> list[str]:
    datasets = registry.datasets()
    if task_class.sample not in datasets:
        raise UsageError(f"no data was given, and {task_class.name} brings no sample", "name a file with labelled rows")
    sample = datasets[task_class.sample]
    log.warning("no data was given: running on the plugin's own sample (%s)", sample.about or task_class.sample)
    return [sample.files["train"]]


def check_parts(train: list[Example], dev: list[Example], labels: list[str]) -> None:
    """Make sure that both parts can do their work.

    Args:
        train: to learn from.
        dev: chooses the best step.
        labels: of the task; none: it has no classes.

    Raises:
        DataError: no dev part, a label that is none of these, or one that the dev part lacks.
    """
    if not dev:
        raise DataError(
            f"{files_of(train)}: {len(train)} rows are too few to hold out a part that chooses the best step",
            "add rows, or give a dev file with --dev",
        )
    if not labels:
        return
    known = set(labels)
    for example in (*train, *dev):
        if example["label"] not in known:
            raise DataError(
                f"{example.where}: label '{example['label']}' is none of {', '.join(labels)}",
                "the training data must have every label; or name them all with task.labels=[...]",
            )
    found = Counter(e["label"] for e in dev)
    if absent := [name for name in labels if not found[name]]:
        counts = Counter(e["label"] for e in train)
        raise DataError(
            f"{files_of(dev)}: the dev part has no row of label '{absent[0]}' (training part: {counts[absent[0]]})",
            "add rows of that label, raise data.dev_share, or give a dev file with --dev",
        )


def texts_of(examples: Sequence[Example], task_class: type[Task[Any]]) -> Iterator[str]:
    """Every text that the model will read, for a tokenizer of its own."""
    names = [name for name, f in task_class.fields.items() if f.required]
    return (str(example[name]) for example in examples for name in names)
