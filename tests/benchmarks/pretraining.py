"""One pre-training by nlpkit and one by transformers' Trainer, of the same model on the same text.

Both sides: the same tokenizer, class, initial weights (by seed), float32 and sdpa, no dropout, equal tokens in a batch
and in all, warm-up and decay, clipping. The clock covers the training call; the store, the dataset and the scoring are
outside.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import finetune
import held_out
import side

RATE, SHARE = 1e-3, 0.15
Texts = Callable[..., Iterable[str]]
Rows = Callable[..., list[dict[str, list[int]]]]


@dataclass(frozen=True)
class Comparison:
    """What both sides train.

    Args:
        objective: ``mlm`` (a BERT) or ``clm`` (a GPT-2).
        texts: to train on; with ``held_out=True`` those to score on.
        preset: size of the model.
        length: tokens in a row.
        precision: as ``trainer.precision``.
        accelerator: ``cpu`` or ``gpu``.
        task: settings of the objective.
        vocabulary: tokens that the tokenizer may have.
        warm: first steps that neither the clock nor the tokens count, where a device first has to make its code.
        compile: whether the layers run as compiled code; of the peer, its whole model.
        store: name of the token store in `folder`.
    """

    objective: str
    texts: Texts
    preset: str = "mini"
    length: int = 128
    precision: str = "32"
    accelerator: str = "cpu"
    task: dict[str, Any] = field(default_factory=dict)
    vocabulary: int = 8000
    warm: int = 0
    compile: bool = False
    store: str = "store"

    def prepare(self, arguments: argparse.Namespace) -> None:
        """Train the tokenizer, tokenise the corpus once."""
        self.train_tokenizer()
        self.build_store()

    def train_tokenizer(self) -> None:
        """Train the tokenizer of both sides on the texts."""
        from nlpkit import tokenizer

        causal = self.objective == "clm"
        words = tokenizer.train(
            self.texts(),
            kind="bpe" if causal else "wordpiece",
            vocabulary=self.vocabulary,
            lowercase=not causal,
            max_length=self.length,
            generates=causal,
        )
        words.save_pretrained(folder() / "tokenizer")

    def build_store(self) -> None:
        """Tokenise the texts into the store."""
        from nlpkit import corpus, tokenizer

        corpus.build(self.texts(), tokenizer.load(folder() / "tokenizer"), folder() / self.store, key="benchmark")

    def architecture(self, words: Any) -> Any:
        """The configuration of both sides."""
        from nlpkit import backbone
        from nlpkit.config import ModelConfig

        family = "gpt2" if self.objective == "clm" else "bert"
        return backbone.architecture(ModelConfig(preset=self.preset, family=family, sequence_length=self.length), words)

    def loss(self, model: Any, words: Any) -> float:
        """Mean loss in nats on the held-out text."""
        score = held_out.causal if self.objective == "clm" else held_out.masked
        device = "cuda" if self.accelerator == "gpu" else "cpu"
        return score(model.to(device), words, self.texts(held_out=True), self.length)


@dataclass
class Trained:
    """What a side leaves.

    Args:
        clock: of the training.
        model: as a transformers class.
        tokens: that were no padding.
        steps: of the optimiser.
        start: clock of what came before, from the opened store to the plan of the batches; ours only.
    """

    clock: side.Clock
    model: Any
    tokens: int
    steps: int
    start: side.Clock = field(default_factory=side.Clock)


def usual_optimiser() -> dict[str, Any]:
    """What the peer has, too: AdamW."""
    return {"learning_rate": RATE, "warmup": finetune.WARMUP}


def our_optimiser(made: Comparison) -> dict[str, Any]:
    """What the objective has by default: Muon for the matrices."""
    from nlpkit.plugins import Registry

    defaults = Registry().task(made.objective, stage="pretrain").defaults
    return {key.removeprefix("optim."): value for key, value in defaults.items() if key.startswith("optim.")}


def ours(
    made: Comparison,
    arguments: argparse.Namespace,
    optimiser: dict[str, Any],
    *,
    analysis: bool = False,
    callbacks: tuple[Any, ...] = (),
) -> Trained:
    """Train as ``nlpkit pretrain`` does, without validation.

    Args:
        made: what to train.
        arguments: seed, threads, steps, tokens in a batch.
        optimiser: settings of ``optim``.
        analysis: whether the embeddings start from latent semantic analysis, which the clock then covers.
        callbacks: of Lightning.
    """

    from nlpkit import backbone, tokenizer, trainer, word_vectors
    from nlpkit.config import OptimConfig, RunConfig, TrainerConfig
    from nlpkit.data import TaskDataModule
    from nlpkit.folder import RunFolder
    from nlpkit.module import TaskModule
    from nlpkit.plugins import Registry
    from nlpkit.token_store import TokenStore

    side.begin(arguments)
    words = tokenizer.load(folder() / "tokenizer")
    objective = Registry().task(made.objective, stage="pretrain")
    task = objective(objective.config_class(max_length=made.length, **made.task), words)
    config = made.architecture(words)
    body, head = backbone.build(config), task.build_head(config)
    settings = RunConfig(
        optim=OptimConfig(**optimiser),
        trainer=TrainerConfig(
            max_steps=arguments.steps,
            accelerator=made.accelerator,  # type: ignore[arg-type]
            precision=made.precision,  # type: ignore[arg-type]
            compile=made.compile,
        ),
        seed=arguments.seed,
    )
    with side.Clock() as start:
        store, _ = TokenStore.open(folder() / made.store).holdout(0.001, 0)
        samples = task.samples(store, made.length)  # type: ignore[attr-defined]
        epochs = 1 + arguments.steps * arguments.batch_tokens // int(samples.lengths.sum())
        data = TaskDataModule(task, samples, batch_tokens=arguments.batch_tokens, seed=arguments.seed, epochs=epochs)
        length = trainer.plan_length(settings, data)
    module = TaskModule(task, body, head, settings.optim, total_steps=length.steps)
    with tempfile.TemporaryDirectory() as name:
        run = RunFolder.create(str(Path(name) / "run"), "bench")
        with side.Clock() as clock:
            if analysis:
                word_vectors.start_from(body.get_input_embeddings(), store, words.sep_token_id, words.all_special_ids)
            outcome = trainer.train(
                module, data, settings, length, run, callbacks=(*callbacks, _our_timer(made, clock))
            )
            _wait(made)
    model = module.head.assemble(module.backbone).__enter__()
    model.tie_weights()
    return Trained(clock, model, _counted(made, outcome.tokens, outcome.steps), outcome.steps, start)


def theirs(made: Comparison, arguments: argparse.Namespace, rows: Rows) -> Trained:
    """Train with transformers' Trainer, as its run_mlm and run_clm do.

    Args:
        made: what to train.
        arguments: seed, threads, steps, tokens in a batch.
        rows: makes so many of the dataset's rows by the tokenizer: `group_texts` or `padded_lines`.
    """
    from transformers import (
        AutoTokenizer,
        BertForMaskedLM,
        DataCollatorForLanguageModeling,
        GPT2LMHeadModel,
        Trainer,
        TrainingArguments,
    )

    side.begin(arguments)
    words = AutoTokenizer.from_pretrained(folder() / "tokenizer")
    causal = made.objective == "clm"
    model = (GPT2LMHeadModel if causal else BertForMaskedLM)(made.architecture(words))
    batch = arguments.batch_tokens // made.length
    dataset = rows(made, words, arguments.steps * batch)
    collate = DataCollatorForLanguageModeling(words, mlm=not causal, mlm_probability=SHARE)
    with tempfile.TemporaryDirectory() as name:
        more = {"use_cpu": made.accelerator == "cpu", "bf16": made.precision == "bf16-mixed"}
        more |= {"max_steps": arguments.steps, "torch_compile": made.compile}
        settings = finetune.training_arguments(TrainingArguments, name, arguments, batch, RATE, **more)
        clock = side.Clock()
        trainer = Trainer(model, settings, collate, dataset, callbacks=[_their_timer(made, clock)])
        with clock:
            trainer.train()
            _wait(made)
    real = sum(sum(row["attention_mask"]) for row in dataset) / len(dataset)
    return Trained(clock, model, _counted(made, real * arguments.steps * batch, arguments.steps), arguments.steps)


def group_texts(made: Comparison, words: Any, most: int) -> list[dict[str, list[int]]]:
    """Blocks from texts spread over the whole corpus; in each text the special tokens of its kind of model."""
    texts = list(made.texts())
    random.Random(0).shuffle(texts)
    ends = words.sep_token if made.objective == "clm" else ""
    joined: dict[str, list[int]] = {}
    for start in range(0, len(texts), 1000):
        part = [text + ends for text in texts[start : start + 1000]]
        encoded = words(part, add_special_tokens=not ends, return_token_type_ids=not ends, verbose=False)
        for key, values in encoded.items():
            joined.setdefault(key, []).extend(i for row in values for i in row)
        if len(joined["input_ids"]) >= most * made.length:
            break
    found = min(most, len(joined["input_ids"]) // made.length)
    return [{key: row[i * made.length : (i + 1) * made.length] for key, row in joined.items()} for i in range(found)]


def padded_lines(made: Comparison, words: Any, most: int) -> list[dict[str, list[int]]]:
    """A text a row, cut at the length and padded to it."""
    texts = list(made.texts())
    random.Random(0).shuffle(texts)
    encoded = words(texts[:most], truncation=True, max_length=made.length, padding="max_length")
    return [dict(zip(encoded, row, strict=True)) for row in zip(*encoded.values(), strict=True)]


def sides(made: Comparison, rows: Rows) -> dict[str, side.Side]:
    """The peer; nlpkit with the peer's optimiser, which differs in nothing but our code; nlpkit with its own."""
    return {
        "transformers": lambda arguments: result(made, theirs(made, arguments, rows)),
        "nlpkit-adamw": lambda arguments: result(made, ours(made, arguments, usual_optimiser())),
        "nlpkit": lambda arguments: result(made, ours(made, arguments, our_optimiser(made))),
    }


