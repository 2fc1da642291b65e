"""Limits on what one input may cost; each has a test that reaches it."""

from __future__ import annotations

LONGEST_LINE = 32 * 2**20
"""Bytes in one line, and in one row whose quoted cells span lines; a book has about 5 million."""
BLOCK = 2**18
"""Bytes that are read, unpacked and decoded at a time."""
ENCODING_PREFIX = 2**20
"""Bytes at the start of a file by which its encoding is told."""
TABLE_PREFIX = 2**16
"""Characters at the start of a file by which its delimiter and its keys are told."""
LONGEST_DOCUMENT = 32 * 2**20
"""Characters in one text of several lines; a longer file is cut between paragraphs."""
SEEN_TEXTS = 2**20
"""Fingerprints of one stage's texts that a bundle keeps, 8 bytes each; of more texts, a sample of as many."""
LOSS_TERMS = 32
"""Means that a loss is the sum of: those of a head, or one of each task that shares a model."""
CONTROL_VALUES = 100
"""Different values of a column that texts can be asked for by."""
CONTROL_CHARACTERS = 100
"""Characters of such a value."""
CONTROL_ROWS = 10_000
"""Different rows of values that such columns have together."""
