"""Signatures and docstrings as Markdown, for the pages that are made from the code."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

_PARTS = ("Args:", "Raises:", "Returns:")


def signature(function: Callable[..., Any], width: int = 110) -> str:
    """``def name(parameters) -> result``, with annotations as they are written; a long one has a line a parameter."""
    found = inspect.signature(function)
    line = _unquoted(f"{function.__name__}{found}")
    if len(line) <= width:
        return line
    shown = inspect.Signature(list(found.parameters.values()))
    inner = ",\n".join(f"    {part}" for part in _split(_unquoted(str(shown))[1:-1]))
    result = _unquoted(str(inspect.Signature(return_annotation=found.return_annotation))).removeprefix("()")
    return f"{function.__name__}(\n{inner},\n){result}"


def code(text: str) -> str:
    """A block that is shown and not run."""
    return f"```py\n{text}\n```\n"


def prose(doc: str) -> str:
    """A docstring in Google style as Markdown."""
    lines: list[str] = []
    part = ""
    for line in doc.strip().replace("``", "`").splitlines():
        if line in _PARTS:
            lines.append(f"*{line[:-1]}*\n")
            part = line
        elif part == "Returns:":
            lines.append(line.strip())
        elif part and line.startswith("    ") and not line.startswith("     "):
            head, colon, rest = line.strip().partition(": ")
            lines.append(f"* `{head}`: {rest}" if colon and " " not in head else f"* {line.strip()}")
        else:
            lines.append(f"  {line.strip()}" if part and line.strip() else line)
    return "\n".join(lines)


def cell(text: str) -> str:
    """Text that may stand in a table."""
    return text.replace("``", "`").replace("|", "\\|")


def _unquoted(text: str) -> str:
    """A signature without the quotes around its annotations; those of defaults stay."""
    text = re.sub(r"(: |-> )'((?:[^'\\]|\\.)*)'", r"\1\2", text)
    return re.sub(r"(: |-> )\"([^\"]*)\"", r"\1\2", text).replace("'", '"')


def _split(parameters: str) -> list[str]:
    """Parameters apart, at commas outside of brackets."""
    parts, depth = [""], 0
    for character in parameters:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]
