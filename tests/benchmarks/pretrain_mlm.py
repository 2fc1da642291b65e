"""Pre-training a BERT of 4 layers, 256 wide, 8,000 tokens, against transformers' Trainer with group_texts.

    python tests/benchmarks/pretrain_mlm.py [--runs 3] [--threads 1] [--steps 24] [--batch-tokens 8192]

Text: the Gutenberg books of $NLPKIT_DATA, a paragraph a text, packed to 128. Both sides: the same tokenizer, class,
initial weights (by seed), float32, sdpa, no dropout, 15% of the tokens to guess (the default of transformers), equal
tokens in a batch and in all, warm-up and linear decay, clipping. Sides: `transformers`; `nlpkit-adamw`, which differs
in nothing but our code; `nlpkit`, with the optimiser and the rates that mlm has by default. The clock covers the
training call; the store, the dataset and the scoring are outside. The loss is of one plain transformers loop for all:
256 blocks of the held-out book, of which the same 15% of the tokens are [MASK].
"""

from __future__ import annotations

import argparse
import gzip
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import finetune
import side

LENGTH, RATE, SHARE, HELD_OUT = 128, 1e-3, 0.15, "austen-emma"


def paragraphs(*, held_out: bool) -> Iterator[str]:
    """Paragraphs of the books, each on one line."""
    for book in sorted((side.DATA / "gutenberg").glob("*.txt.gz")):
        if book.name.startswith(HELD_OUT) == held_out:
            text = gzip.decompress(book.read_bytes()).decode("utf-8", "replace")
            yield from filter(None, (" ".join(part.split()) for part in text.replace("\r", "").split("\n\n")))


def prepare(arguments: argparse.Namespace) -> None:
    """Train the tokenizer, tokenise the corpus once."""
    from nlpkit import corpus, tokenizer

    words = tokenizer.train(
        paragraphs(held_out=False), kind="wordpiece", vocabulary=8000, lowercase=True, max_length=LENGTH
    )
    words.save_pretrained(_folder() / "tokenizer")
    corpus.build(paragraphs(held_out=False), words, _folder() / "store", key="benchmark")


def loss(model: Any, tokenizer: Any) -> float:
    """Mean loss in nats of a transformers model on fixed blocks with fixed masks."""
    import torch

    backend = tokenizer.backend_tokenizer
    ids = [i for text in paragraphs(held_out=True) for i in backend.encode(text, add_special_tokens=False).ids]
    inside = LENGTH - 2
    plain = torch.tensor(ids[: 256 * inside]).view(256, inside)
    hidden = torch.rand(plain.shape, generator=torch.Generator().manual_seed(0)) < 0.15

    def frame(inner: Any, outside: tuple[int, int]) -> Any:
        ends = [torch.full((256, 1), value) for value in outside]
        return torch.cat([ends[0], inner, ends[1]], 1)

    inputs = frame(plain.masked_fill(hidden, tokenizer.mask_token_id), (tokenizer.cls_token_id, tokenizer.sep_token_id))
    labels = frame(plain.masked_fill(~hidden, -100), (-100, -100))
    total = 0.0
    model.eval()
    with torch.inference_mode():
        for part, answers in zip(inputs.split(32), labels.split(32), strict=True):
            logits = model(input_ids=part).logits.flatten(0, 1)
            total += float(torch.nn.functional.cross_entropy(logits, answers.flatten(), reduction="sum"))
    return total / int(hidden.sum())


def architecture(words: Any) -> Any:
    """The configuration of both sides."""
    from nlpkit import backbone
    from nlpkit.config import ModelConfig

    return backbone.architecture(ModelConfig(preset="mini", family="bert", sequence_length=LENGTH), words)


