"""What a translation model reads and writes."""

from __future__ import annotations

from nlpkit import Field

FIELDS = {
    "source": Field(("source", "src", "source text", "source sentence", "text", "sentence")),
    "target": Field(
        ("target", "tgt", "trg", "target text", "target sentence", "translation", "reference"),
        required=False,
        written=True,
    ),
}
