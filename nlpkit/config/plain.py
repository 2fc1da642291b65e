"""Settings as plain values and as YAML: what checkpoints, bundles and run folders hold."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from nlpkit.files import write_bytes


def flat(plain: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """The settings of nested sections by dotted key; an empty dict stays one."""
    pairs: list[tuple[str, Any]] = []
    for name, value in plain.items():
        inner = isinstance(value, Mapping) and value
        pairs += flat(value, f"{prefix}{name}.") if inner else [(prefix + name, value)]
    return pairs


def to_plain(config: Any) -> dict[str, Any]:
    """Turn a run's settings, or one section of them, into dicts, lists, text, numbers, truth values and None.

    Raises:
        TypeError: something else stands in it.
    """
    return {field.name: _plain_value(getattr(config, field.name)) for field in dataclasses.fields(config)}


def _plain_value(value: Any) -> Any:
    """A copy in the plain types themselves, not in subclasses such as numpy's."""
    if dataclasses.is_dataclass(value):
        return to_plain(value)
    if isinstance(value, Mapping):
        return {_plain_value(key): _plain_value(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_value(inner) for inner in value]
    if value is None or isinstance(value, bool):
        return value
    for plain in (str, int, float):
        if isinstance(value, plain):
            return str.__str__(value) if plain is str else plain(value)
    raise TypeError(f"{type(value).__name__} is no plain value")


class _Dumper(yaml.SafeDumper):
    """Puts texts in quotes that mean something else without them, and each on one line."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "'" if "${" in text or text.lower() == "none" else None
    style = '"' if len(f"{text}.".splitlines()) > 1 else style
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def to_yaml(plain: Mapping[str, Any]) -> str:
    """Write nested sections as YAML that ``--config`` takes."""
    return yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**30)


def one_line(value: Any) -> str:
    """Write one value as it stands behind ``key:`` in YAML."""
    flow = yaml.dump([value], Dumper=_Dumper, default_flow_style=True, allow_unicode=True, width=2**30)
    return flow.strip()[1:-1]


def save(config: Any, path: str | os.PathLike[str]) -> None:
    """Write a run's settings as YAML, whole or not at all.

    Raises:
        ResourceError: the disk is full.
        RunFolderError: the folder cannot be written.
    """
    write_bytes(Path(path), to_yaml(to_plain(config)).encode())
