"""The loss of a transformers model on text that no side has seen: one plain loop for all."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

TOKENS = 2**15


def masked(model: Any, words: Any, texts: Iterable[str], length: int) -> float:
    """Mean loss in nats at 15% of the tokens of equal blocks, the same ones for all, which are [MASK]."""
    import torch

    plain = _blocks(words, texts, length - 2)
    hidden = torch.rand(plain.shape, generator=torch.Generator().manual_seed(0)) < 0.15

    def frame(inner: Any, outside: tuple[int, int]) -> Any:
        ends = [torch.full((len(inner), 1), value) for value in outside]
        return torch.cat([ends[0], inner, ends[1]], 1)

    inputs = frame(plain.masked_fill(hidden, words.mask_token_id), (words.cls_token_id, words.sep_token_id))
    return _mean_loss(model, inputs, frame(plain.masked_fill(~hidden, -100), (-100, -100)))


def causal(model: Any, words: Any, texts: Iterable[str], length: int) -> float:
    """Mean loss in nats of each next token of equal blocks, in which a separator ends each text."""
    import torch

    blocks = _blocks(words, texts, length, words.sep_token_id)
    nothing = torch.full((len(blocks), 1), -100)
    return _mean_loss(model, blocks, torch.cat([blocks[:, 1:], nothing], 1))


def _blocks(words: Any, texts: Iterable[str], length: int, end: int | None = None) -> Any:
    import torch

    backend, ends = words.backend_tokenizer, [] if end is None else [end]
    ids = (i for text in texts for i in [*backend.encode(text, add_special_tokens=False).ids, *ends])
    found = list(islice(ids, TOKENS // length * length))
    return torch.tensor(found[: len(found) // length * length]).view(-1, length)


def _mean_loss(model: Any, inputs: Any, labels: Any) -> float:
    import torch

    total, count = 0.0, int((labels != -100).sum())
    model.eval()
    inputs, labels = inputs.to(model.device), labels.to(model.device)
    with torch.inference_mode():
        for part, answers in zip(inputs.split(32), labels.split(32), strict=True):
            logits = model(input_ids=part).logits.flatten(0, 1)
            total += float(torch.nn.functional.cross_entropy(logits, answers.flatten(), reduction="sum"))
    return total / count
