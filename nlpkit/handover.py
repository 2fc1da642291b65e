"""Weights from one stage to the next: every tensor is loaded, newly made, or refused."""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from nlpkit.errors import ModelError, NlpkitError
from nlpkit.heads import (
    Head,
    TransformersHead,
    body_of,
    class_of,
    detach_pooler,
    has_own_projection,
    is_encoder_decoder,
    parts_of,
)
from nlpkit.silence import silenced
from nlpkit.vetting import check_folder, check_size, check_weights

HEAD_FILE = "head.safetensors"
"""Weights of a head that is a module of its author's own, beside those of the body."""
ADD_HUB = "for a name on the hub add --hub"


@dataclass(frozen=True)
class Account:
    """What became of every tensor.

    Args:
        loaded: tensors of the model that were filled from the file.
        new: names of tensors that were made new: a pooler, a decoder, or the head; one of its own module is
            ``head.NAME``.
        unused: names in the file that the model has no place for: another task's head.
        reason: why tensors were made new although the file has them; may be empty.
    """

    loaded: int
    new: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    reason: str = ""

    def __str__(self) -> str:
        parts = [f"loaded {self.loaded} of {self.loaded + len(self.new)} tensors"]
        parts += [f"new: {short(self.new)}{f' ({self.reason})' if self.reason else ''}"] if self.new else []
        parts += [f"not used: {short(self.unused)}"] if self.unused else []
        return "; ".join(parts)


def read_architecture(source: str, *, hub: bool = False) -> PretrainedConfig:
    """The configuration of a model folder, or of a hub name where the user gave ``--hub``.

    The body that it describes is built once without memory, so that whatever cannot be built is found here.

    Raises:
        ModelError: no such folder, no or a damaged config.json, values out of bounds, code of its own.
    """
    path = Path(source)
    if path.is_dir() or not hub:
        check_folder(path, ADD_HUB)
    with explain(source):
        config = AutoConfig.from_pretrained(source, trust_remote_code=False, local_files_only=not hub)
        with torch.device("meta"):
            body = class_of(config).from_config(copy.deepcopy(config), dtype=torch.float32)
        detach_pooler(body)
        if path.is_dir():
            check_size(path, sum(p.numel() for p in body.parameters()))
    if is_encoder_decoder(config):
        config.is_encoder_decoder = config.use_cache = True  # an encoder without its decoder writes that it is neither
    return config


