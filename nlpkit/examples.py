"""Files to a task's examples: read, completed, divided into what is learnt and what chooses the best step, checked."""

from __future__ import annotations

import contextlib
import copy
import functools
import hashlib
import inspect
import logging
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nlpkit import advice, readers, splits
from nlpkit.config import DataConfig, RunConfig
from nlpkit.errors import DataError, ModelError, PluginError, UsageError
from nlpkit.joint.task import JointTask, NewExample
from nlpkit.owners import fed_by, kind, useless
from nlpkit.plugins import Registry
from nlpkit.task import Example, Field, Task, files_of

log = logging.getLogger("nlpkit")
_LISTED = 10
_MANY = 10  # labels: fewer may well be all that a few rows have
_MEND = "choose another data.reader, or report it to the plugin's author"


@dataclass(frozen=True)
class Remembered:
    """The columns that a model was fitted with: field -> column.

    Args:
        named: by the user; readers of plugins get these, too.
        guessed: of the first table; a reader's columns are its own.
    """

    named: Mapping[str, str] = field(default_factory=dict)
    guessed: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Remembered:
        """What nlpkit.json of a model says of them.

        Raises:
            ModelError: it says something else.
        """
        known = record.get("data", {})
        parts: list[Any] = [known.get(k, {}) if isinstance(known, dict) else None for k in ("columns", "guessed")]
        if not all(isinstance(part, dict) and all(isinstance(v, str) for v in part.values()) for part in parts):
            raise ModelError("nlpkit.json: 'data' holds other than names of columns", "fit the model again")
        return cls(*parts)

    @property
    def all(self) -> dict[str, str]:
        """Both."""
        return {**self.guessed, **self.named}


NOTHING = Remembered()


def read_examples(
    task_class: type[Task[Any]],
    paths: Sequence[str],
    config: RunConfig,
    registry: Registry,
    *,
    need: tuple[str, ...] = (),
    extra: Mapping[str, str] | None = None,
    wanted: Sequence[str] = (),
    preferred: Mapping[str, str] | None = None,
    remembered: Remembered = NOTHING,
    on_columns: Callable[[Mapping[str, str]], None] | None = None,
    report: bool = True,
    documents: readers.Documents = readers.LINES,
) -> Iterator[Example]:
    """Examples under the task's field names, from tables or the reader that ``data.reader`` or a file's name asks for.

    Args:
        task_class: whose fields.
        paths: files, folders, globs.
        config: its ``data`` says how to read.
        registry: of readers.
        need: optional fields that must be there.
        extra: further columns to carry along -> the setting that names them.
        wanted: further columns to carry along where a file has them.
        preferred: field -> column, taken before any guess where a file has it.
        remembered: columns that are taken likewise; what a file lacks of them is said.
        on_columns: called with the column of each field of the first table.
        report: log what was detected of each file.
        documents: what of a txt is an example.

    Raises:
        DataError: anything in a file that cannot be read as it should, with its line.
        UsageError: ``data.reader`` names no reader.
    """
    data = config.data
    fields = {  # what new texts lack is not looked at where nothing learns from it
        name: field
        for name, field in task_class.fields.items()
        if not field.structured or field.required or name in need
    }
    must = {name: fields[name].structured for name in fields if fields[name].required or name in need}
    must |= dict.fromkeys(extra or (), False)
    wished = {**remembered.all, **(preferred or {})}
    guessed = (name for name in fields if name in must and name not in data.columns and name in remembered.all)
    expected = {name: _as_good(remembered.all[name], fields[name]) for name in guessed}
    sources = _Sources(need, {**(preferred or {}), **data.columns}, expected, on_columns, report)
    by_format = _readers_by_format(task_class, data, need, registry)
    for path, *beside in _side_by_side(list(paths), data.reader, must, registry):
        if reader := data.reader or _reader_of(path, registry, by_format):
            wishes = {**remembered.named, **(preferred or {})}
            rows = _by_reader(reader, (path, *beside), data, wishes, must, task_class, registry)
        else:
            rows = readers.read_examples(
                [path],
                fields,
                data.columns,
                need=need,
                encoding=data.encoding or None,
                delimiter=data.delimiter or None,
                errors=data.errors,
                on_source=sources,
                extra=extra,
                wanted=wanted,
                preferred=wished,
                documents=documents,
                others=functools.partial(advice.readers_for, task_class, registry),
            )
        yield from checked(task_class, rows, need)


