"""Texts with their entities in colour, as one HTML page that needs nothing else."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

_STYLE = """
body { font: 16px/1.9 system-ui, sans-serif; margin: 2rem auto; max-width: 52rem; padding: 0 1rem; color: #1b1b1b; }
p { border-bottom: 1px solid #e4e4e4; margin: 0; padding: .6rem 0; white-space: pre-wrap; overflow-wrap: anywhere; }
mark { border-radius: .3em; padding: .1em .3em; }
mark, mark small { unicode-bidi: isolate; }
mark small { font-size: .7em; font-weight: 600; margin-left: .4em; }
"""


def page(rows: Iterable[Mapping[str, Any]], labels: Sequence[str]) -> Iterator[str]:
    """The page, part by part; each type has a colour of its own and its name beside each entity.

    Text that runs from right to left, or a character that turns the order, stays within its entity.

    Args:
        rows: ``text``, and ``entities`` with ``start``, ``end``, ``label`` and ``score``.
        labels: the types.
    """
    colours = {label: round(360 * i / max(1, len(labels))) for i, label in enumerate(labels)}
    rules = "".join(f".t{i} {{ background: hsl({hue} 80% 85%); }}\n" for i, hue in enumerate(colours.values()))
    yield f'<!doctype html>\n<html><head><meta charset="utf-8"><title>entities</title><style>{_STYLE}{rules}</style>'
    yield "</head><body>\n"
    for row in rows:
        yield f'<p dir="auto">{_marked(row["text"], row["entities"], list(colours))}</p>\n'
    yield "</body></html>\n"


def _marked(text: str, entities: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> str:
    parts, place = [], 0
    for entity in entities:
        label = html.escape(entity["label"])
        inner = html.escape(text[entity["start"] : entity["end"]])
        parts.append(html.escape(text[place : entity["start"]]))
        parts.append(f'<mark class="t{labels.index(entity["label"])}" title="{entity["score"]:.3f}">')
        parts.append(f"<bdi>{inner}</bdi><small>{label}</small></mark>")
        place = entity["end"]
    return "".join([*parts, html.escape(text[place:])])
