"""The example plugins of docs/examples: as large as the docs say, found by their entry points, and used as any task."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForQuestionAnswering

from nlpkit.plugins import registry as registry_module

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(p.parent for p in (ROOT / "docs" / "examples").glob("*/pyproject.toml"))
LINES = 60
TINY = ("model.preset=tiny", "model.vocabulary=600", "trainer.max_steps=2", "trainer.threads=1", "task.max_length=64")
ASKED = {
    "emotion": {"text": "I could dance"},
    "paraphrase": {"first": "Is it red?", "second": "Which colour has it?"},
    "question-answering": {"context": "The bus leaves at ten.", "question": "When does the bus leave?"},
}


def project(example: Path) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((example / "pyproject.toml").read_text("utf-8"))["project"]
    return found


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every example as pip would leave it for the host: its package on ``sys.path``, and its metadata."""
    for example in EXAMPLES:
        about = project(example)
        name = f"{about['name'].replace('-', '_')}-{about['version']}.dist-info"
        metadata = tmp_path / "site" / name
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {about['version']}\n"
        )
        entries = "\n".join(f"{key} = {value}" for key, value in about["entry-points"]["nlpkit"].items())
        (metadata / "entry_points.txt").write_text(f"[nlpkit]\n{entries}\n")
        monkeypatch.syspath_prepend(str(example))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(registry_module, "_said", set())


def sample(example: Path) -> Path:
    (found,) = [p for p in example.rglob("sample.*") if "tests" not in p.parts]
    return found


def test_examples_are_these() -> None:
    assert [example.name for example in EXAMPLES] == list(ASKED)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.name)
def test_example_has_its_task_in_one_file_of_sixty_lines_at_most(example: Path) -> None:
    (code,) = (path for path in example.rglob("*.py") if "tests" not in path.parts)

    assert len(code.read_text("utf-8").splitlines()) <= LINES


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.name)
def test_example_is_complete(example: Path) -> None:
    about = project(example)
    (package,) = about["entry-points"]["nlpkit"].values()

    assert about["name"] == f"nlpkit-{example.name}"
    assert (example / package / "__init__.py").is_file()
    assert (example / "README.md").read_text("utf-8").startswith(f"# nlpkit-{example.name}\n")
    assert f"test_{example.name.replace('-', '_')}" in next((example / "tests").glob("test_*.py")).read_text("utf-8")


@pytest.mark.usefixtures("installed")
def test_examples_are_found_by_their_entry_points(command: Any) -> None:
    listed = {row["name"]: row["plugin"]["distribution"] for row in json.loads(command("tasks", "--json").out)}
    for example in EXAMPLES:
        assert listed[example.name] == f"nlpkit-{example.name}"


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.name)
def test_example_is_fitted_evaluated_and_asked(example: Path, tmp_path: Path, command: Any) -> None:
    run, data = tmp_path / "run", sample(example)

    fitted = command("fit", "--task", example.name, data, "--out", run, *TINY)
    scored = command("evaluate", run, data, "--json")
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps(ASKED[example.name]) + "\n", "utf-8")
    asked = command("predict", run, rows)

    assert fitted.code == 0, fitted.err
    assert "stand more than once" not in fitted.err  # a first text stands in two pairs, each pair once
    assert scored.code == 0, scored.err
    assert all(0 <= value <= 1 for key, value in json.loads(scored.out)["scores"].items() if key != "loss")
    (answer,) = map(json.loads, asked.out.splitlines())
    assert answer.items() > ASKED[example.name].items()
    if example.name == "question-answering":
        assert answer["context"][answer["start"] : answer["end"]] == answer["answer"]
        assert answer["read"] == len(answer["context"])
        assert (
            type(AutoModelForQuestionAnswering.from_pretrained(run / "model")).__name__
            == "ModernBertForQuestionAnswering"
        )


@pytest.mark.usefixtures("installed")
def test_contexts_that_are_cut_are_counted(tmp_path: Path, command: Any) -> None:
    rows = [
        json.loads(line) for line in sample(ROOT / "docs/examples/question-answering").read_text("utf-8").splitlines()
    ]
    rows = [{**row, "context": row["context"] + " And so on, and on." * 30} for row in rows]
    data = tmp_path / "long.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")

    fitted = command("fit", "--task", "question-answering", data, "--out", tmp_path / "run", *TINY)

    assert "100% of the texts are longer than 64 tokens and are cut (task.max_length)" in fitted.err
