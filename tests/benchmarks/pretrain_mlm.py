"""Pre-training a BERT of 4 layers, 256 wide, 8,000 tokens, against transformers' Trainer with group_texts.

    python tests/benchmarks/pretrain_mlm.py [--runs 3] [--threads 1] [--steps 24] [--batch-tokens 8192]

Text: the Gutenberg books of $NLPKIT_DATA, a paragraph a text, packed to 128; 15% of the tokens to guess (the default
of transformers). What is equal on both sides stands in pretraining.py. Sides: `transformers`; `nlpkit-adamw`, which
differs in nothing but our code; `nlpkit`, with the optimiser and the rates that mlm has by default. The loss is that of
the book held out, of which the same 15% of the tokens are [MASK].
"""

from __future__ import annotations

import books
import pretraining

MADE = pretraining.Comparison("mlm", books.paragraphs, task={"rate": pretraining.SHARE})

if __name__ == "__main__":
    options = pretraining.parser(__doc__)
    pretraining.compare(options, pretraining.sides(MADE, pretraining.group_texts), MADE.prepare)
