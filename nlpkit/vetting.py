"""What a model folder must be before transformers sees any of it: JSON within bounds, safetensors, no code."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from nlpkit.errors import ModelError, nearest_path

_BOUNDS = {
    **dict.fromkeys(("num_hidden_layers", "num_layers", "n_layers", "n_layer", "num_hidden_groups"), 1_024),
    **dict.fromkeys(("num_attention_heads", "num_heads", "n_heads", "n_head"), 1_024),
    **dict.fromkeys(("hidden_size", "d_model", "dim", "n_embd", "embedding_size"), 65_536),
    **dict.fromkeys(("intermediate_size", "hidden_dim"), 1_000_000),
    "vocab_size": 10_000_000,
    "max_position_embeddings": 10_000_000,
    "num_labels": 100_000,
}
_REFUSED = {
    "auto_map": "brings code of its own, which nlpkit never runs",
    "quantization_config": "has quantised weights, which nlpkit does not train",
    "transformers_weights": "names a weights file of its own choice",
}
MODEL_FOLDER = "give RUN or RUN/model"
_PARTS = ("encoder", "decoder")  # configurations of models that are joined
_PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl"}
_SLACK = 2**24


def check_folder(folder: Path, hint: str) -> None:
    """Refuse what is no folder, or no model.

    Args:
        folder: of the model.
        hint: what to type where there is no such folder.

    Raises:
        ModelError: naming the folder, or the file and the key.
    """
    if folder.is_file():
        raise ModelError(f"{folder}: is a file, not a folder", MODEL_FOLDER)
    check_is_folder(folder, hint)
    check_config(folder)


def check_is_folder(folder: Path, hint: str) -> None:
    """Refuse what is no folder; arguments as for `check_folder`.

    Raises:
        ModelError: with the nearest name.
    """
    if not folder.is_dir():
        problem = "is a file, not a folder" if folder.exists() else "no such folder"
        raise ModelError(f"{folder}: {problem}", nearest_path(str(folder), _folders_beside(folder)) + hint)


def _folders_beside(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.parent.iterdir() if path.is_dir()]
    except OSError:
        return []


def check_config(folder: Path) -> None:
    """Refuse a config.json that is damaged, out of bounds, or that would bring other files or code into play.

    Raises:
        ModelError: naming the file and the key.
    """
    path = folder / "config.json"
    values = _read_object(path, folder)
    if "model_type" not in values:
        raise ModelError(f"{path}: no 'model_type', so it is no transformers model")
    _check_values(path, values)
    for part in _PARTS:
        if isinstance(values.get(part), dict):
            _check_values(path, values[part], f"{part}.")
    if (folder / "adapter_config.json").exists():
        raise ModelError(f"{folder}: an adapter, which names another model", "merge it into its model and save that")


def _check_values(path: Path, values: dict[str, Any], prefix: str = "") -> None:
    for key, reason in _REFUSED.items():
        if values.get(key):
            raise ModelError(f"{path}: the model {reason} ('{prefix}{key}')", "use another model")
    for key, bound in _BOUNDS.items():
        value = values.get(key, 1)
        if value is not None and not _is_count(value, bound):
            raise ModelError(f"{path}: {prefix}{key} is {_spell(value)}, expected a whole number from 1 to {bound}")


def _read_object(path: Path, folder: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise _no_model(folder) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not JSON ({error})", "copy it again") from None
    if not isinstance(values, dict):
        raise ModelError(f"{path}: a {type(values).__name__}, expected an object")
    return values


def _no_model(folder: Path) -> ModelError:
    """What a folder without config.json is instead: a tokenizer, or one whose folders are models."""
    if (folder / "tokenizer.json").is_file() and not (folder / "model.safetensors").exists():
        begin = f"nlpkit pretrain FILES --tokenizer {folder} makes a model with it"
        return ModelError(f"{folder}: a tokenizer, and no model", begin)
    models = sorted({str(path.parent) for name in ("config.json", "run.json") for path in folder.glob(f"*/{name}")})
    more = f", and {len(models) - 2} more" if models[2:] else ""
    hint = f"give a folder in it: {' or '.join(models[:2])}{more}" if models else MODEL_FOLDER
    return ModelError(f"{folder}: no config.json, so it is no model folder", hint)


def _is_count(value: Any, bound: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= bound


def _spell(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:40] + "..."


def check_weights(folder: Path) -> int:
    """Refuse weights that are missing, damaged, or anything but safetensors.

    Returns:
        How many numbers they hold.

    Raises:
        ModelError: naming the file.
    """
    total = 0
    for path in _weight_files(folder):
        if not path.is_file():
            raise _absent(folder, path)
        try:
            with safe_open(path, "pt") as tensors:
                total += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
        except Exception as error:  # the reader raises SafetensorError, OSError and bare ones of its own
            if isinstance(error, MemoryError):
                raise
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            kind = "damaged or no safetensors file" if isinstance(error, SafetensorError) else "cannot be read"
            raise ModelError(f"{path}: {kind} ({reason})", "copy it again") from None
    return total


def _weight_files(folder: Path) -> list[Path]:
    """The files that transformers reads: one, or those of the index where the one is not there."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.exists() or not index.exists():
        return [single]
    try:
        names = {str(n) for n in json.loads(index.read_text("utf-8"))["weight_map"].values()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise ModelError(f"{index}: not an index of safetensors files", "copy it again") from None
    for name in sorted(names):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ModelError(f"{index}: '{name}' is no safetensors file of the folder")
    return [folder / n for n in sorted(names)] or [single]


def _absent(folder: Path, path: Path) -> ModelError:
    pickled = sorted(p.name for p in folder.iterdir() if p.suffix in _PICKLES)
    if pickled:
        found = f"only {pickled[0]}, a pickle, which nlpkit never loads"
        return ModelError(f"{folder}: {found}; expected {path.name}", "save the model again as safetensors")
    return ModelError(f"{folder}: no {path.name}, so it has no weights", "copy the whole folder")


def check_size(folder: Path, wanted: int) -> None:
    """Refuse a config.json that asks for far more memory than its weights could ever fill.

    Args:
        folder: of the model; one without weights, as a run's setup, is not checked.
        wanted: numbers in the body that config.json describes.

    Raises:
        ModelError: with both numbers.
    """
    if not any(path.is_file() for path in _weight_files(folder)):
        return
    found = check_weights(folder)
    if wanted > 4 * found + _SLACK:
        raise ModelError(f"{folder}: config.json asks for {wanted:,} numbers, the weights hold {found:,}")
