"""Pre-training a GPT-2 of 4 layers, 256 wide, 8,000 tokens, against transformers' Trainer with group_texts.

    python tests/benchmarks/pretrain_clm.py [--runs 3] [--threads 1] [--steps 24] [--batch-tokens 8192]

Text: the Gutenberg books of $NLPKIT_DATA, a paragraph a text with a separator behind it, packed to 128. What is equal
on both sides stands in pretraining.py. Sides: `transformers`; `nlpkit-adamw`, which differs in nothing but our code;
`nlpkit`, with the optimiser and the rates that clm has by default. The loss is that of each next token of the book held
out.
"""

from __future__ import annotations

import books
import pretraining

MADE = pretraining.Comparison("clm", books.paragraphs)

if __name__ == "__main__":
    options = pretraining.parser(__doc__)
    pretraining.compare(options, pretraining.sides(MADE, pretraining.group_texts), MADE.prepare)