def _as_good(column: str, known: Field) -> Sequence[str]:
    """A column of the training and those that are as good: of one that the task knows, all that it knows."""
    names = known.columns if readers.plain_name(column) in map(readers.plain_name, known.columns) else ()
    return [column, *names]


def checked(task_class: type[Task[Any]], rows: Iterable[Example], need: Collection[str] = ()) -> Iterator[Example]:
    """What a task makes of the rows.

    An empty cell is no label: where labels must be there its row is given as it is, to be left out, else without it.

    Raises:
        PluginError: ``Task.check`` gives something else than an example.
    """
    texts = {name: field.required for name, field in task_class.fields.items() if not field.structured}
    for example in rows:
        empty = [name for name in texts if name in example and not str(example[name]).strip()]
        if need and empty:
            yield example
            continue
        for name in empty:
            if not texts[name]:
                del example[name]
        yield _checked(task_class, example)


def _checked(task_class: type[Task[Any]], example: Example) -> Example:
    """What ``Task.check`` makes of a row; each of several tasks has a copy, as it may change what is in it."""
    if issubclass(task_class, JointTask):
        copies = {name: Example(copy.deepcopy(dict(example)), example.where) for name in task_class.classes}
        return NewExample(example, {name: _checked(task_class.classes[name], own) for name, own in copies.items()})
    checked = task_class.check(example)
    if not isinstance(checked, Example):
        what = f"gives {kind(checked)}, expected an nlpkit.Example; at {example.where}"
        raise useless(task_class, "check", what)
    return checked


def _side_by_side(
    files: Sequence[str], reader: str, must: Collection[str], registry: Registry
) -> Iterator[Sequence[str]]:
    """Files that are read together: one of each side where the reader has sides, else each by itself.

    All files of a side stand together, as ``*.en *.de`` lists them.

    Raises:
        UsageError: some side lacks a file.
    """
    dataset = registry.datasets().get(reader) if reader else None
    sides = [side for side in (dataset.sides if dataset else ()) if side in must]
    width = max(1, len(sides))
    # each name by itself where there are sides: a file may stand on several, as where both directions are learnt
    files = [file for path in files for file in readers.expand([path])] if sides[1:] else readers.expand(list(files))
    if len(files) % width:
        number = "one file is" if len(files) == 1 else f"{len(files)} different files are"
        found = f"{number} given: {', '.join(files)}"
        hint = f"give the files of {sides[0]} first, then as many of {' and of '.join(sides[1:])}"
        raise UsageError(f"reader '{reader}' reads a file for each of {' and '.join(sides)}, and {found}", hint)
    count = len(files) // width
    yield from (files[number::count] for number in range(count))


def _readers_by_format(
    task_class: type[Task[Any]], data: DataConfig, need: Collection[str], registry: Registry
) -> Mapping[str, str]:
    """The task's own readers by format, as far as they serve: for labelled files without named columns all do.

    Those that take columns read tables as their task wants them, and do so for new texts, which a txt has line by line.
    """
    if need and not data.columns:
        return task_class.readers
    known = registry.datasets() if task_class.readers else {}
    return {
        kind: name
        for kind, name in task_class.readers.items()
        if (need or kind != "txt") and name in known and "columns" in _arguments(known[name].read)
    }


def _reader_of(path: str, registry: Registry, by_format: Mapping[str, str]) -> str:
    """The reader that knows the ending of a name; for names that tables and plain text have that of the format."""
    if path == readers.STDIN or (known := readers.format_of(path)):
        return "" if path == readers.STDIN else by_format.get(str(known), "")
    name = path.lower().removesuffix(".gz")
    found = sorted(key for key, d in registry.datasets().items() if d.read and name.endswith(d.endings))
    if len(found) > 1:
        raise UsageError(f"{path}: readers {' and '.join(found)} know this ending", f"data.reader={found[0]}")
    return found[0] if found else ""


