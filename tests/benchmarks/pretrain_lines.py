"""Pre-training on reviews as users have them: a line a row for transformers' Trainer, packed by nlpkit.

    python tests/benchmarks/pretrain_lines.py [--runs 3] [--threads 1] [--steps 24] [--batch-tokens 8192]

Text: the clothing reviews of $NLPKIT_DATA. The peer does what its run_mlm does with --line_by_line and
--pad_to_max_length: a review a row, cut at 128 tokens and padded to them. Both sides take equal steps of equal batches;
what counts is real tokens, without padding. Sides and model as in pretrain_mlm.py; the loss is that of reviews held
out.
"""

from __future__ import annotations

import books
import pretraining

MADE = pretraining.Comparison("mlm", books.reviews, task={"rate": pretraining.SHARE})

if __name__ == "__main__":
    options = pretraining.parser(__doc__)
    pretraining.compare(options, pretraining.sides(MADE, pretraining.padded_lines), MADE.prepare)
