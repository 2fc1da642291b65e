"""The bundle: the model folder that one stage hands to the next, readable by plain transformers."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file, save_model
from transformers import PreTrainedModel

from nlpkit import config as config_module
from nlpkit import dev_part, given, handover, seen, tokenizer
from nlpkit.errors import ModelError, NlpkitError, PluginError, RunFolderError, UsageError, nearest
from nlpkit.files import leavings, new_folder, recover, verify_manifest, write_json
from nlpkit.folder import RunFolder, read_json, versions
from nlpkit.heads import Head, TransformersHead, vocabulary_of
from nlpkit.joint.head import JointHead
from nlpkit.joint.names import attribute, module_name
from nlpkit.joint.parts import tasks_in
from nlpkit.joint.task import JointTask
from nlpkit.owners import kind
from nlpkit.plugins import Plugin, Registry
from nlpkit.seen import Seen
from nlpkit.task import Task, TaskConfig
from nlpkit.vetting import check_folder

RECORD = "nlpkit.json"
_OF_RUN = "give the run folder that --out named"
FORMAT_VERSION = 1
_OF_SAVING = ("format_version", "task", "stage", "task_config", "plugin", "head_plugin", "metric_plugins", "versions")


@dataclass(frozen=True)
class Loaded:
    """A bundle in memory.

    Args:
        task: with config and tokenizer.
        backbone: in evaluation mode.
        head: in evaluation mode.
        record: what nlpkit.json says.
        seen: fingerprints of the texts that it was made of; none in bundles from before they were kept.
    """

    task: Task[Any]
    backbone: PreTrainedModel
    head: Head
    record: dict[str, Any]
    seen: Seen = field(default_factory=dict)


def save(
    folder: Path,
    task: Task[Any],
    backbone: PreTrainedModel,
    head: Head,
    record: dict[str, Any],
    registry: Registry,
    seen_texts: Seen | None = None,
) -> None:
    """Write the bundle whole or not at all.

    Args:
        folder: becomes the bundle.
        task: its tokenizer and settings go in.
        backbone: the body.
        head: saved in its class's own names, or beside the backbone when it is a module of its own.
        record: history, scores, data; task, plugin and versions are added.
        registry: knows the task's plugin.
        seen_texts: fingerprints of the texts that it was made of.
    """
    parts = record.get("tasks", {})
    record = {
        "format_version": FORMAT_VERSION,
        "task": task.name,
        "stage": task.stage,
        "task_config": config_module.to_plain(task.config),
        **({} if isinstance(task, JointTask) else _owners(task, registry)),
        **record,
        "versions": versions(),
    }
    if isinstance(task, JointTask):
        record["tasks"] = {
            name: {**parts.get(name, {}), **_owners(part, registry)} for name, part in task.parts.items()
        }
    with new_folder(folder) as temporary, handover.no_bars():
        if isinstance(head, TransformersHead):
            with head.assemble(backbone) as model:
                model.save_pretrained(temporary)
            if own := head.own_weights():
                save_file(own, temporary / handover.HEAD_FILE)
        else:
            handover.save_body(backbone, temporary)
            if isinstance(head, JointHead):  # each head with all of its weights, so that it can be loaded alone
                save_file({name: w.clone() for name, w in head.state_dict().items()}, temporary / handover.HEAD_FILE)
            else:
                save_model(head, str(temporary / handover.HEAD_FILE))
        task.tokenizer.save_pretrained(temporary)
        seen.write(temporary, seen_texts or {})
        write_json(temporary / RECORD, record)


def carried(record: dict[str, Any]) -> dict[str, Any]:
    """What `save` takes of a record that another bundle had: all but what it writes itself."""
    return {key: value for key, value in record.items() if key not in _OF_SAVING}


def find(source: str) -> str:
    """The model folder of a run folder; anything else as it is."""
    model = Path(source) / "model"
    if (Path(source) / "run.json").is_file():
        _recover(RunFolder(Path(source)))
        if not model.is_dir():
            resume = RunFolder(Path(source)).resume_command()
            raise ModelError(f"{source}: the run has no model yet", f"finish it first: {resume}")
        return str(model)
    return source


def _recover(folder: RunFolder) -> None:
    """End an interrupted save, unless somebody is writing at this moment or nobody may."""
    if not leavings(folder.model):
        return
    with contextlib.suppress(RunFolderError):
        folder.lock()
        recover(folder.model)
        folder.unlock()


def read_record(source: str) -> dict[str, Any] | None:
    """What nlpkit.json of a bundle says, after the hashes were checked; None for a plain transformers folder.

    Raises:
        ModelError: damaged, or written by a newer nlpkit.
    """
    folder = Path(source)
    if not (folder / RECORD).is_file():
        return None
    verify_manifest(folder)
    record = read_json(folder / RECORD)
    version = record.get("format_version")
    if not isinstance(version, int) or version < 1:
        raise ModelError(f"{folder / RECORD}: no 'format_version', so it was not written by nlpkit")
    if version > FORMAT_VERSION:
        raise ModelError(
            f"{folder / RECORD}: format {version}, this nlpkit reads up to {FORMAT_VERSION}", "upgrade nlpkit-core"
        )
    return record


def tasks_of(source: str) -> list[str]:
    """Names of the tasks of a model; none of one that is not of nlpkit. Raises as `load`."""
    source = find(source)
    check_folder(Path(source), _OF_RUN)
    record = read_record(source)
    return _tasks(record) if record else []


def _tasks(record: dict[str, Any]) -> list[str]:
    return list(record.get("tasks", {})) or [str(record.get("task"))]


def _of_part(source: str, record: dict[str, Any], part: str) -> dict[str, Any]:
    """What nlpkit.json would say if a model had one of its tasks alone."""
    parts = record.get("tasks", {})
    if not parts and record.get("task") == part:
        return record
    if part not in parts:
        known = _tasks(record)
        raise UsageError(f"{source}: no task '{part}' in it", f"{nearest(part, known)}it has {', '.join(known)}")
    return {**record, **parts[part], "task": part, "task_config": record["task_config"][attribute(part)], "tasks": {}}


def load(source: str, registry: Registry, first: str = "", settings: Sequence[str] = (), part: str = "") -> Loaded:
    """Load a finished task model for predictions; nothing may be missing.

    Args:
        source: a run, or its model.
        registry: has the task and the head.
        first: what to type where no model of nlpkit is found; empty: the command that fits a task.
        settings: ``task.key=value`` that a finished model takes: those with ``at_prediction``.
        part: of several tasks the one to load, as if it were a model of its own; empty: all.

    Raises:
        UsageError: other settings, or no such part.
        ModelError: no bundle, damaged, or not every tensor was found.
        PluginError: the plugin of task or head is not installed; it is named with the version that wrote the bundle.
    """
    source = find(source)
    check_folder(Path(source), _OF_RUN)
    record = read_record(source)
    architecture = handover.read_architecture(source)
    if record is None:
        raise ModelError(
            f"{source}: no {RECORD}, so it is no model of nlpkit",
            first or f"fit a task first: nlpkit fit --from {source}",
        )
    joint = bool(record.get("tasks"))
    record = _of_part(source, record, part) if part else record
    made_by = f"{source}: made by"
    for one, known in record.get("tasks", {}).items():
        try:
            look_up = functools.partial(registry.task, one)
            of_plugin(f"{made_by} task '{one}'", known.get("plugin"), registry, look_up)
        except PluginError as error:
            others = " or ".join(f"--task {other}" for other in record["tasks"] if other in registry.tasks())
            error.hint += f"; without it: {others}" if others else ""
            raise
    name = str(record.get("task"))
    task_class = of_plugin(f"{made_by} task '{name}'", record.get("plugin"), registry, lambda: registry.task(name))
    words = tokenizer.load(source, slow=task_class.slow_tokenizers)
    tokenizer.check_matches(words, vocabulary_of(architecture))
    task = task_class(_changed(_settings(source, record, task_class), task_class, settings), words)
    for own, known in _records(task, record):
        if other := own.config.head:
            look_up_head = functools.partial(registry.head, other)
            of_plugin(f"{made_by} head '{other}'", known.get("head_plugin"), registry, look_up_head)
    head = build_head(task, architecture, registry)
    backbone, account = handover.load(source, head, config=architecture)
    if part and joint:
        _load_head(Path(source) / handover.HEAD_FILE, head, settings, f"heads.{module_name(part)}.")
    elif not isinstance(head, TransformersHead) or head.own_weights():
        _load_head(Path(source) / handover.HEAD_FILE, head, settings)
    if isinstance(head, TransformersHead) and not joint:  # other heads have a file of their own
        _check_whole(source, head, account)
    head.tie(backbone)
    loaded = Loaded(task, backbone.eval(), head.eval(), record, seen.read(Path(source)))
    task.ready(loaded, Path(source), functools.partial(dev_part.read, Path(source), record, task_class, registry))
    return loaded


def _check_whole(source: str, head: TransformersHead, account: handover.Account) -> None:
    """Refuse weights that lack some of a head, but for those that are in a file of their own."""
    if lost := set(account.new) - {f"head.{name}" for name in head.own_weights()}:
        raise ModelError(f"{source}: the weights lack {', '.join(sorted(lost)[:4])}", "copy the whole folder")


def check_metrics(source: str, record: dict[str, Any], task: Task[Any], registry: Registry) -> None:
    """Make sure that the metrics which ``task.metrics`` names are there.

    Raises:
        PluginError: the plugin of one is not installed; it is named with the version that wrote the bundle.
    """
    for own, known in _records(task, record):
        for name in own.config.metrics:
            plugin = known.get("metric_plugins", {}).get(name)
            look_up = functools.partial(registry.metric, name)
            of_plugin(f"{source}: made by metric '{name}'", plugin, registry, look_up)


def _records(task: Task[Any], record: dict[str, Any]) -> list[tuple[Task[Any], dict[str, Any]]]:
    """Each task of a model, and what nlpkit.json says of its plugins."""
    return [(part, record.get("tasks", {}).get(name, record)) for name, part in tasks_in(task).items()]


def _owners(task: Task[Any], registry: Registry) -> dict[str, Any]:
    """The plugins of a task, its head and its metrics."""
    return {
        "plugin": plain(registry.owner("task", task.name)),
        **({"head_plugin": plain(registry.owner("head", task.config.head))} if task.config.head else {}),
        "metric_plugins": {name: plain(registry.owner("metric", name)) for name in task.config.metrics},
    }


def plain(plugin: Plugin) -> dict[str, str]:
    """A plugin as JSON, for `of_plugin`."""
    of_file = {"file": plugin.file} if plugin.file else {}
    return {"name": plugin.name, "distribution": plugin.distribution, "version": plugin.version, **of_file}


def build_head(task: Task[Any], architecture: Any, registry: Registry) -> Head:
    """The task's own head, or the one that ``task.head`` names; of several tasks those of each."""
    if isinstance(task, JointTask):
        return task.head_from({name: build_head(part, architecture, registry) for name, part in task.parts.items()})
    with handover.quiet():  # transformers says what programmers may want of the class
        if not task.config.head:
            return given.head(task, architecture)
        name = task.config.head
        head = registry.head(name)(task, architecture)
    if not isinstance(head, Head):
        raise PluginError(
            f"plugin {registry.owner('head', name)}: head '{name}' is {kind(head)}, expected an nlpkit.Head",
            "leave out task.head",
        )
    return head


