"""Settings: dataclass schemas, the merge of their sources, typed overrides, and the origin of each value."""

from __future__ import annotations

from nlpkit.config.compose import Composed, compose, from_plain, load
from nlpkit.config.describe import Description, describe, show
from nlpkit.config.plain import flat, save, to_plain, to_yaml
from nlpkit.config.schema import (
    CheckpointConfig,
    DataConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    TrainerConfig,
    number,
)
from nlpkit.config.yaml_files import recipes

__all__ = [
    "CheckpointConfig",
    "Composed",
    "DataConfig",
    "Description",
    "ModelConfig",
    "OptimConfig",
    "RunConfig",
    "TrainerConfig",
    "compose",
    "describe",
    "flat",
    "from_plain",
    "load",
    "number",
    "recipes",
    "save",
    "show",
    "to_plain",
    "to_yaml",
]
