"""Tags of words to entities and back: IOB1, IOB2, BIOES and BILOU.

In all of them ``O`` stands for a word outside of entities, and a tag is a letter, a hyphen and a type, which may hold
hyphens itself (``B-creative-work``). Word for word, with two entities of one type side by side:

    words   Ann     met  New    York   Berlin
    IOB1    I-PER   O    I-LOC  I-LOC  B-LOC     B- only where the word before is of an entity of the same type
    IOB2    B-PER   O    B-LOC  I-LOC  B-LOC     B- on every first word
    BIOES   S-PER   O    B-LOC  E-LOC  S-LOC     E- on the last word, S- where it is the only one
    BILOU   U-PER   O    B-LOC  L-LOC  U-LOC     the same with other letters

IOB1 is from Ramshaw and Marcus (1995), IOB2 from Ratnaparkhi (1998), the names of both from Tjong Kim Sang and
Veenstra (1999); BILOU is from Ratinov and Roth (2009).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Literal, get_args

from nlpkit.errors import DataError, UsageError, nearest

Scheme = Literal["IOB2", "BIOES", "BILOU", "IOB1"]
Span = tuple[int, int, str]
"""First word, the word after the last, and the type: ``words[first:end]``."""

SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
OUTSIDE = "O"
FORMS = "O, or a letter (B, I, E, S, L, U), a hyphen and a type, like B-PER"
_LETTERS = {"IOB1": "BI", "IOB2": "BI", "BIOES": "BIES", "BILOU": "BILU"}
_LAST = {"BIOES": "E", "BILOU": "L"}
_ONLY = {"BIOES": "S", "BILOU": "U"}


class TagError(DataError):
    """A tag that is no tag, or stands where its scheme has no place for it.

    Args:
        problem: the tag, what is wrong with it and what was expected, without the place.
        hint: what to write instead.
        position: of its word in the sentence, from 0.
        sentence: among those given, from 0.
    """

    def __init__(self, problem: str, hint: str, position: int, sentence: int = 0) -> None:
        super().__init__(f"token {position + 1} of sentence {sentence + 1}: {problem}", hint)
        self.problem = problem
        self.position = position
        self.sentence = sentence


def is_tag(tag: str) -> bool:
    """Whether a string has the form of a tag of any of the schemes."""
    return tag == OUTSIDE or (len(tag) > 2 and tag[0] in "BIESLU" and tag[1] == "-" and bool(tag[2:].strip()))


def check_form(tag: str, position: int = 0, sentence: int = 0) -> None:
    """Refuse what is no tag.

    Raises:
        TagError: with the position.
    """
    if not is_tag(tag):
        raise TagError(f"'{shortened(tag)}' is no tag; expected {FORMS}", _mended(tag), position, sentence)


def detect(sentences: Iterable[Sequence[str]]) -> Scheme:
    """The scheme in which every sequence of tags is legal; IOB2 where there are no entities.

    An entity that begins with ``B-`` where IOB1 asks for ``I-`` is not legal in IOB1, so no two schemes fit sequences
    with entities.

    Raises:
        TagError: no tag, or no scheme fits; then the first tag that breaks the scheme that is broken least often.
    """
    pairs: dict[tuple[str | None, str | None], list[int]] = {}  # -> how often, and where first: sentence, position
    for number, sentence in enumerate(sentences):
        for position, pair in enumerate(_neighbours(sentence)):
            if seen := pairs.get(pair):
                seen[0] += 1
                continue
            if (tag := pair[1]) is not None:
                check_form(tag, position, number)
            pairs[pair] = [1, number, position]
    broken = dict.fromkeys(SCHEMES, 0)
    for pair, (count, _, _) in pairs.items():
        for scheme in SCHEMES:
            broken[scheme] += count if _fault(*pair, scheme) else 0
    scheme = min(SCHEMES, key=lambda name: broken[name])
    for pair, (_, number, position) in pairs.items():  # in the order of the file
        if fault := _fault(*pair, scheme):
            raise fault.error(position, number)
    return scheme


def spans(tags: Sequence[str], scheme: Scheme = "IOB2") -> list[Span]:
    """The entities of one sentence, in order.

    Raises:
        TagError: no tag, or one that is not legal in this scheme after the tag before it.
        UsageError: no such scheme.
    """
    _check_scheme(scheme)
    found: list[Span] = []
    for position, (before, tag) in enumerate(_neighbours(tags)):
        if tag is not None:
            check_form(tag, position)
        if fault := _fault(before, tag, scheme):
            raise fault.error(position)
        if tag is None or tag == OUTSIDE:
            continue
        kind = tag[2:]
        begins = tag[0] != "I" and tag[0] != _LAST.get(scheme)
        if begins or (scheme == "IOB1" and _kind(before) != kind):
            found.append((position, position + 1, kind))
        else:
            found[-1] = (found[-1][0], position + 1, kind)
    return found


def tags(spans: Iterable[Span], length: int, scheme: Scheme = "IOB2") -> list[str]:
    """The tags of a sentence.

    Args:
        spans: entities, in any order.
        length: of the sentence, in words.
        scheme: of the tags.

    Raises:
        DataError: a span without words or type, beyond the sentence, or over another one.
        UsageError: no such scheme.
    """
    _check_scheme(scheme)
    tagged = [OUTSIDE] * length
    for first, end, kind in sorted(spans):
        if not 0 <= first < end <= length:
            raise DataError(f"entity {first}:{end} ({kind}); expected one or more of {length} words")
        if not kind.strip():
            raise DataError(f"entity {first}:{end} has no type")
        if any(tag != OUTSIDE for tag in tagged[first:end]):
            raise DataError(f"entity {first}:{end} ({kind}) overlaps the one before it")
        tagged[first:end] = [f"I-{kind}"] * (end - first)
        if scheme != "IOB1" or (first and _kind(tagged[first - 1]) == kind):
            tagged[first] = f"B-{kind}"
        if scheme in _LAST:
            tagged[end - 1] = f"{(_LAST if end - first > 1 else _ONLY)[scheme]}-{kind}"
    return tagged


def shortened(text: str, longest: int = 40) -> str:
    """A text as it stands in messages."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


