"""A new plugin: a whole distribution in one of several forms, for its author to change."""

from __future__ import annotations

from nlpkit.scaffold.forms import FORMS, new_plugin

__all__ = ["FORMS", "new_plugin"]
