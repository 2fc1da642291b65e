"""One batch of the rows of several tasks: padded together, equal ones once, so that the backbone runs once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from nlpkit.errors import PluginError
from nlpkit.task import Batch

_ROWS, _EXAMPLES = "@rows", "@examples"


def pool(batches: Mapping[str, Batch], examples: Mapping[str, list[int]], pad: int) -> Batch:
    """Put batches of several tasks together.

    Args:
        batches: what each task collated, by its name: ``input_ids`` (R, L), and what else its head needs.
        examples: place of each of its examples in the whole batch.
        pad: token id of padding.

    Returns:
        ``input_ids``, ``attention_mask`` and, where a task has them, ``token_type_ids`` of U different rows
        (U, longest L), which the backbone reads; and all of every batch behind the name of its task. Token types of a
        task that has none are 0, for which encoders take them.

    Raises:
        PluginError: a task whose batch is of another kind.
    """
    places: dict[bytes, int] = {}
    rows: list[Tensor] = []
    rest: Batch = {}
    for name, batch in batches.items():
        index = []
        for row in _rows(name, batch):
            key = row.numpy().tobytes()
            if key not in places:
                places[key] = len(rows)
                rows.append(row)
            index.append(places[key])
        rest |= {f"{name}/{key}": value for key, value in batch.items()}
        rest[f"{name}/{_ROWS}"], rest[f"{name}/{_EXAMPLES}"] = torch.tensor(index), torch.tensor(examples[name])
    longest = max(batch["input_ids"].size(1) for batch in batches.values())  # which a task may have padded further
    rows.append(torch.empty(longest, 3, dtype=rows[0].dtype))
    ids, mask, kinds = (pad_sequence([r[:, i] for r in rows], True, (pad, 0, 0)[i])[:-1] for i in range(3))  # (U, L)
    of_kinds = {"token_type_ids": kinds} if any("token_type_ids" in batch for batch in batches.values()) else {}
    return {"input_ids": ids, "attention_mask": mask, **of_kinds, **rest}


def _rows(name: str, batch: Batch) -> Iterator[Tensor]:
    """Ids, mask and token types (l, 3) of each row, without the padding behind it."""
    if batch.get("input_ids", torch.empty(0)).dim() != 2 or batch.get("attention_mask", batch["input_ids"]).dim() != 2:
        raise PluginError(
            f"task '{name}' makes batches without input_ids (B, L), so it cannot share a backbone", "fit it by itself"
        )
    ids = batch["input_ids"]
    mask = batch.get("attention_mask", torch.ones_like(ids)).long()
    stacked = torch.stack([ids, mask, batch.get("token_type_ids", torch.zeros_like(ids))], -1)  # (R, L, 3)
    lengths = (mask.flip(1).cumsum(1) > 0).sum(1).clamp(min=1)
    return (row[:length].contiguous() for row, length in zip(stacked, lengths.tolist(), strict=True))


def names_in(batch: Batch) -> list[str]:
    """The tasks that a batch has rows of."""
    return [key.removesuffix(f"/{_ROWS}") for key in batch if key.endswith(f"/{_ROWS}")]


def batch_of(batch: Batch, name: str) -> Batch:
    """The batch of one task, as it collated it."""
    own = {key.removeprefix(f"{name}/"): value for key, value in batch.items() if key.startswith(f"{name}/")}
    return {key: value for key, value in own.items() if key not in (_ROWS, _EXAMPLES)}


def hidden_of(hidden: Tensor, batch: Batch, name: str) -> Tensor:
    """Hidden states (R, L, D) of the rows of one task, out of those of all (U, longest L, D)."""
    return hidden[batch[f"{name}/{_ROWS}"], : batch[f"{name}/input_ids"].size(1)]


def marked(places: Tensor, batch: Batch, name: str) -> Tensor:
    """Places (R, L) in the rows of one task as numbers of them in the rows of all (U, longest L)."""
    counts = torch.zeros_like(batch["input_ids"])
    counts[:, : places.size(1)].index_put_((batch[f"{name}/{_ROWS}"],), places.long(), accumulate=True)
    return counts


def examples_of(batch: Batch, name: str) -> list[int]:
    """Place in the whole batch of each example of one task."""
    places: list[int] = batch[f"{name}/{_EXAMPLES}"].tolist()
    return places
