"""What of a plain text file is one text: each line, each paragraph, or the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from nlpkit.limits import LONGEST_DOCUMENT
from nlpkit.readers.tables import Row

Unit = Literal["auto", "line", "paragraph", "file"]
_LONG_WORD = 20  # characters; scripts without spaces have no words to tell by
_NARROWEST = 40  # characters between margins; words in a list are shorter
_SEVERAL = 3  # paragraphs of two lines and more that are enough to judge by


@dataclass(frozen=True)
class Documents:
    """How plain text files are divided into texts; other formats say so themselves.

    Args:
        unit: ``auto`` is the file where its paragraphs are wrapped at a margin (`is_wrapped`), else each line.
        longest: characters of a text, at most; what is longer is cut between paragraphs, or else between lines.
        paragraphs: of the start of a file that ``auto`` has taken for one text, so that it can be said.
    """

    unit: Unit = "line"
    longest: int = LONGEST_DOCUMENT
    paragraphs: int = 0

    def of(self, start: str) -> Documents:
        """The same for the file that begins so: ``auto`` is decided."""
        if self.unit != "auto":
            return self
        if not is_wrapped(start):
            return replace(self, unit="line")
        lines = [line.strip() for line in start.split("\n")]
        return replace(self, unit="file", paragraphs=sum(bool(a and not b) for a, b in pairwise([*lines, ""])))

    def gather(self, lines: Iterable[Row]) -> Iterator[Row]:
        """Lines to texts, each with the number of its first line.

        The lines of a paragraph are joined by a space, without the white space at their ends; the paragraphs of a
        file stand apart by a blank line. A line of white space, a page break too, ends a paragraph.

        Args:
            lines: rows of one cell.
        """
        if self.unit == "line":
            return iter(lines)
        paragraphs = _joined(lines, " ", self.longest)
        return paragraphs if self.unit == "paragraph" else _joined(paragraphs, "\n\n", self.longest)

    def __str__(self) -> str:
        cut = f", cut between paragraphs at {self.longest:,} characters" if self.longest < LONGEST_DOCUMENT else ""
        together = f", of {self.paragraphs:,} paragraphs or more: data.documents=paragraph makes each a text"
        about = {
            "line": "each line a text",
            "paragraph": "each paragraph a text",
            "file": f"the file a text{cut}{together if self.paragraphs else ''}",
        }
        return about.get(self.unit, self.unit)


LINES = Documents()


def _joined(rows: Iterable[Row], between: str, longest: int) -> Iterator[Row]:
    """Neighbours that are not blank as one row, as long as there is room."""
    held: list[str] = []
    first = size = 0
    for number, (cell,) in rows:
        text = cell.strip()
        if held and (not text or size + len(text) > longest):
            yield first, [between.join(held)]
            held, size = [], 0
        if text:
            first = first if held else number
            held.append(text)
            size += len(text) + len(between)
    if held:
        yield first, [between.join(held)]


def is_wrapped(start: str) -> bool:
    """Whether a text has paragraphs whose lines end at a margin, as books have, and not where a text or verse ends.

    A margin made the line break where the next line's first word would have crossed it. That is so for most breaks
    of wrapped paragraphs; in lists of texts, verse and code for few. Without blank lines there are no paragraphs.

    Args:
        start: the first lines of a file.
    """
    lines = [line.strip() for line in start.split("\n")]
    sizes = sorted(len(line) for line in lines if line)
    if not sizes:
        return False
    margin = sizes[len(sizes) * 99 // 100]  # a few lines, such as addresses, cross it
    breaks = [(line, following) for line, following in pairwise(lines) if line and following]
    wrapped = sum(len(line) + 1 + min(_LONG_WORD, len(after.split(None, 1)[0])) > margin for line, after in breaks)
    ends = (after for (line, following), (_, after) in pairwise(pairwise(lines)) if line and following)
    paragraphs = sum(not after for after in ends)
    evident = margin >= _NARROWEST and paragraphs >= _SEVERAL
    return evident and wrapped >= max(len(breaks) / 2, len(sizes) / 4)
