"""Every block of code in README and docs runs, in order, in one folder a page; trainings are shortened by settings."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import config_page
import presets_page
import pytest

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"(?:<!-- file: (?P<file>\S+) -->\n)?^```(?P<kind>bash|python)\n(?P<code>.*?)^```$", re.M | re.S)
SHORT = {
    "nlpkit pretrain": "model.preset=tiny model.vocabulary=600 model.sequence_length=64 trainer.max_steps=4",
    "nlpkit fit": "trainer.max_steps=4",
}
FEW = ["trainer.max_steps=4"]
CASE = re.compile(r"\b[CDKMR]\d\d\b")
TEST = re.compile(r"`(\w+/\w+\.py)::(\w+)`")
LINK = re.compile(r"\]\((?!http)([^)#]+)[^)]*\)")


@pytest.mark.parametrize("page", PAGES)
def test_docs_blocks_run(page: str, tmp_path: Path) -> None:
    for match in BLOCK.finditer((ROOT / page).read_text("utf-8")):
        if match["file"]:
            (tmp_path / match["file"]).write_text(match["code"], "utf-8")
        words = ["bash", "-euo", "pipefail", "-c"] if match["kind"] == "bash" else [sys.executable, "-c"]
        done = subprocess.run(
            [*words, shortened(match["code"])], cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True
        )
        assert done.returncode == 0, f"{match['code']}\n{done.stderr[-2000:]}"


@pytest.mark.parametrize("page", PAGES)
def test_docs_links_lead_somewhere(page: str) -> None:
    targets = LINK.findall((ROOT / page).read_text("utf-8"))
    assert [t for t in targets if not ((ROOT / page).parent / t).exists()] == []


def shortened(code: str) -> str:
    lines = []
    for line in code.splitlines():
        for start, settings in SHORT.items():
            if line.startswith(start):
                command, *comment = line.split("  #")
                line = f"{command} {settings}" + "".join(f"  #{c}" for c in comment)
        lines.append(line.replace('"sentiment", "shop', 'data="shop').replace("out=", f"overrides={FEW}, out="))
    return "\n".join(lines)


def environment(folder: Path) -> dict[str, str]:
    scripts = Path(sys.executable).parent
    return {
        **os.environ,
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "NLPKIT_CACHE": str(folder / "cache"),
        "NLPKIT_CONFIG": str(folder / "settings"),
        "HF_HUB_OFFLINE": "1",
    }


def test_docs_of_reliability_name_the_tests_that_carry_each_id() -> None:
    named: dict[str, set[tuple[str, ...]]] = {}
    for line in (ROOT / "docs/explanation/reliability.md").read_text("utf-8").splitlines():
        if line.startswith("| ") and CASE.fullmatch(case := line.split(" | ")[0].removeprefix("| ")):
            named[case] = set(TEST.findall(line))
    assert all(named.values())
    carried = ids_of_tests()
    assert carried.keys() == named.keys()
    assert {case: tests - carried[case] for case, tests in named.items() if tests - carried[case]} == {}


def ids_of_tests() -> dict[str, set[tuple[str, ...]]]:
    """Of each case, the tests whose docstrings have its id: file and name."""
    found: dict[str, set[tuple[str, ...]]] = {}
    for path in (ROOT / "tests").glob("*/test_*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                for case in CASE.findall(ast.get_docstring(node) or ""):
                    found.setdefault(case, set()).add((f"{path.parent.name}/{path.name}", node.name))
    return found


def test_docs_of_settings_are_those_of_the_schemas() -> None:
    assert config_page.PAGE.read_text("utf-8") == config_page.page(), "python tests/support/config_page.py"


def test_docs_of_presets_are_counted_in_the_modules() -> None:
    assert presets_page.PAGE.read_text("utf-8") == presets_page.page(), "python tests/support/presets_page.py"