@dataclass(frozen=True)
class _Fault:
    """Two neighbours that a scheme does not allow.

    Args:
        problem: see `TagError`.
        hint: see `TagError`.
        back: 1 where the fault is with the first of the two.
    """

    problem: str
    hint: str
    back: int = 0

    def error(self, position: int, sentence: int = 0) -> TagError:
        return TagError(self.problem, self.hint, position - self.back, sentence)


@lru_cache(maxsize=2**14)
def _fault(before: str | None, tag: str | None, scheme: Scheme) -> _Fault | None:
    """What is wrong with a tag after another; None stands for the ends of the sentence. Both have the form of tags."""
    kind, letter = _kind(tag), (tag or OUTSIDE)[0]
    if tag and tag != OUTSIDE and letter not in _LETTERS[scheme]:
        known = ", ".join(f"{one}-{kind}" for one in _LETTERS[scheme])
        return _Fault(f"{tag} is not of {scheme}; expected O, {known}", "use the letters of one scheme in all files")
    if scheme == "IOB1":
        if letter != "B" or _kind(before) == kind:
            return None
        rule = f"in IOB1 an entity begins with I-{kind}, and with B-{kind} only right after another {kind}"
        return _Fault(f"{tag} {_after(before)}; {rule}", f"write I-{kind}")
    inside = tag is not None and tag != OUTSIDE and letter in ("I", _LAST.get(scheme))
    open_kind = _kind(before) if before and before[0] in "BI" else ""  # of an entity that may go on
    if inside and open_kind != kind:
        start = f"B-{kind}" if scheme == "IOB2" else f"B-{kind}, or is {_ONLY[scheme]}-{kind} if it is one word"
        mended = f"B-{kind}" if letter == "I" else f"{_ONLY[scheme]}-{kind}"
        return _Fault(f"{tag} {_after(before)}; in {scheme} an entity begins with {start}", f"write {mended}")
    if open_kind and not inside and scheme != "IOB2":
        last, only = f"{_LAST[scheme]}-{open_kind}", f"{_ONLY[scheme]}-{open_kind}"
        following = f"before {tag}" if tag else "at the end of the sentence"
        rule = f"in {scheme} an entity ends with {last}, or is {only} if it is one word"
        return _Fault(f"{before} {following}; {rule}", f"write {only if before and before[0] == 'B' else last}", back=1)
    return None


def _neighbours(tags: Sequence[str]) -> Iterable[tuple[str | None, str | None]]:
    """Each tag after the one before it, and the end after the last."""
    return pairwise((None, *tags, None))


def _kind(tag: str | None) -> str:
    return tag[2:] if tag else ""


def _after(before: str | None) -> str:
    return f"after {before}" if before else "at the start of the sentence"


def _mended(tag: str) -> str:
    """What was probably meant by a string that is no tag."""
    if tag.upper() == OUTSIDE or tag == "0":
        return "write O, the letter"
    letter, kind = tag[:1].upper(), tag[1:].lstrip("-_: ")
    if letter in "BIESLU" and kind and kind != tag[1:] and is_tag(f"{letter}-{kind}"):
        return f"write {letter}-{kind}"
    if letter.isalpha() and tag[1:2] == "-" and kind:  # a letter of no scheme
        return f"write B-{kind}, or I-{kind} where the entity goes on"
    return "write O for a word that is in no entity"


def _check_scheme(scheme: str) -> None:
    if scheme not in SCHEMES:
        hint = f"{nearest(scheme.upper(), SCHEMES)}expected one of {', '.join(SCHEMES)}"
        raise UsageError(f"no scheme '{scheme}' of tags", hint)
