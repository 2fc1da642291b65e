"""Which plugins are installed, read off the metadata folders on ``sys.path`` without importing any of them.

The folders are read directly because ``importlib.metadata`` costs more than everything else that ``nlpkit tasks`` does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

GROUP = "nlpkit"
CORE = "nlpkit-core"
PACKAGE = "__init__.py"


class Plugin(NamedTuple):
    """A plugin as its metadata tells; nothing of it is imported.

    Args:
        name: of the entry point, or of the file without ``.py``.
        distribution: the package to install or uninstall; empty for a file named by ``--plugin``.
        version: of the distribution.
        value: ``module`` or ``module:object``, or the path of the file; of a package that of its ``__init__.py``.
    """

    name: str
    distribution: str
    version: str
    value: str

    @classmethod
    def of_file(cls, path: str) -> Plugin:
        """A file, or a folder that is a package; that of its ``__init__.py`` is the same."""
        path = os.path.join(path, PACKAGE) if os.path.isdir(path) else path
        whole = os.path.abspath(path)
        named = os.path.dirname(whole) if os.path.basename(whole) == PACKAGE else whole
        return cls(os.path.basename(named).removesuffix(".py"), "", "", path)

    @property
    def file(self) -> str:
        """What names it in ``--plugin``, seen from the folder that it lies in; empty for one that is installed."""
        if self.distribution:
            return ""
        return f"{self.name}/{PACKAGE}" if os.path.basename(self.value) == PACKAGE else f"{self.name}.py"

    def is_module_of(self, other: Plugin) -> bool:
        """Whether a file is what an installed plugin imports, or is called so, as where it is being written."""
        path = os.path.abspath(self.value).removesuffix(f"{os.sep}{PACKAGE}").removesuffix(".py")
        module = other.value.partition(":")[0].replace(".", os.sep)
        return bool(other.distribution) and path.endswith(f"{os.sep}{module}")

    @property
    def owner(self) -> str:
        """Distribution and version, or the path of the file."""
        return f"{self.distribution} {self.version}".strip() or self.value

    def __str__(self) -> str:
        return f"'{self.name}' ({self.owner})"


class Problem(NamedTuple):
    """What is wrong with a plugin.

    Args:
        plugin: whose fault it is.
        moment: ``metadata``, ``import``, ``registration``, the name of a hook, or ``clash``.
        error: one line.
        traceback: for the plugin's author; empty where nothing was raised.
        names: what the plugin offered, as far as it is known.
    """

    plugin: Plugin
    moment: str
    error: str
    traceback: str = ""
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"plugin {self.plugin}: {self.moment}: {self.error}"


def find_installed(paths: Sequence[str] | None = None) -> tuple[list[Plugin], list[Problem]]:
    """Read the entry points of group ``nlpkit``: the core's first, then by distribution and name.

    Of a distribution that lies in several folders of the path the first one counts, as for imports.

    Args:
        paths: folders to look into; ``sys.path`` where None.
    """
    plugins: list[Plugin] = []
    problems: list[Problem] = []
    seen: dict[str, str] = {}
    for folder in dict.fromkeys(path or os.curdir for path in (sys.path if paths is None else paths)):
        for entry in _metadata_folders(folder):
            name, version = _identity(entry)
            twice = seen.setdefault(name, folder) != folder
            text = "" if twice else _entry_points(entry, name, version, problems)
            plugins += _parse(text, name, version or _version_inside(entry), problems) if f"[{GROUP}]" in text else []
    _drop_older(plugins, problems)
    return sorted(plugins, key=lambda p: (p.distribution != CORE, p.distribution, p.name)), problems


def _metadata_folders(folder: str) -> list[str]:
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return sorted(os.path.join(folder, name) for name in names if name.endswith((".dist-info", ".egg-info")))


def _identity(folder: str) -> tuple[str, str]:
    stem = os.path.basename(folder).rsplit(".", 1)[0]
    name, _, rest = stem.partition("-")
    return normalised(name), rest.partition("-")[0]


def normalised(name: str) -> str:
    """A name as pip compares it: ``NLPKIT_ner`` is ``nlpkit-ner``."""
    return "-".join(filter(None, name.lower().replace("_", "-").replace(".", "-").split("-")))


def _entry_points(folder: str, name: str, version: str, problems: list[Problem]) -> str:
    try:
        with open(os.path.join(folder, "entry_points.txt"), "rb") as stream:
            return stream.read(1_000_000).decode("utf-8-sig", "replace")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        problems.append(Problem(Plugin("?", name, version, ""), "metadata", f"{error.filename}: {error.strerror}"))
        return ""


def _version_inside(folder: str) -> str:
    for name in ("METADATA", "PKG-INFO"):
        try:
            with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as stream:
                for line in stream:
                    if line.startswith("Version:"):
                        return line.partition(":")[2].strip()
        except OSError:
            continue
    return "of unknown version"


def _parse(text: str, distribution: str, version: str, problems: list[Problem]) -> Iterator[Plugin]:
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1].strip()
        elif section == GROUP and line and line[0] not in "#;":
            name, _, value = map(str.strip, line.partition("="))
            target = value.partition("[")[0].strip()  # extras, which are out of use
            if is_name(name) and all(map(str.isidentifier, target.replace(":", ".", 1).split("."))):
                yield Plugin(name, distribution, version, target)
            else:
                plugin = Plugin("?", distribution, version, value)
                problems.append(Problem(plugin, "metadata", f"entry point {line!a} is not of the form NAME = MODULE"))


def is_name(name: str) -> bool:
    """Whether a name consists of letters, digits, '-', '_' and '.'."""
    return bool(name) and name[0].isalnum() and all(c.isalnum() or c in "-_." for c in name)


def _drop_older(plugins: list[Plugin], problems: list[Problem]) -> None:
    """Keep one of two versions that a failed upgrade left side by side; their modules are the same files."""
    kept: dict[tuple[str, str], Plugin] = {}
    for plugin in list(plugins):
        other = kept.setdefault((plugin.distribution, plugin.name), plugin)
        if other is not plugin:
            plugins.remove(other)
            kept[plugin.distribution, plugin.name] = plugin
            error = f"installed twice, also as version {other.version}; reinstall {plugin.distribution}"
            problems.append(Problem(plugin, "metadata", error))