def _settings(source: str, record: dict[str, Any], task_class: type[Task[Any]]) -> Any:
    try:
        return config_module.from_plain(task_class, {"task": record["task_config"]}).task
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        reason = error.message if isinstance(error, UsageError) else f"{type(error).__name__} {error}"
        raise ModelError(
            f"{source}: its settings do not fit task '{task_class.name}': {reason}", "fit it again"
        ) from None


def _changed(config: TaskConfig, task_class: type[Task[Any]], settings: Sequence[str]) -> TaskConfig:
    """The settings of a finished model, with what its user sets for predictions."""
    free = sorted(_free(config))
    for setting in settings:
        key = setting.partition("=")[0].strip()
        if (name := key.removeprefix("task.")) not in free:
            of_task = ", ".join(f"task.{one}" for one in free) or "no setting of its task"
            hint = f"{nearest(name, free)}one of {task_class.name} takes {of_task}; data.KEY=VALUE is for files"
            raise UsageError(f"{key} is no setting of a finished model", hint)
    if not settings:
        return config
    as_fitted = {f"task.{key}": value for key, value in config_module.to_plain(config).items()}
    return config_module.compose(task_class, defaults=as_fitted, overrides=settings).config.task


def _free(config: TaskConfig) -> Iterator[str]:
    """Settings that a finished model takes; those of several tasks in their sections."""
    for one in fields(config):
        if is_dataclass(inner := getattr(config, one.name)):
            yield from (f"{one.name}.{name}" for name in _free(inner))  # type: ignore[arg-type]
        elif one.metadata.get("at_prediction"):
            yield one.name


