"""What is wrong with a translation that no reference is needed to see."""

from __future__ import annotations

import re
from collections import Counter

_KEPT = re.compile(r"https?://\S+|www\.\S+|\{[^{}\s]*\}|<[^<>\s]+>|%[sd]|\d+(?:[.,:]\d+)*")
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
    """Numbers, links and placeholders of the source, and how many of them the translation has; 1,5 and 1.5 are one."""
    asked, found = (Counter(m.replace(",", ".").rstrip(".:;") for m in _KEPT.findall(t)) for t in (source, translation))
    return asked.total(), (asked & found).total()