class _Sources:
    """Reports what was detected of each file, and holds all files to one column for what was guessed."""

    def __init__(
        self,
        fields: Sequence[str],
        named: Mapping[str, str],
        expected: Mapping[str, Sequence[str]],
        on_columns: Callable[[Mapping[str, str]], None] | None,
        report: bool,
    ) -> None:
        self.fields = [name for name in fields if name not in named]
        self.expected = expected
        self.on_columns = on_columns
        self.report = report
        self.first: tuple[str, dict[str, str]] | None = None

    def __call__(self, source: readers.Source, mapping: dict[str, str]) -> None:
        if self.report:
            log.info("%s", readers.describe(source, mapping))
            self._warn_of_others(source, mapping)
        if self.on_columns and source.format != "txt":
            self.on_columns(mapping)
            self.on_columns = None
        path, before = self.first = self.first or (source.path, mapping)
        for name in self.fields:
            if readers.plain_name(mapping[name]) != readers.plain_name(before[name]):
                raise DataError(
                    f"{source.path}: {name} = '{mapping[name]}' is a guess, and it is '{before[name]}' in {path}",
                    f"name it for all files with data.{name}=COLUMN, or leave out the files that have none",
                )

    def _warn_of_others(self, source: readers.Source, mapping: Mapping[str, str]) -> None:
        """Say where a column is read that is not the one of the training, nor as good; a txt has none."""
        for name, columns in self.expected.items():
            if source.format != "txt" and not readers.find_columns(columns, source.columns):
                log.warning(
                    "%s: no column '%s', from which the %s was read in training; '%s' is taken instead; "
                    "another is named with data.%s=COLUMN",
                    *(source.path, columns[0], name, mapping[name], name),
                )


def _by_reader(
    name: str,
    paths: Sequence[str],
    data: DataConfig,
    preferred: Mapping[str, str],
    must: Mapping[str, bool],
    task_class: type[Task[Any]],
    registry: Registry,
) -> Iterator[Example]:
    try:
        read, plugin = registry.dataset(name).read, registry.owner("dataset", name)
    except UsageError as error:
        more = "--plugin FILE.py brings one, data.reader= reads tables"
        raise UsageError(f"data.reader: {error.message}", f"{error.hint}; {more}") from None
    if read is None:
        raise UsageError(f"data.reader is '{name}', which has files and no reader of its own", "leave data.reader out")
    path = paths[0]
    known = _arguments(read)
    if data.columns and "columns" not in known:
        raise UsageError(
            f"{path}: reader '{name}' gives the fields itself, so that data.columns says nothing",
            "leave out one of them; data.reader= reads tables",
        )
    errors = "" if data.errors == "strict" else data.errors
    given = {"columns": {**preferred, **data.columns}, "encoding": data.encoding, "errors": errors}
    read = functools.partial(read, **{key: value for key, value in given.items() if value and key in known})
    log.info("%s: read by '%s' of plugin %s", ", ".join(paths), name, plugin)
    for number, row in enumerate(_rows(read, paths, f"plugin {plugin}: reader '{name}'"), 1):
        example = row if isinstance(row, Example) else Example(row, f"{path}:{number}")
        if missing := next((key for key in must if example.get(key) is None), ""):
            found = ", ".join(f"'{key}'" for key in example) or "nothing"
            raise DataError(
                f"{example.where}: no '{missing}' in what reader '{name}' gives, found {found}",
                advice.other_fields(path, missing, example, task_class, registry),
            )
        _check_row(example, must, name)
        yield example


def _arguments(read: Any) -> Collection[str]:
    try:
        return inspect.signature(read).parameters
    except (TypeError, ValueError):  # of what is written in C
        return ()


def _rows(read: Any, paths: Sequence[str], who: str) -> Iterator[Mapping[str, Any]]:
    """What a plugin's reader gives, one by one; what it prints goes to stderr."""
    end, path = object(), ", ".join(paths)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            given = read(*paths)
            rows = iter(given) if isinstance(given, Iterable) else None
        if rows is None:
            raise PluginError(f"{who} gives {type(given).__name__} for {path}, expected rows", _MEND)
        while True:
            with contextlib.redirect_stdout(sys.stderr):
                row = next(rows, end)
            if row is end:
                return
            if not isinstance(row, Mapping):
                raise PluginError(f"{who} gives {type(row).__name__} in {path}, expected field names and texts", _MEND)
            yield row
    except SystemExit as error:
        raise PluginError(f"{who} ends the program at {path} (SystemExit: {error})", _MEND) from error


def _check_row(example: Example, must: Mapping[str, bool], reader: str) -> None:
    for key, structured in must.items():
        value = example[key]
        if structured:
            continue
        if not isinstance(value, str):
            raise DataError(
                f"{example.where}: '{key}' of reader '{reader}' is {type(value).__name__}, expected a text", _MEND
            )
        try:
            value.encode()
        except UnicodeEncodeError:
            raise DataError(f"{example.where}: half a surrogate pair in '{key}' of reader '{reader}'", _MEND) from None


