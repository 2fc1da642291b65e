"""Translation of Multi30k (English to German) from nothing, against transformers' Seq2SeqTrainer and its generate.

    python tests/benchmarks/translate.py fit [--runs 3] [--threads 1] [--steps 500] [--peer-steps 500]
    python tests/benchmarks/translate.py predict [--runs 3] [--threads 1] [--beam 1]

Training: both sides train the same M2M100 (4 and 4 layers, 256 wide, joint byte-level BPE of 8,000, one embedding) on
the 29,000 pairs for as many steps, or ours for --steps and the peer for --peer-steps, in float32 with label smoothing
and dropout of 0.1: the peer in batches of 64 pairs by AdamW at 1e-3, linear, with DataCollatorForSeq2Seq; ours as
``nlpkit fit`` does, in batches of as many tokens. `nlpkit-adamw` has the peer's optimiser and rate. `count` is target
tokens without padding; `loss` is per token of the dev part without smoothing, `bleu` sacreBLEU's of test_2016_flickr by
greedy search.

Prediction, greedy or by a beam: 1,000 captions, by one folder that nlpkit fitted; the peer is ``generate`` in batches
of 32 in the order of the file, `nlpkit-ct2` and `nlpkit-ct2-int8` are ``--engine ct2`` and ``ct2-int8``. NLPKIT_BENCH
names a folder in which a run of ``nlpkit fit`` is called `run`.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import side

RATE, BATCH, LENGTH, WARMUP, SMOOTHING = 1e-3, 64, 64, 0.1, 0.1


def pairs(part: str) -> list[Any]:
    """Pairs of a part."""
    from nlpkit_translation import parallel

    folder = side.DATA / "multi30k_en-de"
    return list(parallel.read(str(folder / f"{part}.en"), str(folder / f"{part}.de")))


def started(arguments: argparse.Namespace) -> tuple[Any, Any]:
    """The task, and the configuration of a new model."""
    from nlpkit_translation import Translation, TranslationConfig

    from nlpkit import backbone, starting
    from nlpkit.config import ModelConfig
    from nlpkit.examples import texts_of

    model = ModelConfig(family="m2m100", tokenizer="bpe", lowercase=False, sequence_length=LENGTH, dropout=0.1)
    words = starting.train_tokenizer(texts_of(pairs("train"), Translation, written=True), "multi30k", model)
    task = Translation(TranslationConfig(max_length=LENGTH), words)
    return task, backbone.set_dropout(backbone.architecture(model, words), 0.1)


def ours(arguments: argparse.Namespace, optimiser: str) -> side.Values:
    """Train as ``nlpkit fit`` does."""
    from nlpkit_translation import Translation

    from nlpkit import backbone, trainer
    from nlpkit.config import OptimConfig, RunConfig, TrainerConfig
    from nlpkit.data import TaskDataModule
    from nlpkit.folder import RunFolder
    from nlpkit.module import TaskModule

    side.begin(arguments)
    task, architecture = started(arguments)
    train = [pair for pair in pairs("train") if pair["source"].strip() and pair["target"].strip()]
    head = task.build_head(architecture)
    body = backbone.build(architecture)
    new = {
        key.removeprefix("optim."): value for key, value in Translation.defaults_new.items() if key.startswith("optim.")
    }
    optim = OptimConfig(**new) if optimiser == "default" else OptimConfig(learning_rate=RATE, warmup=WARMUP)
    steps = arguments.steps
    data = TaskDataModule(task, train, batch_size=BATCH, seed=arguments.seed, epochs=100)
    config = RunConfig(
        optim=optim,
        trainer=TrainerConfig(max_epochs=100, max_steps=steps, batch_size=BATCH, accelerator="cpu", precision="32"),
        seed=arguments.seed,
    )
    module = TaskModule(task, body, head, optim, total_steps=steps)
    seen = _Seen()
    with tempfile.TemporaryDirectory() as folder:
        length = trainer.plan_length(config, data)
        run = RunFolder.create(str(Path(folder) / "run"), "bench")
        with side.Clock() as clock:
            trainer.train(module, data, config, length, run, callbacks=(seen.callback(),))
    with module.eval().head.assemble(module.backbone) as model:
        return clock.result(seen.tokens, **_quality(model, task))


class _Seen:
    """Target tokens so far."""

    def __init__(self) -> None:
        self.tokens = 0

    def callback(self) -> Any:
        import pytorch_lightning as pl

        seen = self

        class Count(pl.Callback):
            def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
                seen.tokens += int((batch["labels"] != -100).sum())

        return Count()


def theirs(arguments: argparse.Namespace) -> side.Values:
    """Train with transformers' Seq2SeqTrainer."""
    import torch
    from transformers import AutoModelForSeq2SeqLM, DataCollatorForSeq2Seq, Seq2SeqTrainer, Seq2SeqTrainingArguments
    from transformers.models.m2m_100.modeling_m2m_100 import shift_tokens_right

    side.begin(arguments)
    task, architecture = started(arguments)
    rows = [task.encode(pair) for pair in pairs("train") if pair["source"].strip() and pair["target"].strip()]
    rows = [
        {"input_ids": r["input_ids"], "attention_mask": [1] * len(r["input_ids"]), "labels": r["labels"]} for r in rows
    ]
    torch.manual_seed(arguments.seed)
    model: Any = AutoModelForSeq2SeqLM.from_config(architecture, dtype=torch.float32)
    tokens = 0

    class Counting(DataCollatorForSeq2Seq):
        def __call__(self, features: Any, return_tensors: Any = None) -> Any:
            nonlocal tokens
            tokens += sum(len(feature["labels"]) for feature in features)
            batch = super().__call__(features, return_tensors)
            start = (
                architecture.decoder_start_token_id
            )  # the class has no method of its own by which the collator does so
            return {**batch, "decoder_input_ids": shift_tokens_right(batch["labels"], architecture.pad_token_id, start)}

    with tempfile.TemporaryDirectory() as folder:
        settings = Seq2SeqTrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=BATCH,
            learning_rate=RATE,
            warmup_steps=WARMUP,
            label_smoothing_factor=SMOOTHING,
            max_grad_norm=1.0,
            max_steps=arguments.peer_steps or arguments.steps,
            seed=arguments.seed,
            use_cpu=True,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = Seq2SeqTrainer(model, settings, Counting(task.tokenizer, model=model), rows)
        with side.Clock() as clock:
            trainer.train()
    return clock.result(tokens, **_quality(model.eval(), task))


