"""Settings: dataclass schemas, the merge of their sources, typed overrides, and the origin of each value."""

from __future__ import annotations

from nlpkit.config.schema import (
    CheckpointConfig,
    DataConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    TrainerConfig,
    number,
)

__all__ = [
    "CheckpointConfig",
    "DataConfig",
    "ModelConfig",
    "OptimConfig",
    "RunConfig",
    "TrainerConfig",
    "number",
]
