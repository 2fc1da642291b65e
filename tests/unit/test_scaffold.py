"""What `plugins new` writes, and which names and folders it refuses."""

from __future__ import annotations

import ast
import csv
import json
import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nlpkit as package
from nlpkit.errors import NlpkitError, RunFolderError, UsageError
from nlpkit.plugins import Registry
from nlpkit.scaffold import FORMS, new_plugin
from nlpkit.scaffold.forms import bounds
from nlpkit.scaffold.names import LONGEST, check_name

ROOT = Path(package.__file__).parents[1]
LONG = "question-answering-for-long-contracts-40"
NAMES = {
    "classification": "emotion",
    "multilabel": "topics",
    "tagging": "k9",
    "regression": "stars",
    "pair": LONG,
    "generation": "two-words",
}
"""A name for each form: an ordinary one, the shortest, which Python could take for a constant, and the longest."""
SLOW = ("torch", "transformers", "torchmetrics", "pytorch_lightning", "numpy", "omegaconf")
MYPY = f"""
[mypy]
strict = True
[mypy-{",".join(f"{name}.*" for name in (*SLOW, "tokenizers", "safetensors", "click", "rich", "yaml"))}]
follow_imports = skip
ignore_missing_imports = True
[mypy-nlpkit.*]
ignore_errors = True
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A plugin of each form."""
    home = tmp_path_factory.mktemp("new")
    for form, name in NAMES.items():
        new_plugin(name, form, home / form)
    return {form: home / form for form in NAMES}


def package_of(folder: Path) -> Path:
    (init,) = folder.glob("nlpkit_*/__init__.py")
    return init.parent


def run(*arguments: str, cwd: Path) -> str:
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def refused(name: str) -> tuple[str, str]:
    with pytest.raises(UsageError) as caught:
        check_name(name)
    return caught.value.message, caught.value.hint


def test_there_is_a_name_for_every_form() -> None:
    assert NAMES.keys() == FORMS.keys()
    assert len(LONG) == LONGEST


@pytest.mark.parametrize("form", FORMS)
def test_plugin_is_a_whole_distribution(folders: dict[str, Path], form: str) -> None:
    folder, module = folders[form], check_name(NAMES[form]).module
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    inside = {f"nlpkit_{module}/{name}" for name in ("__init__.py", "py.typed", "sample.csv")}
    more = {f"nlpkit_{module}/head.py"} if form == "generation" else set()
    assert files == {".gitignore", "README.md", "pyproject.toml", f"tests/test_{module}.py", *inside, *more}

    project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["name"] == f"nlpkit-{NAMES[form]}"
    assert project["entry-points"]["nlpkit"] == {NAMES[form]: f"nlpkit_{module}"}


def test_dependencies_have_the_bounds_of_the_core(folders: dict[str, Path]) -> None:
    core = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    written = tomllib.loads((folders["generation"] / "pyproject.toml").read_text("utf-8"))["project"]
    assert set(written["dependencies"]) - set(core["dependencies"]) == {f"nlpkit-core{bounds(core['version'])}"}
    tools = {re.split("[>=]", tool)[0]: tool for tool in core["optional-dependencies"]["dev"]}
    assert written["optional-dependencies"]["dev"] == [tools[name] for name in ("mypy", "pytest", "ruff")]


@pytest.mark.parametrize(
    ("version", "expected"), [("0.1.0", ">=0.1,<0.2"), ("0.12.3", ">=0.12,<0.13"), ("1.4.2", ">=1.4,<2")]
)
def test_bounds_end_where_the_next_version_may_break(version: str, expected: str) -> None:
    assert bounds(version) == expected


@pytest.mark.parametrize("form", FORMS)
def test_sample_has_rows_enough_and_no_row_twice(folders: dict[str, Path], form: str) -> None:
    with open(package_of(folders[form]) / "sample.csv", encoding="utf-8") as file:
        rows = [tuple(row.values()) for row in csv.DictReader(file, strict=True)]
    assert len(rows) >= 24
    assert len(set(rows)) == len(rows)
    assert all(cell == cell.strip() for row in rows for cell in row)
    assert all(map(all, rows)) or form == "multilabel"  # of which a text may have none


def test_code_is_clean(folders: dict[str, Path]) -> None:
    for folder in folders.values():  # from within, as its author does
        run("-m", "ruff", "check", "--no-cache", ".", cwd=folder)
        run("-m", "ruff", "format", "--no-cache", "--check", ".", cwd=folder)


def test_code_is_typed(folders: dict[str, Path], tmp_path: Path) -> None:
    """Without what torch and its like say of themselves, for which mypy takes a minute."""
    (tmp_path / "mypy.ini").write_text(MYPY, "utf-8")
    options = ["--config-file", str(tmp_path / "mypy.ini"), "--cache-dir", "/dev/null"]
    run("-m", "mypy", *options, *(str(package_of(folder)) for folder in folders.values()), cwd=ROOT)


