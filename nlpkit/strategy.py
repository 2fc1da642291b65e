"""Which weights learn: all of them, the upper ones, the head alone, or added LoRA matrices."""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

from transformers import PreTrainedModel

from nlpkit.errors import UsageError
from nlpkit.optim import freeze, lower_part

log = logging.getLogger("nlpkit")


def check_strategy(strategy: str) -> None:
    """Find out before any work whether a strategy can be had.

    Raises:
        UsageError: ``lora`` without the package peft.
    """
    if strategy == "lora" and importlib.util.find_spec("peft") is None:
        raise UsageError("strategy=lora needs the package peft", "pip install 'nlpkit-core[lora]'")


def apply_strategy(strategy: str, backbone: PreTrainedModel) -> Any:
    """Freeze or adapt a backbone in place.

    Args:
        strategy: ``full`` and ``layerwise`` train every weight, ``upper`` those above the lower third of the layers
            (Lee et al. 2019 leave three quarters as they are), ``freeze`` none, ``lora`` small added matrices (Hu et
            al. 2022) in every linear layer.
        backbone: changed in place.

    Returns:
        What `merge` needs afterwards.

    Raises:
        UsageError: see `check_strategy`.
    """
    check_strategy(strategy)
    if strategy == "upper":
        log.info("strategy=upper: the embeddings and the lower third of the layers stay as they are")
        freeze(lower_part(backbone))
    if strategy == "freeze":
        freeze(backbone.parameters())
    if strategy != "lora":
        return None
    from peft import LoraConfig, LoraModel

    settings = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.05, target_modules="all-linear", bias="none")
    return LoraModel(backbone, settings, "default")


def merge(adapted: Any, backbone: PreTrainedModel) -> PreTrainedModel:
    """Work the added matrices into the weights, so that the saved folder needs no peft."""
    return backbone if adapted is None else adapted.merge_and_unload()
