"""Bundles that do not fit what is installed: of a newer format, with settings that the task no longer has."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from nlpkit import bundle
from nlpkit.errors import ModelError
from nlpkit.files import write_manifest
from nlpkit.plugins import Registry

Make = Callable[..., bundle.Loaded]


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change nlpkit.json as another version would have written it."""
    path = folder / bundle.RECORD
    record = json.loads(path.read_text("utf-8"))
    change(record)
    path.write_text(json.dumps(record), "utf-8")
    write_manifest(folder)


def refusal(folder: Path, registry: Registry) -> ModelError:
    with pytest.raises(ModelError) as caught:
        bundle.load(str(folder), registry)
    assert caught.value.exit_code == 4
    return caught.value


def test_newer_format_is_refused_with_both_versions(make_bundle: Make, registry: Registry, tmp_path: Path) -> None:
    """C04."""
    make_bundle()
    edit(tmp_path / "model", lambda record: record.update(format_version=2))
    error = refusal(tmp_path / "model", registry)
    found = f"{tmp_path / 'model' / bundle.RECORD}: format 2, this nlpkit reads up to 1"
    assert (error.message, error.hint) == (found, "upgrade nlpkit-core")


@pytest.mark.parametrize("version", [None, 0, "1", 1.5])
def test_format_that_is_none_is_refused(version: Any, make_bundle: Make, registry: Registry, tmp_path: Path) -> None:
    """C04."""
    make_bundle()
    edit(tmp_path / "model", lambda record: record.update(format_version=version))
    message = refusal(tmp_path / "model", registry).message
    assert message == f"{tmp_path / 'model' / bundle.RECORD}: no 'format_version', so it was not written by nlpkit"


def test_settings_of_another_version_of_the_plugin_are_named(
    make_bundle: Make, registry: Registry, tmp_path: Path
) -> None:
    """C19."""
    make_bundle()
    edit(tmp_path / "model", lambda record: record["task_config"].update(mood="grim"))
    error = refusal(tmp_path / "model", registry)
    assert error.message.startswith(f"{tmp_path / 'model'}: its settings do not fit task 'sentiment': ")
    assert "no setting 'task.mood'" in error.message
    assert error.hint == "fit it again"


def test_tensor_that_a_finished_model_lacks_is_named(make_bundle: Make, registry: Registry, tmp_path: Path) -> None:
    """C12; bodies are in test_handover.py."""
    make_bundle()
    weights = tmp_path / "model" / "model.safetensors"
    save_file({k: v for k, v in load_file(weights).items() if k != "classifier.bias"}, weights, {"format": "pt"})
    write_manifest(tmp_path / "model")
    assert refusal(tmp_path / "model", registry).message == f"{tmp_path / 'model'}: the weights lack classifier.bias"
