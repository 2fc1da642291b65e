"""YAML as a tree of scalars that are still text: no tag is obeyed, nothing is built, every value knows its line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nlpkit.config.values import Text
from nlpkit.errors import UsageError

LARGEST_FILE = 4 * 2**20
"""Bytes in a file of settings; a task with 10,000 labels has about 300,000."""
DEEPEST_NESTING = 20
"""Sections inside sections; our own settings have three."""
YAML_TAGS = "tag:yaml.org,2002:"


@dataclass(frozen=True)
class Node:
    """A value in a file.

    Args:
        value: Text, a list of nodes, or a dict of nodes.
        where: ``file:line`` of its beginning; of a dict's value, that of its name.
    """

    value: Any
    where: str


def printable(path: str | os.PathLike[str]) -> str:
    """A path for messages, without line breaks and bytes that no terminal shows."""
    name = os.fspath(path)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name)


def recipes() -> dict[str, Path]:
    """The recipes that come with nlpkit, by name."""
    package = Path(__file__).parent.parent
    folder = package / "configs"
    if not folder.is_dir() and (package.parent / "pyproject.toml").is_file():
        folder = package.parent / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def check_recipe(path: str | os.PathLike[str], verb: str) -> None:
    """Refuse a recipe that is for another command; the first line of each says which it is for.

    Raises:
        UsageError: with those for this one.
    """
    name, known = os.fspath(path), recipes()
    if os.path.exists(path) or name not in known or _verb_of(known[name]) == verb:
        return
    fitting = [recipe for recipe, file in known.items() if _verb_of(file) == verb]
    hint = f"a YAML file of your own, or {', '.join(f'--config {recipe}' for recipe in fitting)}"
    raise UsageError(f"--config {name}: a recipe for nlpkit {_verb_of(known[name])}, not for nlpkit {verb}", hint)


def _verb_of(recipe: Path) -> str:
    return recipe.read_text("utf-8").split(maxsplit=3)[2]


def read(path: str | os.PathLike[str]) -> dict[str, Node]:
    """Read a file, or the recipe of that name where there is no such file; an empty one has no settings.

    Raises:
        UsageError: the file cannot be read or is no YAML that settings are written in, with its line.
    """
    name = printable(path)
    if not os.path.exists(path) and os.fspath(path) in recipes():
        path = recipes()[os.fspath(path)]
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        hint = f"give a YAML file or the name of a recipe: {', '.join(recipes())}"
        raise UsageError(f"{name}: cannot be read ({_reason(error)})", hint) from error
    if len(content) > LARGEST_FILE:
        raise UsageError(f"{name}: larger than {LARGEST_FILE} bytes, expected a short file of settings")
    return parse(_decode(content, name), name)


def _reason(error: Exception) -> str:
    return (error.strerror or "unknown reason").lower() if isinstance(error, OSError) else "no file has such a name"


def _decode(content: bytes, name: str) -> str:
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UsageError(f"{name}:{line}: not {encoding[:6].strip('-')} text", "save the file as UTF-8") from error


def parse(text: str, name: str) -> dict[str, Node]:
    """Read the text of a file.

    Args:
        text: YAML with a mapping at the top, or nothing.
        name: the file's name for messages.

    Raises:
        UsageError: see ``read``.
    """
    return _Parser(text, name).document()


class _Parser:
    """Builds nodes from YAML's events; its depth, not the file's, bounds the recursion."""

    def __init__(self, text: str, name: str) -> None:
        self.text = text
        self.name = name
        self.events: Iterator[Any] = iter(yaml.parse(text, Loader=yaml.SafeLoader))

    def document(self) -> dict[str, Node]:
        self._next()
        event = self._next()
        if isinstance(event, yaml.StreamEndEvent):
            return {}
        event = self._next()
        node = self._node(event, 0)
        self._next()
        end = self._next()
        if not isinstance(end, yaml.StreamEndEvent):
            raise self._error(end, "a second document begins, expected one", "put all settings into one")
        if node.value == Text("", plain=True):
            return {}
        if not isinstance(node.value, dict):
            found = "a list" if isinstance(node.value, list) else "a single value"
            raise self._error(event, f"{found} at the top, expected settings", "write a setting as 'seed: 1'")
        return node.value

    def _next(self) -> Any:
        try:
            return next(self.events)
        except yaml.reader.ReaderError as error:
            line = self.text[: error.position].count("\n") + 1
            problem = (
                f"character {error.character:#x} is not allowed" if isinstance(error.character, int) else "no text"
            )
            raise self._error(line, problem, 'write it as an escape in double quotes, such as "\\0"') from error
        except yaml.MarkedYAMLError as error:
            raise self._syntax_error(error) from error

    def _syntax_error(self, error: yaml.MarkedYAMLError) -> UsageError:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        written = self.text.splitlines()[line - 1 : line]
        before_text = written[0][: len(written[0]) - len(written[0].lstrip())] if written else ""
        if "\t" in before_text:
            return self._error(line, "a tab at the start of the line, expected spaces", "indent with spaces")
        context = f" {error.context}" if error.context else ""
        return self._error(
            line, f"no valid YAML: {error.problem}{context}", "put text with special characters in quotes"
        )

    def _error(self, at: Any, problem: str, hint: str) -> UsageError:
        line = at if isinstance(at, int) else at.start_mark.line + 1
        return UsageError(f"{self.name}:{line}: {problem}", hint)

    def _node(self, event: Any, depth: int) -> Node:
        self._refuse(event, depth)
        where = f"{self.name}:{event.start_mark.line + 1}"
        if isinstance(event, yaml.ScalarEvent):
            return Node(Text(event.value, plain=event.style is None), where)
        if isinstance(event, yaml.SequenceStartEvent):
            return Node(self._list(depth), where)
        return Node(self._dict(depth), where)

    def _refuse(self, event: Any, depth: int) -> None:
        """Refuse what settings never need: tags, anchors, depth."""
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            mark = "*" if isinstance(event, yaml.AliasEvent) else "&"
            hint = "repeat the value, refer to it as ${section.name}, or put text in quotes"
            raise self._error(event, f"'{mark}{event.anchor}' is an anchor or alias, which are not allowed", hint)
        if event.tag is not None:
            tag = event.tag.replace(YAML_TAGS, "!!", 1)
            raise self._error(event, f"the tag '{tag[:60]}' is not allowed", "write the plain value")
        if depth > DEEPEST_NESTING:
            raise self._error(event, f"nested deeper than {DEEPEST_NESTING} levels", "settings have three levels")

    def _list(self, depth: int) -> list[Node]:
        items = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            items.append(self._node(event, depth + 1))
        return items

    def _dict(self, depth: int) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            if not isinstance(key.value, Text):
                raise self._error(event, "a name is a list or a section, expected text", "write 'name: value'")
            name = key.value.text
            if name in entries:
                first = entries[name].where.rpartition(":")[2]
                raise self._error(event, f"'{name}' is given twice, first on line {first}", "leave one of them out")
            entries[name] = Node(self._node(self._next(), depth + 1).value, key.where)
        return entries
