"""Languages by name, and the tag that asks a model of both directions for one of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nlpkit import Example
from nlpkit.errors import ModelError, UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from nlpkit_translation.config import TranslationConfig

_NAME = re.compile(r"[^\s<>]+")
_NAME_THEM = "task.source_language=en task.target_language=de, or as yours are called"
ASKED = "<to>"
"""Key of the language that an example of both directions is to be written in; no column is called so."""
_TAG = re.compile(r"<2[^\s<>]+>")


def tag(language: str) -> str:
    """The token before a source that asks for a language, ``<2de>`` (Johnson et al. 2017)."""
    return f"<2{language}>"


@dataclass(frozen=True)
class Directions:
    """What a model has learnt.

    Args:
        source: a language.
        target: what sources were translated into.
        both: whether it has learnt the way back, too.
    """

    source: str
    target: str
    both: bool

    @property
    def ways(self) -> list[tuple[str, str]]:
        """Each as source and target."""
        there = (self.source, self.target)
        return [there, there[::-1]] if self.both else [there]

    def __str__(self) -> str:
        return " and ".join(f"{source} -> {target}" for source, target in self.ways)

    def find(self, source: str, target: str) -> tuple[str, str]:
        """The direction that is asked for; where only one language of the way back is named, its other is meant.

        Args:
            source: what the settings say, which are those of ``fit`` where the user says nothing else.
            target: likewise.

        Raises:
            UsageError: the model has not learnt it.
        """
        if self.both and source == target and source in (self.source, self.target):
            source, target = self.target, self.source
        if (source, target) not in self.ways:
            options = " or ".join(f"--target-language {target}" for _, target in self.ways)
            raise UsageError(
                f"{source} -> {target} is no direction of this model, which translates {self}",
                options if self.both else "leave the languages out, or fit a model of that direction",
            )
        return source, target


def named(config: TranslationConfig) -> list[str]:
    """The languages of the data, as its user names them: none, or source and target.

    Raises:
        UsageError: one of two, a name that is none, or none where both ways are to be learnt.
    """
    given = {"source_language": config.source_language, "target_language": config.target_language}
    for key, language in given.items():
        if not language and (any(given.values()) or config.directions == "both"):
            why = "task.directions=both needs their names" if config.directions == "both" else "the other one is named"
            raise UsageError(f"task.{key} names no language, and {why}", _NAME_THEM)
        if language and not _NAME.fullmatch(language):
            raise UsageError(f"task.{key} is '{language}', expected a name without spaces, < and >", _NAME_THEM)
    if config.directions == "both" and len(set(given.values())) == 1:
        raise UsageError(
            f"task.directions=both needs two languages, and both are '{config.source_language}'", _NAME_THEM
        )
    return [language for language in given.values() if language]


def both_ways(pairs: Sequence[Example], source: str, target: str) -> Iterator[Example]:
    """Pairs, and behind them each the other way round; all say what they are written in.

    Args:
        pairs: have ``source`` and ``target``.
        source: the language of the sources.
        target: that of the targets.
    """
    for one, other, language in (("source", "target", target), ("target", "source", source)):
        for pair in pairs:
            yield Example({"source": pair[one], "target": pair[other], ASKED: language}, pair.where)


def asked(config: TranslationConfig, tokenizer: PreTrainedTokenizerBase) -> tuple[tuple[str, str], dict[str, int]]:
    """Which direction a model is to translate, and the tags that its tokenizer has.

    Args:
        config: complete; of a finished model with what its user sets for predictions.
        tokenizer: of the model.

    Returns:
        Source and target; language -> id of its tag, of both languages or none.

    Raises:
        UsageError: a direction that the model has not learnt, or none where it tells languages apart by tags.
        ModelError: both are to be learnt, and the tokenizer has no tags.
    """
    from nlpkit_translation.languages import knows_languages

    both, way = config.directions == "both", (config.source_language, config.target_language)
    if knows_languages(tokenizer):
        if both:
            raise UsageError(
                "task.directions=both is for a model that knows no languages yet, and this one does",
                "leave it out, and fit a model of each direction",
            )
        return way, {}
    tags = sorted(token for token in tokenizer.get_added_vocab() if _TAG.fullmatch(token))
    if not config.languages:
        if any(way):
            raise UsageError("this model was fitted without names of languages", "leave them out")
        _check_no_tags(tags)
        return way, {}
    source, target = config.languages
    way = Directions(source, target, both).find(*way)
    known, names = tokenizer.get_vocab(), {language: tag(language) for language in config.languages}
    lacking = [name for name in names.values() if name not in known]
    if both and lacking:
        raise ModelError(
            f"the tokenizer has no {' and no '.join(lacking)}, by which a model of both directions is asked for one",
            "leave out --from; or leave out task.directions, and fit a model of each direction",
        )
    if lacking:
        _check_no_tags(tags)
        return way, {}
    return way, {language: known[name] for language, name in names.items()}


def _check_no_tags(tags: Sequence[str]) -> None:
    if tags:
        first, last = (name.removeprefix("<2").removesuffix(">") for name in (tags[0], tags[-1]))
        raise UsageError(
            f"this model tells languages apart by {', '.join(tags[:6])}, and the settings name none of its directions",
            f"task.source_language={first} task.target_language={last}, or the other way round",
        )