@fed_by("check")
def read_labelled(
    task_class: type[Task[Any]],
    paths: Sequence[str],
    config: RunConfig,
    registry: Registry,
    *,
    extra: Mapping[str, str] | None = None,
    remembered: Remembered = NOTHING,
    on_columns: Callable[[Mapping[str, str]], None] | None = None,
) -> list[Example]:
    """Examples with every field of the task; rows with an empty text or label are counted and left out.

    Args:
        task_class: has the fields.
        paths: labelled files.
        config: its ``data`` section says how to read them.
        registry: has the readers.
        extra: see `read_examples`.
        remembered: see `read_examples`.
        on_columns: see `read_examples`.

    Raises:
        DataError: no row is left.
    """
    need = tuple(name for name, f in task_class.fields.items() if not f.required)
    further: dict[str, Any] = {"extra": extra, "remembered": remembered, "on_columns": on_columns}
    examples = list(read_examples(task_class, paths, config, registry, need=need, **further))
    kept = [e for e in examples if all(str(e[name]).strip() for name in task_class.fields)]
    if lost := len(examples) - len(kept):
        blank = {name: sum(not str(e[name]).strip() for e in examples) for name in task_class.fields}
        which = ", ".join(f"{count:,} without {name}" for name, count in blank.items() if count)
        log.warning("%s of %s rows are left out: %s", f"{lost:,}", f"{len(examples):,}", which)
    if not kept:
        columns = " ".join(f"data.{name}=COLUMN" for name in task_class.fields)
        raise DataError(f"{', '.join(paths)}: no labelled row", f"check {columns}")
    _check_labels_of(task_class, kept[0])
    return kept


def _check_labels_of(task_class: type[Task[Any]], example: Example) -> None:
    """Look at the labels that a task finds in its first example."""
    labels = task_class.labels_of(example)
    if isinstance(labels, str) or not isinstance(labels, Sequence) or not all(isinstance(one, str) for one in labels):
        found = kind(labels)
        if isinstance(labels, list | tuple):
            found += f" with {kind(next(one for one in labels if not isinstance(one, str)))}"
        raise useless(task_class, "labels_of", f"gives {found}, expected a list of texts; at {example.where}")


def read_parts(
    task_class: type[Task[Any]], data: Sequence[str], dev: Sequence[str], config: RunConfig, registry: Registry
) -> tuple[list[Example], list[Example], dict[str, str]]:
    """Labelled examples to train on, those that choose the best step, and the columns that were guessed.

    Args:
        task_class: has the fields.
        data: labelled files; none: the sample that the task's plugin brings.
        dev: labelled files; none: a share of the data is held out.
        config: its ``data`` section says how to read and divide.
        registry: has the readers and the sample.

    Returns:
        Both parts; field -> column of the first table, where the user named none.

    Raises:
        DataError: no labelled row.
        UsageError: no data, and the task brings no sample.
    """
    column = "" if dev else config.data.group
    files = data or _sample(task_class, registry)
    columns: dict[str, str] = {}
    extra = {column: "data.group"} if column else None
    examples = read_labelled(task_class, files, config, registry, extra=extra, on_columns=columns.update)
    guessed = {name: found for name, found in columns.items() if not config.data.columns.get(name)}
    text, texts = next(iter(task_class.fields)), [name for name, f in task_class.fields.items() if f.required]
    if "label" in task_class.fields and (differing := splits.conflicts(examples, text=texts)):
        where = ", ".join(examples[i].where for i in differing[0][:2])
        log.warning("%d texts stand more than once, with different labels (the first: %s)", len(differing), where)
    if dev:
        chooses = read_labelled(task_class, dev, config, registry)
        if both := splits.overlap(examples, chooses, text=texts):
            what = f"{len(both)} of {len(chooses)} dev texts"
            log.warning("%s are also in the training data: scores are too high", what)
        return examples, chooses, guessed
    share, group, labels_of = config.data.dev_share, column or None, task_class.labels_of
    first, second = splits.split(examples, share, seed=config.seed, group=group, text=text, labels_of=labels_of)
    return [examples[i] for i in first], [examples[i] for i in second], guessed


def read_dev(
    task_class: type[Task[Any]], data: Sequence[str], dev: Sequence[str], config: RunConfig, registry: Registry
) -> list[Example]:
    """The examples that choose the best step alone, as `read_parts` gives them; data is read where they are of it."""
    return (
        read_labelled(task_class, dev, config, registry)
        if dev
        else read_parts(task_class, data, dev, config, registry)[1]
    )


