"""JSON with texts and character spans, as annotation tools write it, to examples.

Forms, told for each row:

* nlpkit: ``{"text": ..., "entities": [{"start": 0, "end": 6, "label": "LOC"}]}``
* Prodigy: the same under ``spans``, with an ``answer``; what was not accepted is left out; others: ``annotations``.
* doccano: ``label``, ``labels`` or ``entities`` with ``[0, 6, "LOC"]`` or ``{"start_offset": 0, "end_offset": 6, ...}``
* Label Studio: ``{"data": {"text": ...}, "annotations": [{"result": [{"value": {"start": 0, "end": 6, "labels":
  ["LOC"]}}]}]}``, or ``completions`` in old versions; the first annotation that was not cancelled. Version 1.4 wrote
  quotes of less than the span where whole words are selected (its issue 1931): the offsets count.
* spaCy: ``[text, {"entities": [[0, 6, "LOC"]]}]``, and displaCy's ``{"text": ..., "ents": [...]}``

Offsets are characters (code points), as Python counts them. Prodigy and spaCy count so, and Label Studio by version 1.9
(its issue 4988); in 2021 it counted UTF-16 units (1347), in which a character above U+FFFF, such as most emoji, is two.
Where a span repeats its text, as Label Studio's do, that shows which of the two was counted, and offsets are converted.
doccano counts UTF-16 units too (its issue 2290), or what is seen as one character if the project says so, and repeats
no text: its offsets are taken as they are, with a warning where that matters. Texts without such characters have the
same UTF-16 offsets as code points.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from nlpkit import Example
from nlpkit.errors import DataError
from nlpkit.readers.examples import Errors
from nlpkit.readers.paths import NO_ROWS, shown
from nlpkit_ner.json_values import values
from nlpkit_ner.lines import lines
from nlpkit_ner.offsets import SHRUNK, UTF16, CharacterSpan, checked

_SPANS_ALONE = ("entities", "spans", "ents")
"""Keys of nothing but spans; those below hold other things, too."""
_SPAN_KEYS = (*_SPANS_ALONE, "labels", "label", "annotations")
_STARTS, _ENDS, _LABELS = ("start", "start_offset"), ("end", "end_offset"), ("label", "labels")
_SKIPPED = {"reject": "rejected", "ignore": "ignored"}
_CANCELLED = "cancelled"
_OPEN, _LATER, _DIFFERING, _SHORT, _WIDE = "not annotated", "later", "differing", "short", "wide"
_EXPECTED = 'expected a list like [{"start": 0, "end": 6, "label": "LOC"}]'
_SHAPE = 'expected a text with its spans, like {"text": "...", "entities": [...]}'
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_ABOVE_FFFF = re.compile("[\U00010000-\U0010ffff]")
_log = logging.getLogger("nlpkit")


def read(path: str, *, encoding: str | None = None, errors: Errors = "strict") -> Iterator[Example]:
    """Read JSON lines, or a file that is one JSON array, as texts with entities; the form is told for each row.

    Rows that an annotator rejected, ignored or cancelled are left out. Rows without annotations have no ``entities``;
    in a file where other rows have some they are tasks that are still open, and left out, too. So they are held until
    the first row with annotations, or the end. What was left out and changed is logged in one line after the last row.
    An array is read whole, lines one by one.

    Args:
        path: a file, plain or gzip, or ``-`` for standard input.
        encoding: None: detected.
        errors: ``replace`` puts U+FFFD where a byte cannot be decoded.

    Returns:
        Examples ``{"text": str, "entities": [{"start": int, "end": int, "label": str}]}``.

    Raises:
        DataError: what cannot be read as it should, with file and line, and the span where there is one.
        UsageError: no such encoding.
    """
    name = shown(path)
    counts: Counter[str] = Counter()
    held: list[Example] = []
    annotated = False
    for line, value in values(lines(path, encoding, errors), name):
        where = f"{name}:{line}"
        row = _row(value, where, counts)
        if row.skipped:
            counts[row.skipped] += 1
            continue
        if row.spans is None:
            if annotated:
                counts[_OPEN] += 1
            else:
                held.append(Example({"text": row.text}, where))
            continue
        if not annotated:
            annotated, counts[_OPEN], held = True, len(held), []
        counts["texts"] += 1
        entities = normalise(row.spans, where, row.text, counts)
        counts["entities"] += len(entities)
        counts[_WIDE] += row.units_unknown and _wide_before_end(row.text, entities)
        yield Example({"text": row.text, "entities": entities}, where)
    counts["texts"] += len(held)
    yield from held
    if not counts.total():
        raise DataError(f"{name}: no rows", NO_ROWS)
    _report(name, counts)


def normalise(value: Any, where: str, text: str, counts: Counter[str] | None = None) -> list[dict[str, Any]]:
    """The spans of one row, in any of the forms above, as ``{"start", "end", "label"}`` in the order of the text.

    Args:
        value: a list of spans, or an object that has it under ``entities``, ``spans`` or ``ents``.
        where: ``file:line`` for messages.
        text: the spans are of.
        counts: of what was changed (`nlpkit_ner.offsets`), added to.

    Raises:
        DataError: no spans, a span without whole numbers as offsets or without a label, or one that `offsets.checked`
            refuses.
    """
    if isinstance(value, Mapping):
        _, value = _chosen(value, _SPANS_ALONE, where) or ("", value)
    if not isinstance(value, list | tuple):
        raise DataError(f"{where}: spans are {_kind(value)}", _EXPECTED)
    spans = [_span(item, f"{where}: span {number}") for number, item in enumerate(value, 1) if not _is_other(item)]
    counts = Counter() if counts is None else counts
    short = [_is_short(span, text) for span in spans]
    counts[_SHORT] += sum(short)
    trusted = [replace(span, quote=None) if is_short else span for span, is_short in zip(spans, short, strict=True)]
    found = checked(trusted, text, where, counts)
    return [{"start": span.start, "end": span.end, "label": span.label} for span in found]


@dataclass(frozen=True)
class _Row:
    """What a row of any form holds.

    Args:
        text: of it.
        spans: in the form of the row; None: it has none, as a text to predict for.
        skipped: why an annotator left it out; empty: was not.
        units_unknown: the tool may count UTF-16 units, and shows nothing to tell by.
    """

    text: str
    spans: Any = None
    skipped: str = ""
    units_unknown: bool = False


def _row(value: Any, where: str, counts: Counter[str]) -> _Row:
    if isinstance(value, list) and len(value) == 2 and isinstance(value[1], dict):
        return _Row(_text(value[0], where), value[1])
    if not isinstance(value, dict):
        raise DataError(f"{where}: {_kind(value)}; {_SHAPE}", 'jq -c ".[]" FILE > NEW makes lines of an array')
    if "text" not in value and isinstance(value.get("data"), dict):
        return _label_studio(value, where, counts)
    if skipped := _SKIPPED.get(str(value.get("answer"))):
        return _Row("", skipped=skipped)
    if "text" not in value and not isinstance(value.get("data"), str):
        found = ", ".join(f"'{key}'" for key in list(value)[:8]) or "nothing"
        raise DataError(f"{where}: no 'text' in row; it has {found}", _SHAPE)
    text = _text(value["text"] if "text" in value else value["data"], where)
    chosen = _chosen(value, _SPAN_KEYS, where)
    if chosen is None:
        return _Row(text, [] if value.get("answer") == "accept" else None)
    key, spans = chosen
    if not isinstance(spans, list):
        raise DataError(f"{where}: '{key}' is {_kind(spans)}", _EXPECTED)
    return _Row(text, spans, units_unknown=any(_is_doccano(span, key) for span in spans))


def _chosen(row: Mapping[str, Any], keys: Iterable[str], where: str) -> tuple[str, Any] | None:
    """The key with the spans of a row and what it holds: the first with any, else the first; None: no key.

    Raises:
        DataError: several keys with spans that are not the same.
    """
    given = [(key, row[key]) for key in keys if row.get(key) is not None]
    holding = [(key, value) for key, value in given if key in _SPANS_ALONE or _holds_spans(value)]
    filled = [(key, value) for key, value in holding if value]
    for key, value in filled[1:]:
        first, before = filled[0]
        if not _same(value, before):
            raise DataError(f"{where}: '{first}' and '{key}' hold different spans", "leave out one of the two")
    return next(iter((*filled, *holding, *given)), None)


def _holds_spans(value: Any) -> bool:
    """Whether a list has spans, well written or not; a label of the whole text or the names of types are none."""
    if not isinstance(value, list):
        return False
    return not value or any(isinstance(item, list) or _has_place(item) for item in value)


def _has_place(item: Any) -> bool:
    return isinstance(item, dict) and (any(key in item for key in _STARTS) or isinstance(item.get("value"), dict))


def _same(one: Any, other: Any) -> bool:
    """Whether two values hold the same spans, in any form and order; what is not well written is not the same."""
    try:
        return one == other or _marks(one) == _marks(other)
    except (DataError, TypeError):  # TypeError: no list
        return False


def _marks(spans: Any) -> list[tuple[int, int, str]]:
    found = (_span(item, "") for item in spans if not _is_other(item))
    return sorted((span.start, span.end, span.label) for span in found)


def _label_studio(value: dict[str, Any], where: str, counts: Counter[str]) -> _Row:
    data = value["data"]
    texts = [data["text"]] if "text" in data else [cell for cell in data.values() if isinstance(cell, str)]
    if len(texts) != 1:
        raise DataError(f"{where}: no 'text' in 'data'; it has {len(texts)} texts", "name the text 'text' in 'data'")
    text = _text(texts[0], where)
    annotations = value.get("annotations", value.get("completions"))
    if not annotations:
        return _Row(text)
    if not isinstance(annotations, list) or not all(isinstance(one, dict) for one in annotations):
        raise DataError(f"{where}: 'annotations' is no list of objects", "export it as JSON, not as JSON-MIN")
    kept = [one for one in annotations if not one.get("was_cancelled") and not one.get("skipped")]
    if not kept:
        return _Row(text, skipped=_CANCELLED)
    result, *later = (one.get("result", []) for one in kept)
    counts[_LATER] += len(later)
    counts[_DIFFERING] += sum(not _same(other, result) for other in later)
    return _Row(text, result)


def _is_doccano(span: Any, key: str) -> bool:
    return "start_offset" in span if isinstance(span, dict) else key in ("label", "labels")


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{where}: the text is {_kind(value)}", "write it as a string")
    if bad := _NO_TEXT.search(value):
        what = "a NUL character" if bad[0] == "\0" else "half a surrogate pair"
        raise DataError(f"{where}: {what} in the text, character {bad.start() + 1}", "delete it from the text")
    return value


def _is_other(item: Any) -> bool:
    """Whether a result of Label Studio is no span: a choice for the whole text, a relation of two spans."""
    if not isinstance(item, dict) or {"start", "start_offset"} & item.keys():
        return False
    value = item.get("value")
    return "start" not in value if isinstance(value, dict) else item.get("type") == "relation"


def _span(item: Any, where: str) -> CharacterSpan:
    if isinstance(item, dict):
        value = item["value"] if isinstance(item.get("value"), dict) else item
        start, end, label = (_first(value, keys, where) for keys in (_STARTS, _ENDS, _LABELS))
        quote = value.get("text") if isinstance(value.get("text"), str) else None
    elif isinstance(item, list | tuple) and len(item) == 3:
        (start, end, label), quote = item, None
    else:
        raise DataError(f'{where} is {_kind(item)}; expected [0, 6, "LOC"] or an object', _EXPECTED)
    return CharacterSpan(_offset(start, "start", where), _offset(end, "end", where), _label(label, where), quote)


def _first(value: Mapping[str, Any], keys: Iterable[str], where: str) -> Any:
    for key in keys:
        if value.get(key) is not None:
            return value[key]
    missing = next(iter(keys))
    found = ", ".join(f"'{key}'" for key in list(value)[:8]) or "nothing"
    raise DataError(f"{where} has no '{missing}'; it has {found}", _EXPECTED)


def _offset(value: Any, key: str, where: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and len(value) < 20 and value.isascii() and value.isdigit():  # so nlpkit.readers have it
        return int(value)
    raise DataError(f"{where}: '{key}' is {json.dumps(value)[:40]}; expected a whole number of characters", _EXPECTED)


def _label(value: Any, where: str) -> str:
    if isinstance(value, list):
        if len(value) != 1:
            raise DataError(f"{where} has {len(value)} labels; expected one", "keep the label that is meant")
        value = value[0]
    if not isinstance(value, str) or not value.strip() or _NO_TEXT.search(value):
        raise DataError(f"{where}: the label is {json.dumps(value)[:40]}; expected a name", _EXPECTED)
    return value.strip()


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _is_short(span: CharacterSpan, text: str) -> bool:
    """Whether a quote is a part of what its span covers, in texts whose offsets are the same in UTF-16 units."""
    if span.quote is None or not 0 <= span.start < span.end <= len(text) or _ABOVE_FFFF.search(text, 0, span.end):
        return False
    quoted, covered = (" ".join(part.split()) for part in (span.quote, text[span.start : span.end]))
    return quoted != covered and quoted != "" and quoted in covered


def _wide_before_end(text: str, entities: list[dict[str, Any]]) -> bool:
    return bool(entities) and _ABOVE_FFFF.search(text, 0, entities[-1]["end"]) is not None


def _report(name: str, counts: Counter[str]) -> None:
    parts = [f"{counts['texts']:,} texts, {counts['entities']:,} entities"]
    for key in (*_SKIPPED.values(), _CANCELLED, _OPEN):
        if counts[key]:
            parts.append(f"left out {counts[key]:,} {key}")
    if counts[_LATER]:
        parts.append(
            f"left out {counts[_LATER]:,} later annotations of texts, {counts[_DIFFERING]:,} of them different"
        )
    if counts[_SHORT]:
        parts.append(f"{counts[_SHORT]:,} entities are longer than their own text, taken by their offsets")
    if counts[SHRUNK]:
        parts.append(f"white space taken off {counts[SHRUNK]:,} entities")
    if counts[UTF16]:
        parts.append(f"offsets of {counts[UTF16]:,} texts converted from UTF-16 units")
    _log.info("%s: json with spans, %s", name, "; ".join(parts))
    if counts[_WIDE]:
        _log.warning(
            "%s: %s texts have characters above U+FFFF, such as emoji, before the end of an entity; doccano counts "
            "them as two by default, here they are one: look whether these entities are where they should be",
            name,
            f"{counts[_WIDE]:,}",
        )
