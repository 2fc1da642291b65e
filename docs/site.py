"""What the site has beside docs/: the pages of the plugins; links from one to the other lead there."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PLUGINS = {f"plugins/{p.parent.name}/README.md": f"tasks/{p.parent.name}.md" for p in ROOT.glob("plugins/*/README.md")}
_FILES = {page: file for file, page in PLUGINS.items()}
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the page of each plugin."""
    from mkdocs.structure.files import File

    for file, page in PLUGINS.items():
        files.append(File.generated(config, page, content=(ROOT / file).read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead links as they are among the files to the pages of the site."""
    return led(markdown, page.file.src_uri)


def led(markdown: str, page: str) -> str:
    """The links of a page as the site has them.

    Args:
        markdown: of the page, with links from file to file.
        page: its name in the site.
    """
    folder = posixpath.dirname(_FILES.get(page, f"docs/{page}"))

    def lead(link: re.Match[str]) -> str:
        file = posixpath.normpath(posixpath.join(folder, link[1]))
        if file == "README.md":  # its sections are not those of the first page
            target, anchor = "index.md", ""
        elif file in PLUGINS or file.startswith("docs/"):
            target, anchor = PLUGINS.get(file, file.removeprefix("docs/")), link[2] or ""
        else:
            return link[0]
        return f"]({posixpath.relpath(target, posixpath.dirname(page) or '.')}{anchor})"

    return _LINK.sub(lead, markdown)
