"""One stage of learning: look at the request, make everything ready, train, and leave the bundle and its results."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig

from nlpkit import bundle, handover, lightning, recipes, score_notes, seen, swapped, trainer
from nlpkit import config as config_module
from nlpkit.callbacks import Progress
from nlpkit.config import ModelConfig, RunConfig
from nlpkit.control import check_columns
from nlpkit.data import FIXED_ROWS, FixedLoader, TaskDataModule
from nlpkit.errors import UsageError
from nlpkit.files import new_folder, write_json
from nlpkit.folder import RunFolder, read_json
from nlpkit.heads import TransformersHead, parts_of
from nlpkit.joint.config import configs_of
from nlpkit.joint.names import agreed, columns_of
from nlpkit.joint.parts import tasks_in
from nlpkit.meeting import Meeting
from nlpkit.metrics_log import scores_at
from nlpkit.module import Origin, TaskModule
from nlpkit.objectives.objective import Objective
from nlpkit.plugins import Registry, Stage
from nlpkit.plugins.blame import isolated
from nlpkit.prepare import OF_SOURCES, Prepared, fine_tuning, pretraining
from nlpkit.randomness import seed_all, seed_of
from nlpkit.request import Request
from nlpkit.scores import check_direction, finite, metrics_of
from nlpkit.strategy import apply_strategy, check_strategy, merge
from nlpkit.task import Task
from nlpkit.vetting import check_folder

log = logging.getLogger("nlpkit")

OF_NEW_MODELS = ("preset", "family", "tokenizer", "lowercase", "vocabulary", "local_attention", "embeddings")
OF_NEW_TOKENIZERS = ("model.tokenizer", "model.lowercase", "model.vocabulary")
_SEARCHED_TOKENS = 4096  # in a batch
_PLATEAU, _UNSURE = 0.5, 0.05  # nats: of words, of one of two


def check_request(request: Request, config: RunConfig, registry: Registry) -> None:
    """Find out before any work what cannot be had, and what will have no effect."""
    if "-" in (*request.data, *request.dev, *request.exclude, request.watch):
        raise UsageError(
            "standard input is read once, a run reads its data more than once", "save it to a file and name the file"
        )
    if request.source and not request.hub:
        check_folder(Path(bundle.find(request.source)), handover.ADD_HUB)
    if request.source and request.tokenizer:
        raise UsageError("--tokenizer is for a new model, and --from brings its own", "leave out one of the two")
    usual = {**asdict(ModelConfig()), **_own_defaults(registry.task(request.task))}
    idle = [f"model.{name}" for name in OF_NEW_MODELS if getattr(config.model, name) != usual[name]]
    if request.source and idle:
        log.warning("%s: only for a new model; --from brings its own", ", ".join(idle))
    if request.tokenizer and (idle := [name for name in idle if name in OF_NEW_TOKENIZERS]):
        log.warning("%s: only for a tokenizer that is trained; --tokenizer brings its own", ", ".join(idle))
    if not request.source and config.strategy in {"upper", "freeze", "lora"}:
        log.warning(
            "strategy=%s trains little of a model that has learnt nothing yet: give one by --from", config.strategy
        )
    check_strategy(config.strategy)
    if request.data_of and config.data.reader:
        raise UsageError(
            f"data.reader={config.data.reader} is of one task, and there are {request.task.replace(',', ', ')}",
            "leave it out: readers know files by their endings, such as .conll, .csv and .jsonl",
        )
    if config.data.control:
        _check_control(registry.task(request.task), config.data.control)
    trainer.accelerator_of(config)
    with trainer.quiet():
        lightning.check(config.trainer)
    for own in configs_of(config.task).values():
        for name in own.metrics:
            registry.metric(name)
        if own.head:
            registry.head(own.head)


def _check_control(task_class: type[Task[Any]], columns: Sequence[str]) -> None:
    if not (issubclass(task_class, Objective) and task_class.generates):
        raise UsageError(
            f"data.control is for an objective whose model writes, and {task_class.name} is none",
            "--objective clm, or leave it out",
        )
    check_columns(columns)


def _own_defaults(task: type[Task[Any]]) -> dict[str, Any]:
    """What a task sets of the model where its user says nothing."""
    return {key.removeprefix("model."): value for key, value in task.defaults.items() if key.startswith("model.")}


@isolated()  # here, so that nobody around takes what a plugin raises for a signal
def prepare(request: Request, stage: Stage, config: RunConfig, registry: Registry, setup: Path | None) -> Prepared:
    """Everything a run trains with; ``setup`` is that of the run that is resumed."""
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    torch.manual_seed(seed_of(config.seed, 4))  # of the weights that are made new
    make = pretraining if stage == "pretrain" else fine_tuning
    prepared = make(request, config, registry, setup)
    return replace(prepared, config=recipes.complete(prepared, stage, continued=bool(request.source)))


def write_setup(folder: RunFolder, prepared: Prepared, facts: dict[str, Any]) -> None:
    """Keep in the run folder what a resume needs: architecture, tokenizer, texts seen, settings and facts."""
    with new_folder(folder.path / "setup") as setup:
        _whole(prepared).save_pretrained(setup)
        prepared.task.tokenizer.save_pretrained(setup)
        seen.write(setup, prepared.seen)
    config_module.save(prepared.config, str(folder.config))
    folder.write_facts(facts)


def _whole(prepared: Prepared) -> PretrainedConfig:
    """The architecture, with the decoder that the head joins to it: a resume builds both, and opens no other model."""
    head = prepared.head
    if isinstance(head, TransformersHead) and len(parts_of(head.config)) > 1:
        return head.config
    return prepared.architecture


@dataclass(frozen=True)
class Learner:
    """What a trainer needs.

    Args:
        module: the model with its optimiser.
        data: its batches.
        length: of the run.
        adapted: the body as the strategy made it.
    """

    module: TaskModule
    data: TaskDataModule
    length: trainer.Length
    adapted: Any


def learner(prepared: Prepared, registry: Registry) -> Learner:
    """Put model, batches and schedule of a run together."""
    config = prepared.config
    adapted = apply_strategy(config.strategy, prepared.backbone)
    data = _data(prepared, config.trainer.max_epochs or 1)
    length = trainer.plan_length(config, data)
    module = _module(TaskModule, prepared, length.steps)
    module.metrics = metrics_of(prepared.task, registry)
    check_direction(prepared.task)
    swapped.check(module, prepared.dev, registry)
    return Learner(module, data, length, adapted)


def assemble(
    prepared: Prepared, registry: Registry, source: str, kind: type[TaskModule]
) -> tuple[TaskModule, TaskDataModule]:
    """Model and batches for a Trainer of one's own, which decides how long it trains."""
    if prepared.config.strategy == "lora":
        raise UsageError("strategy=lora adds matrices, which only a run of nlpkit works into the weights", "nlpkit.fit")
    apply_strategy(prepared.config.strategy, prepared.backbone)
    module = _module(kind, prepared, None)
    module.begin(Origin(registry, record_of(prepared, source), prepared.seen))
    swapped.check(module, prepared.dev, registry)
    return module, _data(prepared, 1)


