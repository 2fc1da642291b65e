"""What can be said of plugins beyond whether they load: what they need, what they take, what they change."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import Literal, NamedTuple

from packaging.requirements import InvalidRequirement, Requirement

from nlpkit.plugins.installed import Plugin, Problem
from nlpkit.plugins.loading import Loaded
from nlpkit.plugins.registry import Registry

SLOW_SECONDS = 1.0
_OF_DEVELOPERS = {"bench", "dev", "doc", "docs", "lint", "test", "testing", "tests", "typing"}
_SHOWN = 60  # characters of what is printed


class Finding(NamedTuple):
    """What is worth knowing of a plugin that works.

    Args:
        plugin: which one; of what concerns a whole distribution its first.
        level: a ``warning`` is for something that its author should mend, ``information`` for its user.
        topic: ``import``, ``stdout``, ``state``, ``requirement`` or ``extra``.
        text: one line.
    """

    plugin: Plugin
    level: Literal["warning", "information"]
    topic: str
    text: str

    def __str__(self) -> str:
        return f"plugin {self.plugin}: {self.topic}: {self.text}"


def examine(registry: Registry) -> tuple[list[Problem], list[Finding]]:
    """Look at every plugin in use.

    Args:
        registry: watched, so that what plugins change is known.

    Returns:
        What is broken: what does not load, clashes, or needs a distribution that is not there; and the rest.
    """
    problems = registry.problems()
    findings: list[Finding] = []
    for one in registry.loaded():
        findings += _of_import(one)
    first: dict[str, Plugin] = {}
    for plugin in registry.plugins():
        first.setdefault(plugin.distribution, plugin)
    for name, plugin in first.items():
        for found in _of_distribution(plugin) if name else ():
            problems.append(found) if isinstance(found, Problem) else findings.append(found)
    return problems, findings


def _of_import(one: Loaded) -> Iterator[Finding]:
    if one.slow or one.seconds > SLOW_SECONDS:
        takes = f"takes {one.seconds:.1f} seconds" if one.seconds > SLOW_SECONDS else "is slow"
        heavy = f"it imports {', '.join(one.slow)} at once; import inside the functions that use it"
        yield Finding(
            one.plugin, "warning", "import", f"{takes}: {heavy if one.slow else 'do the work when it is due'}"
        )
    if text := " ".join(one.printed.split()):
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
        yield Finding(one.plugin, "warning", "stdout", f"prints '{shown}' as it is imported; use logging")
    if one.changed:
        what = f"changes {', '.join(one.changed)} as it is imported, for the whole process"
        yield Finding(one.plugin, "warning", "state", what)


def _of_distribution(plugin: Plugin) -> Iterator[Problem | Finding]:
    """Hold what its metadata requires against what is installed."""
    try:
        found = metadata.distribution(plugin.distribution)
    except metadata.PackageNotFoundError:
        return
    for text in found.requires or ():
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            yield Finding(plugin, "warning", "requirement", f"'{text}' is no requirement")
            continue
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = installed_version(requirement.name)
        if not version:
            yield Problem(plugin, "requirement", f"needs {_short(requirement)}, which is not installed")
        elif not requirement.specifier.contains(version, prereleases=True):
            yield Finding(plugin, "warning", "requirement", f"needs {_short(requirement)}, installed is {version}")
    yield from _of_extras(plugin, found)


def _of_extras(plugin: Plugin, found: metadata.Distribution) -> Iterator[Finding]:
    for extra in sorted(set(found.metadata.get_all("Provides-Extra") or ()) - _OF_DEVELOPERS):
        if missing := _missing_of_extra(found.requires or (), extra):
            what = f"'{extra}' lacks {', '.join(missing)}; pip install '{plugin.distribution}[{extra}]'"
            yield Finding(plugin, "information", "extra", what)


def _missing_of_extra(requires: Sequence[str], extra: str) -> list[str]:
    missing = []
    for text in requires:
        with contextlib.suppress(InvalidRequirement):
            requirement = Requirement(text)
            marker = requirement.marker
            of_it = marker and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""})
            if of_it and not installed_version(requirement.name):
                missing.append(requirement.name)
    return missing


def _short(requirement: Requirement) -> str:
    """Without its marker."""
    return f"{requirement.name}{requirement.specifier}"


def installed_version(name: str) -> str:
    """Of a distribution; empty: it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
