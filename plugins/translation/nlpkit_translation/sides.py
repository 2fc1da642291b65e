"""The two sides of a pair: which columns or languages they are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from nlpkit import Example
from nlpkit.errors import DataError
from nlpkit.readers import choose_columns, find_columns, plain_name
from nlpkit_translation.fields import FIELDS

NAME_THEM = "name them with data.source=NAME data.target=NAME"
_ISO_639_1 = (
    "aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en eo "
    "es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka "
    "kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng "
    "nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su "
    "sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu"
)
_WITH_REGION = re.compile(r"([a-z]{2})(?:[-_][A-Za-z0-9]{2,8})*")  # pt, pt-BR, zh_Hant_TW
_OFTEN_NUMBERS = ("id", "no")  # Indonesian and Norwegian, too
_WITH_SCRIPT = re.compile(r"[a-z]{3}[-_][A-Z][a-z]{3}")  # deu_Latn, as FLORES has them


def is_language(name: str) -> bool:
    """Whether a name is the code of a language: ``en``, ``pt-BR``, ``deu_Latn``."""
    match = _WITH_REGION.fullmatch(name)
    return bool((match and match[1] in _ISO_639_1.split()) or _WITH_SCRIPT.fullmatch(name))


def _languages(names: Sequence[str]) -> list[str]:
    """Those names that are codes of languages; ``id`` and ``no`` only where they make two of them."""
    found = [name for name in names if is_language(name)]
    return found if len(found) <= 2 else [name for name in found if name not in _OFTEN_NUMBERS]


def named_sides(cells: Sequence[str]) -> dict[str, str]:
    """Side -> the cell that is its name, as far as there is one; two codes of languages name both, the source first."""
    names = [cell.strip() for cell in cells]
    if len(languages := dict.fromkeys(_languages(names))) == 2:
        return dict(zip(FIELDS, languages, strict=True))
    return {side: name for side, field in FIELDS.items() for name in names if plain_name(name) in field.columns}


def choose_sides(names: Sequence[str], chosen: Mapping[str, str], path: str) -> dict[str, str]:
    """Find the columns of the sides.

    What is named must be there, except a target, which new texts lack. Else names that tell their side are taken; then,
    where exactly two names are codes of languages, these, the source first.

    Args:
        names: of columns, or keys of an object.
        chosen: ``source`` and ``target`` -> name, as far as the user said it.
        path: for messages.

    Returns:
        Side -> name.

    Raises:
        DataError: no source.
    """
    wished = {side: name for side, name in chosen.items() if name}
    open_sides = [side for side in FIELDS if side not in wished]
    told = any(plain_name(name) in FIELDS[side].columns for name in names for side in open_sides)
    languages = _languages(names)
    taken = find_columns(list(wished.values()), names).values()
    free = [name for name in languages if name not in taken]
    if not told and len(languages) == 2 and len(free) == len(open_sides):
        wished |= dict(zip(open_sides, free, strict=True))
    return choose_columns(names, FIELDS, wished, path=path)


def refuse_one_sided(pairs: Iterable[Example], files: Mapping[str, str]) -> Iterator[Example]:
    """Pass pairs on, and refuse them in the end where one side was empty throughout.

    Args:
        pairs: may lack a target.
        files: side -> the file that it is read from.

    Raises:
        DataError: naming the file and the side.
    """
    there = dict.fromkeys(FIELDS, False)
    lacking = dict.fromkeys(FIELDS, 0)
    for pair in pairs:
        for side in FIELDS:
            if (text := pair.get(side)) is not None and not there[side]:
                there[side] = bool(text.strip())
                lacking[side] += not there[side]
        yield pair
    for side in FIELDS:
        if lacking[side] and not there[side]:
            count = lacking[side]
            raise DataError(
                f"{files[side]}: the {side} is empty in {f'all {count:,} rows' if count > 1 else 'the only row'}",
                "give another file, or name another column with data.source=NAME or data.target=NAME",
            )