def of_plugin(what: str, plugin: Any, registry: Registry, look_up: Callable[[], Any]) -> Any:
    """Look something up that a plugin registers; where that fails, name the plugin that was there at first.

    Args:
        what: the start of the message, such as ``runs/a/model: made by task 'emotion'``.
        plugin: as `plain` has it.
        registry: of the plugins that are there now.
        look_up: asks it.

    Raises:
        PluginError: it is not to be had; why, and how to get it back.
    """
    plugin = plugin if isinstance(plugin, dict) else {}
    try:
        return look_up()
    except NlpkitError as error:
        was = Plugin(*(str(plugin.get(key) or "") for key in ("name", "distribution", "version", "file")))
        reason, hint = registry.absence(was)
        logging.getLogger("nlpkit").debug("%s: %s", what, error)
        of = was.owner if was.distribution else f"the plugin file {was.file}"
        known = PluginError(f"{what} of {of}, which {reason}", hint)
        known.lines = getattr(error, "lines", "")
        raise known from error


def _load_head(path: Path, head: Head, settings: Sequence[str], prefix: str = "") -> None:
    """Fill a head from its file; one of several heads has its names in it behind a prefix."""
    if not path.is_file() and settings:
        raise UsageError(
            f"{path.parent} was fitted without the weights that {' '.join(settings)} needs",
            "leave it out, or fit a model with it",
        )
    if not path.is_file():
        raise ModelError(f"{path}: missing, and the head has weights of its own", "copy the whole folder")
    try:
        tensors = {n.removeprefix(prefix): t for n, t in load_file(path).items() if n.startswith(prefix)}
        missing, unexpected = head.load_state_dict(tensors, strict=False)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: damaged or no safetensors file ({str(error).splitlines()[0]})") from None
    except RuntimeError as error:  # torch names each tensor of another shape in a line of its own
        raise ModelError(f"{path}: {'; '.join(line.strip() for line in str(error).splitlines()[1:4])}") from None
    if isinstance(head, TransformersHead) and not prefix:
        missing = [name for name in missing if name in head.own_weights()]
    own = {id(p) for n, p in head.named_parameters() if n in tensors}
    lost = [n for n in missing if id(dict(head.named_parameters(remove_duplicate=False)).get(n)) not in own]
    if lost or unexpected:
        raise ModelError(f"{path}: missing {lost or 'nothing'}, unexpected {list(unexpected) or 'nothing'}")
    if any(not torch.isfinite(t).all() for t in tensors.values() if t.is_floating_point()):
        raise ModelError(f"{path}: holds NaN or infinity")
