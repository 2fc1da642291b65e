"""Settings of several tasks: a section for each, and what they share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, make_dataclass, replace
from typing import Any, ClassVar

from nlpkit.errors import UsageError
from nlpkit.joint.names import attribute
from nlpkit.task import Task, TaskConfig


@dataclass
class JointConfig(TaskConfig):
    """Settings of several tasks on one backbone; those of each stand in a section of its name."""

    sections: ClassVar[Mapping[str, str]] = {}
    """Name of each task -> its section."""
    # no settings of all tasks together; each has its own
    labels: ClassVar[list[str]] = []  # type: ignore[misc]
    head: ClassVar[str] = ""  # type: ignore[misc]
    metrics: ClassVar[list[str]] = []  # type: ignore[misc]
    max_length: int = field(default=0, metadata={"at_least": 0})
    """Longest input in tokens, of tasks that do not say their own; 0: what the model was trained for, at most 256."""
    weights: dict[str, float] = field(default_factory=dict, metadata={"at_least": 0})
    """Weight of the loss of each task, task.weights.NAME=0.5; 1 of those that are not named."""

    def __post_init__(self) -> None:
        """Refuse a weight of no task.

        Raises:
            UsageError: naming it.
        """
        for name in self.weights:
            if name not in self.sections:
                names = ", ".join(self.sections)
                raise UsageError(f"task.weights has '{name}', which is none of {names}", "name one of these")

    def of(self, name: str) -> Any:
        """The settings of one task."""
        return getattr(self, self.sections[name])

    def changed(self, configs: Mapping[str, TaskConfig]) -> JointConfig:
        """The same with other settings of some tasks."""
        changes: dict[str, Any] = {self.sections[name]: config for name, config in configs.items()}
        return replace(self, **changes)


def config_class(classes: Mapping[str, type[Task[Any]]]) -> type[JointConfig]:
    """Make the class of settings of some tasks.

    Raises:
        UsageError: two have names that are alike in all but signs.
    """
    sections = {name: attribute(name) for name in classes}
    if len(set(sections.values())) < len(sections):
        raise UsageError(f"{' and '.join(classes)}: names that differ in signs alone", "fit them one by one")
    members = [
        (section, classes[name].config_class, field(default_factory=classes[name].config_class))
        for name, section in sections.items()
    ]
    namespace = {"sections": sections, "__module__": __name__}
    return make_dataclass("JointConfig", members, bases=(JointConfig,), namespace=namespace)


def with_configs(config: TaskConfig, parts: Mapping[str, TaskConfig]) -> TaskConfig:
    """The settings with those of each of several tasks in their place; of a single one these themselves."""
    return config.changed(parts) if isinstance(config, JointConfig) else next(iter(parts.values()))


def configs_of(config: TaskConfig) -> dict[str, TaskConfig]:
    """The settings of each of several tasks; of a single one its own, without a name."""
    return {name: config.of(name) for name in config.sections} if isinstance(config, JointConfig) else {"": config}
