"""Loggers of a run beside metrics.jsonl, by name: each writes into the run folder, or where its own settings say."""

from __future__ import annotations

import csv
import importlib.util
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter

from nlpkit.config import RunConfig, flat, to_plain
from nlpkit.errors import RunFolderError, UsageError
from nlpkit.files import write_bytes
from nlpkit.folder import RunFolder

_EXTRAS = ("tensorboard", "wandb", "mlflow")
_PROJECT = "nlpkit"


def check_installed(names: Sequence[str]) -> None:
    """Make sure that the packages of loggers are there.

    Raises:
        UsageError: one is not; the hint installs it.
    """
    for name in names:
        found = importlib.util.find_spec(name) if name in _EXTRAS else None
        if name in _EXTRAS and (found is None or found.origin is None):  # a folder of that name is no package
            raise UsageError(f"trainer.logger={name} needs the package {name}", f"pip install 'nlpkit-core[{name}]'")


def loggers(config: RunConfig, folder: RunFolder, step: int) -> list[Logger]:
    """The loggers that ``trainer.logger`` names; those of services are told all settings.

    Args:
        config: of the run.
        folder: likewise.
        step: that the run goes on from; what was logged after it is dropped where that can be done.

    Raises:
        UsageError: a service that cannot be reached, or does not know the user.
    """
    made = []
    for name in dict.fromkeys(config.trainer.logger):
        try:
            made.append(_make(name, folder, step))
            if name in _EXTRAS:  # beside the file of csv lies config.yaml
                made[-1].log_hyperparams(dict(flat(to_plain(config))))
        except Exception as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            raise UsageError(f"trainer.logger={name} cannot begin: {reason}", f"see the settings of {name}") from error
    return made


def _make(name: str, folder: RunFolder, step: int) -> Logger:
    path = folder.path
    if name == "csv":
        return MetricsCsv(path, step)
    if name == "tensorboard":
        return TensorBoardLogger(path, name="", version="tensorboard", default_hp_metric=False, purge_step=step or None)
    if name == "wandb":
        return WandbLogger(name=path.name, project=_PROJECT, save_dir=path)
    # a folder serves where no server is named, though mlflow would rather have a database
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    return MLFlowLogger(experiment_name=_PROJECT, run_name=path.name, save_dir=str(path / "mlruns"))


class MetricsCsv(CSVLogger):
    """metrics.csv of a run; of one that is gone on with, the rows before that stay.

    Args:
        folder: of the run.
        step: that the run goes on from; Lightning counts the first step as 0.
    """

    def __init__(self, folder: Path, step: int) -> None:
        super().__init__(folder, name="", version="")
        self._step = step

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The writer, made when there is something to write."""
        if self._experiment is None:
            self._experiment = _Writer(self.log_dir, self._step)
        return self._experiment


class _Writer(ExperimentWriter):
    def __init__(self, folder: str, step: int) -> None:
        super().__init__(folder)
        self.metrics_keys = _cut_back(Path(self.metrics_file_path), step)

    def _check_log_dir_exists(self) -> None:
        """Lightning would delete the file here."""


def _cut_back(path: Path, step: int) -> list[str]:
    """Drop the rows of a step and after it; returns the columns of the file, none where there is none.

    Raises:
        RunFolderError: the file is another one.
    """
    if not path.exists():
        return []
    kept = io.StringIO()
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or ())
            writer = csv.DictWriter(kept, columns)
            writer.writeheader()
            writer.writerows(row for row in reader if (row["step"] or "").isdigit() and int(row["step"]) < step)
        if columns and "step" not in columns:
            raise KeyError("step")
    except (KeyError, ValueError, csv.Error, OSError) as error:
        what = f"{path}: not the log that trainer.logger=csv writes"
        raise RunFolderError(what, "move it away, or leave out trainer.logger=csv") from error
    write_bytes(path, kept.getvalue().encode())
    return columns
