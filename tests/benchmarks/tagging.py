"""Named entities with MiniLM, in training and in prediction, against transformers' Trainer and its pipeline.

    python tests/benchmarks/tagging.py fit [--runs 3] [--threads 1] [--examples 2000] [--epochs 3]
    python tests/benchmarks/tagging.py predict [--runs 3] [--threads 1]

Training: sentences of WNUT 2017, in batches of 16 (ours: 16 times the mean length in padded tokens), with
DataCollatorForTokenClassification and labels at the first piece of each word on the other side, as transformers' own
run_ner has it. Both sides: the same weights and class, float32, sdpa, the model's own dropout, the same rate, warm-up,
decay, betas and clipping. The clock covers the training call. `f1` is seqeval's (strict, IOB2) on the dev part: of the
peer by the likeliest tag of each word's first piece, of ours by what ``nlpkit predict`` answers.

Prediction: both sides read one folder, MiniLM fitted by nlpkit, and get the texts of the test part; the clock covers
texts in, entities out. `nlpkit-none` takes the likeliest tag of each piece, so that what the search for the best legal
sequence costs can be seen. NLPKIT_BENCH names a folder in which a run of ``nlpkit fit`` is called `run`.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
from pathlib import Path
from typing import Any

import entities
import finetune
import side

RATE, BATCH = 2e-4, 16


def sentences(part: str, most: int | None = None) -> list[Any]:
    """Examples of a part; a fixed sample of them."""
    from nlpkit_ner import conll

    found = list(conll.read(entities.path_of(part)))
    return random.Random(0).sample(found, most) if most else found


def tagged(example: Any) -> tuple[list[str], list[str]]:
    """Its words and their tags."""
    from nlpkit_ner import conll, schemes

    words, spans = conll.words_of(example["text"], example["entities"])
    return words, schemes.tags(spans, len(words))


def ours(arguments: argparse.Namespace) -> side.Values:
    """Train as ``nlpkit fit`` does, without validation."""
    from nlpkit_ner import Ner, NerConfig

    from nlpkit import tokenizer

    side.begin(arguments)
    examples = sentences("train", arguments.examples)
    config = Ner.prepare(NerConfig(max_length=finetune.LENGTH), examples)
    task = Ner(config, tokenizer.load(finetune.source()))
    with tempfile.TemporaryDirectory() as folder:
        clock, module = finetune.trained(task, examples, arguments, Path(folder), BATCH, RATE)
    return clock.result(arguments.examples * arguments.epochs, f1=_f1_of_ours(module.eval()))


def _f1_of_ours(module: Any) -> float:
    import torch

    dev, found, true = sentences("dev"), [], []
    for start in range(0, len(dev), 64):
        part = dev[start : start + 64]
        texts = [type(e)({"text": e["text"]}) for e in part]
        with torch.inference_mode():
            answers = module.predict_step(module.task.collate([module.task.encode(text) for text in texts]))
        found += [entities.tags(answer | {"text": e["text"]}, e) for answer, e in zip(answers, part, strict=True)]
        true += [entities.tags(e, answer) for answer, e in zip(answers, part, strict=True)]
    return entities.strict_f1(true, found)


def theirs(arguments: argparse.Namespace) -> side.Values:
    """Train with transformers' Trainer, as its run_ner does."""
    import torch
    from transformers import (
        AutoModelForTokenClassification,
        AutoTokenizer,
        DataCollatorForTokenClassification,
        Trainer,
        TrainingArguments,
    )

    side.begin(arguments)
    tokenizer = AutoTokenizer.from_pretrained(finetune.source())
    pairs = [tagged(example) for example in sentences("train", arguments.examples)]
    names = sorted({tag for _, tags in pairs for tag in tags})
    model = AutoModelForTokenClassification.from_pretrained(
        finetune.source(), num_labels=len(names), dtype=torch.float32
    )
    rows = [_encoded(tokenizer, words, [names.index(tag) for tag in tags]) for words, tags in pairs]
    with tempfile.TemporaryDirectory() as folder:
        settings = finetune.training_arguments(TrainingArguments, folder, arguments, BATCH, RATE)
        settings.num_train_epochs = arguments.epochs
        trainer = Trainer(model, settings, DataCollatorForTokenClassification(tokenizer), rows)
        with side.Clock() as clock:
            trainer.train()
    return clock.result(arguments.examples * arguments.epochs, f1=_f1_of_theirs(model, tokenizer, names))


