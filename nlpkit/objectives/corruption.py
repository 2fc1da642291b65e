"""Which spans are cut out of a text, and what stands in their place: a function of each row's seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Corruption:
    """Cuts spans out of texts, as T5 was trained (Raffel et al. 2020).

    The input has one sentinel in the place of each span, another for each; the target has the spans, each behind its
    sentinel. Both end with ``end``. How many tokens and spans are cut follows from the length, so that equal texts
    make equal rows; where is drawn at random.

    Args:
        rate: share of the tokens that are cut out.
        mean_span: tokens of a span, on average.
        sentinels: ids, as many as there may be spans.
        end: id.
    """

    rate: float
    mean_span: float
    sentinels: tuple[int, ...]
    end: int

    def cut(self, length: int) -> tuple[int, int]:
        """Tokens and spans that are cut out of so many tokens; none of a single one."""
        if length < 2:
            return 0, 0
        noise = min(max(round(length * self.rate), 1), length - 1)
        return noise, min(max(round(noise / self.mean_span), 1), noise, length - noise)

    def lengths(self, length: int) -> tuple[int, int]:
        """Tokens of input and target that so many tokens make."""
        noise, spans = self.cut(length)
        return length - noise + spans + 1, noise + spans + 1

    def longest(self, room: int) -> int:
        """How many tokens make an input and a target of at most ``room`` tokens each."""
        length = 0
        while max(self.lengths(length + 1)) <= room:
            length += 1
        return length

    def corrupt(self, tokens: Sequence[int], seed: int) -> tuple[list[int], list[int]]:
        """Input and target of a text."""
        import numpy as np

        from nlpkit.randomness import uniform

        plain, (noise, spans) = np.asarray(tokens, np.int64), self.cut(len(tokens))
        if not spans:
            return [*plain.tolist(), self.end], [self.end]
        seeds = np.array([seed], np.uint64)
        left = _parts(len(plain) - noise, uniform(seeds, len(plain) - noise - 1, 0)[0], spans)
        gone = _parts(noise, uniform(seeds, noise - 1, 1)[0], spans)
        starts = np.cumsum(left) + np.cumsum(gone) - gone  # of the spans: each stands behind what is left
        hidden = np.zeros(len(plain) + 1, np.int64)
        np.add.at(hidden, starts, 1)
        np.add.at(hidden, starts + gone, -1)
        hidden = np.cumsum(hidden[:-1]).astype(np.bool_)
        sentinels = np.array(self.sentinels[:spans])
        inputs = np.insert(plain[~hidden], np.cumsum(left), sentinels)
        targets = np.insert(plain[hidden], np.cumsum(gone) - gone, sentinels)
        return [*inputs.tolist(), self.end], [*targets.tolist(), self.end]

    def fill(self, inputs: Sequence[int], targets: Sequence[int], filling: Sequence[int]) -> list[int]:
        """The input with something in the place of each sentinel: what ``filling`` has where the target has the span.

        Args:
            inputs: as `corrupt` made them.
            targets: likewise, of as many tokens as ``filling``.
            filling: the target again, or guesses of it.
        """
        known, spans, span = set(self.sentinels), dict[int, list[int]](), list[int]()
        for target, token in zip(targets, filling, strict=True):
            if target in known:
                span = spans.setdefault(target, [])
            else:
                span.append(token)
        return [token for place in inputs for token in spans.get(place, [place])]


def _parts(items: int, draws: NDArray[np.float64], parts: int) -> NDArray[np.int64]:
    """Lengths of so many parts of a number of items, none empty; each division as likely.

    Args:
        items: to divide.
        draws: uniform, one for each place between two items.
        parts: how many.
    """
    import numpy as np

    cuts = 1 + np.sort(np.argsort(draws, kind="stable")[: parts - 1])
    return np.diff(cuts, prepend=0, append=items)
