"""Examples or a token store to batches, in an order that counters alone decide."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray

from nlpkit import given
from nlpkit.ahead import made_ahead
from nlpkit.batching import BatchPlan, by_length, cut, dealt, mean_length, share
from nlpkit.joint.parts import features_in
from nlpkit.owners import fed_by
from nlpkit.processes import Place, place
from nlpkit.randomness import seed_of
from nlpkit.task import SPARE, Batch, Example, Features, Task

_NAMED = 8  # samples of a batch in a message

FIXED_ROWS = 128
"""Samples in a batch that is only scored, at most."""


class Samples(Protocol):
    """What batches are made of: encoded examples, or blocks of a token store."""

    lengths: NDArray[np.int64]  # (N,) or (N, K); about those of the rows, where what is drawn decides

    def features(self, index: int, seed: int = 0) -> Features:
        """The features of one sample; ``seed`` is for what is drawn at random, another in each epoch."""

    def where(self, index: int) -> str:
        """Where one sample comes from, for messages."""


class EncodedExamples:
    """Examples encoded once, in memory.

    Args:
        task: encodes them.
        examples: in any order.
    """

    @fed_by("lengths", "kind", "encode")
    def __init__(self, task: Task[Any], examples: Sequence[Example]) -> None:
        self._features = [task.encode(example) for example in examples]
        self._where = [getattr(example, "where", "") for example in examples]
        self.kinds = np.array([task.kind(f) for f in self._features], np.int64)  # (N,)
        for first in np.unique(self.kinds, return_index=True)[1]:
            for part, features in features_in(task, self._features[first]):
                given.check_features(part, features, self._where[first])
        self.lengths = np.array([task.lengths(f) for f in self._features], np.int64)

    def features(self, index: int, seed: int = 0) -> Features:
        """The features of one example."""
        return self._features[index]

    def where(self, index: int) -> str:
        """``file:line`` of one example, or its number."""
        return self._where[index] or f"example {index + 1}"


class Turn(NamedTuple):
    """A batch in the order of a run.

    Args:
        epoch: it is of.
        rows: its samples.
        following: epoch and number of the batch after it.
    """

    epoch: int
    rows: NDArray[np.int64]
    following: tuple[int, int]


class CountedLoader:
    """Batches whose order is a function of (seed, epoch) and whose state is two integers: epoch and next batch.

    The state moves when a batch is handed over, and position = length means the start of the next epoch, so a resumed
    run goes on at exactly the next batch, also at the end of an epoch. A pass has always the same number of batches,
    because Lightning asks for it once; epochs may differ by a few, and a pass then ends a few batches into the next
    epoch or before its end. No batch is left out, and none comes twice.

    Processes that train together divide each batch among them, so the order does not depend on their number.

    Args:
        task: collates.
        samples: what to batch.
        plan: which samples stand together.
        epochs: epochs in one pass of ``iter``.
        workers: processes that make batches ahead; 0: each is made when it is asked for.
    """

    def __init__(self, task: Task[Any], samples: Samples, plan: BatchPlan, epochs: int = 1, workers: int = 0) -> None:
        self.task, self.samples, self.plan, self.epochs, self.workers = task, samples, plan, epochs, workers
        self.epoch, self.batch = 0, 0
        self._sizes: dict[int, int] = {}

    def __len__(self) -> int:
        """Batches of a pass: as many as the first epochs have."""
        return sum(self._size(e) for e in range(self.epochs))

    def __iter__(self) -> Iterator[Batch]:
        for turn, batch in self._made(self._turns()):
            self.epoch, self.batch = turn.following
            yield batch

    def _turns(self) -> Iterator[Turn]:
        """The batches of a pass, from the present position on; asks for an epoch only once it is reached."""
        epoch, batch = self.epoch, self.batch
        for _ in range(len(self)):
            rows = self.plan.epoch(epoch)[batch]
            following = (epoch, batch + 1) if batch + 1 < self._size(epoch) else (epoch + 1, 0)
            yield Turn(epoch, rows, following)
            epoch, batch = following

    def _made(self, turns: Iterator[Turn]) -> Iterator[tuple[Turn, Batch]]:
        if self.workers:
            return made_ahead(self._make, turns, self.workers, lambda turn: whence(self.samples, turn.rows))
        return ((turn, self._make(turn)) for turn in turns)

    def _make(self, turn: Turn) -> Batch:
        with batch_named(self.samples, turn.rows):
            return self._own(turn.rows, turn.epoch)

    def state_dict(self) -> dict[str, int]:
        """The position of the next batch."""
        return {"epoch": self.epoch, "batch": self.batch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go to a position; from one that this data does not have, to the next epoch."""
        self.epoch, self.batch = int(state["epoch"]), int(state["batch"])
        if self.batch >= self._size(self.epoch):
            self.epoch, self.batch = self.epoch + 1, 0

    def whence(self, number: int) -> str:
        """Where the samples of a batch come from; batches are numbered from the start of training."""
        epoch = 0
        while number >= self._size(epoch):
            number, epoch = number - self._size(epoch), epoch + 1
        return whence(self.samples, self.plan.epoch(epoch)[number])

    def _own(self, rows: NDArray[np.int64], epoch: int) -> Batch:
        """What this process trains on; where there are fewer rows than processes, one that does not count."""
        own = share(rows, place())
        if len(own):
            return make_batch(self.task, self.samples, own, self.plan.seed, epoch)
        return {**make_batch(self.task, self.samples, rows[:1], self.plan.seed, epoch), SPARE: torch.ones(())}

    def _size(self, epoch: int) -> int:
        if epoch not in self._sizes:
            self._sizes[epoch] = len(self.plan.epoch(epoch))
        return self._sizes[epoch]


