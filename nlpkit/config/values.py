"""From what was written or passed to a value of the setting's type, or the reason why not."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nlpkit.config.kinds import Kind

WHOLE_NUMBER = re.compile(r"[+-]?[0-9]+(_[0-9]+)*")
NUMBER = re.compile(r"[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|nan|inf(inity)?)", re.IGNORECASE)
REFERENCE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*\}")
TRUTHS = {"true": True, "yes": True, "false": False, "no": False}
NOTHING = ("none", "null", "~")
LONGEST_WHOLE_NUMBER = 2**63 - 1


class Refused(Exception):
    """A value that its setting does not take.

    Args:
        reason: the rest of a sentence that begins with the setting's name.
        hint: what to type instead; may be empty.
    """

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


class Reference(str):
    """``${key.path}``, to be filled in with the value of another setting."""


@dataclass(frozen=True)
class Text:
    """A value as it was written, before its setting's type is known.

    Args:
        text: the characters.
        plain: written in a file without quotes, where null and ``${key.path}`` mean something.
    """

    text: str
    plain: bool = False


def convert(value: Any, kind: Kind) -> Any:
    """Make a value of the setting's type from what was written or passed.

    Args:
        value: a Text, a list of values, or a Python value, which must have the right type already.
        kind: the type of the setting.

    Returns:
        A plain value, or a Reference to another setting.

    Raises:
        Refused: the value does not fit.
    """
    if isinstance(value, Text):
        return _convert_text(value, kind)
    if value is None and kind.optional:
        return None
    if kind.name == "list" and isinstance(value, list | tuple):
        assert kind.item is not None
        return [convert(item, kind.item) for item in value]
    return _first_that_fits(value, kind) if kind.alternatives else _convert_plain(value, kind)


def _convert_text(value: Text, kind: Kind) -> Any:
    text = value.text
    if "${" in text and (value.plain or kind.name != "str"):
        return _reference(value, kind)
    if kind.optional and _is_nothing(value, kind):
        return None
    if kind.name == "str":
        return text
    if kind.name == "list":
        return convert(list(split_list(value)), kind)
    if kind.alternatives:
        return _first_that_fits(value, kind)
    if kind.name == "choice":
        return _choose(next((choice for choice in kind.choices if str(choice) == text), text), kind)
    return _check_limits(_scalar(text.strip(), kind), kind, text)


def _first_that_fits(value: Any, kind: Kind) -> Any:
    for one in kind.alternatives:
        with contextlib.suppress(Refused):
            return convert(value, one)
    raise Refused(f"is {shown(value)}, expected {kind.expected}")


def _reference(value: Text, kind: Kind) -> Any:
    if REFERENCE.fullmatch(value.text):
        return Reference(value.text)
    if kind.name == "list":
        return convert(list(split_list(value)), kind)
    hint = "put it in quotes to keep it as it is" if kind.name == "str" else ""
    raise Refused(f"is {shown(value)}, but only ${{section.name}}, alone and without quotes, is filled in", hint)


def _is_nothing(value: Text, kind: Kind) -> bool:
    """Whether this is None: in a text field only where the word stands in a file without quotes."""
    if kind.name == "str" and not value.plain:
        return False
    return value.text.lower() in NOTHING or (value.plain and not value.text)


def _scalar(text: str, kind: Kind) -> Any:
    """Read a number or a truth value.

    Returns:
        None where the text is neither.
    """
    if kind.name == "bool":
        return TRUTHS.get(text.lower())
    if kind.name == "int" and WHOLE_NUMBER.fullmatch(text):
        digits = text.replace("_", "")
        return int(digits) if len(digits) < 30 else LONGEST_WHOLE_NUMBER + 1
    if kind.name == "float" and NUMBER.fullmatch(text):
        return float(text)
    return None


def _convert_plain(value: Any, kind: Kind) -> Any:
    if kind.name == "str" and isinstance(value, str):
        return str.__str__(value)
    if kind.name == "choice":
        return _choose(value, kind)
    if kind.name == "bool" and isinstance(value, bool):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused(f"is {shown(value)}, expected {kind.expected}")
    if kind.name == "float":
        return _check_limits(_as_float(value), kind, value)
    return _check_limits(value if kind.name == "int" and isinstance(value, int) else None, kind, value)


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _choose(value: Any, kind: Kind) -> Any:
    for choice in kind.choices:
        if type(choice) is type(value) and choice == value:
            return choice
    raise Refused(f"is {shown(value)}, expected {kind.expected}")


def _check_limits(number: Any, kind: Kind, value: Any) -> Any:
    """Return the number, which is None where nothing could be read from the value."""
    if number is None:
        raise Refused(f"is {shown(value)}, expected {kind.expected}")
    if isinstance(number, float) and not math.isfinite(number):
        raise Refused(f"is {shown(value)}, expected a finite number")
    if isinstance(number, int) and abs(number) > LONGEST_WHOLE_NUMBER:
        raise Refused(f"is {shown(value)}, expected a whole number of at most 64 bits")
    within = {
        "above": lambda limit: number > limit,
        "at_least": lambda limit: number >= limit,
        "below": lambda limit: number < limit,
        "at_most": lambda limit: number <= limit,
    }
    if not all(within[name](limit) for name, limit in kind.limits.items()):
        raise Refused(f"is {shown(value)}, expected {kind.expected}")
    return number


def split_list(value: Text) -> Iterator[Text]:
    """Split ``[a, b]`` or ``a,b``; inside brackets quotes hold an entry with commas together.

    Raises:
        Refused: brackets or quotes that do not close, or an entry that is empty.
    """
    text = value.text.strip()
    if text.startswith("[") != text.endswith("]"):
        raise Refused(f"is {shown(value)}, whose brackets do not match")
    quotes = text.startswith("[")
    rest = (text[1:-1] if quotes else text).strip()
    while rest:
        entry, rest = _first_entry(rest, quotes, value)
        yield entry


def _first_entry(text: str, quotes: bool, value: Text) -> tuple[Text, str]:
    """The first entry and what follows its comma."""
    if quotes and text[0] in "\"'":
        inside, quote, after = text[1:].partition(text[0])
        after = after.strip()
        if not quote or (after and not after.startswith(",")) or after == ",":
            raise Refused(f"is {shown(value)}, whose quotes do not match")
        return Text(inside), after[1:].strip()
    entry, comma, rest = text.partition(",")
    if not entry.strip() or (comma and not rest.strip()):
        raise Refused(f"is {shown(value)}, which has an empty entry")
    return Text(entry.strip(), value.plain), rest.strip()


def shown(value: Any) -> str:
    """Spell a value for a message, in quotes where it is text, cut where it is long."""
    if isinstance(value, Text):
        value = value.text
    if isinstance(value, Mapping):
        return "a section"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, int) and value.bit_length() > 64:
        return f"a number of {value.bit_length()} bits"
    text = repr(value) if len(str(value)) < 60 else repr(str(value)[:57]) + "..."
    return "none" if value is None else text
