"""The plugin host: find, load, isolate, name owners, report."""

from __future__ import annotations

from nlpkit.plugins.installed import Plugin, Problem
from nlpkit.plugins.registry import Registry, Stage

__all__ = ["Plugin", "Problem", "Registry", "Stage"]