@pytest.mark.parametrize("name", [LONG, "testimony"])
def test_code_is_clean_whatever_the_name(tmp_path: Path, name: str) -> None:
    for form in FORMS:
        new_plugin(name, form, tmp_path / form)
    run("-m", "ruff", "check", "--no-cache", ".", cwd=tmp_path)
    run("-m", "ruff", "format", "--no-cache", "--check", ".", cwd=tmp_path)


def test_only_tests_look_like_tests_to_pytest(tmp_path: Path) -> None:
    new_plugin("testimony", out=tmp_path / "new")
    names = ast.walk(ast.parse((tmp_path / "new/tests/test_testimony.py").read_text("utf-8")))
    assert not [a for n in names if isinstance(n, ast.alias) for a in [n.asname or n.name] if a.startswith("Test")]


def test_commands_and_plugins_import_what_is_heavy_when_they_need_it(folders: dict[str, Path]) -> None:
    packages = [package_of(folder) for folder in folders.values()]
    program = f"""
import sys
from nlpkit.cli import main
assert main(["plugins", "list"]) == 0
assert "jinja2" not in sys.modules and "nlpkit.scaffold" not in sys.modules
assert main(["plugins", "new", "light", "--out", "light"]) == 0
sys.path += {[str(path.parent) for path in packages]}
for name in {[path.name for path in packages]}:
    assert __import__(name).nlpkit_datasets()
print([name for name in {SLOW} if name in sys.modules])
"""
    assert run("-c", program, cwd=folders["pair"].parent).endswith("[]\n")


@pytest.mark.parametrize("form", FORMS)
def test_no_name_hides_one_that_the_code_uses(folders: dict[str, Path], form: str) -> None:
    own = check_name(NAMES[form]).task_class
    for name in bound_names(package_of(folders[form])) - {own}:
        typed = re.sub(r"(?<=.)(?=[A-Z])", "-", name).lower()
        if name == "".join(word.capitalize() for word in typed.split("-")):
            refused(typed)


def bound_names(folder: Path) -> set[str]:
    """What modules of a folder import, assign and define."""
    found: set[str] = set()
    for path in folder.glob("*.py"):
        body = ast.parse(path.read_text("utf-8")).body
        for node in [*body, *chain.from_iterable(part.body for part in body if isinstance(part, ast.If))]:
            if isinstance(node, ast.Import | ast.ImportFrom):
                found |= {alias.asname or alias.name for alias in node.names}
            elif isinstance(node, ast.ClassDef | ast.FunctionDef):
                found.add(node.name)
            elif isinstance(node, ast.Assign):
                found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("Emotion", "emotion"),
        ("sixEmotions", "six-emotions"),
        ("six emotions", "six-emotions"),
        ("six_emotions", "six-emotions"),
        ("-emotion-", "emotion"),
        ("Gefühl", "gefuhl"),
        ("2d", "my-2d"),
        ("", "emotion"),
        ("感情", "emotion"),
        ("../emotion", "emotion"),
        ("emotion\n", "emotion"),
    ],
)
def test_name_of_another_form_is_refused_with_the_one_that_was_meant(name: str, meant: str) -> None:
    assert refused(name) == (
        f"{name!r} cannot name a plugin: expected lower-case words joined by '-', such as two-words",
        f"nlpkit plugins new {meant}",
    )


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("nlpkit-emotion", "'nlpkit-emotion': the name is that of the task, without 'nlpkit-'", "emotion"),
        ("class", "'class' is a keyword of Python and cannot name a plugin", "my-class"),
        ("none", "'none' is a keyword of Python and cannot name a plugin", "my-none"),
        (
            "task",
            "'task' cannot name a plugin: its class would be Task, a name that its code has another use for",
            "my-task",
        ),
        (
            "warning",
            "'warning' cannot name a plugin: its class would be Warning, a name that its code has another use for",
            "my-warning",
        ),
        (
            "o",
            "'o' cannot name a plugin: its class would be O, which is hard to tell from a digit",
            "my-o",
        ),
        (
            "seed",
            "'seed' cannot name a plugin: a row has that already, so that the task could share a model with no other",
            "my-seed",
        ),
        ("core", "'core' cannot name a plugin: nlpkit-core is nlpkit's own", "my-core"),
        ("x" * 41, f"'{'x' * 41}' has 41 characters: a name may have 40", "NAME"),
    ],
)
def test_name_that_has_another_use_is_refused(name: str, message: str, hint: str) -> None:
    assert refused(name) == (message, f"nlpkit plugins new {hint}")


