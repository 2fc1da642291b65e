"""What is wrong with a translation that no reference is needed to see."""

from __future__ import annotations

import re
from collections import Counter

_KEPT = re.compile(r"(?:https?://|www\.)\S*[\w/]|\{[^{}\s]*\}|<[^<>\s]+>|%[sd]|\d+(?:[.,:]\d+)*")
_ONE_SIGN = str.maketrans(",:", "..")
_TIMES, _LONGEST = 4, 6


def repeats(text: str) -> bool:
    """Whether one to six words follow one another four times or more."""
    words = text.split()
    for size in range(1, _LONGEST + 1):
        run = 0
        for i in range(size, len(words)):
            run = run + 1 if words[i] == words[i - size] else 0
            if run >= size * (_TIMES - 1):
                return True
    return False


def copies(source: str, translation: str) -> bool:
    """Whether three words or more came out as they went in."""
    words = source.split()
    return len(words) > 2 and words == translation.split()


def kept(source: str, translation: str) -> tuple[int, int]:
    """Numbers, links and placeholders of the source, and how many of them the translation has.

    Languages differ in the signs inside of numbers: 1,5 is 1.5, and 8:30 is 8.30.
    """
    asked, found = (Counter(m.translate(_ONE_SIGN) for m in _KEPT.findall(text)) for text in (source, translation))
    return asked.total(), (asked & found).total()