def _data(prepared: Prepared, epochs: int) -> TaskDataModule:
    settings = prepared.config.trainer
    return TaskDataModule(
        prepared.task,
        prepared.train,
        prepared.dev,
        batch_tokens=settings.batch_tokens,
        batch_size=settings.batch_size or 32,
        seed=prepared.config.seed,
        epochs=epochs,
        workers=settings.workers,
    )


def _module(kind: type[TaskModule], prepared: Prepared, steps: int | None) -> TaskModule:
    config = prepared.config
    layerwise = config.strategy == "layerwise"
    body, head = prepared.backbone, prepared.head
    return kind(prepared.task, body, head, config.optim, layerwise=layerwise, total_steps=steps)


@dataclass(frozen=True)
class Made:
    """A run that is ready to train.

    Args:
        folder: of the run.
        prepared: what it trains with.
        registry: of its plugins.
        facts: what run.json says.
    """

    folder: RunFolder
    prepared: Prepared
    registry: Registry
    facts: dict[str, Any]


@dataclass(frozen=True)
class Watched:
    """Who is told of a run while it trains.

    Args:
        progress: shows how far it is.
        callbacks: Lightning callbacks of the caller's own.
    """

    progress: Progress | None = None
    callbacks: Sequence[Any] = ()


@isolated()
def train(run: Made, checkpoint: Path | None, watched: Watched, meeting: Meeting) -> dict[str, Any]:
    """Train, or go on from a checkpoint, and finish the run; returns what results.json says.

    In other processes than the first only train: nothing comes back.
    """
    folder, prepared = run.folder, run.prepared
    made = learner(prepared, run.registry)
    notes = _notes(prepared) if meeting.place.first else {}
    outcome = trainer.train(
        made.module,
        made.data,
        prepared.config,
        made.length,
        folder,
        resume_from=checkpoint,
        resume_command=folder.resume_command(),
        progress=watched.progress,
        callbacks=tuple(watched.callbacks),
        meeting=meeting,
        watch=prepared.watch,
    )
    if not meeting.place.first:
        return {}
    body = merge(made.adapted, prepared.backbone)
    return _finish(run, outcome, body, notes)


def _notes(prepared: Prepared) -> dict[str, Any]:
    """What the task says beside its scores; asked for before the training, which an error of it would cost."""
    notes: dict[str, Any] = {}
    if about := score_notes.about_scores(prepared.task):
        notes["about"] = about
    train, held_out = prepared.examples
    seed_all(seed_of(prepared.config.seed, 7))  # alike in a resume
    log.debug("scoring the simple methods of %s", prepared.task.name)
    if train and (baselines := score_notes.baselines(prepared.task, train, held_out)):
        known = {name: finite(scores, f"baseline {name}: ") for name, scores in baselines.items()}
        notes["baselines"] = {name: scores for name, scores in known.items() if scores}
    return notes