def load(source: str, head: Head, *, config: PretrainedConfig, hub: bool = False) -> tuple[PreTrainedModel, Account]:
    """Load the body, and the parts of the head that the source has.

    A decoder that the head joins to an encoder is made new. The output layer of a classifier is, too, when its labels
    have other names, though their number is the same.

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
        check_weights(Path(source))
    stored = head if isinstance(head, TransformersHead) and head.is_of(config) else None
    auto, settings = class_of(config), config
    if stored is not None:
        auto, settings = getattr(transformers, stored.auto_class), stored.config
    with explain(source):
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
        _keep_fixed(model, auto)
    body = body_of(model)
    pooled = _of_pooler(body) if head.takes_pooler else set()
    account = _account(source, model, info, rest=pooled if stored is None else set(model.parameters()))
    check_finite(source, model, set(account.new))
    _check_tied(source, model)
    if stored is not None:
        account = _forget_other_labels(model, stored, config, account)
        stored.adopt(model)
        made = [f"head.{name}" for name in stored.own_weights()]
    elif isinstance(head, TransformersHead):
        head.adopt_pooler(body)
        made = [name for name, weights in head.model.named_parameters() if weights not in pooled]
        made += [f"head.{name}" for name in head.own_weights()]
    else:
        head.adopt_pooler(body)
        made = [f"head.{name}" for name, _ in head.named_parameters() if not (pooled and ".pooler." in name)]
    account = replace(account, new=[*account.new, *made])
    return body.train(), replace(account, unused=[*account.unused, *_own_head(Path(source))])


def save_body(body: PreTrainedModel, folder: Path) -> None:
    """Write a body alone; an encoder under the names that it has beside its decoder, which is left out."""
    if not is_encoder_decoder(body.config):
        body.save_pretrained(folder)
        return
    rest = TransformersHead("AutoModel", body.config)
    decoder = set(rest.parameters())
    with rest.assemble(body) as model:
        kept = {n: p for n, p in model.state_dict(keep_vars=True).items() if p not in decoder}
        model.save_pretrained(folder, state_dict=kept)


def whole(folder: Path) -> PreTrainedModel:
    """A model with its head, in the class of transformers that wrote the folder, with the weights as they are stored.

    Raises:
        ModelError: as `load`; or a class that transformers does not have.
    """
    config = read_architecture(str(folder))
    check_weights(folder)
    name = (config.architectures or [""])[0]
    made_by: Any = getattr(transformers, name, None)
    if not (isinstance(made_by, type) and issubclass(made_by, PreTrainedModel)):
        raise ModelError(f"{folder}: transformers has no class '{name}', which config.json names", "use another model")
    with explain(str(folder)):
        loaded: Any = made_by.from_pretrained(
            folder, output_loading_info=True, use_safetensors=True, trust_remote_code=False, local_files_only=True
        )
    model: PreTrainedModel = loaded[0]
    if lost := sorted(loaded[1]["missing_keys"]):
        raise ModelError(f"{folder}: the weights lack {short(lost)}, which config.json asks for")
    return model


def _own_head(folder: Path) -> list[str]:
    """Names of the tensors of a head that is a module of its own; no other run takes them over."""
    path = folder / HEAD_FILE
    if not path.is_file():
        return []
    try:
        with safe_open(path, "pt") as tensors:
            return [f"head.{name}" for name in tensors.keys()]  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: damaged or no safetensors file ({str(error).splitlines()[0]})") from None


def _account(source: str, model: PreTrainedModel, info: dict[str, Any], *, rest: set[Tensor]) -> Account:
    """Say what became of every tensor; of those outside of the body the ``rest`` is used, and no others."""
    prefix = model.base_model_prefix + "." if model.base_model is not model else ""
    named, body = dict(model.named_parameters()), body_of(model)
    every, inside = set(named), set(body.parameters()) - _of_pooler(body)
    of_body = {name for name in every if named[name] in inside}
    absent = set(info["missing_keys"]) & every
    mismatched = {m[0]: (list(m[1]), list(m[2])) for m in info["mismatched_keys"]}
    unused = sorted(n for n in info["unexpected_keys"] if not n.endswith("position_ids"))
    new = (absent | set(mismatched)) & every
    if not of_body - new:
        raise ModelError(
            f"{source}: none of its tensors fits {type(model).__name__}; nothing was loaded",
            "check that config.json and the weights belong together",
        )
    wrong = [f"'{n}' is {mismatched[n][0]} for {mismatched[n][1]}" for n in sorted(of_body & set(mismatched))]
    if wrong:
        raise ModelError(f"{source}: tensors have other shapes than config.json says: {short(wrong)}")
    if lost := sorted(of_body & absent):
        raise ModelError(f"{source}: the weights lack {short(lost)}, which config.json asks for")
    if strange := [name for name in unused if _belongs_to_body(name, prefix, of_body)]:
        raise ModelError(f"{source}: the weights hold {short(strange)}, for which config.json has no place")
    kept = of_body | {name for name in every if named[name] in rest}
    return Account(len(kept - new), sorted(new & kept), sorted({*unused, *(every - kept - new)}))


def _keep_fixed(model: PreTrainedModel, auto: Any) -> None:
    """Freeze what the class does not train, such as Marian's positions, which no folder keeps: loading thaws it."""
    with torch.device("meta"):
        made = auto.from_config(copy.deepcopy(model.config), dtype=torch.float32)
    for name, weights in made.named_parameters():
        if not weights.requires_grad:
            model.get_parameter(name).requires_grad_(False)


