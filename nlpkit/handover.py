"""Weights from one stage to the next: every tensor is loaded, newly made, or refused."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel

from nlpkit.errors import ModelError, NlpkitError
from nlpkit.heads import Head, TransformersHead, detach_pooler

_BOUNDS = {
    "hidden_size": 65_536,
    "num_hidden_layers": 1_024,
    "num_attention_heads": 1_024,
    "vocab_size": 10_000_000,
    "max_position_embeddings": 10_000_000,
    "intermediate_size": 1_000_000,
    "num_labels": 100_000,
}


@dataclass(frozen=True)
class Account:
    """What became of every tensor.

    Args:
        loaded: tensors of the model that were filled from the file.
        new: names of tensors that the file does not have: the head, or a pooler.
        unused: names in the file that the model has no place for: another task's head.
    """

    loaded: int
    new: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = [f"loaded {self.loaded} of {self.loaded + len(self.new)} tensors"]
        parts += [f"new: {_short(self.new)}"] if self.new else []
        parts += [f"not used: {_short(self.unused)}"] if self.unused else []
        return "; ".join(parts)


def read_architecture(source: str, *, hub: bool = False) -> PretrainedConfig:
    """The configuration of a model folder, or of a hub name where the user gave ``--hub``.

    Raises:
        ModelError: no such folder, no or a damaged config.json, values out of bounds, code of its own.
    """
    path = Path(source)
    if not path.is_dir() and not hub:
        problem = "is a file, not a model folder" if path.exists() else "no such folder"
        raise ModelError(f"{source}: {problem}", "for a name on the hub add --hub")
    if path.is_dir():
        _check_config_file(path)
    with _explain(source):
        return AutoConfig.from_pretrained(source, trust_remote_code=False, local_files_only=not hub)


def load(source: str, head: Head, *, config: PretrainedConfig, hub: bool = False) -> tuple[PreTrainedModel, Account]:
    """Load the body, and the parts of the head that the source has.

    Args:
        source: a model folder (ours or of plain transformers), or a hub name.
        head: its tensors are filled in place where names and shapes agree.
        config: the architecture, as `read_architecture` gave it, with changed dropout at most.
        hub: whether names on the hub are allowed.

    Returns:
        The body without its pooler, in training mode, and the account.

    Raises:
        ModelError: nothing was loaded, a tensor of the body is missing, has another shape or has no place, or the
            file is damaged or not safetensors.
    """
    if Path(source).is_dir():
        _check_weights(Path(source))
    auto = getattr(transformers, head.auto_class) if isinstance(head, TransformersHead) else AutoModel
    settings = head.config if isinstance(head, TransformersHead) else config
    with _explain(source):
        model, info = auto.from_pretrained(
            source,
            config=settings,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=not hub,
            attn_implementation=_attention(auto, settings),
            dtype=torch.float32,
        )
    body = model.base_model
    account = _account(source, model, info)
    _check_finite(source, model)
    if isinstance(head, TransformersHead):
        head.adopt(model)
    else:
        detach_pooler(body)
    return body.train(), account


def _account(source: str, model: PreTrainedModel, info: dict[str, Any]) -> Account:
    prefix = model.base_model_prefix + "." if model.base_model is not model else ""
    inside = {prefix + name for name, _ in model.base_model.named_parameters()}
    of_body = {name for name in inside if not name.startswith(f"{prefix}pooler.")}
    missing = sorted(info["missing_keys"])
    mismatched = sorted((m[0], tuple(m[1]), tuple(m[2])) for m in info["mismatched_keys"])
    unused = sorted(info["unexpected_keys"])
    every = {name for name, _ in model.named_parameters()}
    new = sorted({*missing, *(m[0] for m in mismatched)} & every)
    if not (of_body - set(new)):
        raise ModelError(
            f"{source}: none of its tensors fits {type(model).__name__}; nothing was loaded",
            "check that config.json and the weights belong together",
        )
    for name, found, expected in mismatched:
        if name in of_body:
            raise ModelError(f"{source}: tensor '{name}' has shape {list(found)}, config.json says {list(expected)}")
    if lost := [name for name in missing if name in of_body]:
        raise ModelError(f"{source}: the weights lack {_short(lost)}, which config.json asks for")
    if strange := [name for name in unused if _belongs_to_body(name, prefix, of_body)]:
        raise ModelError(f"{source}: the weights hold {_short(strange)}, for which config.json has no place")
    return Account(len(every) - len(new), new, [n for n in unused if "position_ids" not in n])


def _belongs_to_body(name: str, prefix: str, body: set[str]) -> bool:
    """Whether a tensor without a place looks like one of the body's: it lies in one of the body's modules."""
    plain = name.removeprefix(prefix)
    modules = {n.removeprefix(prefix).split(".")[0] for n in body}
    return plain.split(".")[0] in modules and not plain.endswith("position_ids")


def _check_config_file(folder: Path) -> None:
    path = folder / "config.json"
    try:
        values = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{folder}: no config.json, so it is no model folder", "give RUN or RUN/model") from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not JSON ({error})") from None
    if not isinstance(values, dict):
        raise ModelError(f"{path}: a {type(values).__name__}, expected an object")
    if "model_type" not in values:
        raise ModelError(f"{path}: no 'model_type', so it is no transformers model")
    if "auto_map" in values:
        raise ModelError(f"{path}: the model brings code of its own ('auto_map'), which nlpkit never runs")
    for key, bound in _BOUNDS.items():
        value = values.get(key, 1)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= bound:
            raise ModelError(f"{path}: {key} is {json.dumps(value)}, expected a whole number from 1 to {bound}")


def _check_weights(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    files = [folder / "model.safetensors"]
    if index.exists():
        try:
            names = {str(n) for n in json.loads(index.read_text("utf-8"))["weight_map"].values()}
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            raise ModelError(f"{index}: not an index of safetensors files") from None
        if bad := sorted(n for n in names if Path(n).name != n):
            raise ModelError(f"{index}: '{bad[0]}' leaves the folder")
        files = [folder / n for n in sorted(names)]
    for path in files:
        if not path.is_file():
            pickled = [p.name for p in folder.iterdir() if p.suffix in {".bin", ".pt", ".pth", ".ckpt"}]
            found = f"only {pickled[0]}, a pickle, which nlpkit never loads" if pickled else "no weights"
            raise ModelError(f"{folder}: {found}; expected {path.name}", "save the model again as safetensors")
        try:
            with safe_open(path, "pt") as tensors:
                tensors.keys()
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path}: damaged or no safetensors file ({error})", "copy it again") from None


def _check_finite(source: str, model: PreTrainedModel) -> None:
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise ModelError(f"{source}: tensor '{name}' holds NaN or infinity", "use an earlier model")


def _attention(auto: Any, config: PretrainedConfig) -> str:
    """Named explicitly, so that no file can ask for another kernel."""
    model_class = auto._model_mapping.get(type(config), None)
    return "sdpa" if getattr(model_class, "_supports_sdpa", False) else "eager"


def _short(names: list[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


@contextlib.contextmanager
def _explain(source: str) -> Iterator[None]:
    """transformers' own errors as ours, and its report, progress bars and warnings kept off the screen."""
    log = logging.getLogger("transformers")
    level, bars = log.level, transformers.utils.logging.is_progress_bar_enabled()
    log.setLevel(logging.CRITICAL)
    transformers.utils.logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except NlpkitError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError, SafetensorError) as error:
        if isinstance(error, FileNotFoundError) and os.fspath(error.filename or "") == "":
            raise ModelError(f"{source}: {_first_line(error)}") from error
        raise ModelError(f"{source}: transformers cannot read it: {_first_line(error)}") from error
    finally:
        log.setLevel(level)
        if bars:
            transformers.utils.logging.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:300]