def result(made: Comparison, trained: Trained, **more: float) -> side.Values:
    """The numbers of a side: tokens and time, memory, and the held-out loss."""
    from nlpkit import tokenizer

    numbers = trained.clock.result(trained.tokens, steps=trained.steps, **more)  # its peak is that of training
    return numbers | {"loss": made.loss(trained.model, tokenizer.load(folder() / "tokenizer"))}


def folder() -> Path:
    """Where the tokenizer and the store lie."""
    return Path(os.environ["NLPKIT_BENCH"])


def compare(made: argparse.ArgumentParser, sides: dict[str, side.Side], prepare: Callable[..., None]) -> None:
    """Compare the sides in a folder of their own."""
    with tempfile.TemporaryDirectory() as name:
        os.environ.setdefault("NLPKIT_BENCH", name)
        side.main(made, sides, prepare)


def parser(description: str | None, *, steps: int = 24, batch_tokens: int = 8192) -> argparse.ArgumentParser:
    """Options that the programs of pre-training share."""
    made = side.parser(description)
    made.add_argument("--steps", type=int, default=steps)
    made.add_argument("--batch-tokens", type=int, default=batch_tokens)
    return made


def _our_timer(made: Comparison, clock: side.Clock) -> Any:
    import pytorch_lightning as pl

    class Timer(pl.Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            _time_the_warm(made, clock, trainer.global_step, trainer.max_steps)

    return Timer()


def _their_timer(made: Comparison, clock: side.Clock) -> Any:
    from transformers import TrainerCallback

    class Timer(TrainerCallback):
        def on_step_end(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
            _time_the_warm(made, clock, state.global_step, state.max_steps)

    return Timer()


def _time_the_warm(made: Comparison, clock: side.Clock, step: int, steps: int) -> None:
    """Count from the last of the warm steps to the end of the last step, not what is saved after it."""
    if not made.warm or step not in (made.warm, steps):
        return
    _wait(made)
    (clock.start if step == made.warm else clock.stop)()


def _counted(made: Comparison, tokens: float, steps: int) -> int:
    return round(tokens * (steps - made.warm) / steps)


def _wait(made: Comparison) -> None:
    import torch

    if made.accelerator == "gpu":
        torch.cuda.synchronize()
