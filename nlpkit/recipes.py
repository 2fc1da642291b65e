"""What a run does where its user says nothing: rates, epochs and batches, by stage, strategy and sizes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from nlpkit.batching import mean_length
from nlpkit.config import OptimConfig, RunConfig, flat, to_plain
from nlpkit.heads import TransformersHead, is_encoder_decoder
from nlpkit.joint.config import configs_of
from nlpkit.plugins import Stage
from nlpkit.prepare import Prepared

CONTINUED = {"optim.name": "adamw", "optim.learning_rate": 3e-4, "optim.schedule": "linear"}
"""Pre-training that goes on from a trained model: the rates that suit a new one would undo it."""
OF_SIZES = ("trainer.max_epochs", "trainer.batch_tokens")
"""Settings that are left to us, and that `complete` chooses by the sizes of model and data."""
_BATCH_TOKENS = 4096  # of pre-training, and of models that write
_ENOUGH_TOKENS = 4_000_000  # that pre-training sees, in more than one epoch if need be
_BATCH_SIZE = 16  # of fine-tuning
_WRITTEN = (4096, 256)  # tokens in a batch of a task that writes: at most, and of little data
_ENOUGH_EXAMPLES = 6_000  # that a fine-tuning sees, so that a few labels are learnt
_ENOUGH_TO_WRITE = 300_000  # that a new model sees which is to write: it begins without a word


def chosen(config: RunConfig) -> list[str]:
    """Which of the settings by size are ours to choose."""
    settings = dict(flat(to_plain(config)))
    return [key for key in OF_SIZES if settings[key] is None]


def complete(prepared: Prepared, stage: Stage, *, continued: bool) -> RunConfig:
    """The config with every value that was left to us.

    Args:
        prepared: has the sizes of model and data.
        stage: of the run.
        continued: whether it starts from a trained model.
    """
    config = prepared.config
    width = getattr(prepared.backbone.config, "hidden_size", 768)
    rate_of_new = 5e-4 * math.sqrt(256 / width)
    rate = 5e-5 * 768 / width if continued else rate_of_new
    if stage == "pretrain" and config.optim.name == "muon" and not continued:
        rate = _of_embeddings(prepared.backbone)
    optim = _rates(config.optim, config.strategy, rate)
    if continued and _has_new_decoder(prepared) and config.optim.learning_rate is None:
        optim = replace(optim, head_learning_rate=optim.head_learning_rate or float(f"{rate_of_new:.2g}"))
    training, lengths = config.trainer, prepared.train.lengths
    tokens = int(lengths.sum())
    if stage == "pretrain":
        epochs = max(1, min(10, math.ceil(_ENOUGH_TOKENS / max(1, tokens))))
        batch_tokens = training.batch_tokens or min(_BATCH_TOKENS, max(256, tokens // 20))
    else:
        writes = any(field.written for field in prepared.task.fields.values())
        new = not continued or _has_new_decoder(prepared)
        enough = _ENOUGH_TO_WRITE if writes and new else _ENOUGH_EXAMPLES
        epochs = _small_data_epochs(len(lengths), enough * len(configs_of(config.task)))
        batch_tokens = training.batch_tokens or _batch_tokens(training.batch_size, lengths, writes)
    if training.max_steps is not None and training.max_epochs is None:
        epochs = max(1, math.ceil(training.max_steps * training.accumulate * batch_tokens / max(1, tokens)) + 1)
    training = replace(training, max_epochs=training.max_epochs or epochs, batch_tokens=batch_tokens)
    return replace(config, optim=optim, trainer=training)


def _has_new_decoder(prepared: Prepared) -> bool:
    head, source = prepared.head, prepared.architecture
    return isinstance(head, TransformersHead) and not head.is_of(source) and is_encoder_decoder(head.config)


def _of_embeddings(backbone: PreTrainedModel) -> float:
    """Rate of new embeddings, to which Muon leaves little else: in proportion to their size where that is large.

    Those of a T5 are 50 times as large as those of others. Adafactor, which made T5, does the same (Shazeer and Stern
    2018).
    """
    weight: Any = backbone.get_input_embeddings().weight  # (V, D)
    size = float(weight.detach().norm()) / math.sqrt(weight.numel())
    return float(f"{max(1e-3, 0.02 * size):.2g}")


def _rates(optim: OptimConfig, strategy: str, rate: float) -> OptimConfig:
    """Weights that are new learn little at the rates of loaded ones: LoRA's, and the head where it is alone."""
    if optim.learning_rate is None:
        optim = replace(optim, learning_rate=3e-4 if strategy == "lora" else float(f"{rate:.2g}"))
    if optim.head_learning_rate is None and strategy in {"freeze", "lora"}:
        optim = replace(optim, head_learning_rate=1e-3)
    return optim


def _batch_tokens(size: int | None, lengths: NDArray[np.int64], writes: bool) -> int:
    """Those of as many examples as there are to be; of a task that writes more, for each of its tokens is learnt."""
    if writes and size is None:
        most, least = _WRITTEN
        return min(most, max(least, int(lengths.sum()) // 20))
    return max(1, round((size or _BATCH_SIZE) * mean_length(lengths)))


def _small_data_epochs(examples: int, enough: int) -> int:
    """Epochs in which ``enough`` examples are seen, 3 at least and 20 at most."""
    return max(3, min(20, math.ceil(enough / max(1, examples))))
