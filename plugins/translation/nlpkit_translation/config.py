"""Settings of translation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from nlpkit import TaskConfig
from nlpkit_translation.filters import Filters


@dataclass
class TranslationConfig(TaskConfig):
    """Settings of translation."""

    beam: int = field(default=1, metadata={"at_least": 1, "at_prediction": True})
    """Translations that are followed at a time: 1 is fastest, 5 is usual."""
    length_penalty: float = field(default=1.0, metadata={"at_prediction": True})
    """Above 1 favours longer translations, below 1 shorter ones; for a beam of 2 or more."""
    label_smoothing: float = field(default=0.1, metadata={"at_least": 0, "below": 1})
    """Share of each target token that is spread over the vocabulary in training (Szegedy et al. 2016)."""
    engine: Literal["torch", "ct2", "ct2-int8"] = field(default="torch", metadata={"at_prediction": True})
    """What a finished model computes with: torch, or CTranslate2 (the extra ct2), in 8 bits on request."""
    source_language: str = field(default="", metadata={"at_prediction": True})
    """Language of the sources: en, or as a model of many languages calls it, such as eng_Latn."""
    target_language: str = field(default="", metadata={"at_prediction": True})
    """Likewise of the translations."""
    directions: Literal["one", "both"] = "one"
    """both: a new model learns each pair the other way round, too; a tag before a source says what to write."""
    languages: list[str] = field(default_factory=list)
    """Of the source and the target of the data; kept by fit from what names them."""
    prefix: str = field(default="", metadata={"at_prediction": True})
    """What is put before each source, as T5 was taught: ``translate English to German:`` and a space."""
    decoder_layers: int = field(default=0, metadata={"at_least": 0})
    """Layers of the new decoder behind an encoder that comes without one; 0: as many as the encoder has, 4 at most."""
    decoder_width: int = field(default=0, metadata={"at_least": 0})
    """Width of such a decoder, a multiple of 64; 0: that of the encoder."""
    decoder: str = ""
    """Run of clm, of a GPT-2 with the encoder's vocabulary, from which such a decoder starts; empty: it is made new."""
    filters: Filters = field(default_factory=Filters)
    """Which pairs are left out of the training data."""
