"""The processes that train one model together: which of them this one is, and what they find out as one.

Alone, every function here returns what it is given.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_LAUNCHERS = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"))


@dataclass(frozen=True)
class Place:
    """Which of the processes of a run.

    Args:
        rank: its number, from 0 on, over all machines.
        world: how many there are.
    """

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether it is the one that writes files and speaks to the user."""
        return self.rank == 0


def python(module: str) -> list[str]:
    """The command that runs a module by this very Python, and imports nothing from the working folder."""
    return [sys.executable, "-P", "-m", module]


def python_path() -> dict[str, str]:
    """The variable by which it finds what can be imported here."""
    return {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def started() -> Place:
    """As which process a launcher has started this one: torchrun, srun or ``nlpkit`` itself; alone by none of them."""
    for rank, world in _LAUNCHERS:
        if os.environ.get(rank, "").isdecimal() and os.environ.get(world, "").isdecimal():
            return Place(int(os.environ[rank]), int(os.environ[world]))
    return Place()


def place() -> Place:
    """Which of the processes that train together now; alone outside of training, whatever the launcher was."""
    if "torch" not in sys.modules:
        return Place()
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return Place()
    return Place(distributed.get_rank(), distributed.get_world_size())


def largest(number: float) -> float:
    """The largest of the numbers that all processes give."""
    return _over_all(number, "MAX")


def total(number: float) -> float:
    """Their sum."""
    return _over_all(number, "SUM")


def mean_of(terms: Sequence[tuple[Tensor, int]]) -> Tensor:
    """A loss over the examples of all processes from what it is over those of this one.

    Its value is the same in every process. Its gradient, averaged over the processes as DDP does, is that of the
    value: a process with more labels counts for more.

    Args:
        terms: parts of the loss, each a mean (a scalar), and what it is the mean of.
    """
    import torch

    means = torch.stack([mean.float() for mean, _ in terms])  # (T,)
    own = torch.tensor([count for _, count in terms], dtype=torch.float64, device=means.device)
    both = torch.stack([own, own * means.detach()])  # (2, T)
    torch.distributed.all_reduce(both)
    counts, sums = both[0].clamp(min=1), both[1]
    here = (means * (own * place().world / counts).float()).sum()
    return here + ((sums / counts).sum().float() - here).detach()


def _over_all(number: float, how: str) -> float:
    if place().world == 1:
        return number
    import torch

    value = torch.tensor(number, dtype=torch.float64)
    torch.distributed.all_reduce(value, getattr(torch.distributed.ReduceOp, how))
    return float(value)
