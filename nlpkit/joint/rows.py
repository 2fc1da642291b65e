"""One batch of the rows of several tasks: padded together, equal ones once, so that the backbone runs once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from nlpkit.errors import PluginError
from nlpkit.task import Batch

_ROWS, _EXAMPLES = "@rows", "@examples"
_MORE = ("token_type_ids", "documents", "position_ids")  # that a backbone may read beside ids and mask


def pool(batches: Mapping[str, Batch], examples: Mapping[str, list[int]], pad: int) -> Batch:
    """Put batches of several tasks together.

    Args:
        batches: what each task collated, by its name: ``input_ids`` (R, L), and what else its head needs.
        examples: place of each of its examples in the whole batch.
        pad: token id of padding.

    Returns:
        ``input_ids``, ``attention_mask``, and where a task has them ``token_type_ids``, ``documents`` and
        ``position_ids``, of U different rows (U, longest L), which the backbone reads; and all of every batch behind
        the name of its task. Token types of a task that has none are 0, for which encoders take them, and each of its
        rows is one document.

    Raises:
        PluginError: a task whose batch is of another kind, or that alone says where tokens stand.
    """
    keys = ["input_ids", "attention_mask", *(k for k in _MORE if any(k in batch for batch in batches.values()))]
    places: dict[bytes, int] = {}
    rows: list[Tensor] = []
    rest: Batch = {}
    for name, batch in batches.items():
        index = []
        for row in _rows(name, batch, keys):
            key = row.numpy().tobytes()
            if key not in places:
                places[key] = len(rows)
                rows.append(row)
            index.append(places[key])
        rest |= {f"{name}/{key}": value for key, value in batch.items()}
        rest[f"{name}/{_ROWS}"], rest[f"{name}/{_EXAMPLES}"] = torch.tensor(index), torch.tensor(examples[name])
    longest = max(batch["input_ids"].size(1) for batch in batches.values())  # which a task may have padded further
    rows.append(torch.empty(longest, len(keys), dtype=rows[0].dtype))
    pooled = {
        key: pad_sequence([row[:, i] for row in rows], True, 0 if i else pad)[:-1]  # (U, L)
        for i, key in enumerate(keys)
    }
    return {**pooled, **rest}


def _rows(name: str, batch: Batch, keys: Sequence[str]) -> Iterator[Tensor]:
    """What the backbone reads of each row (l, K), without the padding behind it."""
    ids = batch.get("input_ids", torch.empty(0))
    mask = batch.get("attention_mask", torch.ones_like(ids)).long()
    columns = {"input_ids": ids, "token_type_ids": torch.zeros_like(ids), "documents": mask, **batch}
    columns["attention_mask"] = mask
    for key in keys:
        if ids.dim() != 2 or key not in columns or columns[key].shape != ids.shape:
            others = ", which another has" if key not in columns else ""
            raise PluginError(f"task '{name}' makes batches without {key} (B, L){others}", "fit it by itself")
    stacked = torch.stack([columns[key] for key in keys], -1)  # (R, L, K)
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
