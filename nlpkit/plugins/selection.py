"""Which of the installed plugins are in use: what the environment says for a process, and the user for all of them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from nlpkit.errors import PluginError, UsageError, nearest
from nlpkit.plugins.installed import CORE, Plugin, normalised
from nlpkit.plugins.switches import switched_off

VARIABLE = "NLPKIT_PLUGINS"


@dataclass(frozen=True)
class Selection:
    """Plugins to use or to leave out, by the name of the plugin or of its distribution; the core's own stay.

    Args:
        only: no others are in use, whatever is switched off; None: all that are not left out.
        without: left out in this process.
        off: switched off by ``nlpkit plugins disable``.
    """

    only: Collection[str] | None = None
    without: Collection[str] = ()
    off: Collection[str] = ()

    @classmethod
    def of_user(cls, environment: Mapping[str, str] = os.environ) -> Selection:
        """What ``NLPKIT_PLUGINS`` says, names or ``-names``, and what is switched off.

        Raises:
            UsageError: both kinds of names, or a file that says nothing of the kind.
        """
        given = environment.get(VARIABLE, "")
        names = [name.strip() for name in given.split(",") if name.strip(" -")]
        minus = [name.removeprefix("-").strip() for name in names if name.startswith("-")]
        if minus and len(minus) < len(names):
            expected = "expected names of plugins to use, or -names of those to leave out, and not both"
            first = next(name for name in names if not name.startswith("-"))
            raise UsageError(f"{VARIABLE} is '{given}', {expected}", f"{VARIABLE}={first} leaves out all others")
        if names and not minus:
            return cls(only=names)
        return cls(without=minus, off=switched_off())

    def why_not(self, plugin: Plugin) -> str:
        """What leaves a plugin out, and the way back; empty: it is in use."""
        if plugin.distribution in ("", CORE):
            return ""
        if self.only is not None:
            return "" if _hits(plugin, self.only) else BY_ENVIRONMENT
        if _hits(plugin, self.without):
            return BY_ENVIRONMENT
        return BY_SWITCH if _hits(plugin, self.off) else ""

    def check(self, installed: Iterable[Plugin]) -> None:
        """Make sure that what the environment names is there; what is switched off need not be.

        Raises:
            PluginError: it is not installed, or it is the core's own and cannot be left out.
        """
        installed = list(installed)
        known = {name for plugin in installed for name in (plugin.name, plugin.distribution)} | {CORE}
        same = set(map(normalised, known))
        for name in (*(self.only or ()), *self.without):
            if normalised(name) not in same:
                names = ", ".join(sorted({plugin.name for plugin in installed})) or "none"
                hint = f"{nearest(name, known)}installed plugins: {names}"
                raise PluginError(f"{VARIABLE} lists '{name}', which is not installed", hint)
        refuse_core(self.without, installed, f"{VARIABLE} lists")

    def stale(self, installed: Iterable[Plugin]) -> list[str]:
        """What is switched off and not installed."""
        known = {normalised(name) for plugin in installed for name in (plugin.name, plugin.distribution)}
        return [name for name in self.off if normalised(name) not in known]


BY_ENVIRONMENT = "NLPKIT_PLUGINS or --no-plugins"
BY_SWITCH = "nlpkit plugins disable"


def _hits(plugin: Plugin, names: Collection[str]) -> bool:
    return not {normalised(plugin.name), normalised(plugin.distribution)}.isdisjoint(map(normalised, names))


def refuse_core(names: Collection[str], installed: Iterable[Plugin], who: str) -> None:
    """Make sure that nothing of these is nlpkit's own.

    Raises:
        PluginError: something is.
    """
    own = {CORE, *(normalised(plugin.name) for plugin in installed if plugin.distribution == CORE)}
    if found := [name for name in names if normalised(name) in own]:
        raise PluginError(f"{who} '{found[0]}', which is nlpkit's own and always in use", "leave it out")
