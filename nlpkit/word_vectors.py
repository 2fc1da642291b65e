"""Token embeddings that know from the start which words stand in the same texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

if TYPE_CHECKING:
    from nlpkit.token_store import View

_CONTEXT = 256  # tokens; a longer document is several contexts
_MOST_TOKENS = 4_000_000  # that are looked at, spread over the corpus; bounds memory and time
_SPARE = 16  # directions that make the others more exact (Halko et al. 2011)
_SEEN = 5  # times a token must be met
_LENGTH = 3.0  # of a row, in lengths of a random one: the first, large steps of the optimiser must not turn it round


def start_from(embedding: nn.Module, texts: View, separator: int) -> int:
    """Set the rows of a new embedding by latent semantic analysis of the corpus (Deerwester et al. 1990).

    Counts of tokens in contexts, weighted by TF-IDF, are decomposed by a randomised SVD; a token's row is its place in
    the strongest directions. Tokens that are hardly met, and directions that a small corpus does not have, keep their
    random numbers.

    Args:
        embedding: (V, D), changed in place.
        texts: documents to learn from.
        separator: token id that ends each document.

    Returns:
        How many rows were set.
    """
    assert isinstance(embedding, nn.Embedding)
    matrix, contexts = _weighted_counts(texts, separator, embedding.num_embeddings)
    width = min(embedding.embedding_dim, min(matrix.shape) - 1)
    if width < 1:
        return 0
    _, strength, directions = torch.svd_lowrank(matrix, q=min(width + _SPARE, *matrix.shape), niter=2)
    rows = (directions * strength)[:, :width]
    known = torch.from_numpy(contexts > 0)
    weight = embedding.weight.data
    length = _LENGTH * weight.norm(dim=1).mean()
    weight[known, :width] = length * nn.functional.normalize(rows[known], dim=1)
    return int(known.sum())


def _weighted_counts(texts: View, separator: int, vocabulary: int) -> tuple[Tensor, NDArray[np.int64]]:
    """TF-IDF of tokens in contexts, sparse (contexts, V), rows of length 1; and the contexts that each token is in."""
    length = min(_CONTEXT, len(texts))
    count = texts.blocks(length)
    chosen = range(0, count, -(-count * length // _MOST_TOKENS))
    tokens = np.concatenate([texts.block(i, length) for i in chosen])
    begins = tokens == separator
    begins[::length] = True
    context = np.cumsum(begins) - 1
    seen = np.bincount(tokens, minlength=vocabulary)
    usable = (tokens != separator) & (seen[tokens] >= _SEEN)
    pairs, times = np.unique(context[usable] * vocabulary + tokens[usable], return_counts=True)
    row, column = np.divmod(pairs, vocabulary)
    contexts = int(context[-1]) + 1
    found_in = np.bincount(column, minlength=vocabulary)
    weight = (1 + np.log(times)) * (1 + np.log((1 + contexts) / (1 + found_in)))[column]
    weight /= np.sqrt(np.bincount(row, weight**2, minlength=contexts))[row]
    place = torch.from_numpy(np.stack([row, column]))
    values = torch.from_numpy(weight.astype(np.float32))
    matrix = torch.sparse_coo_tensor(place, values, (contexts, vocabulary), check_invariants=False)
    return matrix.coalesce(), found_in
