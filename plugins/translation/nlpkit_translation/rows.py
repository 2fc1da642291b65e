"""How a text becomes a row of tokens: what is put before it, special tokens, and the longest row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nlpkit_translation.directions import asked
from nlpkit_translation.languages import sides

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from nlpkit_translation.config import TranslationConfig


class Rows:
    """Tokens of sources and targets.

    Args:
        config: complete.
        tokenizer: it keeps the languages, where it knows some.

    Attributes:
        frame: tokens of a source without text.
        longest: tokens of a row, at most.
        begin: the token that a translation begins with; None: any.
        way: the languages of a source and of what is written, as they are asked for; empty where they have no names.

    Raises:
        ModelError: a Marian with a vocabulary for each side, or tags that are to be learnt and not there.
        UsageError: a language is missing or not known, or a direction is asked for that was not learnt.
    """

    def __init__(self, config: TranslationConfig, tokenizer: PreTrainedTokenizerBase) -> None:
        self._source, self._target, self.begin = sides(tokenizer, config.source_language, config.target_language)
        self._prefix = config.prefix
        self.frame = self._source("")
        self.longest = config.max_length or 256
        self.way, self._tags = asked(config, tokenizer)

    def source(self, text: str, language: str) -> list[int]:
        """Ids of a source, with the tag of the language that is asked for before its text, if there is one."""
        ids = self._source(self._prefix + text)
        if self._tags:
            ids.insert(self._place, self._tags[language])
        return ids

    def target(self, text: str) -> list[int]:
        """Ids of a target, cut."""
        return self.cut(self._target(text))

    def cut(self, ids: list[int]) -> list[int]:
        """``longest`` tokens at most: what is left out stands before the end."""
        return ids if len(ids) <= self.longest else [*ids[: self.longest - 1], ids[-1]]

    def fits(self, text: str) -> bool:
        """Whether a source need not be cut."""
        return len(self.source(text, self.way[1])) <= self.longest

    def languages(self, rows: Tensor) -> list[str]:
        """The language that each source (R, L) is to be written in, by its tag where there are tags."""
        names = {number: language for language, number in self._tags.items()}
        return [names.get(number, self.way[1]) for number in rows[:, self._place].tolist()]

    @property
    def _place(self) -> int:
        """Where a text begins."""
        return max(0, len(self.frame) - 1)
