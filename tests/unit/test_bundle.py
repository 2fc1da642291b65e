"""Bundles that do not fit what is installed: of a newer format, with settings that the task no longer has.

And the settings that a finished model takes.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from nlpkit import bundle
from nlpkit.errors import ModelError, UsageError
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


EVERY = "nlpkit config docs --task wide lists every setting"
SEARCHING = """
from dataclasses import dataclass, field
import nlpkit
from nlpkit_sentiment import Sentiment, SentimentConfig

@dataclass
class Inner:
    copies: str = "drop"

@dataclass
class WideConfig(SentimentConfig):
    width: int = field(default=1, metadata={"at_least": 1, "at_prediction": True})
    bonus: float = field(default=1.0, metadata={"at_prediction": True})
    inner: Inner = field(default_factory=Inner)

class Wide(Sentiment):
    name = "wide"
    config_class = WideConfig
    defaults = {"task.width": 3}

@nlpkit.hookimpl
def nlpkit_tasks():
    return [Wide]
"""


@pytest.fixture
def wide(make_bundle: Make, tmp_path: Path) -> tuple[Path, Registry]:
    """A bundle of a task with settings for predictions, and a registry that knows it."""
    (tmp_path / "wide.py").write_text(SEARCHING)
    plugins = Registry(files=(str(tmp_path / "wide.py"),))
    task_class = plugins.task("wide")
    made = make_bundle("other")
    given = {"labels": ["neg", "pos"], "max_length": 64, "keep": "end", "width": 2}
    config = task_class.config_class(**given)  # type: ignore[arg-type]
    config.inner.copies = "keep"  # type: ignore[attr-defined]
    task = task_class(config, made.task.tokenizer)
    bundle.save(tmp_path / "wide", task, made.backbone, made.head, {}, plugins)
    return tmp_path / "wide", plugins


def test_a_finished_model_takes_the_settings_that_are_for_predictions_and_keeps_the_others(
    wide: tuple[Path, Registry],
) -> None:
    folder, plugins = wide
    fitted = bundle.load(str(folder), plugins).task.config
    assert (fitted.width, fitted.bonus, fitted.keep, fitted.inner.copies) == (2, 1.0, "end", "keep")
    changed = bundle.load(str(folder), plugins, settings=["task.width=5", "task.bonus=-0.5"])
    assert changed.task.config == dataclasses.replace(fitted, width=5, bonus=-0.5)
    assert changed.record["task_config"]["width"] == 2


@pytest.mark.parametrize(
    ("setting", "message", "hint"),
    [
        (
            "task.widht=5",
            "task.widht is no setting of a finished model",
            "did you mean 'width'? one of wide takes task.bonus, task.width; data.KEY=VALUE is for files",
        ),
        (
            "task.keep=start",
            "task.keep is no setting of a finished model",
            "one of wide takes task.bonus, task.width; data.KEY=VALUE is for files",
        ),
        ("task.width=0", "command line: task.width is '0', expected a whole number of at least 1", EVERY),
        ("task.width=many", "command line: task.width is 'many', expected a whole number of at least 1", EVERY),
    ],
)
def test_other_settings_and_values_are_refused_with_those_that_there_are(
    setting: str, message: str, hint: str, wide: tuple[Path, Registry]
) -> None:
    folder, plugins = wide
    with pytest.raises(UsageError) as caught:
        bundle.load(str(folder), plugins, settings=[setting])
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_a_task_without_such_settings_says_so(make_bundle: Make, registry: Registry, tmp_path: Path) -> None:
    make_bundle()
    with pytest.raises(UsageError) as caught:
        bundle.load(str(tmp_path / "model"), registry, settings=["task.beam=5"])
    assert caught.value.message == "task.beam is no setting of a finished model"
    assert caught.value.hint == "one of sentiment takes no setting of its task; data.KEY=VALUE is for files"
