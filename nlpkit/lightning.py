"""What a user adds to the Trainer of a run by settings: callbacks by name, and Lightning's own arguments."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import profilers

from nlpkit.config import TrainerConfig
from nlpkit.errors import PluginError, UsageError, nearest
from nlpkit.loggers import check_installed
from nlpkit.owners import claim, owner_of

_OF_RUNS = {
    "ModelCheckpoint": "a run keeps its last and its best state: checkpoint.every_steps=N",
    "OnExceptionCheckpoint": "an interrupted run is saved by itself",
    "EarlyStopping": "trainer.patience=N",
    "Timer": "trainer.minutes=N",
    "GradientAccumulationScheduler": "trainer.accumulate=N",
    "WeightAveraging": "optim.average=N",
    "StochasticWeightAveraging": "optim.average=N",
    "LearningRateFinder": "optim.learning_rate=X",
    "BatchSizeFinder": "trainer.batch_tokens=N; --plan says how much memory it takes",
    "BaseFinetuning": "strategy=upper, freeze or layerwise",
    "ProgressBar": "a run shows its own; --quiet hides it",
    "BasePredictionWriter": "nlpkit predict",
    "ModelSummary": "--plan says how large the model is",
}
"""Callbacks in place of which a run has something of its own, and how that is set."""
_WHAT_IT_IS = "one is a subclass of pytorch_lightning.Callback (lightning.pytorch has others, which do not go with it)"
_FOR_LOGGERS = ("LearningRateMonitor", "DeviceStatsMonitor", "ThroughputMonitor")
_PROFILERS = {
    "simple": profilers.SimpleProfiler,
    "advanced": profilers.AdvancedProfiler,
    "pytorch": profilers.PyTorchProfiler,
}


def check(settings: TrainerConfig) -> None:
    """Find out before any work whether all of it can be had.

    Raises:
        UsageError: a name that is unknown, a package that is missing, or a value that Lightning refuses.
        PluginError: a module of the user's own that cannot be imported.
    """
    check_installed(settings.logger)
    for name in settings.callbacks:
        _check(name, settings)
    for name, value in settings.lightning.items():
        _try(name, value)


def callbacks(settings: TrainerConfig) -> list[pl.Callback]:
    """The callbacks that ``trainer.callbacks`` names.

    Raises:
        UsageError, PluginError: as `check`, or one that fails as it is made.
    """
    made = []
    for name in settings.callbacks:
        try:
            made.append(_class_of(name)())
        except UsageError:
            raise
        except Exception as error:
            raise PluginError(f"trainer.callbacks: '{name}' failed as it was made: {_said(error)}") from error
    return made


def arguments(settings: TrainerConfig, folder: Path) -> dict[str, Any]:
    """The arguments that ``trainer.lightning`` holds; a profiler writes into ``folder``."""
    given = {name: value for name, value in settings.lightning.items() if value is not None}
    if profiler := given.get("profiler"):
        given["profiler"] = _PROFILERS[str(profiler).lower()](dirpath=folder / "profile", filename="profile")
    return given


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Leave torch as it was, whatever a Trainer sets for all that follows, and say in our words what it refuses.

    Raises:
        UsageError: something is asked of Lightning that goes not with the rest.
    """
    flags = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    try:
        yield
    except MisconfigurationException as error:
        raise UsageError(f"Lightning refuses: {_said(error)}", "see docs/how-to/lightning.md") from error
    finally:
        torch.use_deterministic_algorithms(flags[0], warn_only=flags[1])
        torch.backends.cudnn.benchmark = benchmark


def _try(name: str, value: Any) -> None:
    """Give a Trainer one argument, and see whether it takes it."""
    if name == "limit_val_batches" and value == 0:
        raise UsageError(f"trainer.{name} is 0, and the dev part chooses the best step", f"trainer.{name}=1")
    if name == "profiler" and value is not None and str(value).lower() not in _PROFILERS:
        hint = f"{nearest(str(value), _PROFILERS)}profilers: {', '.join(_PROFILERS)}"
        raise UsageError(f"trainer.profiler: Lightning has no profiler '{value}' for runs", hint)
    quiet: dict[str, Any] = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    try:
        with explained():
            pl.Trainer(accelerator="cpu", devices=1, plugins=[LightningEnvironment()], **quiet, **{name: value})
    except (UsageError, ValueError, TypeError) as error:
        raise UsageError(f"trainer.{name} is {value!r}: {_said(error.__cause__ or error)}", _explain(name)) from error


