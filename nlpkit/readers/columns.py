"""Which column is which field: named by the user, or guessed where only one guess is possible."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping, Sequence

from nlpkit.errors import DataError, UsageError, nearest
from nlpkit.readers.paths import shown
from nlpkit.task import Field

_NO_TEXT = re.compile(r"(column\d+|id|.* id|index|idx|no|nr|number|row|date|time|timestamp)")
_LISTED = 20
_log = logging.getLogger("nlpkit")


def choose_columns(
    columns: Sequence[str],
    fields: Mapping[str, Field],
    chosen: Mapping[str, str],
    *,
    path: str,
    need: Collection[str] = (),
    preferred: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Find the column of each field.

    A column the user named must be there. The others are guessed: a header name the field knows, in the order of
    the field; then the one column whose last words are such a name (``airline_sentiment``); then, for fields that
    must be there, the only column that is left. Names are compared as `plain_name` has them.

    Args:
        columns: of the file.
        fields: of the task.
        chosen: field -> column, as named by the user.
        path: for messages.
        need: fields that must be there although the task does not require them.
        preferred: field -> column, taken where the file has it, before any guess, unless the user named it for another.

    Returns:
        Field -> column, without the optional fields that the file does not have.

    Raises:
        DataError: a named column that is missing, a preferred one that is and nothing is called like it, or a field
            without a column or with several.
        UsageError: a column named for a field that the task does not have.
    """
    for field in chosen:
        if field not in fields:
            hint = f"{nearest(field, fields)}the task reads {listed(list(fields))}"
            raise UsageError(f"data.columns: no field '{field}' to read", hint)
    found = {
        field: _named(chosen[field], columns, path, field) for field in fields if _must(field, fields, need, chosen)
    }
    wished = {**(preferred or {}), **{field: column for field, column in chosen.items() if column}}
    named = set(found.values())
    for field in (f for f in fields if f not in found):
        column = _lookup(wished.get(field, ""), columns)
        if column and (chosen.get(field) or column not in named):
            found[field] = column
    for field, known in fields.items():
        free = [column for column in columns if column not in found.values()]
        if field not in found and field not in chosen and (column := _guess(field, known, free, path)):
            found[field] = column
    for field in (f for f, known in fields.items() if f not in found and (known.required or f in need)):
        label = not fields[field].required
        if label and (wish := wished.get(field)):
            hint = f"name it with data.{field}=COLUMN; texts without labels are for nlpkit predict"
            raise DataError(f"{shown(path)}: no column '{wish}'; it has {listed(columns)}", hint)
        found[field] = _only(field, [c for c in columns if c not in found.values()], columns, path)
        if label:
            _log.warning(
                "%s: '%s' is no usual name for the column of the %s, and is taken as the only one left; "
                "another is named with data.%s=COLUMN",
                *(shown(path), found[field], field, field),
            )
    return {field: found[field] for field in fields if field in found}


def pick_column(column: str, columns: Sequence[str], path: str, setting: str) -> str:
    """The column of that name, or of the only name that differs in case and the like.

    Raises:
        DataError: none, with the nearest name.
    """
    match = _lookup(column, columns)
    if match is None:
        hint = f"{nearest(column, columns)}name it with {setting}=COLUMN"
        raise DataError(f"{shown(path)}: no column '{column}'; it has {listed(columns)}", hint)
    return match


def find_columns(wanted: Collection[str], columns: Sequence[str]) -> dict[str, str]:
    """Those of some names that are columns, as `pick_column` finds them: name -> column."""
    return {name: column for name in wanted if (column := _lookup(name, columns))}


def listed(columns: Sequence[str]) -> str:
    """Column names for a message, cut where there are many or long ones."""
    names = [f"'{c if len(c) <= 40 else c[:39] + '…'}'" for c in columns[:_LISTED]]
    more = [f"{len(columns) - _LISTED} more"] if len(columns) > _LISTED else []
    return ", ".join(names + more) or "none"


def _must(field: str, fields: Mapping[str, Field], need: Collection[str], chosen: Mapping[str, str]) -> bool:
    return bool(chosen.get(field)) and (fields[field].required or field in need)


def _named(column: str, columns: Sequence[str], path: str, field: str) -> str:
    return pick_column(column, columns, path, f"data.{field}")


def _lookup(column: str, columns: Sequence[str]) -> str | None:
    if column in columns:
        return column
    alike = [c for c in columns if column and plain_name(c) == plain_name(column)]
    return alike[0] if len(alike) == 1 else None


def plain_name(name: str) -> str:
    """A name without what makes no difference: case, ``_``, ``-``, ``.`` and camelCase.

    ``|`` is ``/``, as it stands before texts (``data.control``).
    """
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.replace("|", "/"))
    return " ".join(re.split(r"[\s_\-.]+", words.casefold().strip()))


def _guess(field: str, known: Field, free: Sequence[str], path: str) -> str | None:
    names = {column: plain_name(column) for column in free}
    wanted = [plain_name(name) for name in known.columns]
    for name in wanted:
        if same := [column for column, plain in names.items() if plain == name]:
            return _one(field, same, path)
    last = tuple(f" {name}" for name in wanted)
    ends = [column for column, plain in names.items() if plain.endswith(last) and len(plain.split()) <= 4]
    return ends[0] if len(ends) == 1 else None


def _one(field: str, candidates: Sequence[str], path: str) -> str:
    if len(candidates) > 1:
        hint = f'choose one, for example "data.{field}={candidates[0]}"'
        raise DataError(f"{shown(path)}: '{field}' could be any of {listed(candidates)}", hint)
    return candidates[0]


def _only(field: str, free: Sequence[str], columns: Sequence[str], path: str) -> str:
    usable = [column for column in free if not _NO_TEXT.fullmatch(plain_name(column))]
    if len(usable) == 1 and len(usable[0]) <= 40:
        return usable[0]
    hint = f"name it with data.{field}=COLUMN; a file without a header needs one as its first line"
    raise DataError(f"{shown(path)}: no column for '{field}'; it has {listed(columns)}", hint)
