"""Held-out parts chosen by the hash of the text, so that they do not depend on the order of the rows."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nlpkit.errors import UsageError
from nlpkit.owners import fed_by
from nlpkit.task import Example

_ODD_SPACE = re.compile(r"[\t\n\r\x0b\x0c\x1c-\x1f]")  # in ASCII


def fingerprint(text: str) -> int:
    """64 bits that are equal for texts that differ only in case, white space and compatibility forms (NFKC)."""
    return int(fingerprints([text])[0])


def fingerprints(texts: Sequence[str]) -> NDArray[np.uint64]:
    """The same of many texts."""
    simple = _ODD_SPACE.search(" ".join(texts)) is None
    hashed, digests = hashlib.blake2b, []
    for text in texts:
        if simple and text.isascii():  # of one form only, which is found sooner
            folded = text.lower().strip()
            folded = folded if "  " not in folded else " ".join(folded.split())
        else:
            folded = fold(text)
        digests.append(hashed(folded.encode("utf-8", "surrogatepass"), digest_size=8).digest())
    return np.frombuffer(b"".join(digests), ">u8").astype(np.uint64)


def fold(text: str) -> str:
    """What is equal for texts that differ only in case, white space and compatibility forms (NFKC)."""
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).split())


def _label(example: Example) -> list[Any]:
    return [example.get("label")]


@fed_by("labels_of")
def split(
    examples: Sequence[Example],
    share: float,
    *,
    seed: int,
    labels_of: Callable[[Example], Sequence[Any]] = _label,
    group: str | None = None,
    text: str = "text",
) -> tuple[list[int], list[int]]:
    """Divide examples into a part to train on and a part held out.

    Equal texts (by `fingerprint`) stay on one side; with ``group``, equal groups do, and groups that share a text
    that is not blank. Those units are taken in the order of their hash, each when it brings the held-out counts of
    its labels nearer to the share; so the same rows are held out whatever their order. Every label keeps rows to
    train on, and one that is on two or more units has at least one held out where that can be.

    Args:
        examples: labelled or not.
        share: to hold out, from 0 to below 1.
        seed: another seed, another part.
        labels_of: the labels of an example, which are spread evenly; examples without one are, too.
        group: key whose equal values are kept together.
        text: key of the text; a list of tokens is joined by blanks.

    Returns:
        Indices to train on and indices held out, each in the order of the examples.

    Raises:
        UsageError: a share out of range.
    """
    if not 0 <= share < 1:
        raise UsageError(f"data.dev_share: {share} of the rows cannot be held out; expected 0 to below 1")
    units = sorted(_units(examples, group, text), key=lambda unit: _hash(f"{seed}:{unit[0]:x}"))
    labels = [labels_of(example) or [None] for example in examples]
    held = _take([rows for _, rows in units], labels, share)
    return [i for i in range(len(examples)) if i not in held], sorted(held)


def duplicates(examples: Sequence[Example], *, text: str | Sequence[str] = "text") -> list[list[int]]:
    """Indices of the examples that share a text, or all of several, blank ones aside, in order of first appearance."""
    alike: dict[int, list[int]] = defaultdict(list)
    for index, example in enumerate(examples):
        if words := _text(example, text).strip():
            alike[fingerprint(words)].append(index)
    return [rows for rows in alike.values() if len(rows) > 1]


def conflicts(
    examples: Sequence[Example], *, text: str | Sequence[str] = "text", label: str = "label"
) -> list[list[int]]:
    """Those `duplicates` whose labels are not all the same."""
    return [
        rows
        for rows in duplicates(examples, text=text)
        if len({_hashable(examples[i][label]) for i in rows if examples[i].get(label) is not None}) > 1
    ]


def overlap(train: Iterable[Example], test: Sequence[Example], *, text: str | Sequence[str] = "text") -> list[int]:
    """Indices of the test examples whose text, or all of several, is among the training texts, unless blank."""
    seen = {fingerprint(_text(example, text)) for example in train}
    words = [_text(example, text) for example in test]
    return [index for index, found in enumerate(words) if found.strip() and fingerprint(found) in seen]


def keys(example: Example, texts: Sequence[str], group: str = "") -> set[int]:
    """What tells that two examples, of whatever tasks, have a text or a group in common; blank ones tell nothing.

    Args:
        example: of one task.
        texts: keys of its texts, each of which counts by itself.
        group: column of its group; empty: none.
    """
    found = {fingerprint(text) for key in texts if (text := _text(example, key)).strip()}
    value = _text(example, group).strip() if group else ""
    return found | {_hash(f"{group}:{value}")} if value else found


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def _text(example: Example, key: str | Sequence[str]) -> str:
    if not isinstance(key, str):  # NUL stands in no text that was read
        return "\0".join(_text(example, one) for one in key)
    value: Any = example.get(key)
    return " ".join(map(str, value)) if isinstance(value, list) else str(value if value is not None else "")


def _hashable(value: Any) -> Hashable:
    return value if isinstance(value, Hashable) else repr(value)


def _units(examples: Sequence[Example], group: str | None, text: str) -> Iterable[tuple[int, list[int]]]:
    """Rows that must stay together, each with a key that does not depend on the order of the rows."""
    texts = [fingerprint(_text(example, text)) for example in examples]
    if group is None:
        keys = texts
    else:
        groups = [_hash(f"group:{example.get(group)}") for example in examples]
        keys = _connected(groups, texts, blank=fingerprint(""))
    units: dict[int, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        units[key].append(index)
    return units.items()


def _connected(groups: Sequence[int], texts: Sequence[int], blank: int) -> list[int]:
    """For each row the smallest of the groups that texts connect its group with."""
    parent = {group: group for group in groups}

    def root(group: int) -> int:
        while parent[group] != group:
            parent[group] = group = parent[parent[group]]
        return group

    first: dict[int, int] = {}
    for group, text in zip(groups, texts, strict=True):
        if text != blank:
            one, other = sorted((root(group), root(first.setdefault(text, group))))
            parent[other] = one
    return [root(group) for group in groups]


def _take(units: Sequence[Sequence[int]], labels: Sequence[Sequence[Any]], share: float) -> set[int]:
    """Rows of the units that are held out: a unit is when it brings the counts of its labels nearer to their share."""
    counts = [Counter(_hashable(label) for i in rows for label in labels[i]) for rows in units]
    total: Counter[Hashable] = Counter()
    spread: Counter[Hashable] = Counter()
    for count in counts:
        total.update(count)
        spread.update(count.keys())
    wanted = {key: max(share * total[key], float(spread[key] > 1)) if share else 0.0 for key in total}
    taken: Counter[Hashable] = Counter()
    held: set[int] = set()
    for rows, count in zip(units, counts, strict=True):
        nearer = sum(abs(taken[k] + n - wanted[k]) - abs(taken[k] - wanted[k]) for k, n in count.items()) < 0
        if nearer and all(taken[k] + n < total[k] for k, n in count.items()):
            held.update(rows)
            taken.update(count)
    return held
