"""Named entity recognition for nlpkit: nothing is registered yet."""
