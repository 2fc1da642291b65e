"""Which tokens are hidden and what stands in their place: a function of each row's seed."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from nlpkit.task import Batch, Features, TaskConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

_MEAN_SPAN, _LONGEST_SPAN = 3.8, 10  # tokens; as in SpanBERT (Joshi et al. 2020)
_LONGEST_WORD = 16  # tokens; what is longer is a row of words of a script without spaces


@dataclass
class MaskingConfig(TaskConfig):
    """Settings of objectives that hide words."""

    rate: float = field(default=0.2, metadata={"above": 0, "below": 1})
    """Share of the tokens that are to be guessed. BERT's 0.15 is low for small models (Wettig et al. 2023)."""
    unit: Literal["token", "word", "span"] = "token"
    """What is hidden as a whole: tokens one by one, whole words of up to 16 tokens, or spans of 1 to 10 tokens."""
    mask_share: float = field(default=0.8, metadata={"at_least": 0, "at_most": 1})
    """Share of these that the model sees as [MASK]."""
    random_share: float = field(default=0.1, metadata={"at_least": 0, "at_most": 1})
    """Share of these that the model sees as a random token; the rest it sees unchanged."""


class Masker:
    """Hides tokens.

    Args:
        tokenizer: tells special tokens, and which tokens go on with a word.
        settings: how many, and which together.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, settings: MaskingConfig) -> None:
        self.tokenizer, self.settings = tokenizer, settings

    def batch(self, padded: Batch, features: Sequence[Features]) -> Batch:
        """Padded rows (B, L) with tokens hidden by the seed of each, or by its tokens where it has none."""
        import numpy as np
        import torch

        from nlpkit.randomness import seed_of

        seeds = np.array([f["seed"] if "seed" in f else seed_of(*f["input_ids"]) for f in features], np.uint64)
        hidden, labels = self.hide(padded["input_ids"].numpy(), seeds)
        return {**padded, "input_ids": torch.from_numpy(hidden), "labels": torch.from_numpy(labels)}

    def hide(self, plain: NDArray[np.int64], seeds: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Hide tokens of each row (B, L) by its own seed (B,); at least one in every row that has a word.

        Returns:
            The rows as the model sees them, and the labels: the hidden tokens, -100 elsewhere.
        """
        import numpy as np

        from nlpkit.randomness import uniform

        length, settings = plain.shape[1], self.settings
        words = ~np.isin(plain, self.tokenizer.all_special_ids)
        draw = uniform(seeds, length, 0)
        if settings.unit == "word":
            draw = self._by_word(draw, plain, words)
        elif settings.unit == "span":
            draw = self._by_span(draw, uniform(seeds, length, 3))
        draw = np.where(words, draw, 2.0)
        chosen = ((draw < settings.rate) | (draw == draw.min(1, keepdims=True))) & words
        how = uniform(seeds, length, 1)
        other = self._numbers[(uniform(seeds, length, 2) * len(self._numbers)).astype(np.int64)]
        hidden = np.where(chosen & (how < settings.mask_share), self.tokenizer.mask_token_id, plain)
        hidden = np.where(chosen & (how >= 1 - settings.random_share), other, hidden)
        return hidden, np.where(chosen, plain, -100)

    def _by_word(
        self, draw: NDArray[np.float64], plain: NDArray[np.int64], words: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Give every token of a word (B, L) the number of its first; a very long one is hidden token by token."""
        import numpy as np

        begins = ~self._goes_on[plain] | ~words
        begins[:, 1:] |= ~words[:, :-1]
        places = np.arange(plain.shape[1])
        first = np.maximum.accumulate(np.where(begins, places, 0), axis=1)
        sizes = np.stack([np.bincount(row, minlength=len(places)) for row in first])
        long = np.take_along_axis(sizes, first, axis=1) > _LONGEST_WORD
        return np.take_along_axis(draw, np.where(long, places, first), axis=1)

    def _by_span(self, draw: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give the tokens of spans 0, so that they are hidden, and the others more than any rate."""
        import numpy as np

        stop = 1 - 1 / _MEAN_SPAN  # lengths are geometric, and cut
        mean = _MEAN_SPAN * (1 - stop**_LONGEST_SPAN)
        # so many begin that spans, which may overlap, cover the rate: 1 - exp(-share * mean length)
        share = -np.log1p(-self.settings.rate) / mean
        length = 1 + np.floor(np.log1p(-other) / np.log(stop)).astype(np.int64)
        places = np.arange(draw.shape[1])
        ends = np.where(draw < share, places + np.minimum(length, _LONGEST_SPAN), 0)
        return np.where(places < np.maximum.accumulate(ends, axis=1), 0.0, 1.0 + draw)

    @functools.cached_property
    def _numbers(self) -> NDArray[np.int64]:
        """The ids that are tokens, in their order; there may be gaps between them."""
        import numpy as np

        return np.unique(np.array(list(self.tokenizer.get_vocab().values()), np.int64))

    @functools.cached_property
    def _goes_on(self) -> NDArray[np.bool_]:
        """For each id (V): whether it goes on with the word of the token before it."""
        import json

        import numpy as np

        kind = json.loads(self.tokenizer.backend_tokenizer.to_str())["model"]["type"]
        vocabulary, special = self.tokenizer.get_vocab(), set(self.tokenizer.all_special_tokens)
        found = np.zeros(max(vocabulary.values()) + 1, np.bool_)
        for token, number in vocabulary.items():
            begins = not token.startswith("##") if kind == "WordPiece" else token.startswith(("\u0120", "\u2581"))
            found[number] = not begins and token not in special
        return found
