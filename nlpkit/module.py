"""The one LightningModule: a task, a backbone and a head, trained together."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, Self

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MetricCollection
from transformers import PreTrainedModel

from nlpkit import activation, bundle, given
from nlpkit.apart import Apart
from nlpkit.config import OptimConfig
from nlpkit.dropout import quick_dropout
from nlpkit.errors import DivergedError, RunFolderError
from nlpkit.feed_forward import sliced
from nlpkit.files import explain_os_errors
from nlpkit.heads import Head
from nlpkit.last_layer import only_at
from nlpkit.mean_loss import MeanLoss
from nlpkit.optim import build_optimizer, parameter_groups, schedule
from nlpkit.owners import fed_by
from nlpkit.pieces import loss_in_pieces
from nlpkit.plugins import Registry
from nlpkit.processes import mean_of, place
from nlpkit.scores import metrics_of, update_metrics, values_of
from nlpkit.seen import Seen
from nlpkit.task import SPARE, Batch, Task

_ELSEWHERE = "choose another folder"


class Origin(NamedTuple):
    """What a model folder keeps beside weights and tokenizer.

    Args:
        registry: of the plugins that task, head and metrics are of.
        record: what nlpkit.json says of the model that it began as; empty: nothing.
        seen: fingerprints of the texts that it was made of.
    """

    registry: Registry
    record: dict[str, Any]
    seen: Seen


class TaskModule(pl.LightningModule):
    """Any task on any backbone; works in an ordinary ``pl.Trainer`` and may be subclassed.

    Args:
        task: the text side.
        backbone: the body, token ids (B, L) to hidden states (B, L, D).
        head: the tensor side.
        optim: rates and schedule; a learning rate that is not set is 5e-5.
        layerwise: lower rates for lower layers.
        total_steps: optimiser steps of the whole run, for the schedule; None asks the trainer.
    """

    def __init__(
        self,
        task: Task[Any],
        backbone: PreTrainedModel,
        head: Head,
        optim: OptimConfig | None = None,
        *,
        layerwise: bool = False,
        total_steps: int | None = None,
    ) -> None:
        super().__init__()
        self.task, self.backbone, self.head = task, backbone, head
        self.optim = optim or OptimConfig(learning_rate=5e-5)
        self.layerwise, self.total_steps = layerwise, total_steps
        self.mean_loss, self.metrics = MeanLoss(), given.metrics(task)
        known = set(inspect.signature(backbone.forward).parameters)
        self._inputs = {"input_ids", "attention_mask", "token_type_ids", "position_ids"} & known
        # what decoders keep of each layer, to go on from, is memory for nothing here
        self._settings = {"use_cache": False} if "use_cache" in known else {}
        self._apart: Apart | None = None
        self.origin: Origin | None = None
        head.tie(backbone)
        activation.fuse(backbone)
        self.train()  # from_pretrained returns models in evaluation mode and Lightning would leave them so

    @classmethod
    def from_run(
        cls, run: str | os.PathLike[str], *, plugins: Iterable[str | os.PathLike[str]] = (), **arguments: Any
    ) -> Self:
        """The model of a finished run, to train it further or to test it, in a Trainer of one's own.

        It is in training mode, like a module that was made new: ``Trainer.test`` and ``Trainer.predict`` switch by
        themselves, and who calls it by hand calls ``eval()`` before. `nlpkit.load` gives what only predicts.

        Args:
            run: run folder or bundle, of ``fit`` or ``pretrain``.
            plugins: files of plugins that are not installed.
            arguments: further ones of the class, such as ``optim``.

        Raises:
            ModelError: no finished model, or one that is damaged.
            PluginError: the plugin of its task, head or metrics is not there.
        """
        registry = Registry(files=[os.fspath(file) for file in plugins])
        loaded = bundle.load(os.fspath(run), registry)
        bundle.check_metrics(os.fspath(run), loaded.record, loaded.task, registry)
        module = cls(loaded.task, loaded.backbone, loaded.head, **arguments)
        module.head.engine = None  # which would go on to answer with the weights of before
        module.begin(Origin(registry, loaded.record, loaded.seen))
        return module

    def begin(self, origin: Origin) -> None:
        """Remember what the model began as, and score by the metrics that its settings name, too."""
        self.origin, self.metrics = origin, metrics_of(self.task, origin.registry)

    @property
    def record(self) -> dict[str, Any]:
        """What nlpkit.json says of the model that it began as."""
        return self.origin.record if self.origin else {}

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the model folder that ``nlpkit predict`` and plain transformers take; the first process does.

        Args:
            folder: becomes it.

        Raises:
            RunFolderError: something is in its place, or it cannot be written.
            ResourceError: the disk is full.
            UsageError: the task is of no plugin that is known.
        """
        path, origin = Path(folder), self.origin or Origin(Registry(), {}, {})
        if self.global_rank:
            return path
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise RunFolderError(f"{path}: exists, and nothing is overwritten", _ELSEWHERE)
        task = self.task
        stage = {"stage": task.stage, "task": task.name, "steps": self.global_step, "trainer": "of its own"}
        stage["sequence_length"] = task.config.max_length
        record = {**origin.record, "history": [*origin.record.get("history", []), stage]}
        with explain_os_errors(path, _ELSEWHERE):
            bundle.save(path, task, self.backbone, self.head, bundle.carried(record), origin.registry, origin.seen)
        return path

    @fed_by("collate", "encode")
    def hidden(self, batch: Batch) -> Tensor:
        """Hidden states (B, L, D) of a batch; 0 where the head does not read, if that saves work."""
        inputs = {k: v for k, v in batch.items() if k in self._inputs}
        if "documents" in batch:
            inputs |= self._keep_apart().inputs(batch["documents"])
        with only_at(self.backbone, self.head.places(batch)), sliced(self.backbone):
            return self.backbone(**inputs, **self._settings).last_hidden_state

    def _keep_apart(self) -> Apart:
        self._apart = self._apart or Apart(self.backbone)
        return self._apart

    def forward(self, batch: Batch) -> Tensor:
        """Logits of a batch."""
        return self.head(self.hidden(batch), batch)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of a batch, in nats."""
        loss = self._training_loss(batch)
        self.log("train/loss", loss.detach(), batch_size=len(batch["input_ids"]), on_step=True, on_epoch=False)
        return loss

    def loss_of(self, batch: Batch) -> Tensor:
        """Loss of a batch in nats, computed as a whole."""
        with quick_dropout(self.backbone, self.head):
            return given.loss(self.head, self.hidden(batch), batch)

    def _training_loss(self, batch: Batch) -> Tensor:
        if place().world > 1:
            with quick_dropout(self.backbone, self.head):
                terms = given.terms(self.head, self.hidden(batch), batch)
            return mean_of([(mean, count * (SPARE not in batch)) for mean, count in terms])
        if "documents" in batch:
            self._keep_apart()  # found out once, before there are twins of this module
        loss = loss_in_pieces(self, batch) if self._is_as_made() else None
        return self.loss_of(batch) if loss is None else loss

    def _is_as_made(self) -> bool:
        """Whether nobody has changed how the loss of a batch is made, in a subclass or in this one object."""
        ways = ("hidden", "loss_of")
        own = all(getattr(type(self), way) is getattr(TaskModule, way) for way in ways)
        return own and not set(ways) & vars(self).keys()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the scores ``dev/...``; of a head that searches to the loss alone."""
        if self.head.searches:
            self.mean_loss.update(given.terms(self.head, self.hidden(batch), batch))
        else:
            self._score(batch, self.mean_loss, self.metrics)

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the whole dev part."""
        self._log_scores("dev", full=not self.head.searches)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the scores ``test/...``."""
        self._score(batch, self.mean_loss, self.metrics)

    def on_test_epoch_end(self) -> None:
        """Log the scores of the whole test part."""
        self._log_scores("test")

    def score(self, batches: Iterable[Batch], metrics: MetricCollection) -> dict[str, float]:
        """The mean loss and the metrics, at zero before, of all batches; mode and gradients are the caller's to set."""
        loss, metrics = MeanLoss().to(self.device), metrics.to(self.device)
        for batch in batches:
            self._score({k: v.to(self.device) for k, v in batch.items()}, loss, metrics)
        return {"loss": float(loss.compute()), **{k: float(v) for k, v in values_of(self.task, metrics).items()}}

    def _score(self, batch: Batch, loss: MeanLoss, metrics: MetricCollection) -> None:
        for part, asked in given.as_predicted(self.task, batch):
            hidden = self.hidden(part)
            if asked is part and not self.head.engine:
                terms, predictions = given.scored(self.head, hidden, part)
            else:
                terms, predictions = given.terms(self.head, hidden, part), self.predictions(asked)
            loss.update(terms)
            update_metrics(self.task, metrics, given.compared(self.task, predictions, asked))

    def _log_scores(self, part: str, *, full: bool = True) -> None:
        scores = {"loss": self.mean_loss.compute().float(), **(values_of(self.task, self.metrics) if full else {})}
        self.log_dict({f"{part}/{name}": value for name, value in scores.items()}, sync_dist=False)
        self.mean_loss.reset()
        self.metrics.reset()

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradient's norm to ``optim.clip``; done here because Lightning refuses fused optimisers with bf16.

        What a Trainer was given counts for more: another limit, or ``value``, which clips each number by itself.

        Raises:
            DivergedError: the norm is not finite (on a CPU; a GPU would have to wait for it). The weights still are.
        """
        parameters = [_dense(p) for g in optimizer.param_groups for p in g["params"]]
        limit = (self.optim.clip if gradient_clip_val is None else gradient_clip_val) or math.inf
        by_value = gradient_clip_algorithm == "value"
        norm = torch.nn.utils.clip_grad_norm_(parameters, math.inf if by_value else limit)
        if norm.device.type == "cpu" and not math.isfinite(float(norm)):
            raise DivergedError(
                f"the gradient is {float(norm)} at step {self.global_step}; the weights were not changed",
                "lower optim.learning_rate (or optim.muon_learning_rate), or raise optim.warmup",
            )
        if by_value:
            torch.nn.utils.clip_grad_value_(parameters, limit)

    def predict_step(self, batch: Batch, batch_idx: int = 0) -> list[dict[str, Any]]:
        """One JSON value for each example of a batch."""
        return self.task.decode(self.predictions(batch), batch)

    def predictions(self, batch: Batch) -> Any:
        """What the head predicts of a batch, or an engine in its place, in the groups that the head makes."""
        return self.head.in_groups(batch, self.head.engine or self._predicted)

    def _predicted(self, batch: Batch) -> Any:
        return self.head.predict(self.hidden(batch), batch)

    def configure_optimizers(self) -> Any:
        """AdamW or Muon with the schedule of ``optim``, stepped with the optimiser."""
        groups = parameter_groups(self.backbone, self.head, self.optim, layerwise=self.layerwise)
        optimizer = build_optimizer(groups)
        total = self.total_steps or int(self.trainer.estimated_stepping_batches)
        factor = schedule(self.optim.schedule, self.optim.warmup, total)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}}


def _dense(parameter: Tensor) -> Tensor:
    """A parameter, or for one with a sparse gradient what has the values of it as its own."""
    if parameter.grad is None or not parameter.grad.is_sparse:
        return parameter
    parameter.grad = parameter.grad.coalesce()
    values = parameter.grad.values()
    stand_in = torch.empty_like(values)
    stand_in.grad = values
    return stand_in
