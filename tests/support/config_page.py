"""Writes docs/config.md from the schemas: python tests/support/config_page.py"""

from __future__ import annotations

import json
from pathlib import Path

from nlpkit.config import describe
from nlpkit.plugins import Registry
from nlpkit.task import Task

PAGE = Path(__file__).parents[2] / "docs" / "config.md"
_HEAD = """# Settings

Every setting of a run, as `nlpkit config docs` explains it; `tests/support/config_page.py` makes this page from the
schemas. Set one with `KEY=VALUE` on the command line, or in the YAML file that `--config` names. Where the values of a
run come from: `nlpkit config show --origin`. What a task sets for itself: `nlpkit config docs --task NAME`.
"""


def page() -> str:
    """The page as Markdown: the settings of all runs, then what each built-in task adds or changes."""
    shared = {row.key: row for row in describe(Task)}
    parts = [_HEAD, _table(list(shared.values()))]
    registry = Registry()
    for task in (*registry.tasks("pretrain").values(), *registry.tasks("finetune").values()):
        rows = describe(task)
        own = [row for row in rows if row.key not in shared or row.default != shared[row.key].default]
        parts += [f"\n## {task.name}: own settings and own defaults\n", _table(own)]
    return "".join(parts)


def _table(rows: list) -> str:  # type: ignore[type-arg]
    lines = ["\n| key | type | default | meaning |\n|---|---|---|---|\n"]
    for row in rows:
        kind = f"{row.type}, {row.allowed}" if row.allowed else row.type
        cells = (f"`{row.key}`", kind, f"`{json.dumps(row.default, ensure_ascii=False)}`", row.doc)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
    return "".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