@settings(max_examples=60)
@given(st.text("ab2BÉ-_ .\n", max_size=50))
def test_hint_for_any_name_is_a_name(name: str) -> None:
    for _ in range(3):  # a hint may be refused once more, as a keyword is, and then leads on
        try:
            check_name(name)
            return
        except UsageError as error:
            name = error.hint.removeprefix("nlpkit plugins new ").replace("NAME", "emotion")
    check_name(name)


def test_name_that_is_installed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        new_plugin("mlm-nsp", out=tmp_path / "new")
    assert caught.value.message == f"'mlm-nsp' is taken by plugin {Registry().owner('task', 'mlm+nsp')}"
    assert caught.value.hint == "nlpkit plugins new my-mlm-nsp"


def test_name_of_a_plugin_that_is_switched_off_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = tmp_path / "nlpkit_emotion-0.3.0.dist-info"
    metadata.mkdir()
    (metadata / "entry_points.txt").write_text("[nlpkit]\nmood = nowhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("NLPKIT_PLUGINS", "-mood")
    for name in ("emotion", "mood"):
        with pytest.raises(UsageError) as caught:
            new_plugin(name, out=tmp_path / "new")
        assert caught.value.message == f"'{name}' is taken by plugin 'mood' (nlpkit-emotion 0.3.0)"


def test_name_of_an_installed_task_is_refused(tmp_path: Path) -> None:
    new_plugin("outer", out=tmp_path / "outer")
    file = tmp_path / "outer/nlpkit_outer/__init__.py"
    file.write_text(file.read_text("utf-8").replace('name = "outer"', 'name = "inner"'), "utf-8")
    with pytest.raises(UsageError) as caught:
        new_plugin("inner", out=tmp_path / "inner", registry=Registry([str(file)]))
    assert caught.value.message == f"'inner' is a task of plugin 'nlpkit_outer' ({file})"
    assert not (tmp_path / "inner").exists()


def test_unknown_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        new_plugin("emotion", "taging", tmp_path / "new")
    assert caught.value.message == "unknown form 'taging'"
    assert (
        caught.value.hint
        == "did you mean 'tagging'? forms: classification, multilabel, tagging, regression, pair, generation"
    )


@pytest.mark.parametrize("kind", ["folder", "file", "dead link"])
def test_place_that_is_taken_stays_as_it_is(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "new"
    if kind == "folder":
        place.mkdir()
    elif kind == "file":
        place.write_text("mine")
    else:
        place.symlink_to("nowhere")
    with pytest.raises(RunFolderError) as caught:
        new_plugin("emotion", out=place)
    assert caught.value.message == f"{place}: exists already, and nothing in it is overwritten"
    assert caught.value.hint == "choose another folder with --out DIR, or delete this one first"
    assert list(tmp_path.iterdir()) == [place]


def test_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunFolderError) as caught:
        new_plugin("emotion", out=tmp_path / "file/new")
    assert caught.value.message == f"{tmp_path}/file/new: cannot be written (Not a directory)"
    assert caught.value.hint == "choose another folder with --out DIR"


def test_plugin_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if path.name == "sample.csv":
            raise OSError(28, "No space left on device")
        return written(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(NlpkitError) as caught:
        new_plugin("emotion", out=tmp_path / "new")
    assert caught.value.exit_code == 6
    assert list(tmp_path.iterdir()) == []


def test_command_writes_where_we_are_and_says_what_to_type(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    ended = command("plugins", "new", "emotion")

    assert ended.code == 0, ended.err
    assert sorted(ended.out.splitlines()) == sorted(
        path.relative_to(tmp_path).as_posix() for path in (tmp_path / "nlpkit-emotion").rglob("*") if path.is_file()
    )
    assert ended.err == (
        "next:\n  cd nlpkit-emotion\n  pip install -e '.[dev]'\n  pytest\n  nlpkit fit --task emotion\n"
    )


def test_help_says_what_each_form_gives(command: Any) -> None:
    lines = [" ".join(line.split()) for line in command("plugins", "new", "--help").out.splitlines()]
    assert [line for line in lines if line.split(" ")[0] in FORMS] == [
        f"{form} {gives}" for form, gives in FORMS.items()
    ]


def test_command_prints_json(command: Any, tmp_path: Path) -> None:
    ended = command("plugins", "new", "emotion", "--form", "pair", "--out", tmp_path / "a b", "--json", "--quiet")

    told = json.loads(ended.out)
    assert (ended.code, ended.err) == (0, "")
    assert all(Path(path).is_file() for path in told["files"])
    assert told["next"][0] == f"cd '{tmp_path}/a b'"


@pytest.mark.parametrize(("name", "code"), [("Emotion", 2), ("emotion", 8)])
def test_command_ends_with_the_code_of_its_kind(command: Any, tmp_path: Path, name: str, code: int) -> None:
    ended = command("plugins", "new", name, "--out", tmp_path)
    assert (ended.code, ended.out) == (code, "")
