"""The hooks are a promise to plugin authors: their parameters, documentation and examples are pinned here."""

from __future__ import annotations

import inspect
import re
import textwrap
from pathlib import Path

import pytest

import nlpkit
from nlpkit import hookspecs
from nlpkit.plugins.results import KINDS

PARAMETERS: dict[str, list[str]] = {
    "nlpkit_tasks": [],
    "nlpkit_datasets": [],
    "nlpkit_heads": [],
    "nlpkit_metrics": [],
}


def hooks() -> dict[str, object]:
    return {name: value for name, value in vars(hookspecs).items() if hasattr(value, "nlpkit_spec")}


def test_hooks_are_these_with_exactly_these_parameters() -> None:
    found = {name: list(inspect.signature(hook).parameters) for name, hook in hooks().items()}  # type: ignore[arg-type]

    assert found == PARAMETERS


def test_host_calls_every_hook() -> None:
    assert set(KINDS) == set(PARAMETERS)


def test_hooks_return_values_are_all_collected() -> None:
    assert [name for name, hook in hooks().items() if hook.nlpkit_spec["firstresult"]] == []  # type: ignore[attr-defined]


def test_api_version_is_pinned() -> None:
    assert hookspecs.API_VERSION == 1


@pytest.mark.parametrize("name", PARAMETERS)
def test_hook_documents_an_example_with_its_exact_signature(name: str) -> None:
    documentation = inspect.getdoc(getattr(hookspecs, name)) or ""
    definition = f"def {name}({', '.join(PARAMETERS[name])}):"

    example = textwrap.dedent(documentation.partition("Example::\n")[2])

    assert definition in example.splitlines()
    assert "@nlpkit.hookimpl" in example.splitlines()


@pytest.mark.parametrize("name", PARAMETERS)
def test_hook_example_is_accepted_as_an_implementation(name: str) -> None:
    documentation = inspect.getdoc(getattr(hookspecs, name)) or ""
    scope: dict[str, object] = {"nlpkit": nlpkit}

    exec(textwrap.dedent(documentation.partition("Example::\n")[2]), scope)

    assert hasattr(scope[name], "nlpkit_impl")


@pytest.mark.parametrize("name", PARAMETERS)
def test_hook_is_in_the_architecture_page_if_there_is_one(name: str) -> None:
    page = Path(nlpkit.__file__).parents[1] / "docs" / "explanation" / "architecture.md"
    if not page.exists():
        pytest.skip("docs/explanation/architecture.md is not part of this installation")

    assert re.search(rf"`{name}\({', '.join(PARAMETERS[name])}\)`", page.read_text(encoding="utf-8"))
