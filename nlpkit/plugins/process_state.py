"""What belongs to the whole process and not to a plugin, so that one which changes it on import can be named."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from nlpkit.signals import ENDING

State = Mapping[str, Any]
_ABSENT = object()
_FRESH_NUMPY = 0x80000000  # first word of numpy's generator, unless a whole number has seeded it
_FRESH_TORCH = 2**32  # torch draws its first seed from far more numbers than these, which people write
_FRESH = {
    "the seed of numpy": None,
    "the seed of torch": None,
    "torch's default dtype": "float32",
    "torch's default device": "cpu",
    "whether torch keeps gradients": True,
}
"""What a library has as it is imported."""
_THREADS = "the threads that run"
_THREADS_OF_TORCH = "torch's number of threads"
_ASK_TORCH = "import torch; print([torch.get_num_threads(), torch.get_num_interop_threads()])"
_BLANKET = (Warning, UserWarning, DeprecationWarning, FutureWarning, RuntimeWarning)


def take() -> State:
    """The state of this moment; of torch and numpy only where they are imported."""
    state = {what: _read(look) for what, look in _LOOKS.items()}
    return {what: value for what, value in state.items() if value is not _ABSENT}


def _read(look: Callable[[], Any]) -> Any:
    """What can be seen, or why nothing can: a working directory that is deleted, a variable that a plugin replaced."""
    try:
        return look()
    except Exception as error:
        return type(error)


def differences(before: State, after: State) -> tuple[str, ...]:
    """What differs, in words; what a library sets as it is imported is no difference."""
    changed = []
    for what, now in after.items():
        if (before[what] if what in before else _fresh(what, now, before)) == now:
            continue
        if what == "the environment" and isinstance(now, dict) and isinstance(before[what], dict):
            names = {name for name, _ in set(before[what].items()) ^ set(now.items())}
            what = f"{what} ({', '.join(sorted(names))})"
        if what == _THREADS:
            if not (began := sorted(name for _, name in now - before[what])):
                continue  # some have ended
            what = f"{what} ({', '.join(began)})"
        changed.append(what)
    return tuple(changed)


def _fresh(what: str, now: Any, before: State) -> Any:
    """What a library had that was imported since; ``now`` where nobody knows."""
    if what != _THREADS_OF_TORCH:
        return _FRESH.get(what, now)
    try:  # it depends on the machine and the environment: a fresh process tells
        words = [sys.executable, "-c", _ASK_TORCH]
        asked = subprocess.run(words, env=before["the environment"], capture_output=True, check=True, timeout=60)
        return json.loads(asked.stdout)
    except Exception:
        return now


def _is_blanket(found: tuple[Any, ...]) -> bool:
    action, message, category, module, _ = found
    return action == "ignore" and message is None and module is None and category in _BLANKET


def _of_log(log: logging.Logger) -> tuple[Any, ...]:
    return log.level, log.disabled, log.propagate, tuple(map(id, log.handlers))


def _seed_of_numpy() -> Any:
    numpy: Any = sys.modules.get("numpy")
    if not hasattr(numpy, "random"):
        return _ABSENT
    first = int(numpy.random.get_state()[1][0])
    return None if first == _FRESH_NUMPY else first


def _of_torch(look: Callable[[Any], Any]) -> Callable[[], Any]:
    def looked() -> Any:
        torch = sys.modules.get("torch")
        return look(torch) if hasattr(torch, "get_default_dtype") else _ABSENT

    return looked


def _seed_of_torch(torch: Any) -> int | None:
    seed = int(torch.initial_seed())
    return seed if seed < _FRESH_TORCH else None


_LOOKS: dict[str, Callable[[], Any]] = {
    "the level of the root logger": lambda: (logging.root.level, logging.root.manager.disable),
    "the handlers of the root logger": lambda: tuple(map(id, logging.root.handlers)),
    "the log of nlpkit": lambda: _of_log(logging.getLogger("nlpkit")),
    "the working directory": os.getcwd,
    "sys.path": lambda: tuple(sys.path),
    "sys.stdout or sys.stderr": lambda: (id(sys.stdout), id(sys.stderr)),
    "sys.excepthook": lambda: id(sys.excepthook),
    "the recursion limit": sys.getrecursionlimit,
    "signal handlers": lambda: tuple(id(signal.getsignal(number)) for number in ENDING),
    "filters that silence all warnings": lambda: tuple(str(f) for f in warnings.filters if _is_blanket(f)),
    "the seed of random": random.getstate,
    "the environment": lambda: dict(os.environ),
    _THREADS: lambda: frozenset((thread.ident, thread.name) for thread in threading.enumerate()),
    "the seed of numpy": _seed_of_numpy,
    "torch's default dtype": _of_torch(lambda torch: str(torch.get_default_dtype()).removeprefix("torch.")),
    "torch's default device": _of_torch(lambda torch: str(torch.get_default_device())),
    "whether torch keeps gradients": _of_torch(lambda torch: torch.is_grad_enabled()),
    "the seed of torch": _of_torch(_seed_of_torch),
    _THREADS_OF_TORCH: _of_torch(lambda torch: [torch.get_num_threads(), torch.get_num_interop_threads()]),
}
"""What is looked at, in words."""