def _encoded(tokenizer: Any, words: list[str], tags: list[int]) -> Any:
    """Features with the label of each word at its first piece."""
    row = tokenizer(words, is_split_into_words=True, truncation=True, max_length=finetune.LENGTH)
    places = row.word_ids()
    begins = [p is not None and p != before for p, before in zip(places, [None, *places[:-1]], strict=True)]
    return {**row, "labels": [tags[p] if begin else -100 for p, begin in zip(places, begins, strict=True)]}


def _f1_of_theirs(model: Any, tokenizer: Any, names: list[str]) -> float:
    import torch

    model.eval()
    pairs = [tagged(example) for example in sentences("dev")]
    found = []
    for words, _ in pairs:
        row = tokenizer([words], is_split_into_words=True, truncation=True, max_length=512, return_tensors="pt")
        with torch.inference_mode():
            tags = model(**row).logits[0].argmax(-1).tolist()
        first = dict(reversed(list(zip(row.word_ids(), tags, strict=True))))
        found.append([names[first[i]] if i in first else "O" for i in range(len(words))])
    return entities.strict_f1([tags for _, tags in pairs], found)


def prepare(arguments: argparse.Namespace) -> None:
    """Fit the model that both sides read."""
    import nlpkit

    if not (_folder() / "run").exists():
        settings = ["trainer.max_epochs=2", f"optim.learning_rate={RATE}", "trainer.precision=32"]
        parts = entities.path_of("train"), entities.path_of("dev")
        nlpkit.fit(
            "ner", parts[0], dev=parts[1], source=finetune.source(), out=str(_folder() / "run"), overrides=settings
        )


def predicted(arguments: argparse.Namespace, transitions: str) -> side.Values:
    """Predict with nlpkit."""
    import nlpkit

    predictor = nlpkit.load(_folder() / "run")
    predictor.module.head.transitions = transitions
    return _timed(arguments, predictor.predict, lambda answer: answer["entities"])


def pipeline(arguments: argparse.Namespace) -> side.Values:
    """Predict with the pipeline."""
    from transformers import pipeline

    model = str(_folder() / "run" / "model")
    pipe = pipeline("token-classification", model, device="cpu", aggregation_strategy="simple")
    return _timed(arguments, lambda texts: pipe(texts, batch_size=32), lambda answer: answer)


def _timed(arguments: argparse.Namespace, predict: Any, spans: Any) -> side.Values:
    import torch

    torch.set_num_threads(arguments.threads)
    texts = [example["text"] for example in sentences("test")]
    predict(texts[:8])
    with side.Clock() as clock:
        answers = predict(texts)
    return clock.result(len(texts), entities=sum(len(spans(answer)) for answer in answers))


def _folder() -> Path:
    return Path(os.environ["NLPKIT_BENCH"])


def main() -> None:
    """Compare the sides."""
    made = side.parser(__doc__)
    made.add_argument("what", choices=["fit", "predict"])
    made.add_argument("--examples", type=int, default=2000)
    made.add_argument("--epochs", type=int, default=3)
    if made.parse_args().what == "fit":
        side.main(made, {"transformers": theirs, "nlpkit": ours}, lambda _: None)
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("NLPKIT_BENCH", folder)
        sides = {"nlpkit": lambda a: predicted(a, "constrained"), "nlpkit-none": lambda a: predicted(a, "none")}
        side.main(made, {"transformers": pipeline, **sides}, prepare)


if __name__ == "__main__":
    main()