def fingerprint(examples: Sequence[Example]) -> str:
    """What tells examples, and their order, from others; as hexadecimal."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(repr(sorted(example.items())).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _sample(task_class: type[Task[Any]], registry: Registry) -> list[str]:
    datasets = registry.datasets()
    if task_class.sample not in datasets:
        raise UsageError(f"no data was given, and {task_class.name} brings no sample", "name a file with labelled rows")
    sample = datasets[task_class.sample]
    log.warning("no data was given: running on the plugin's own sample (%s)", sample.about or task_class.sample)
    return [sample.files["train"]]


@fed_by("labels_of")
def check_parts(
    task_class: type[Task[Any]], train: list[Example], dev: list[Example], labels: list[str], column: str = ""
) -> None:
    """Make sure that both parts can do their work.

    Args:
        task_class: knows the labels of an example.
        train: to learn from.
        dev: chooses the best step.
        labels: of the task; none: it has no classes.
        column: of the labels, where it is known.

    Raises:
        DataError: no dev part, labels that hardly repeat, one that is none of these, or a class that dev lacks.
    """
    in_train, in_dev = (Counter(label for e in part for label in task_class.labels_of(e)) for part in (train, dev))
    counts = in_train + in_dev
    absent = [name for name in labels if not in_dev[name]]
    if absent and "label" in task_class.fields:
        _check_repeat(counts, [*train, *dev], column)
    if not dev:
        text = next(iter(task_class.fields))
        texts = len({splits.fingerprint(str(example[text])) for example in train})
        same = f" ({texts:,} different text{'s' * (texts > 1)})" if texts < len(train) else ""
        raise DataError(
            f"{files_of(train)}: no part of the {len(train)} rows{same} can be held out to choose the best step",
            "add rows (equal texts and equal groups stay together), or give a dev file with --dev",
        )
    if not labels:
        return
    few = [f"{name} {counts[name]:,}" for name in labels[:_LISTED]] + ["..."] * (len(labels) > _LISTED)
    log.info("%d labels: %s", len(labels), ", ".join(few))
    if len({name.strip() for name in labels}) < len(labels):
        log.warning("labels that differ in white space only: %s", ", ".join(map(repr, labels)))
    check_labels(
        task_class,
        (*train, *dev),
        labels,
        f"is none of {', '.join(labels)}",
        "the training data must have every label; or name them all with task.labels=[...]",
    )
    if absent:
        name, count = absent[0], in_train[absent[0]]
        first = next((example.where for example in train if name in task_class.labels_of(example)), "")
        at = f", {'at' if count == 1 else 'the first at'} {first}" if 0 < count <= _LISTED else ""
        what = f"{files_of(dev)}: the dev part has no row of label '{name}' (training part: {count:,}{at})"
        asked = advice.typo(name, counts) if count else ""
        if "label" not in task_class.fields:  # a text may have several, or none: that one is rare is no mistake
            log.warning("%s", f"{what}; {asked}".rstrip("; "))
            return
        more = "raise data.dev_share, or give a dev file with --dev" if count else "or leave it out of task.labels"
        raise DataError(what, f"{asked}add rows of that label, {more}")


def _check_repeat(counts: Mapping[str, int], examples: Sequence[Example], column: str) -> None:
    """Refuse labels of which most stand on one row only, as numbers of the rows do."""
    if len(counts) >= _MANY and 2 * len(counts) > len(examples):
        named = f"'{column}'" if column else "it"
        raise DataError(
            f"{files_of(examples)}: {len(counts):,} different labels in {len(examples):,} rows",
            f"is {named} the column of the label? name it with data.label=COLUMN",
        )


@fed_by("labels_of")
def check_labels(
    task_class: type[Task[Any]], examples: Iterable[Example], labels: Sequence[str], what: str, hint: str
) -> None:
    """Refuse an example with a label that is not known.

    Raises:
        DataError: naming the first; ``what`` is said of it.
    """
    known = set(labels)
    for example in examples:
        for label in task_class.labels_of(example):
            if label not in known:
                raise DataError(f"{example.where}: label '{label}' {what}", advice.typo(label, labels) + hint)


def texts_of(examples: Iterable[Example], task_class: type[Task[Any]], *, written: bool = False) -> Iterator[str]:
    """Every text that the model will read, and ``written`` ones too, for a tokenizer of its own."""
    names = [name for name, f in task_class.fields.items() if f.required or (written and f.written)]
    return (str(example[name]) for example in examples for name in names)