def _finish(run: Made, outcome: trainer.Outcome, body: Any, notes: dict[str, Any]) -> dict[str, Any]:
    folder, prepared = run.folder, run.prepared
    folder.check_in_place()
    task = prepared.task
    dev = scores_at(folder.metrics, outcome.best_step, "dev") | _searched(run, body)
    results: dict[str, Any] = {"task": task.name, "stage": task.stage, "score": task.score}
    results |= {"steps": outcome.steps, "tokens": outcome.tokens, "best_step": outcome.best_step}
    results |= notes | {"dev": dev} | {k: v for k, v in prepared.facts.items() if k not in OF_SOURCES}
    if isinstance(task, Objective) and task.generates:
        results["generates"] = True
    if prepared.watch:
        start, end = (scores_at(folder.metrics, step, "watch") for step in (0, outcome.best_step))
        results["watch"] = {"file": run.facts["request"]["watch"], "start": start, "end": end}
    if prepared.word_frequencies:
        results["word_frequencies"] = prepared.word_frequencies
    if prepared.chance:
        results["chance"] = prepared.chance
    _warn_of_plateau(dev, prepared.word_frequencies, _PLATEAU, "word frequencies alone", "context")
    _warn_of_plateau(dev, prepared.chance, _UNSURE, "chance", "what follows what")
    if task.score != "loss" and dev.get(task.score) == 0:
        log.warning(
            "dev %s is 0: the model has learnt nothing yet; train longer (trainer.max_epochs, trainer.max_steps) "
            "or from another model (--from)",
            task.score,
        )
    stage = {
        "stage": task.stage,
        "task": task.name,
        "steps": outcome.steps,
        "tokens": outcome.tokens,
        "data_fingerprint": prepared.fingerprint,
        "sequence_length": task.config.max_length,
        "dev": dev,
        **{key: prepared.facts[key] for key in ("corpus",) if key in prepared.facts},
    }
    record = record_of(prepared, run.facts["request"]["source"])
    record["history"].append(stage)
    bundle.save(folder.model, task, body, prepared.head, record, run.registry, prepared.seen)
    write_json(folder.results, results)
    record = read_json(folder.model / bundle.RECORD)
    finished = bundle.Loaded(task, body.eval(), prepared.head.eval(), record, prepared.seen)
    task.ready(finished, folder.model, lambda: prepared.examples[1])
    return read_json(folder.results)


def record_of(prepared: Prepared, source: str) -> dict[str, Any]:
    """What nlpkit.json says of a model before it has learnt anything here."""
    task, parent = prepared.task, prepared.facts.get("parent") or {}
    parts = tasks_in(task)
    return {
        "history": list(parent.get("history", [])),
        "source": source,
        **({"also_from": others} if (others := prepared.facts.get("also_from")) else {}),
        "data": _how_it_was_read(prepared),
        **({"tasks": {name: {"data": _how_it_was_read(prepared, name)} for name in parts}} if len(parts) > 1 else {}),
        **prepared.record,
    }


def _how_it_was_read(prepared: Prepared, name: str = "") -> dict[str, Any]:
    """The columns and the reader of the data; of one of several tasks, or what serves texts for all of them."""
    data, fields = prepared.config.data, prepared.task.fields

    def own(columns: dict[str, str]) -> dict[str, str]:
        return columns_of(columns, name) if name else {f: c for f, c in agreed(columns).items() if f in fields}

    columns, guessed = own(data.columns), own(prepared.guessed)
    return {"columns": columns, "guessed": guessed, "reader": data.reader}


def _searched(run: Made, body: Any) -> dict[str, float]:
    """The scores of the dev part that training left out, where predictions are searched for."""
    task, head, dev = run.prepared.task, run.prepared.head, run.prepared.dev
    if not head.searches:
        return {}
    log.info("predicting the dev part")
    device = "cuda" if trainer.accelerator_of(run.prepared.config) == "gpu" else "cpu"
    module = TaskModule(task, body, head).eval().to(device)
    batches = FixedLoader(task, dev, _SEARCHED_TOKENS, FIXED_ROWS)
    with torch.inference_mode():
        scores = finite(module.score(batches, metrics_of(task, run.registry)))
    module.cpu()  # where training leaves it
    return scores


def _warn_of_plateau(dev: dict[str, float], simple: dict[str, float], margin: float, of: str, little: str) -> None:
    """Say which losses are no lower, by a margin in nats, than those of something simple."""
    for name, loss in simple.items():
        if name.endswith("loss") and dev.get(name, 0.0) > loss - margin:
            log.warning(
                "the %s (%.2f) is %s that of %s (%.2f): the model has learnt little of %s; "
                "train longer, or on more text",
                name,
                dev[name],
                "hardly below" if dev[name] < loss else "not below",
                of,
                loss,
                little,
            )
