"""A linear-chain conditional random field over tags: a sequence is scored as a whole, and illegal ones are ruled out.

Lafferty, McCallum and Pereira 2001, "Conditional random fields". B batch, T tokens, C tags.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nlpkit_ner.transitions import allowed, allowed_first, allowed_inside, precise, viterbi

_RULED_OUT = -1e30
"""Score of what is illegal: its probability is 0, and unlike -inf it leaves gradients finite. Small beside the largest
float32, so that one for each token of a text can be added up."""


class CRF(nn.Module):
    """Probability of a sequence of tags: exp of the sum of its scores, over that of all legal sequences.

    To the scores of the tokens' tags it adds those of each tag that follows another, of the first and of the last.
    In all methods ``scores`` are (B, T, C), ``lengths`` (B,) the texts' lengths in tokens, behind which nothing is
    read, and ``inside`` (B, T) is true where a token is a further piece of the word of the token before.

    Args:
        types: number of entity types; C is 1 + 2 * ``types``.

    Attributes:
        transitions: score of a tag (row) that another (column) follows, (C, C).
        start: of the first tag, (C,).
        end: of the last tag, (C,).
    """

    between: Tensor
    within: Tensor
    first: Tensor

    def __init__(self, types: int) -> None:
        super().__init__()
        tags = 1 + 2 * types
        self.transitions = nn.Parameter(torch.zeros(tags, tags))
        self.start = nn.Parameter(torch.zeros(tags))
        self.end = nn.Parameter(torch.zeros(tags))
        for name, rule in (("between", allowed), ("within", allowed_inside), ("first", allowed_first)):
            self.register_buffer(name, rule(types), persistent=False)

    def log_likelihood(self, scores: Tensor, tags: Tensor, lengths: Tensor, inside: Tensor | None = None) -> Tensor:
        """Logarithm of the probability of the tags (B, T), in nats: (B,); 0 for a text without tokens.

        A tag of -100 stands for any: the probabilities of all sequences that have the others are added up. Of illegal
        tags it is below -1e29: a text with such tags must not be learnt from.
        """
        local = self._local(scores, lengths)
        places = torch.arange(tags.size(1), device=tags.device)
        known = ((tags >= 0) & (places < lengths.unsqueeze(1))).unsqueeze(2)  # (B, T, 1)
        others = torch.arange(local.size(2), device=tags.device) != tags.unsqueeze(2)  # (B, T, C)
        both = torch.cat([local.masked_fill(known & others, _RULED_OUT), local])
        twice = None if inside is None else inside.repeat(2, 1)
        with_tags, all_of_them = self._log_partition(both, lengths.repeat(2), twice).chunk(2)
        return with_tags - all_of_them

    def decode(self, scores: Tensor, lengths: Tensor, inside: Tensor | None = None) -> Tensor:
        """The likeliest tags (B, T), int64, 0 behind the length.

        Raises:
            DivergedError: a score that is read is NaN.
        """
        return viterbi(self._local(scores, lengths), lengths, self.transitions, inside)

    def marginals(self, scores: Tensor, lengths: Tensor, inside: Tensor | None = None) -> Tensor:
        """Probability of each tag of each token (B, T, C), summed over all sequences; 0 behind the length.

        It is the gradient of the log partition by the scores: backpropagation is the backward half of
        forward-backward (Eisner 2016).
        """
        with torch.inference_mode(False), torch.enable_grad():  # in which autograd takes copies only
            scores, lengths = scores.detach().clone().requires_grad_(), lengths.clone()
            inside = None if inside is None else inside.clone()
            partition = self._log_partition(self._local(scores, lengths), lengths, inside)
            (found,) = torch.autograd.grad(partition.sum(), scores)
        return found

    def _local(self, scores: Tensor, lengths: Tensor) -> Tensor:
        """Scores (B, T, C) with those of the first and the last tag; 0 behind the length."""
        places, lengths = torch.arange(scores.size(1), device=scores.device), lengths.unsqueeze(1)
        start = precise(self.start).masked_fill(~self.first, _RULED_OUT)
        at_start = ((places == 0) & (places < lengths)).unsqueeze(2)  # (B, T, 1)
        at_end = (places == lengths - 1).unsqueeze(2)
        kept = precise(scores).masked_fill((places >= lengths).unsqueeze(2), 0)
        return kept + at_start * start + at_end * precise(self.end)

    def _steps(self) -> tuple[Tensor, Tensor]:
        """Transitions (C, C) between words, and within one."""
        transitions = precise(self.transitions)
        return transitions.masked_fill(~self.between, _RULED_OUT), transitions.masked_fill(~self.within, _RULED_OUT)

    def _log_partition(self, local: Tensor, lengths: Tensor, inside: Tensor | None) -> Tensor:
        """Logarithm of the sum over all legal sequences, by the forward algorithm: (B,)."""
        between, within = self._steps()
        total = local[:, 0]  # (B, C)
        for place in range(1, local.size(1)):
            step = between if inside is None else torch.where(inside[:, place, None, None], within, between)
            new = (total.unsqueeze(2) + step).logsumexp(1) + local[:, place]
            total = torch.where((place < lengths).unsqueeze(1), new, total)
        return total.logsumexp(1).masked_fill(lengths == 0, 0)