def _quality(model: Any, task: Any) -> dict[str, float]:
    """Loss of the dev part and BLEU of the test part, by plain transformers for both sides."""
    import sacrebleu
    import torch

    total = count = 0.0
    with torch.inference_mode():
        dev = [task.encode(pair) for pair in pairs("val")]
        for start in range(0, len(dev), 64):
            batch = task.collate(dev[start : start + 64])
            found = model(**{key: batch[key] for key in ("input_ids", "attention_mask", "labels")})
            number = int((batch["labels"] != -100).sum())
            total, count = total + float(found.loss) * number, count + number
        test = pairs("test_2016_flickr")
        texts = generated(model, task, [pair["source"] for pair in test])
    bleu = sacrebleu.corpus_bleu(texts, [[pair["target"] for pair in test]])
    return {"loss": total / count, "bleu": bleu.score}


def generated(model: Any, task: Any, texts: list[str], size: int = 32, beams: int = 1) -> list[str]:
    """By plain ``generate``, in the order of the texts."""
    import torch

    found: list[str] = []
    with torch.inference_mode():
        for start in range(0, len(texts), size):
            batch = task.tokenizer(
                texts[start : start + size], padding=True, truncation=True, max_length=LENGTH, return_tensors="pt"
            )
            batch.pop("token_type_ids", None)
            ids = model.generate(**batch, num_beams=beams, do_sample=False, max_length=LENGTH)
            found += [text.strip() for text in task.tokenizer.batch_decode(ids, skip_special_tokens=True)]
    return found


def predicted(arguments: argparse.Namespace, engine: str) -> side.Values:
    """Predict with nlpkit."""
    import nlpkit

    side.begin(arguments)
    settings = [f"task.engine={engine}", f"task.beam={arguments.beam}"]
    predictor = nlpkit.load(_folder() / "run", overrides=settings)
    return _timed(arguments, lambda texts: [answer["target"] for answer in predictor.predict(texts)])


def plain(arguments: argparse.Namespace) -> side.Values:
    """Predict with transformers."""
    from transformers import AutoModelForSeq2SeqLM

    import nlpkit

    task = nlpkit.load(_folder() / "run").task
    model = AutoModelForSeq2SeqLM.from_pretrained(_folder() / "run" / "model")
    return _timed(arguments, lambda texts: generated(model, task, texts, beams=arguments.beam))


def _timed(arguments: argparse.Namespace, translate: Any) -> side.Values:
    import sacrebleu
    import torch

    torch.set_num_threads(arguments.threads)
    test = pairs("test_2016_flickr")
    texts = [pair["source"] for pair in test]
    translate(texts[:8])
    with side.Clock() as clock:
        found = translate(texts)
    bleu = sacrebleu.corpus_bleu(found, [[pair["target"] for pair in test]])
    return clock.result(len(texts), bleu=bleu.score)


def _folder() -> Path:
    return Path(os.environ["NLPKIT_BENCH"])


def main() -> None:
    """Compare the sides."""
    made = side.parser(__doc__)
    made.add_argument("what", choices=["fit", "predict"])
    made.add_argument("--steps", type=int, default=500, help="optimiser steps of each side")
    made.add_argument("--peer-steps", type=int, default=0, help="of the peer, where they are not as many")
    made.add_argument("--beam", type=int, default=1, help="translations that are followed at a time")
    if made.parse_args().what == "fit":
        sides = {"nlpkit-adamw": lambda a: ours(a, "adamw"), "nlpkit": lambda a: ours(a, "default")}
        side.main(made, {"transformers": theirs, **sides}, lambda _: None)
        return
    engines = {"nlpkit": "torch", "nlpkit-ct2": "ct2", "nlpkit-ct2-int8": "ct2-int8"}
    ours_by = {name: partial(predicted, engine=engine) for name, engine in engines.items()}
    side.main(made, {"transformers": plain, **ours_by}, lambda _: None)


if __name__ == "__main__":
    main()
