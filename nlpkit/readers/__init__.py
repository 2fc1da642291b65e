"""Files to examples: csv, tsv, jsonl and txt, plain or gzip, streamed, every cell a string.

Encoding, delimiter and columns are detected and can be shown (`Source`, `describe`); nothing is guessed in silence.
"""

from __future__ import annotations

from nlpkit.readers.columns import choose_columns, find_columns, plain_name
from nlpkit.readers.documents import LINES, Documents
from nlpkit.readers.examples import describe, inspect, read_examples, read_rows
from nlpkit.readers.opening import open_text
from nlpkit.readers.paths import STDIN, expand, format_of
from nlpkit.readers.source import Source
from nlpkit.readers.tables import split_lines

__all__ = [
    "LINES",
    "STDIN",
    "Documents",
    "Source",
    "choose_columns",
    "describe",
    "expand",
    "find_columns",
    "format_of",
    "inspect",
    "open_text",
    "plain_name",
    "read_examples",
    "read_rows",
    "split_lines",
]