class FixedLoader:
    """The same batches in the same order each time, longest first, or in the order of the samples.

    Processes that train together divide the samples, of each kind (see `dealt`).

    Args:
        task: collates.
        samples: what to batch.
        tokens: padded tokens in a batch, at most.
        rows: samples in a batch, at most.
        seed: of the run, for objectives that draw at random.
        in_order: keep the order of the samples, for predictions that are to stand beside them.
    """

    def __init__(
        self, task: Task[Any], samples: Samples, tokens: int, rows: int, seed: int = 0, *, in_order: bool = False
    ) -> None:
        self.task, self.samples, self.seed, self._most = task, samples, seed, (tokens, rows)
        self.order = np.arange(len(samples.lengths)) if in_order else by_length(-samples.lengths)
        self._made: dict[Place, list[NDArray[np.int64]]] = {}

    def __len__(self) -> int:
        return len(self._own())

    def __iter__(self) -> Iterator[Batch]:
        for rows in self._own():
            with batch_named(self.samples, rows):
                batch = make_batch(self.task, self.samples, rows, self.seed, -1)
            yield batch

    def _own(self) -> list[NDArray[np.int64]]:
        """The batches of this process, which may learn only after this loader was made which one it is."""
        here, lengths = place(), self.samples.lengths
        if here not in self._made:
            kinds = getattr(self.samples, "kinds", np.zeros(len(lengths), np.int64))
            self._made[here] = cut(dealt(self.order, kinds, here), lengths, *self._most)
        return self._made[here]


@fed_by("encode")
def make_batch(task: Task[Any], samples: Samples, rows: NDArray[np.int64], seed: int, epoch: int) -> Batch:
    """Collate some samples; a task that is ``seeded`` finds in each a ``seed`` of (run, epoch, sample)."""
    if not task.seeded:
        return given.batch(task, [samples.features(int(i)) for i in rows])
    seeds = [seed_of(seed, 2, epoch, int(i)) for i in rows]
    return given.batch(task, [{**samples.features(int(i), s), "seed": s} for i, s in zip(rows, seeds, strict=True)])


