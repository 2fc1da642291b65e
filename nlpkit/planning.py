"""What a run would take, before it is started: parameters, tokens, steps, memory, disk and time."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from nlpkit import backbone, stages
from nlpkit.batching import padded
from nlpkit.data import CountedLoader
from nlpkit.plugins import Registry
from nlpkit.prepare import Prepared
from nlpkit.probe import Probe, probe
from nlpkit.trainer import accelerator_of

_KEPT, _AT_MOST = 2, 4  # checkpoints: the last and the best; with the one being written, and those before it


@dataclass(frozen=True)
class Plan:
    """What a run would take. Time and memory are estimates, the rest is counted.

    Args:
        task: name of the task or objective.
        parameters: of the whole model.
        embedding_parameters: of the token embeddings among them.
        trained_parameters: those that the strategy changes.
        documents: of the corpus, or training examples.
        corpus_tokens: in one epoch of the training part.
        step_tokens: in an optimiser step on average, padding included.
        steps: optimiser steps, if nothing ends the run before.
        epochs: passes over the training part that these make.
        validations: times the dev part is scored.
        tokens: of all steps, padding included.
        device: ``cpu`` or ``gpu``.
        memory: bytes of the process at its peak.
        gpu_memory: bytes of the GPU at their peak; 0 on a CPU.
        store_bytes: of the token store, which is in the cache now; 0 where there is none.
        checkpoint_bytes: of one checkpoint.
        bundle_bytes: of the model that is left.
        disk: bytes of the run folder when it is finished.
        disk_peak: bytes of it at most, while a checkpoint is written.
        seconds: of the whole run; no more than ``trainer.minutes``.
        probed_steps: real steps that time and memory were seen in.
    """

    task: str
    parameters: int
    embedding_parameters: int
    trained_parameters: int
    documents: int
    corpus_tokens: int
    step_tokens: int
    steps: int
    epochs: float
    validations: int
    tokens: int
    device: str
    memory: int
    gpu_memory: int
    store_bytes: int
    checkpoint_bytes: int
    bundle_bytes: int
    disk: int
    disk_peak: int
    seconds: float
    probed_steps: int


def plan(prepared: Prepared, registry: Registry) -> Plan:
    """Count what can be counted, and probe the rest on the prepared model, which is used up by it."""
    body, head, config = prepared.backbone, prepared.head, prepared.config
    parameters = backbone.count_parameters(body, head)
    bundle = 4 * parameters + _tokenizer_bytes(prepared)
    made = stages.learner(prepared, registry)
    trained = sum(p.numel() for p in made.module.parameters() if p.requires_grad)
    loader, length = made.data.train_dataloader(), made.length
    tokens = _tokens(loader, length.steps * config.trainer.accumulate)
    seen = probe(made.module, made.data, config, length)
    batches = length.steps * config.trainer.accumulate
    validations = batches // length.validate_every
    folder = bundle + _tokenizer_bytes(prepared)  # the run keeps the tokenizer it started with, too
    return Plan(
        task=prepared.task.name,
        parameters=parameters,
        embedding_parameters=backbone.count_parameters(body.get_input_embeddings()),
        trained_parameters=trained,
        documents=prepared.facts.get("corpus", {}).get("documents", len(prepared.examples[0])),
        corpus_tokens=int(prepared.train.lengths.sum()),
        step_tokens=round(tokens / length.steps),
        steps=length.steps,
        epochs=batches * made.data.epochs / len(loader),
        validations=validations,
        tokens=tokens,
        device=accelerator_of(config),
        memory=seen.memory,
        gpu_memory=seen.gpu_memory,
        store_bytes=_folder_bytes(prepared.store) if prepared.store else 0,
        checkpoint_bytes=seen.state,
        bundle_bytes=bundle,
        disk=folder + min(_KEPT, validations) * seen.state,
        disk_peak=folder + min(_AT_MOST, validations) * seen.state,
        seconds=_seconds(seen, length.steps, validations, len(made.data.val_dataloader()), config.trainer.minutes),
        probed_steps=seen.steps,
    )


def _tokens(loader: CountedLoader, batches: int) -> int:
    """Tokens of the first batches of a run, padding included."""
    sizes = (
        padded(loader.plan.lengths[rows])
        for epoch in range(batches)  # every epoch has a batch
        for rows in loader.plan.epoch(epoch)
    )
    return sum(islice(sizes, batches))


def _seconds(seen: Probe, steps: int, validations: int, dev_batches: int, minutes: float) -> float:
    seconds = steps * seen.step_seconds + validations * dev_batches * seen.score_seconds
    return min(seconds, 60 * minutes) if minutes else seconds


def _tokenizer_bytes(prepared: Prepared) -> int:
    with tempfile.TemporaryDirectory() as folder:
        prepared.task.tokenizer.save_pretrained(folder)
        return _folder_bytes(Path(folder))


def _folder_bytes(folder: Path) -> int:
    return sum(os.path.getsize(path) for path in folder.iterdir() if path.is_file())
