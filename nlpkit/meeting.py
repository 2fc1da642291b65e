"""Where the processes of a run meet: before training, when the first one works for all, and for training itself."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from torch import distributed
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from nlpkit.config import TrainerConfig
from nlpkit.errors import ResourceError, UsageError
from nlpkit.processes import Place, started

ANSWER = timedelta(seconds=120)
"""How long processes that train together wait for one another; before training they wait as long as it takes."""
_START = timedelta(seconds=300)
_POLL_SECONDS = 0.1
_OF_SLURM = {
    "RANK": "SLURM_PROCID",
    "WORLD_SIZE": "SLURM_STEP_NUM_TASKS",
    "LOCAL_RANK": "SLURM_LOCALID",
    "GROUP_RANK": "SLURM_NODEID",
}
_numbers = itertools.count()


class Meeting:
    """Where the processes of a run tell each other what they need to know; alone, there is nobody to tell.

    Args:
        settings: how many processes were asked for.

    Raises:
        UsageError: not so many were started.
        ResourceError: they do not find each other.
    """

    def __init__(self, settings: TrainerConfig) -> None:
        self.place = started()
        _check_number(settings, self.place)
        self._store = _connect() if self.place.world > 1 else None

    def tell(self, **facts: Any) -> None:
        """Tell the others, who `hear` it; for the first process."""
        if self._store is not None:
            self._store.set("facts", json.dumps(facts))

    def hear(self) -> dict[str, Any]:
        """What the first process tells.

        Raises:
            ResourceError: it has ended.
        """
        store = self._store
        assert store is not None
        with lost_processes():
            _wait(lambda: store.check(["facts"]))
            facts: dict[str, Any] = json.loads(store.get("facts"))
        return facts

    @contextlib.contextmanager
    def training(self, accelerator: str) -> Iterator[None]:
        """Wait until every process is ready, and let them sum gradients while the ``with`` block lasts.

        Args:
            accelerator: ``cpu`` or ``gpu``.

        Raises:
            ResourceError: another process has ended, or has not answered for two minutes.
        """
        if self._store is None:
            yield
            return
        store, place = self._store, self.place
        with lost_processes():
            store.add("ready", 1)
            _wait(lambda: store.add("ready", 0) >= place.world)
            distributed.init_process_group(
                "cpu:gloo,cuda:nccl" if accelerator == "gpu" else "gloo",
                store=PrefixStore("training", store),
                rank=place.rank,
                world_size=place.world,
                timeout=ANSWER,
            )
            yield
            distributed.destroy_process_group()  # not after an error: the others may never come to it


@contextlib.contextmanager
def lost_processes() -> Iterator[None]:
    """Say in our words that another process no longer answers.

    Raises:
        ResourceError: it does not.
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, distributed.DistError) and "gloo" not in str(error):
            raise
        raise ResourceError(
            "another process of this run has ended, or no longer answers", "see what it said"
        ) from error


def _check_number(settings: TrainerConfig, place: Place) -> None:
    asked = settings.devices * settings.nodes
    if place.world == asked:
        return
    named = f"trainer.devices={settings.devices} and trainer.nodes={settings.nodes} make {asked} processes"
    launch = f"torchrun --nproc-per-node={settings.devices}"
    if settings.nodes > 1:
        launch += f" --nnodes={settings.nodes}, on each machine"
    raise UsageError(
        f"{named}, {place.world} {'was' if place.world == 1 else 'were'} started",
        f"start them by {launch}" if place.world == 1 else f"trainer.devices={place.world}, or as many on each machine",
    )


def _connect() -> PrefixStore:
    _as_torchrun_would()
    where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    try:
        store, _, _ = next(rendezvous("env://", timeout=_START))
    except (RuntimeError, ValueError) as error:
        raise ResourceError(f"the processes of this run do not find each other at {where}", str(error)) from error
    return PrefixStore(f"nlpkit-{next(_numbers)}", store)


def _as_torchrun_would() -> None:
    """Describe a job step of SLURM by the variables of torchrun; the first machine is where the processes meet."""
    if "RANK" not in os.environ:
        from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

        os.environ |= {name: os.environ[theirs] for name, theirs in _OF_SLURM.items() if theirs in os.environ}
        first = SLURMEnvironment.resolve_root_node_address(os.environ.get("SLURM_NODELIST", "127.0.0.1"))
        os.environ.setdefault("MASTER_ADDR", first)
        # another port for each job, as Lightning does: two may share a machine
        os.environ.setdefault("MASTER_PORT", str(15000 + int(os.environ.get("SLURM_JOB_ID", "0")[-4:])))
    missing = [n for n in ("LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if n not in os.environ]
    if missing:
        raise UsageError(f"RANK and WORLD_SIZE are set, {', '.join(missing)} not", "start the processes by torchrun")


def _wait(done: Callable[[], bool]) -> None:
    while not done():  # a signal is seen between two looks
        time.sleep(_POLL_SECONDS)