@contextlib.contextmanager
def batch_named(samples: Samples, rows: NDArray[np.int64]) -> Iterator[None]:
    """Let what fails in the ``with`` block say which samples it was about."""
    try:
        yield
    except Exception as error:
        error.add_note(f"in the batch of {whence(samples, rows)}")
        raise


def whence(samples: Samples, rows: NDArray[np.int64]) -> str:
    """Where some samples come from, the first few by name."""
    named = dict.fromkeys(samples.where(int(i)) for i in rows[:_NAMED])
    more = f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
    return ", ".join(named) + more


class TaskDataModule(pl.LightningDataModule):
    """Train, dev and test examples of a task as batches; works in an ordinary ``pl.Trainer``.

    Args:
        task: encodes and collates.
        train: examples, or samples that are encoded already.
        dev: likewise, for validation.
        test: likewise, for ``Trainer.test`` and ``Trainer.predict``.
        batch_tokens: padded tokens in a training batch, at most; None takes ``batch_size`` times the mean length.
        batch_size: typical number of examples in a training batch.
        seed: of the order.
        epochs: epochs in one pass of the loader; our own runs put the whole run in one.
        workers: processes that make training batches ahead.
    """

    def __init__(
        self,
        task: Task[Any],
        train: Sequence[Example] | Samples = (),
        dev: Sequence[Example] | Samples = (),
        test: Sequence[Example] | Samples = (),
        *,
        batch_tokens: int | None = None,
        batch_size: int = 32,
        seed: int = 0,
        epochs: int = 1,
        workers: int = 0,
    ) -> None:
        super().__init__()
        self.task, self.seed, self.epochs, self.workers = task, seed, epochs, workers
        self.train, self.dev, self.test = (encoded(task, part) for part in (train, dev, test))
        self.batch_tokens = batch_tokens or max(1, round(batch_size * mean_length(self.train.lengths)))
        self.batch_rows = max(1, 2 * batch_size) if batch_tokens is None else max(1, batch_tokens)
        self._train_loader: CountedLoader | None = None

    def train_dataloader(self) -> CountedLoader:
        """Shuffled, length-bucketed batches under the token budget."""
        if self._train_loader is None:
            kinds = getattr(self.train, "kinds", None)
            plan = BatchPlan(self.train.lengths, self.batch_tokens, self.batch_rows, self.seed, kinds)
            self._train_loader = CountedLoader(self.task, self.train, plan, self.epochs, self.workers)
        return self._train_loader

    def state_dict(self) -> dict[str, int]:
        """The position of the next training batch: Lightning restores the loader's own too late, or not at all."""
        return self.train_dataloader().state_dict()

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go to a position, before a plain Trainer makes its iterator."""
        self.train_dataloader().load_state_dict(state_dict)

    def val_dataloader(self) -> FixedLoader | list[Any]:
        """The dev part, in a fixed order."""
        return self._fixed(self.dev)

    def test_dataloader(self) -> FixedLoader | list[Any]:
        """The test part, in a fixed order."""
        return self._fixed(self.test)

    def predict_dataloader(self) -> FixedLoader | list[Any]:
        """The test part, in its own order."""
        return self._fixed(self.test, in_order=True)

    @property
    def fixed_tokens(self) -> int:
        """Tokens in a batch that is only scored, at most."""
        return max(4096, self.batch_tokens)

    def _fixed(self, samples: Samples, *, in_order: bool = False) -> FixedLoader | list[Any]:
        if not len(samples.lengths):
            return []
        return FixedLoader(self.task, samples, self.fixed_tokens, FIXED_ROWS, self.seed, in_order=in_order)


def encoded(task: Task[Any], part: Sequence[Example] | Samples) -> Samples:
    """Samples as they are, and those of examples."""
    return part if hasattr(part, "lengths") else EncodedExamples(task, part)  # type: ignore[return-value]
