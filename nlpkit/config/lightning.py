"""Arguments of Lightning's Trainer that a run passes on, read from its source: importing it takes seconds."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

from nlpkit.config.kinds import Kind

SECTION = ("trainer", "lightning")
_OWN_TRAINER = "in a Trainer of your own, see docs/how-to/lightning.md"
DECIDED: Mapping[str, str] = {
    "accumulate_grad_batches": "trainer.accumulate=N",
    "barebones": _OWN_TRAINER,
    "check_val_every_n_epoch": "trainer.validations_per_epoch=N",
    "default_root_dir": "--out DIR",
    "enable_checkpointing": "checkpoint.every_steps=N says when a run is saved",
    "enable_model_summary": "--plan says how large the model is",
    "enable_progress_bar": "--quiet",
    "fast_dev_run": "trainer.max_steps=1, or --plan",
    "gradient_clip_val": "optim.clip=N",
    "limit_predict_batches": _OWN_TRAINER,
    "limit_test_batches": _OWN_TRAINER,
    "limit_train_batches": "trainer.max_steps=N",
    "max_time": "trainer.minutes=N",
    "min_epochs": "trainer.patience=0 keeps a run from ending early",
    "min_steps": "trainer.patience=0 keeps a run from ending early",
    "model_registry": "the model is in RUN/model",
    "num_nodes": "trainer.nodes=N",
    "overfit_batches": "to Lightning a run is one epoch, which would end after so many batches, none of them repeated; "
    "fit a file of a few rows, the same as --dev, with trainer.max_epochs=N",
    "plugins": _OWN_TRAINER,
    "reload_dataloaders_every_n_epochs": _OWN_TRAINER,
    "strategy": "strategy=NAME says which weights learn, trainer.devices=N how many devices share a batch",
    "use_distributed_sampler": "a run divides its batches itself, trainer.devices=N",
    "val_check_interval": "trainer.validations_per_epoch=N",
}
"""Arguments that nlpkit decides, and what to type instead."""
_PLAIN = ("bool", "int", "float", "str")
_CHOICES = {"_LITERAL_WARN": ("warn",)}


@functools.cache
def options() -> Mapping[str, Kind]:
    """The other arguments that a text can spell, with their types, as the installed Lightning has them."""
    from nlpkit.config.schema import TrainerConfig  # which knows nothing of this module

    ours = {*DECIDED, *TrainerConfig.__dataclass_fields__}
    kinds = ((name, _kind(annotation)) for name, annotation in _arguments() if name not in ours)
    return {name: kind for name, kind in kinds if kind is not None}


def _arguments() -> Iterator[tuple[str, ast.expr]]:
    """Names and annotations of the arguments of ``Trainer``; nothing where there is no Lightning."""
    found = find_spec("pytorch_lightning")
    for folder in (found and found.submodule_search_locations) or ():
        source = Path(folder, "trainer", "trainer.py").read_text("utf-8")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ClassDef) and node.name == "Trainer":
                (made,) = (f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "__init__")
                yield from ((a.arg, a.annotation) for a in made.args.kwonlyargs if a.annotation)


def _kind(annotation: ast.expr) -> Kind | None:
    """The type of an argument; classes in it are left out, and None where nothing else is in it."""
    names = [node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)]
    optional = "Optional" in names
    kinds = [Kind(name) for name in _PLAIN if name in names]
    kinds += [Kind("choice", choices=_CHOICES[name]) for name in names if name in _CHOICES]
    if len(kinds) < 2:
        return Kind(kinds[0].name, optional, kinds[0].choices) if kinds else None
    return Kind("either", optional, alternatives=tuple(kinds))