def _explain(name: str) -> str:
    return f"Lightning's documentation of Trainer({name}=...) says what it takes"


def _check(name: str, settings: TrainerConfig) -> None:
    found = _class_of(name)
    for known, instead in _OF_RUNS.items():
        if issubclass(found, getattr(pl.callbacks, known)):
            raise UsageError(f"trainer.callbacks: '{name}' does what a run does by itself", instead)
    if inspect.isabstract(found):
        raise UsageError(f"trainer.callbacks: '{name}' is abstract", "name a subclass of it")
    try:
        inspect.signature(found).bind()
    except TypeError as error:
        hint = "write a subclass that gives them, and name it as module:Class"
        raise UsageError(f"trainer.callbacks: '{name}' is made without arguments, and has {error}", hint) from None
    if not settings.logger and issubclass(found, tuple(getattr(pl.callbacks, one) for one in _FOR_LOGGERS)):
        raise UsageError(f"trainer.callbacks: '{name}' needs a logger to write to", "trainer.logger=csv")
    if issubclass(found, pl.callbacks.DeviceStatsMonitor) and importlib.util.find_spec("psutil") is None:
        raise UsageError(f"trainer.callbacks: '{name}' needs the package psutil", "pip install psutil")
    if settings.callbacks.count(name) > 1:
        raise UsageError(f"trainer.callbacks names '{name}' twice", "leave one of them out")


def _class_of(name: str) -> type[pl.Callback]:
    found = _of_module(name) if ":" in name else _of_lightning(name)
    if not isinstance(found, type) or not issubclass(found, pl.Callback):
        raise UsageError(f"trainer.callbacks: '{name}' is no Callback of Lightning", _WHAT_IT_IS)
    package = found.__module__.partition(".")[0]
    if package not in ("pytorch_lightning", "nlpkit") and not owner_of(found.__module__):
        claim(package, f"'{package}' (trainer.callbacks)")  # what it raises is no bug of ours
    return found


def _of_lightning(name: str) -> Any:
    usable = [one for one in pl.callbacks.__all__ if one not in ("Callback", "Checkpoint", *_OF_RUNS)]
    if name not in pl.callbacks.__all__:
        hint = f"{nearest(name, usable)}one of your own is named as module:Class"
        raise UsageError(f"trainer.callbacks: Lightning has no callback '{name}'", hint)
    return getattr(pl.callbacks, name)


def _of_module(name: str) -> Any:
    """The class of ``module:Class``; a plugin file that the user has named is a module, too."""
    path, _, attribute = name.partition(":")
    if not all((*path.split("."), attribute)):
        raise UsageError(f"trainer.callbacks: '{name}' is no module:Class", "such as mypackage.callbacks:MyCallback")
    try:
        module = sys.modules.get(f"nlpkit_plugin_{path}") or importlib.import_module(path)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{path}.".startswith(f"{error.name}."):
            hint = f"name its file with --plugin, or say where it is: PYTHONPATH={os.curdir}"
            raise UsageError(f"trainer.callbacks: there is no module '{path}' ('{name}')", hint) from None
        raise PluginError(f"trainer.callbacks: module '{path}' cannot be imported: {_said(error)}") from error
    if not hasattr(module, attribute):
        classes = [key for key, value in vars(module).items() if isinstance(value, type)]
        raise UsageError(
            f"trainer.callbacks: module '{path}' has no '{attribute}'", nearest(attribute, classes).strip()
        )
    return getattr(module, attribute)


def _said(error: BaseException) -> str:
    kind = "" if isinstance(error, MisconfigurationException) else f"{type(error).__name__}: "
    return kind + " ".join(str(error).split())
