"""Translation for nlpkit: nothing is registered yet."""
