from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from nlpkit.config import Description, compose, describe, number, show
from nlpkit.task import Task, TaskConfig


@dataclass
class WindowConfig(TaskConfig):
    labels: list[str] = field(default_factory=lambda: ["a", "b"])
    """Labels of
    the windows."""
    max_length: int = 64
    stride: int | None = number(None, at_least=1, at_most=9)
    """Tokens between two windows."""
    join: Literal["mean", "max"] = "mean"
    """How windows become one."""
    bare: bool = False
    sizes: dict[str, float] = field(default_factory=dict)
    "Sizes."


class Window(Task[WindowConfig]):
    name = "window"
    config_class = WindowConfig
    defaults: ClassVar[dict[str, Any]] = {"optim.learning_rate": 1, "task.max_length": 32}


DESCRIBED = {row.key: row for row in describe(Window)}


@pytest.mark.parametrize(
    "row",
    [
        Description("task.labels", "list[str]", ["a", "b"], "", "Labels of the windows."),
        Description(
            "task.max_length",
            "int",
            32,
            "",
            "Longest input in tokens; longer texts are cut and counted. "
            "0: what the model was trained for, at most 256.",
        ),
        Description("task.stride", "int or none", None, "at least 1 and at most 9", "Tokens between two windows."),
        Description("task.join", "str", "mean", "mean, max", "How windows become one."),
        Description("task.bare", "bool", False, "", ""),
        Description("task.sizes", "dict[str, float]", {}, "", "Sizes."),
        Description(
            "optim.learning_rate",
            "float or none",
            1.0,
            "above 0",
            "Highest rate of adamw; none: chosen for the stage, the strategy and the size of the model.",
        ),
    ],
    ids=lambda row: row.key,
)
def test_describe_tells_type_default_limits_and_the_string_under_the_field(row: Description) -> None:
    assert DESCRIBED[row.key] == row


def test_describe_has_every_setting_of_a_run_in_order() -> None:
    expected = [key for key in compose(Window).origins if not key.startswith("task.")]
    assert [key for key in DESCRIBED if not key.startswith("task.")] == expected


def test_describe_explains_every_setting_of_the_core() -> None:
    assert [row.key for row in describe(Task) if not row.doc] == []


def test_show_writes_yaml_that_composes_to_the_same(tmp_path: Path) -> None:
    overrides = [
        "task.labels=[no, 007, 'a, b', '${seed}', none]",
        "task.head=a\nb",
        "task.sizes.x y=2",
        "data.text=null",
    ]
    composed = compose(Window, overrides=overrides)
    for origin in (False, True):
        file = tmp_path / "run.yaml"
        file.write_text(show(composed, origin=origin))
        assert compose(Window, file=file).config == composed.config


def test_show_with_origin_names_each_source(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("strategy: lora\n")
    lines = show(compose(Window, file=file, overrides=["task.head=no"], flags={"seed": 3}), origin=True).splitlines()
    found = [tuple(part.strip() for part in line.split("  # ")) for line in lines if not line.endswith("# default")]
    assert found == [
        ("task.max_length: 32", "task window"),
        ("task.head: 'no'", "command line"),
        ("optim.learning_rate: 1.0", "task window"),
        ("strategy: lora", f"{file}:1"),
        ("seed: 3", "flag --seed"),
    ]
    assert "trainer.validations_per_epoch: 2  # default" in lines
