"""A tiny task, tokenizer and run that the tests of the training side share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from nlpkit_sentiment import Sentiment, SentimentConfig
from transformers import AutoModel, BertConfig, GPT2Config, PreTrainedTokenizerBase

from nlpkit import tokenizer, trainer
from nlpkit.config import CheckpointConfig, OptimConfig, RunConfig, TrainerConfig
from nlpkit.data import Samples, TaskDataModule
from nlpkit.folder import RunFolder
from nlpkit.heads import detach_pooler
from nlpkit.module import TaskModule
from nlpkit.objectives.mlm import Mlm, MlmConfig
from nlpkit.strategy import apply_strategy
from nlpkit.task import Example, Task

_GOOD = ("soft", "warm", "lovely", "fine", "well made", "a joy")
_BAD = ("torn", "itchy", "cheap", "late", "too small", "a waste")
_THINGS = ("the coat", "this scarf", "my hat", "a pair of socks in blue", "the shirt that I wanted so much")


def examples(count: int = 40) -> list[Example]:
    """Reviews of many lengths, good and bad in turn."""
    made = []
    for i in range(count):
        words = (_GOOD, _BAD)[i % 2]
        text = " and ".join(f"{_THINGS[(i + j) % 5]} is {words[(i // 2 + j) % 6]}" for j in range(1 + i % 4))
        made.append(Example({"text": f"{text} {i}", "label": ("good", "bad")[i % 2]}))
    return made


@cache
def small_tokenizer() -> PreTrainedTokenizerBase:
    """A WordPiece tokenizer of at most 200 tokens."""
    texts = [e["text"] for e in examples()]
    return tokenizer.train(texts, kind="wordpiece", vocabulary=200, lowercase=True, max_length=64)


def small_bert(dropout: float = 0.1) -> BertConfig:
    """Two layers, 64 wide."""
    return BertConfig(
        vocab_size=len(small_tokenizer()),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=64,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )


def small_gpt2(dropout: float = 0.1) -> GPT2Config:
    """The same as a decoder."""
    return GPT2Config(
        vocab_size=len(small_tokenizer()),
        n_embd=64,
        n_layer=2,
        n_head=2,
        n_positions=64,
        bos_token_id=3,
        eos_token_id=3,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
    )


def sentiment() -> Sentiment:
    """The task, its labels known."""
    return Sentiment(SentimentConfig(labels=["bad", "good"], max_length=64), small_tokenizer())


def mlm(**settings: Any) -> Mlm:
    """The objective."""
    return Mlm(MlmConfig(max_length=64, **settings), small_tokenizer())


def make_module(
    task: Task[Any], optim: OptimConfig | None = None, *, steps: int | None = None, strategy: Any = "full"
) -> TaskModule:
    """A module with the same random weights each time."""
    torch.manual_seed(7)
    config = small_gpt2() if task.name == "clm" else small_bert()
    body = AutoModel.from_config(config, dtype=torch.float32)
    head = task.build_head(config)
    if task.name != "mlm+nsp":  # which reads what the pooler gives
        detach_pooler(body)
    apply_strategy(strategy, body)
    optim = optim or OptimConfig(learning_rate=2e-3)
    return TaskModule(task, body, head, optim, layerwise=strategy == "layerwise", total_steps=steps)


@dataclass
class Ended:
    """What a run left."""

    module: TaskModule
    outcome: trainer.Outcome


def run(
    path: Path,
    task: Task[Any],
    *,
    accumulate: int = 1,
    epochs: int = 3,
    every: int = 1,
    patience: int = 0,
    optim: OptimConfig | None = None,
    max_steps: int | None = None,
    minutes: float = 0.0,
    workers: int = 0,
    strategy: Any = "full",
    compile: bool = False,
    resume_from: Path | None = None,
    callbacks: Sequence[Any] = (),
    train: Sequence[Example] | Samples | None = None,
    dev: Sequence[Example] | Samples | None = None,
    watch: Samples | None = None,
) -> Ended:
    """Train in a run folder, with objects that are all new."""
    optim = optim or OptimConfig(learning_rate=2e-3)
    config = RunConfig(
        data=RunConfig().data,
        optim=optim,
        trainer=TrainerConfig(
            max_epochs=epochs,
            accumulate=accumulate,
            accelerator="cpu",
            patience=patience,
            max_steps=max_steps,
            minutes=minutes,
            validations_per_epoch=2,
            compile=compile,
        ),
        checkpoint=CheckpointConfig(every_steps=every),
        seed=3,
    )
    every_one = examples()
    parts = (every_one[:32] if train is None else train, every_one[32:] if dev is None else dev)
    data = TaskDataModule(task, *parts, batch_tokens=160, seed=3, epochs=epochs, workers=workers)
    length = trainer.plan_length(config, data)
    module = make_module(task, optim, steps=length.steps, strategy=strategy)
    path.mkdir(parents=True, exist_ok=True)
    folder = RunFolder(path)
    outcome = trainer.train(
        module,
        data,
        config,
        length,
        folder,
        resume_from=resume_from,
        resume_command="again",
        callbacks=tuple(callbacks),
        watch=watch,
    )
    return Ended(module, outcome)