def _of_pooler(body: PreTrainedModel) -> set[Tensor]:
    pooler = getattr(body, "pooler", None)
    return set(pooler.parameters()) if isinstance(pooler, nn.Module) else set()


def _belongs_to_body(name: str, prefix: str, body: set[str]) -> bool:
    """Whether a tensor without a place looks like one of the body's: it lies in one of the body's modules."""
    modules = {n.removeprefix(prefix).split(".")[0] for n in body}
    return name.removeprefix(prefix).split(".")[0] in modules


def _forget_other_labels(
    model: PreTrainedModel, head: TransformersHead, config: PretrainedConfig, account: Account
) -> Account:
    """Make the output layer new where it was trained for labels of other names or in another order."""
    if head.config.id2label == config.id2label:
        return account
    answers = sorted(_shaped_by_labels(head) - set(account.new))
    with torch.no_grad():
        for name in answers:
            model.get_parameter(name).copy_(head.model.get_parameter(name))
    if not answers:
        return account
    reason = f"its labels were {short([str(v) for v in (config.id2label or {}).values()])}"
    return replace(account, loaded=account.loaded - len(answers), new=sorted({*account.new, *answers}), reason=reason)


def _shaped_by_labels(head: TransformersHead) -> set[str]:
    """Names of the tensors that would have another shape with one label more."""
    wider = copy.deepcopy(head.config)
    wider.num_labels = (head.config.num_labels or 0) + 1
    with torch.device("meta"):
        other = getattr(transformers, head.auto_class).from_config(wider, dtype=torch.float32)
    shapes = {name: parameter.shape for name, parameter in other.named_parameters()}
    return {name for name, parameter in head.model.named_parameters() if parameter.shape != shapes[name]}


def check_finite(source: str, model: PreTrainedModel, new: set[str]) -> None:
    """Refuse weights that are no numbers; those that are new were not read."""
    for name, parameter in model.named_parameters():
        if name not in new and not torch.isfinite(parameter).all():
            raise ModelError(f"{source}: tensor '{name}' holds NaN or infinity", "use an earlier model")


def _check_tied(source: str, model: PreTrainedModel) -> None:
    output, given = model.get_output_embeddings(), model.get_input_embeddings()
    tied = getattr(model.config, "tie_word_embeddings", False) and not has_own_projection(model.config)
    if output is not None and tied and output.weight is not given.weight:
        raise ModelError(
            f"{source}: config.json ties the output projection to the embedding, the weights hold two that differ",
            'set "tie_word_embeddings": false in config.json',
        )


def _attention(auto: Any, config: PretrainedConfig) -> str:
    """Named explicitly, so that no file can ask for another kernel; all parts of a model have the same."""
    classes = [auto._model_mapping.get(type(config), None)]
    classes += [transformers.AutoModel._model_mapping.get(type(part), None) for part in parts_of(config)]
    return "sdpa" if all(getattr(each, "_supports_sdpa", False) for each in classes) else "eager"


def short(names: list[str], most: int = 4) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


@contextlib.contextmanager
def explain(source: str) -> Iterator[None]:
    """transformers' own errors as ours, and its report, progress bars and warnings kept off the screen."""
    try:
        with quiet(), no_bars(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (NlpkitError, MemoryError):
        raise
    except Exception as error:  # a file that others wrote can make the library raise anything
        raise ModelError(f"{source}: transformers cannot read it: {_first_line(error)}") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' log, which speaks to programmers, off the screen."""
    with silenced("transformers", below=logging.CRITICAL):
        yield


@contextlib.contextmanager
def no_bars() -> Iterator[None]:
    """Keep transformers' own progress bars off the screen."""
    bars = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            transformers.utils.logging.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().split("\n")
    return f"{type(error).__name__} {lines[0]}"[:300]
