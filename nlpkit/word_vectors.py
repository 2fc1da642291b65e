"""Token embeddings that know from the start which words stand in the same texts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

if TYPE_CHECKING:
    from nlpkit.token_store import View

_CONTEXT = 256  # tokens; a longer document is several contexts
_MOST_TOKENS, _MOST_CONTEXTS = 4_000_000, 100_000  # that are looked at, spread over the corpus
_SPARE = 16  # directions that make the others more exact (Halko et al. 2011)
_SEEN = 5  # times a token must be met
_LENGTH = 3.0  # of a row, in lengths of a random one: the first, large steps of the optimiser must not turn it round
_LARGE = 1.0  # a number of a row, on average, that random ones have in a T5; larger ones make its loss start high


def start_from(embedding: nn.Module, texts: View, separator: int, special: Sequence[int] = ()) -> int:
    """Set the rows of a new embedding by latent semantic analysis of the corpus (Deerwester et al. 1990).

    Counts of tokens in contexts, weighted by TF-IDF, are decomposed by a randomised SVD; a token's row is its place in
    the strongest directions. Special tokens, tokens that are hardly met, and directions that a small corpus does not
    have, keep their random numbers.

    Args:
        embedding: (V, D), changed in place.
        texts: documents to learn from.
        separator: token id that ends each document.
        special: ids of tokens that are no words.

    Returns:
        How many rows were set.
    """
    assert isinstance(embedding, nn.Embedding)
    matrix, contexts = _weighted_counts(texts, separator, special, embedding.num_embeddings)
    width = min(embedding.embedding_dim, min(matrix.shape) - 1)
    if width < 1:
        return 0
    _, strength, directions = torch.svd_lowrank(matrix, q=min(width + _SPARE, *matrix.shape), niter=2)
    rows = (directions * strength)[:, :width]
    known = torch.from_numpy(contexts > 0)
    weight = embedding.weight.data
    usual = weight.norm(dim=1).mean()
    length = max(usual, min(_LENGTH * usual, _LARGE * math.sqrt(embedding.embedding_dim)))
    weight[known, :width] = length * nn.functional.normalize(rows[known], dim=1)
    return int(known.sum())


def _weighted_counts(
    texts: View, separator: int, special: Sequence[int], vocabulary: int
) -> tuple[Tensor, NDArray[np.int64]]:
    """TF-IDF of tokens in contexts, sparse (contexts, V), rows of length 1; and the contexts that each token is in."""
    context, token, times = _counts(texts, [separator, *special], vocabulary)
    contexts = int(context[-1]) + 1 if len(context) else 0
    found_in = np.bincount(token, minlength=vocabulary)
    weight = (1 + np.log(times)) * (1 + np.log((1 + contexts) / (1 + found_in)))[token]
    weight /= np.sqrt(np.bincount(context, weight**2))[context]
    place = torch.from_numpy(np.stack([context, token]))
    values = torch.from_numpy(weight.astype(np.float32))
    matrix = torch.sparse_coo_tensor(place, values, (contexts, vocabulary), check_invariants=False)
    return matrix.coalesce(), found_in


def _counts(texts: View, special: Sequence[int], vocabulary: int) -> tuple[NDArray[np.int64], ...]:
    """Which token stands in which context, and how often: three arrays, sorted by context and token.

    Contexts are documents, cut where a block of the store ends; the first of ``special`` separates them. One with a
    single token says nothing and is left out. Of too many contexts every n-th is taken.
    """
    length = min(_CONTEXT, len(texts))
    blocks = texts.blocks(length)
    taken = range(0, blocks, -(-blocks * length // _MOST_TOKENS))
    tokens = np.concatenate([texts.block(i, length) for i in taken])
    begins = tokens == special[0]
    begins[::length] = True
    context = np.cumsum(begins) - 1
    words = np.bincount(tokens, minlength=vocabulary) >= _SEEN
    words[special] = False
    usable = words[tokens]
    pairs, times = np.unique(context[usable] * vocabulary + tokens[usable], return_counts=True)
    context, token = np.divmod(pairs, vocabulary)
    company = np.bincount(context)[context] > 1
    context = np.unique(context[company], return_inverse=True)[1]  # numbered without gaps
    every = max(1, -(-int(context[-1] + 1) // _MOST_CONTEXTS)) if len(context) else 1
    kept = context % every == 0
    return context[kept] // every, token[company][kept], times[company][kept]
