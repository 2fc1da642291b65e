"""Every block of code in README and docs runs, in order, in one folder a page; trainings are shortened by settings."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import api_page
import config_page
import hooks_page
import presets_page
import pytest
import yaml
from commands import forked

import nlpkit
from nlpkit import bundle, hookspecs
from nlpkit.config import describe
from nlpkit.heads import Head
from nlpkit.task import Task

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "docs").rglob("*.md"))]
LINKED = [*PAGES, *sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "plugins").glob("*/README.md"))]
BLOCK = re.compile(r"(?:<!-- file: (?P<file>\S+) -->\n)?^```(?P<kind>\w+)\n(?P<code>.*?)^```$", re.M | re.S)
RUN = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}
SHORT = {
    "nlpkit pretrain": "model.preset=tiny model.vocabulary=600 model.sequence_length=64 trainer.max_steps=4",
    "nlpkit fit": "trainer.max_steps=4",
}
FEW = ["trainer.max_steps=4"]
CASE = re.compile(r"\b[CDKMR]\d\d\b")
TEST = re.compile(r"`(\w+/\w+\.py)::(\w+)`")
LINK = re.compile(r"\]\((?!https?:)([^)\s]+)\)")
FENCED = re.compile(r"^(```+).*?^\1$", re.M | re.S)
HEADING = re.compile(r"^#+ (.+)$", re.M)


@pytest.fixture(scope="module")
def commands() -> Iterator[Path]:
    with forked() as folder:
        yield folder


@pytest.mark.parametrize("page", PAGES)
def test_docs_blocks_run(page: str, commands: Path, tmp_path: Path) -> None:
    environ = environment(tmp_path, [commands] if page != "README.md" else [])  # as a user's: README's in new processes
    for match in BLOCK.finditer((ROOT / page).read_text("utf-8")):
        if match["file"]:
            (tmp_path / match["file"]).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / match["file"]).write_text(match["code"], "utf-8")
        elif words := RUN.get(match["kind"]):
            command = [*words, shortened(match["code"])]
            done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)
            assert done.returncode == 0, f"{match['code']}\n{done.stderr[-2000:]}"


@pytest.mark.parametrize("page", LINKED)
def test_docs_links_lead_somewhere(page: str) -> None:
    dead = []
    for link in LINK.findall(FENCED.sub("", (ROOT / page).read_text("utf-8"))):
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert dead == []


def anchors(page: Path) -> list[str]:
    """What the headings of a page are called in links: by GitHub, and by the site where no heading comes twice."""
    headings = HEADING.findall(FENCED.sub("", page.read_text("utf-8")))
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading) for heading in headings]
    return [re.sub(r"[^\w\s-]", "", heading.lower()).strip().replace(" ", "-") for heading in plain]


def test_docs_anchors_are_those_of_headings(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A task: what, why?\n\n```bash\n# no heading\n```\n\n## `code_of` [x](y.md)\n", "utf-8")
    assert anchors(page) == ["a-task-what-why", "code_of-x"]


def shortened(code: str) -> str:
    lines = []
    for line in code.splitlines():
        for start, settings in SHORT.items():
            if line.startswith(start):
                command, *comment = line.split("  #")
                line = f"{command} {settings}" + "".join(f"  #{c}" for c in comment)
        lines.append(line.replace('"sentiment", "shop', 'data="shop').replace("out=", f"overrides={FEW}, out="))
    return "\n".join(lines)


def environment(folder: Path, programs: Sequence[Path]) -> dict[str, str]:
    return {
        **os.environ,
        "PATH": os.pathsep.join(map(str, [*programs, Path(sys.executable).parent, os.environ["PATH"]])),
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


def test_docs_every_page_stands_in_the_site() -> None:
    pages = {p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")}
    named = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]
    assert sorted(pages_of(named)) == sorted([*pages, *site_of_docs().PLUGINS.values()])


@pytest.mark.parametrize(
    ("page", "link", "led"),
    [
        ("results.md", "../plugins/ner/README.md#scores", "tasks/ner.md#scores"),
        ("how-to/devices.md", "../../plugins/ner/README.md", "../tasks/ner.md"),
        ("how-to/devices.md", "../results.md#speed", "../results.md#speed"),
        ("how-to/devices.md", "../../README.md#settings", "../index.md"),
        ("tasks/ner.md", "../../docs/results.md#speed", "../results.md#speed"),
        ("tasks/ner.md", "#scores", "#scores"),
        ("tutorial.md", "../nlpkit/task.py", "../nlpkit/task.py"),
    ],
)
def test_docs_links_lead_to_the_pages_of_the_site(page: str, link: str, led: str) -> None:
    assert site_of_docs().led(f"see [this]({link}), and [that](https://a.b)", page) == (
        f"see [this]({led}), and [that](https://a.b)"
    )


def site_of_docs() -> Any:
    """What docs/site.py has; its name is that of a module of Python, too."""
    spec = importlib.util.spec_from_file_location("site_of_docs", ROOT / "docs" / "site.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pages_of(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [page for part in (nav.values() if isinstance(nav, dict) else nav) for page in pages_of(part)]


def test_docs_promise_the_versions_of_the_code() -> None:
    page = (ROOT / "docs/explanation/stability.md").read_text("utf-8")
    assert f"`nlpkit.hookspecs.API_VERSION` is {hookspecs.API_VERSION}." in page
    assert f"`format_version`, which is {bundle.FORMAT_VERSION}." in " ".join(page.split())


def test_docs_of_migration_name_settings_that_there_are() -> None:
    page = (ROOT / "docs/how-to/from-hugging-face.md").read_text("utf-8")
    table = page.partition("## The settings, name by name")[2].partition("\n## ")[0]
    named = re.findall(r"`((?:optim|trainer|task|checkpoint)\.\w+|strategy)", table)
    assert len(named) > 15
    assert set(named) <= {row.key for row in describe(Task)}


def test_docs_of_hooks_are_those_of_the_code() -> None:
    assert hooks_page.PAGE.read_text("utf-8") == hooks_page.page(), "python tests/support/hooks_page.py"


def test_docs_of_the_python_interface_are_its_docstrings() -> None:
    assert api_page.PAGE.read_text("utf-8") == api_page.page(), "python tests/support/api_page.py"


def test_docs_name_every_public_name_of_python() -> None:
    named = (*api_page.FUNCTIONS, *api_page.CLASSES, *api_page.OF_TASKS, *api_page.ERRORS, "__version__")
    assert sorted(named) == sorted(nlpkit.__all__)


@pytest.mark.parametrize(("cls", "moments"), [(Task, hooks_page.TASK), (Head, hooks_page.HEAD)])
def test_docs_say_of_every_method_when_it_is_called(cls: type, moments: dict[str, str]) -> None:
    assert sorted(moments) == sorted(hooks_page.offered(cls))


def test_docs_say_of_every_attribute_and_method_who_writes_it() -> None:
    seldom = [f"{cls}.{name}" for cls, names in hooks_page.HARDLY_ANY.items() for name in names]
    told = [*hooks_page.to_write(), *hooks_page.SOME, *seldom]
    assert sorted(told) == sorted(f"{cls}.{name}" for cls, names in hooks_page.named().items() for name in names)


@pytest.mark.parametrize("name", ["nlpkit_emotion/__init__.py", "pyproject.toml", "tests/test_emotion.py"])
def test_docs_tutorial_ends_with_the_example_to_the_letter(name: str) -> None:
    blocks = BLOCK.finditer((ROOT / "docs/write-a-task.md").read_text("utf-8"))
    written = {match["file"]: match["code"] for match in blocks if match["file"]}
    assert written[f"nlpkit-emotion/{name}"] == (ROOT / "docs/examples/emotion" / name).read_text("utf-8")
