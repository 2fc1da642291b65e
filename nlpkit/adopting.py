"""A tokenizer that is there already, for a new model: opened from its folder, and fit for the objective or refused."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpkit import bundle, tokenizer
from nlpkit.errors import ModelError
from nlpkit.vetting import check_is_folder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from nlpkit.objectives.objective import Objective

log = logging.getLogger("nlpkit")


def read(folder: str, hint: str) -> PreTrainedTokenizerBase:
    """Open the tokenizer of a folder that holds one, of a model or of a run.

    Args:
        folder: of any of the three.
        hint: what to type where there is none.

    Raises:
        ModelError: no such folder, or no tokenizer that can be read.
    """
    found = Path(bundle.find(folder))
    check_is_folder(found, hint)
    return tokenizer.load(found, hint=hint)


def adopt(folder: str, objective: type[Objective[Any]], longest: int) -> PreTrainedTokenizerBase:
    """Open a tokenizer for a new model that learns by an objective.

    Args:
        folder: as for `read`.
        objective: says which special tokens its texts need.
        longest: input of the model in tokens, special ones included; the tokenizer's own limit is that of other models.

    Raises:
        ModelError: see `read`; or a special token is missing: the hint is the command that makes a fitting tokenizer.
    """
    hint = f"nlpkit tokenizer train FILES{_option(objective)} --out DIR makes one that fits {objective.name}"
    words = tokenizer.for_documents(read(folder, hint)) if objective.generates else read(folder, hint)
    if lacking := objective.lacking(words):
        raise ModelError(f"{folder}: the tokenizer {lacking}, which {objective.name} needs", hint)
    if words.model_max_length < longest:
        log.info(
            "%s: made for inputs of %d tokens; this model reads %d (model.sequence_length)",
            folder,
            words.model_max_length,
            longest,
        )
    tokenizer.make_ready(words).model_max_length = longest
    log.info("%s: a vocabulary of %s tokens", folder, f"{len(words):,}")
    return words


def _option(objective: type[Objective[Any]]) -> str:
    """What ``nlpkit tokenizer train`` takes for the models of an objective."""
    return " --decoder" if objective.generates else " --sentinels" if objective.reads_and_writes else ""