def ours(arguments: argparse.Namespace, *, muon: bool = True) -> dict[str, Any]:
    """Train as ``nlpkit pretrain`` does, without validation."""
    import torch

    from nlpkit import backbone, tokenizer, trainer
    from nlpkit.config import OptimConfig, RunConfig, TrainerConfig
    from nlpkit.data import TaskDataModule
    from nlpkit.folder import RunFolder
    from nlpkit.module import TaskModule
    from nlpkit.objectives.blocks import Blocks
    from nlpkit.objectives.mlm import Mlm, MlmConfig
    from nlpkit.token_store import TokenStore

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    words = tokenizer.load(_folder() / "tokenizer")
    task = Mlm(MlmConfig(max_length=LENGTH, rate=SHARE), words)
    config = architecture(words)
    body, head = backbone.build(config), task.build_head(config)
    defaults = {k.split(".")[1]: v for k, v in Mlm.defaults.items() if k.startswith("optim.")}
    adamw = {"learning_rate": RATE, "warmup": finetune.WARMUP}
    settings = RunConfig(
        optim=OptimConfig(**(defaults if muon else adamw)),
        trainer=TrainerConfig(max_steps=arguments.steps, accelerator="cpu", precision="32"),
        seed=arguments.seed,
    )
    store, _ = TokenStore.open(_folder() / "store").holdout(0.001, 0)
    samples = Blocks(store, task, LENGTH)
    data = TaskDataModule(task, samples, batch_tokens=arguments.batch_tokens, seed=arguments.seed)
    length = trainer.plan_length(settings, data)
    module = TaskModule(task, body, head, settings.optim, total_steps=length.steps)
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder.create(str(Path(folder) / "run"), "bench")
        with side.Clock() as clock:
            outcome = trainer.train(module, data, settings, length, run)
    with module.head.assemble(module.backbone) as model:
        model.tie_weights()
        return clock.result(outcome.tokens, loss=loss(model, words), steps=outcome.steps)


def ours_adamw(arguments: argparse.Namespace) -> dict[str, Any]:
    """The same with the peer's optimiser."""
    return ours(arguments, muon=False)


def theirs(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train with transformers' Trainer on packed blocks, as its run_mlm does."""
    import torch
    from transformers import (
        AutoTokenizer,
        BertForMaskedLM,
        DataCollatorForLanguageModeling,
        Trainer,
        TrainingArguments,
    )

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    words = AutoTokenizer.from_pretrained(_folder() / "tokenizer")
    model = BertForMaskedLM(architecture(words))
    rows = arguments.batch_tokens // LENGTH
    blocks = group_texts(words, arguments.steps * rows)
    collate = DataCollatorForLanguageModeling(words, mlm_probability=SHARE)
    with tempfile.TemporaryDirectory() as folder:
        settings = finetune.training_arguments(TrainingArguments, folder, arguments, rows, RATE)
        settings.max_steps = arguments.steps
        trainer = Trainer(model, settings, collate, blocks)
        with side.Clock() as clock:
            trainer.train()
    return clock.result(arguments.steps * rows * LENGTH, loss=loss(model, words), steps=arguments.steps)


def group_texts(words: Any, most: int) -> list[dict[str, list[int]]]:
    """Blocks of 128 from texts spread over the whole corpus, special tokens at the ends of each text."""
    import random

    texts = list(paragraphs(held_out=False))
    random.Random(0).shuffle(texts)
    joined: dict[str, list[int]] = {}
    for start in range(0, len(texts), 1000):
        encoded = words(texts[start : start + 1000], return_special_tokens_mask=True, verbose=False)
        for key, values in encoded.items():
            joined.setdefault(key, []).extend(i for row in values for i in row)
        if len(joined["input_ids"]) >= most * LENGTH:
            break
    found = min(most, math.floor(len(joined["input_ids"]) / LENGTH))
    return [{key: row[i * LENGTH : (i + 1) * LENGTH] for key, row in joined.items()} for i in range(found)]


def _folder() -> Path:
    return Path(os.environ["NLPKIT_BENCH"])


def main() -> None:
    """Compare the sides."""
    made = side.parser(__doc__)
    made.add_argument("--steps", type=int, default=24)
    made.add_argument("--batch-tokens", type=int, default=8192)
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("NLPKIT_BENCH", folder)
        sides = {"transformers": theirs, "nlpkit-adamw": ours_adamw, "nlpkit": ours}
        side.main(made, sides, prepare)


if __name__ == "__main__":
    main()
