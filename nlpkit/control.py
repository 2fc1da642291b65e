"""Attributes before a text, so that a decoder can be asked for them (control codes: CTRL, Keskar et al. 2019)."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nlpkit.errors import DataError, UsageError, nearest
from nlpkit.limits import CONTROL_CHARACTERS, CONTROL_ROWS, CONTROL_VALUES
from nlpkit.task import Example

log = logging.getLogger("nlpkit")
_BIN = "write a column of few values (low, middle, high) into the table, and name that"
_LISTED = 10
Values = tuple[str, ...]


@dataclass(frozen=True)
class Control:
    """The columns that stand before the texts a model has read.

    Args:
        columns: in the order in which they stand there.
        rows: each row of values that some text has, with the number of such texts; an empty value is left out.
    """

    columns: tuple[str, ...]
    rows: Mapping[Values, int]

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Control | None:
        """What nlpkit.json says; None: the model has read texts alone."""
        known = record.get("control")
        if not known:
            return None
        return cls(tuple(known["columns"]), {tuple(values): count for values, count in known["rows"]})

    def plain(self) -> dict[str, Any]:
        """The same for nlpkit.json."""
        return {"columns": list(self.columns), "rows": [[list(values), count] for values, count in self.rows.items()]}

    def values(self, column: str) -> list[str]:
        """The values of a column, the most frequent first."""
        place, counts = self.columns.index(column), Counter[str]()
        for values, count in self.rows.items():
            counts[values[place]] += count
        return [value for value, _ in counts.most_common()]

    def check(self, asked: Mapping[str, str]) -> dict[str, str]:
        """What is asked for, as it stands before texts.

        Raises:
            UsageError: a column or a value that the model has not read.
        """
        asked = {as_written(column): as_written(value) for column, value in asked.items()}
        for column, value in asked.items():
            if column not in self.columns:
                found = f"--set: the model was trained with no column '{column}'"
                raise UsageError(found, f"{nearest(column, self.columns)}its columns are {_listed(self.columns)}")
            if value not in (known := self.values(column)):
                found = f"--set: no text of the training data has '{value}' in '{column}'"
                raise UsageError(found, f"{nearest(value, known)}its values are {_listed(known)}")
        return asked

    def draw(self, asked: Mapping[str, str], count: int, seed: int) -> list[dict[str, str]]:
        """Attributes for so many texts: as asked, and the other columns as in rows of the data that are as asked.

        Args:
            asked: what `check` gave.
            count: texts.
            seed: of the choice among rows.
        """
        wanted = {self.columns.index(column): value for column, value in asked.items()}
        alike = {v: n for v, n in self.rows.items() if all(v[place] == value for place, value in wanted.items())}
        if not alike:
            together = ", ".join(f"{column}={value}" for column, value in asked.items())
            log.warning("no text of the training data has %s together", together)
        rows = alike or self.rows
        drawn = random.Random(seed).choices(list(rows), weights=list(rows.values()), k=count)
        return [{**dict(zip(self.columns, values, strict=True)), **asked} for values in drawn]


def as_written(value: str) -> str:
    """A name or value as it stands before a text: on one line, and without the mark that ends it."""
    return " ".join(value.replace("|", "/").split())


def prefix(attributes: Mapping[str, str]) -> str:
    """``Rating: 5 | Department Name: Dresses | ``: plain text, which any tokenizer and model can read."""
    return "".join(f"{column}: {value} | " for column, value in attributes.items() if value)


def bare(columns: Sequence[str]) -> Callable[[str], str]:
    """What takes a text's attributes away, so that it is known as the text that it is."""
    names = [as_written(column) for column in columns]

    def take(text: str) -> str:
        for name in names:
            before, mark, after = text.partition(" | ")
            text = after if mark and before.startswith(f"{name}: ") else text
        return text

    return take


def check_columns(columns: Sequence[str]) -> None:
    """Refuse names that say nothing, or the same twice.

    Raises:
        UsageError: naming it.
    """
    names = [as_written(column) for column in columns]
    for place, name in enumerate(names):
        if not name:
            raise UsageError("data.control has an empty name, expected columns", '--control "Rating,Department"')
        if name in names[:place]:
            raise UsageError(f"data.control has '{name}' twice", "leave one of them out")


def written(examples: Iterable[Example], columns: Sequence[str]) -> Iterator[Example]:
    """Examples whose text begins with their attributes; one without a text stays without."""
    for example in examples:
        if columns and example["text"].strip():
            attributes = dict(zip(map(as_written, columns), _values(example, columns), strict=True))
            example["text"] = prefix(attributes) + example["text"].lstrip()
        yield example


def count(examples: Iterable[Example], columns: Sequence[str]) -> Control:
    """Learn which values the columns have where there is a text.

    Raises:
        DataError: a column with too many or too long values, or too many rows that differ.
    """
    rows: Counter[Values] = Counter()
    seen: list[set[str]] = [set() for _ in columns]
    for example in examples:
        if not example["text"].strip():
            continue
        values = _values(example, columns)
        rows[values] += 1
        if rows[values] == 1:
            _check_few(example.where, columns, values, seen, len(rows))
    return Control(tuple(map(as_written, columns)), dict(rows.most_common()))


def _values(example: Example, columns: Sequence[str]) -> Values:
    return tuple(as_written(example.get(column) or "") for column in columns)


def _check_few(where: str, columns: Sequence[str], values: Values, seen: list[set[str]], rows: int) -> None:
    for column, value, known in zip(columns, values, seen, strict=True):
        known.add(value)
        if len(value) > CONTROL_CHARACTERS:
            found = f"{len(value)} characters in '{column}', expected a value of at most {CONTROL_CHARACTERS}"
            raise DataError(f"{where}: {found}", "data.control is for columns of few short values; leave this one out")
        if len(known) > CONTROL_VALUES:
            found = f"column '{column}' has more than {CONTROL_VALUES} different values, too many to ask for"
            raise DataError(f"{where}: {found}", f"{_BIN}; or leave it out of data.control")
    if rows > CONTROL_ROWS:
        found = f"the columns of data.control have more than {CONTROL_ROWS:,} different rows of values"
        raise DataError(f"{where}: {found}", "leave some of the columns out")


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:_LISTED])
    return f"{shown}, and {len(names) - _LISTED} more" if len(names) > _LISTED else shown
