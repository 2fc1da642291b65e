"""The task: from pairs to text, through segments, head, search and files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nlpkit_translation import Translation, TranslationConfig
from nlpkit_translation.segments import filled, places
from torch import nn
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedTokenizerBase

import nlpkit
from nlpkit import Example, TaskModule, bundle
from nlpkit.data import EncodedExamples, make_batch
from nlpkit.pieces import loss_in_pieces
from nlpkit.plugins import Registry
from nlpkit.predictor import Predictor
from nlpkit.testing import CHECKS, task_test

MakeTask = Callable[..., Translation]
MakeModule = Callable[..., TaskModule]
Words = Callable[..., PreTrainedTokenizerBase]
TEXTS = [
    "the dog sleeps under the table",
    "we read",
    "the coat is warm and the hat is new",
    "where is the key?",
    "she has a red car",
    "the soup costs 3 euros",
    "a soup",
    "they like the book",
]
TARGETS = [
    "der Hund schläft unter dem Tisch",
    "wir lesen",
    "der Mantel ist warm und der Hut ist neu",
    "wo ist der Schlüssel?",
    "sie hat ein rotes Auto",
    "die Suppe kostet 3 Euro",
    "eine Suppe",
    "sie mögen das Buch",
]
PAIRS = [Example({"source": s, "target": t}, "made:1") for s, t in zip(TEXTS, TARGETS, strict=True)]


SEARCHED = {"company_changes_nothing", "saved_and_loaded_is_the_same"}

test_the_task_keeps_the_rules = task_test(Translation, PAIRS, config=TranslationConfig(max_length=32))
test_the_task_keeps_the_rules_with_a_beam = task_test(
    Translation,
    PAIRS,
    config=TranslationConfig(beam=3, max_length=32),
    skip={name: "does not depend on how answers are searched for" for name in CHECKS if name not in SEARCHED},
)


def batch_of(task: Translation, examples: list[Example]) -> Any:
    return make_batch(task, EncodedExamples(task, examples), torch.arange(len(examples)).numpy(), 0, 0)


def new(*texts: str) -> list[Example]:
    return [Example({"source": text}) for text in texts]


def translated(module: TaskModule, *texts: str) -> list[str]:
    with torch.inference_mode():
        return [row["target"] for row in module.predict_step(batch_of(module.task, new(*texts)))]  # type: ignore[arg-type]


def predicted(module: TaskModule, batch: Any) -> dict[str, torch.Tensor]:
    with torch.inference_mode():
        return module.head.predict(module.hidden(batch), batch)


def favour(module: TaskModule, token: int, by: float) -> None:
    """Add to the logit of a token, so that it is always written, or never."""
    output: Any = module.head.output_embeddings  # type: ignore[union-attr]
    usual, more = output.forward, torch.zeros(output.out_features)
    more[token] = by
    output.forward = lambda states: usual(states) + more


# what is read


@pytest.mark.parametrize("kind", ["bpe", "unigram", "wordpiece"])
def test_pairs_that_are_too_long_are_cut_before_their_end_token(kind: str, make_task: MakeTask) -> None:
    task = make_task(kind, max_length=8)
    long = "the dog sleeps under the table and " * 5
    features = task.encode(Example({"source": long, "target": long}))
    whole = make_task(kind, max_length=999).encode(Example({"source": long, "target": long}))
    for name in ("input_ids", "labels"):
        assert len(features[name]) == 8
        assert features[name] == [*whole[name][:7], task.tokenizer.eos_token_id]
    assert features["parts"] == [8]


def test_special_tokens_that_a_text_spells_are_text(make_task: MakeTask) -> None:
    task = make_task()
    ids = task.encode(Example({"source": "a [SEP] b [PAD]", "target": "[SEP]"}))
    assert ids["input_ids"].count(task.tokenizer.eos_token_id) == ids["labels"].count(task.tokenizer.eos_token_id) == 1
    assert task.tokenizer.pad_token_id not in ids["input_ids"]


def test_a_long_source_is_read_in_parts_and_one_with_its_target_in_one(make_task: MakeTask) -> None:
    task = make_task(max_length=16)
    text = "the dog sleeps. we read the book. she has a red car.\nwhere is the key?"
    features = task.encode(Example({"source": text}))
    assert len(features["parts"]) > 2 and max(features["parts"]) <= 16
    assert sum(features["parts"]) == len(features["input_ids"])
    assert task.encode(Example({"source": text, "target": "x"}))["parts"] == [16]


def test_lengths_are_those_of_both_sides(make_task: MakeTask) -> None:
    task = make_task()
    features = task.encode(PAIRS[0])
    assert task.lengths(features) == (len(features["input_ids"]), len(features["labels"]))
    del features["labels"]
    assert task.lengths(features) == (len(features["input_ids"]),)


def test_a_batch_keeps_parts_together_and_texts_as_they_are(make_task: MakeTask) -> None:
    task = make_task(max_length=8)
    texts = ["", "\ud83d the dog", "the dog sleeps. we read the book. she has a red car.", "שלום 🙂"]
    batch = task.collate([task.encode(e) for e in new(*texts[2:], "")])
    assert batch["parts"].sum() == len(batch["input_ids"]) == len(batch["attention_mask"])
    assert (batch["input_ids"] != task.tokenizer.pad_token_id).sum() == batch["attention_mask"].sum()
    assert [bytes(n for n in row if n >= 0).decode() for row in batch["source"].tolist()] == [*texts[2:], ""]


# what is learnt


@pytest.mark.parametrize("family", ["m2m100", "t5"])
def test_the_loss_is_that_of_plain_transformers(
    family: str, make_task: MakeTask, make_module: MakeModule, tmp_path: Path
) -> None:
    task = make_task("unigram" if family == "t5" else "bpe")
    module = make_module(task, family)
    bundle.save(tmp_path, task, module.backbone, module.head, {}, Registry())
    plain = AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()
    batch = batch_of(task, PAIRS)
    with torch.inference_mode():
        theirs = plain(**{k: batch[k] for k in ("input_ids", "attention_mask", "labels")}).loss
        ours = module.head.loss_from(module.hidden(batch), batch)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_labels_are_smoothed_in_training_alone(make_task: MakeTask, make_module: MakeModule) -> None:
    module = make_module(make_task(label_smoothing=0.3))
    batch = batch_of(module.task, PAIRS)  # type: ignore[arg-type]
    logits = module(batch).flatten(0, 1).detach()
    for training, smoothing in ((True, 0.3), (False, 0.0)):
        module.train(training)  # the tiny model has no dropout
        expected = nn.functional.cross_entropy(logits, batch["labels"].flatten(), label_smoothing=smoothing)
        found = module.head.loss_from(module.hidden(batch), batch).detach()
        assert float(found) == pytest.approx(float(expected), rel=1e-5)
    scored, _ = module.head.scored(module.hidden(batch), batch)
    assert float(scored[0][0].detach()) == pytest.approx(float(expected), rel=1e-5)


def test_a_batch_in_pieces_has_the_loss_and_slopes_of_the_whole(make_task: MakeTask, make_module: MakeModule) -> None:
    module = make_module(make_task()).train()
    batch = batch_of(module.task, PAIRS * 20)  # type: ignore[arg-type]
    slopes = []
    for loss_of in (module.loss_of, lambda batch: loss_in_pieces(module, batch)):
        module.zero_grad()
        loss = loss_of(batch)
        assert loss is not None
        loss.backward()
        slopes.append([loss.detach(), *(p.grad.clone() for p in module.parameters() if p.grad is not None)])
    for one, other in zip(*slopes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


# what is written


@pytest.mark.parametrize(("family", "beam"), [("m2m100", 1), ("m2m100", 3), ("t5", 3)])
def test_the_saved_folder_translates_alike_in_plain_transformers(
    family: str, beam: int, make_task: MakeTask, make_module: MakeModule, tmp_path: Path
) -> None:
    task = make_task("unigram" if family == "t5" else "bpe", beam=beam, length_penalty=0.8)
    module = make_module(task, family)
    bundle.save(tmp_path, task, module.backbone, module.head, {}, Registry())
    plain, words = AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval(), AutoTokenizer.from_pretrained(tmp_path)
    compared = 0
    for text in TEXTS:
        batch = batch_of(task, new(text))
        with torch.inference_mode():
            theirs = plain.generate(**words(text, return_tensors="pt", return_token_type_ids=False))[0, 1:]
        ours = predicted(module, batch)
        length = int(ours["lengths"][0])
        if ours["ended"][0]:  # else we stop sooner, where nothing but a repeat can follow
            assert ours["ids"][0, :length].tolist() == theirs[:length].tolist()
            assert theirs[length] == words.eos_token_id
            compared += length > 0
    assert compared > 2


@pytest.mark.parametrize("beam", [1, 2, 4])
def test_rows_beside_a_row_change_nothing_of_it(beam: int, make_task: MakeTask, make_module: MakeModule) -> None:
    module = make_module(make_task(beam=beam, max_length=64))
    texts = [*TEXTS, "", "key", "the dog " * 12]
    together = translated(module, *texts)
    assert len(set(together)) > 5
    assert [translated(module, text)[0] for text in texts] == together
    batch = batch_of(module.task, new(*texts))  # type: ignore[arg-type]
    found = predicted(module, batch)
    room = (2 * batch["attention_mask"].sum(1) + 10).clamp(max=63)
    assert not found["ended"].all() and bool((found["lengths"][~found["ended"]] == room[~found["ended"]]).all())
    assert bool((found["lengths"][found["ended"]] < room[found["ended"]]).all())


@pytest.mark.parametrize("beam", [1, 3])
def test_rows_that_never_end_stop_where_they_would_alone(
    beam: int, make_task: MakeTask, make_module: MakeModule
) -> None:
    task = make_task(beam=beam, max_length=64)
    module = make_module(task)
    favour(module, task.tokenizer.eos_token_id, -1e4)
    texts = [*TEXTS, "", "key", "the dog " * 12]
    together = predicted(module, batch_of(task, new(*texts)))
    assert not together["ended"].any()
    for row, text in enumerate(texts):
        alone = predicted(module, batch_of(task, new(text)))
        length = int(alone["lengths"][0])
        assert alone["ids"][0, :length].tolist() == together["ids"][row, : int(together["lengths"][row])].tolist()


def test_a_search_of_the_run_before_is_not_kept(make_task: MakeTask, make_module: MakeModule, tmp_path: Path) -> None:
    first = make_task(beam=4, length_penalty=2.0)
    module = make_module(first)
    bundle.save(tmp_path / "first", first, module.backbone, module.head, {}, Registry())
    loaded = bundle.load(str(tmp_path / "first"), Registry(), settings=["task.beam=1"])
    assert loaded.task.config.beam == 1
    bundle.save(tmp_path / "second", loaded.task, loaded.backbone, loaded.head, {}, Registry())
    said = json.loads((tmp_path / "second" / "generation_config.json").read_text())
    assert (said["num_beams"], said["max_length"], said.get("early_stopping", False)) == (1, 32, False)


def test_settings_of_other_searches_are_not_taken_over(
    make_task: MakeTask, make_module: MakeModule, tmp_path: Path
) -> None:
    task = make_task()
    module = make_module(task)
    bundle.save(tmp_path / "ours", task, module.backbone, module.head, {}, Registry())
    theirs: Any = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "ours")
    usual = predicted(module, batch_of(task, new(*TEXTS)))
    never = [[int(token)] for token in usual["ids"].unique() if token > 5]
    own = theirs.generation_config
    own.update(
        num_beams=4, min_length=20, max_length=200, no_repeat_ngram_size=1, bad_words_ids=never, forced_eos_token_id=7
    )
    theirs.save_pretrained(tmp_path / "theirs")
    task.tokenizer.save_pretrained(tmp_path / "theirs")
    assert json.loads((tmp_path / "theirs" / "generation_config.json").read_text())["bad_words_ids"] == never

    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS), "utf-8")
    still = [
        "optim.name=adamw",
        "optim.learning_rate=1e-9",
        "trainer.max_steps=1",
        "trainer.threads=1",
        "task.max_length=32",
    ]
    run = nlpkit.fit("translation", data, dev=data, source=tmp_path / "theirs", out=tmp_path / "run", overrides=still)
    said = json.loads((run.model / "generation_config.json").read_text())
    strange = {"min_length", "no_repeat_ngram_size", "bad_words_ids", "forced_eos_token_id"}
    assert (said["num_beams"], said["max_length"], strange & said.keys()) == (1, 32, set())
    answers = nlpkit.load(run.folder, device="cpu").predict(TEXTS)
    assert [answer["target"] for answer in answers] == translated(module, *TEXTS)


def test_a_long_text_is_translated_part_by_part_and_keeps_its_lines(
    make_task: MakeTask, make_module: MakeModule
) -> None:
    module = make_module(make_task())
    lines = ["the dog sleeps.", "", "  where is the key? we read the book.  ", "\t", "she has a red car. " * 30, "end"]
    text = "\r\n".join(lines * 32)
    assert len(text) > 20_000
    (found,) = translated(module, text)
    assert found.count("\r\n") == text.count("\r\n")
    written = found.split("\r\n")
    assert written == written[: len(lines)] * 32  # equal lines are translated alike wherever they stand
    assert (written[1], written[3]) == ("", "\t")
    assert written[0] == translated(module, lines[0])[0] != ""
    assert written[2].startswith("  ") and written[2].endswith("  ")
    assert len(written[4]) > 5 * len(written[0])


@pytest.mark.parametrize("text", ["", " ", "\n", " \t\n\n "])
@pytest.mark.parametrize("beam", [1, 2])
def test_a_source_without_text_has_a_translation_without_text(
    text: str, beam: int, make_task: MakeTask, make_module: MakeModule
) -> None:
    module = make_module(make_task(beam=beam))
    assert translated(module, text, "we read") == [text, translated(module, "we read")[0]]


@pytest.mark.parametrize("beam", [1, 3])
def test_no_translation_ends_in_half_a_character(beam: int, make_task: MakeTask, make_module: MakeModule) -> None:
    task = make_task(beam=beam)
    module = make_module(task)
    half = task.tokenizer.convert_tokens_to_ids("Ã")  # the first byte of ä, ö and ü, as byte-level BPE spells it
    assert half is not None and task.tokenizer.decode([half]) == "\ufffd"
    favour(module, half, 1e4)  # whatever it reads, it writes this
    found = predicted(module, batch_of(task, new("we read")))
    assert found["ids"][0, : found["lengths"][0]].tolist() == [half] * int(found["lengths"][0])
    assert translated(module, "we read") == [""]


def in_place_of(source: str, said: str) -> str:
    return filled(source.encode(), places([(source, "")]), iter([said]))


@pytest.mark.parametrize(
    ("source", "said", "expected"),
    [
        ("a", "ein H\ufffd", "ein H"),
        ("a", "ein \ufffd \ufffd", "ein"),
        ("a", "x\ufffdy", "x\ufffdy"),
        (" a b\n", "\tein ", " ein\n"),
        (" \n", "ein", " \n"),
        ("", "ein", ""),
    ],
)
def test_a_translation_stands_where_its_source_stood(source: str, said: str, expected: str) -> None:
    assert in_place_of(source, said) == expected


@settings(max_examples=100)
@given(st.text(), st.text())
def test_what_stands_around_a_source_stands_around_its_translation(source: str, said: str) -> None:
    found = in_place_of(source, said)
    assert found.strip().rstrip("\ufffd \n") == found.strip().rstrip("\ufffd \n").strip()
    assert len(source) - len(source.lstrip()) <= len(found)
    assert not found or not source.strip() or found.endswith(source[len(source.rstrip()) :])


def test_a_finished_model_searches_as_its_user_says(
    make_task: MakeTask, make_module: MakeModule, tmp_path: Path
) -> None:
    task = make_task()
    module = make_module(task)
    bundle.save(tmp_path, task, module.backbone, module.head, {}, Registry())
    rows = {}
    for beam in (1, 4):
        settings = [] if beam == 1 else ["task.beam=4", "task.length_penalty=0.2"]
        predictor = Predictor(bundle.load(str(tmp_path), Registry(), settings=settings), "cpu")
        rows[beam] = [row["target"] for row in predictor.predict(TEXTS)]
    assert rows[1] == translated(module, *TEXTS)
    assert rows[4] == translated(make_module(make_task(beam=4, length_penalty=0.2)), *TEXTS) != rows[1]


def test_scores_are_those_of_what_is_written(make_task: MakeTask, make_module: MakeModule) -> None:
    module = make_module(make_task())
    task: Any = module.task
    written = translated(module, *TEXTS)
    as_written = [
        Example({**e, "target": said if said.strip() else "x"}) for e, said in zip(PAIRS, written, strict=True)
    ]
    batch = batch_of(task, as_written)
    metrics = task.build_metrics()
    metrics.update(*task.compare(predicted(module, batch), batch))
    scores = metrics.compute()
    assert float(scores["chrf"]) > 99 if all(w.strip() for w in written) else float(scores["chrf"]) > 50
    ended = predicted(module, batch)["ended"]
    assert float(scores["faults/unended"]) == int((~ended).sum())
