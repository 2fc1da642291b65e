"""What belongs to the whole process and not to a plugin, so that one which changes it on import can be named."""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
import warnings
from collections.abc import Mapping
from typing import Any

from nlpkit.signals import ENDING

State = Mapping[str, Any]
_FRESH_NUMPY = 0x80000000  # first word of numpy's generator, unless a whole number has seeded it
_FRESH_TORCH = 2**32  # torch draws its first seed from far more numbers than these, which people write
_BLANKET = (Warning, UserWarning, DeprecationWarning, FutureWarning, RuntimeWarning)


def take() -> State:
    """The state of this moment; of torch and numpy only where they are imported."""
    root = logging.getLogger()
    return {
        "the level of the root logger": (root.level, root.manager.disable),
        "the handlers of the root logger": tuple(map(id, root.handlers)),
        "the working directory": os.getcwd(),
        "sys.path": tuple(sys.path),
        "sys.stdout or sys.stderr": (id(sys.stdout), id(sys.stderr)),
        "sys.excepthook": id(sys.excepthook),
        "the recursion limit": sys.getrecursionlimit(),
        "signal handlers": tuple(id(signal.getsignal(number)) for number in ENDING),
        "filters that silence all warnings": tuple(str(f) for f in warnings.filters if _is_blanket(f)),
        "the seed of random": random.getstate(),
        "the environment": dict(os.environ),
        **_numpy(),
        **_torch(),
    }


def differences(before: State, after: State) -> tuple[str, ...]:
    """What differs, in words; what a library sets as it is imported is no difference."""
    fresh: dict[str, Any] = {"the seed of numpy": None, "the seed of torch": None, "torch's default dtype": "float32"}
    changed = []
    for what, now in after.items():
        if before.get(what, fresh.get(what, now)) == now:
            continue
        if what == "the environment":
            names = {name for name, _ in set(before[what].items()) ^ set(now.items())}
            what = f"{what} ({', '.join(sorted(names))})"
        changed.append(what)
    return tuple(changed)


def _is_blanket(found: tuple[Any, ...]) -> bool:
    action, message, category, module, _ = found
    return action == "ignore" and message is None and module is None and category in _BLANKET


def _numpy() -> dict[str, Any]:
    numpy = sys.modules.get("numpy")
    if not hasattr(numpy, "random"):
        return {}
    state: Any = numpy.random.get_state()  # type: ignore[union-attr]
    first = int(state[1][0])
    return {"the seed of numpy": None if first == _FRESH_NUMPY else first}


def _torch() -> dict[str, Any]:
    torch: Any = sys.modules.get("torch")
    if not hasattr(torch, "get_default_dtype"):
        return {}
    seed = int(torch.initial_seed())
    return {
        "torch's default dtype": str(torch.get_default_dtype()).removeprefix("torch."),
        "the seed of torch": seed if seed < _FRESH_TORCH else None,
        "torch's number of threads": torch.get_num_threads(),
    }
