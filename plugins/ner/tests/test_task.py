"""The task: from examples to spans, through windows, heads and files."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nlpkit_ner
import pytest
import torch
from nlpkit_ner import Ner, NerConfig, conll
from nlpkit_ner.words import cut_entity
from transformers import AutoModelForTokenClassification, AutoTokenizer, pipeline

from nlpkit import Example, TaskModule, bundle
from nlpkit.data import EncodedExamples, make_batch
from nlpkit.errors import DataError, UsageError
from nlpkit.plugins import Registry
from nlpkit.predictor import Predictor
from nlpkit.testing import CHECKS, check_task, task_test

MakeTask = Callable[..., Ner]
MakeModule = Callable[..., TaskModule]
SAMPLE = Path(nlpkit_ner.__file__).parent / "sample.conll"


SENTENCES = list(conll.read(str(SAMPLE)))[:10]
ALONE = {name: "tried with the usual transitions" for name, check in CHECKS.items() if check.slow}

test_the_task_keeps_the_rules = task_test(Ner, SENTENCES)


@pytest.mark.parametrize("transitions", ["crf", "none"])
def test_the_task_keeps_the_rules_with_other_transitions(transitions: Any) -> None:
    check_task(Ner, SENTENCES, config=NerConfig(transitions=transitions), skip=ALONE)


def test_the_task_keeps_the_contract_with_spans_inside_words() -> None:
    texts = [("(Oslo)", 1, 5), ("Anna's", 0, 4), ("to Rome by the sea.", 3, 7), ("Bo-Anna", 0, 2)] * 2
    examples = [
        {"text": t, "entities": [{"start": s, "end": e, "label": "person" if t[0] in "AB" else "place"}]}
        for t, s, e in texts
    ]
    assert Ner.prepare(NerConfig(), [Example(e) for e in examples]).unit == "piece"
    check_task(Ner, examples, skip=ALONE)


def _batch(task: Ner, examples: list[Example]) -> Any:
    return make_batch(task, EncodedExamples(task, examples), torch.arange(len(examples)).numpy(), 0, 0)


def test_perfect_tags_give_the_entities_that_were_read(make_task: MakeTask, examples: list[Example]) -> None:
    for kind in ("wordpiece", "bpe", "unigram"):
        task = make_task(kind)
        batch = _batch(task, examples)
        perfect = {"tags": batch["labels"].clamp(min=0), "scores": torch.ones(batch["labels"].shape)}
        answers = [task.complete(a, e) for a, e in zip(task.decode(perfect, batch), examples, strict=True)]
        for answer, example in zip(answers, examples, strict=True):
            bare = [{k: e[k] for k in ("start", "end", "label")} for e in answer["entities"]]
            assert bare == example["entities"]
            assert all(e["text"] == example["text"][e["start"] : e["end"]] for e in answer["entities"])
            assert all(e["score"] == pytest.approx(1) for e in answer["entities"])
        scores = task.build_metrics()
        scores.update(*task.compare(perfect, batch))
        assert scores.compute()["f1"] == 1


def test_a_long_text_gives_what_shorter_parts_give(make_task: MakeTask, make_module: MakeModule) -> None:
    task = make_task()
    module = make_module(task)
    for layer in module.backbone.encoder.layer:  # a model that sees nothing of its neighbours: only places differ
        torch.nn.init.zeros_(layer.attention.output.dense.weight)
    torch.nn.init.zeros_(module.backbone.embeddings.position_embeddings.weight)
    sentence = "Marta Lindqvist moved to Harrow Bay last spring . "
    long, part = sentence * 1000, sentence
    found = _predict(module, task, long)
    expected = _predict(module, task, part)
    assert len(long) == 50_000
    assert found
    # in each repetition the middle is what it is in a text of its own; at its edges entities may run on
    per = [e for e in found if 500 * len(part) <= e["start"] < 501 * len(part)]
    assert [(e["start"] % len(part), e["label"]) for e in per][1:] == [(e["start"], e["label"]) for e in expected][1:]


def _predict(module: TaskModule, task: Ner, text: str) -> list[dict[str, Any]]:
    with torch.inference_mode():
        entities: list[dict[str, Any]] = module.predict_step(_batch(task, [Example({"text": text})]))[0]["entities"]
    return entities


def test_windows_change_no_logit_of_a_piece_that_sees_the_same(make_task: MakeTask, make_module: MakeModule) -> None:
    task = make_task()
    module = make_module(task)
    text = " ".join(f"Anna{i} left Oslo" for i in range(12))
    batch = _batch(task, [Example({"text": text})])
    assert len(batch["input_ids"]) > 1
    with torch.inference_mode():
        merged = module(batch)[0]  # (T, C)
        rows = module.head.model.classifier(module.hidden(batch))  # (W, L, C)
    pieces = task.encode(Example({"text": text}))["input_ids"]
    assert len(merged) == len(pieces)
    flat = batch["input_ids"].flatten()[batch["places"][0]].tolist()
    assert flat == pieces
    torch.testing.assert_close(merged, rows.flatten(0, 1)[batch["places"][0]])


@pytest.mark.parametrize(
    ("family", "kind"),
    [("bert", "wordpiece"), ("modernbert", "bpe"), ("gpt2", "bpe"), ("llama", "unigram"), ("t5", "unigram")],
)
@pytest.mark.parametrize("transitions", ["constrained", "crf"])
def test_the_bundle_opens_in_plain_transformers_with_equal_logits_and_names(
    transitions: Any,
    family: str,
    kind: str,
    make_task: MakeTask,
    make_module: MakeModule,
    examples: list[Example],
    tmp_path: Path,
) -> None:
    task = make_task(kind, transitions=transitions)
    module = make_module(task, family)
    bundle.save(tmp_path, task, module.backbone, module.head, {}, Registry())
    plain = AutoModelForTokenClassification.from_pretrained(tmp_path).eval()
    words = AutoTokenizer.from_pretrained(tmp_path)
    assert plain.config.id2label == {0: "O", 1: "B-person", 2: "I-person", 3: "B-place", 4: "I-place"}
    batch = _batch(task, examples)
    with torch.inference_mode():
        ours = module(batch)
        for row, example in enumerate(examples):
            inputs = words(example["text"], return_tensors="pt", return_token_type_ids=False)
            theirs = plain(**inputs).logits[0, 1:-1]  # without the tokens around a text
            torch.testing.assert_close(ours[row, : len(theirs)], theirs, rtol=1e-4, atol=1e-5)
    found = pipeline("token-classification", plain, tokenizer=words, aggregation_strategy="simple")("Anna left Oslo")
    assert {f["entity_group"] for f in found} <= {"person", "place"}
    again = Predictor(bundle.load(str(tmp_path), Registry()), "cpu").predict([e["text"] for e in examples])
    with torch.inference_mode():
        first = [task.complete(a, e) for a, e in zip(module.predict_step(batch), examples, strict=True)]
    assert [[(e["start"], e["end"], e["label"]) for e in a["entities"]] for a in again] == [
        [(e["start"], e["end"], e["label"]) for e in a["entities"]] for a in first
    ]


def test_entities_of_a_word_model_cut_no_word(make_task: MakeTask, make_module: MakeModule) -> None:
    task = make_task()
    text = "xLindqvistissimo (Harrow-Bay) naïvecafé 東京 \U0001f600 end " * 5
    found = _predict(make_module(task), task, text)
    assert found
    assert cut_entity(text, found) is None


@pytest.mark.parametrize("transitions", ["constrained", "crf", "none"])
@pytest.mark.parametrize("texts", [[""], ["", "a"], ["a", ""], ["", ""]])
def test_texts_without_pieces_are_no_trouble(
    transitions: Any, texts: list[str], make_task: MakeTask, make_module: MakeModule
) -> None:
    task = make_task(transitions=transitions)
    module = make_module(task)
    bare = [Example({"text": text}) for text in texts]
    with torch.inference_mode():
        answers = module.predict_step(_batch(task, bare))
        loss = module.training_step(_batch(task, [Example({**e, "entities": []}) for e in bare]), 0)
    assert [answer["entities"] for answer, text in zip(answers, texts, strict=True) if not text] == [[]] * texts.count(
        ""
    )
    assert torch.isfinite(loss)


def test_a_tokenizer_that_pads_and_cuts_is_read_as_it_is(words: Callable[..., Any]) -> None:
    padding = copy.deepcopy(words())
    padding.backend_tokenizer.enable_padding(length=16)
    padding.backend_tokenizer.enable_truncation(4)
    task = Ner(NerConfig(labels=["x"], max_length=32, unit="word"), padding)
    text = "Anna left Oslo for Rome and Bergen"
    batch = _batch(task, [Example({"text": text})])
    assert batch["input_ids"][0].tolist() == words()(text)["input_ids"]


def test_word_units_are_refused_where_entities_cut_words() -> None:
    cut = Example({"text": "Anna's", "entities": [{"start": 0, "end": 4, "label": "x"}]}, "a.jsonl:3")
    with pytest.raises(DataError) as caught:
        Ner.prepare(NerConfig(unit="word"), [cut])
    assert caught.value.message == "a.jsonl:3: 'Anna' begins or ends inside of a word"
    assert caught.value.hint == "task.unit=piece"
    with pytest.raises(UsageError, match=r"^task\.labels has 'x' twice"):
        Ner.prepare(NerConfig(labels=["x", "x"]), [cut])


def test_entities_that_cut_words_of_a_word_model_have_a_finite_loss(
    make_task: MakeTask, make_module: MakeModule
) -> None:
    task = make_task(transitions="crf")
    text = "Lindqvistissimo"
    example = Example({"text": text, "entities": [{"start": 3, "end": 9, "label": "place"}]})
    with torch.inference_mode():
        assert float(make_module(task).training_step(_batch(task, [example]), 0)) < 1e6


def test_any_form_of_spans_is_read_and_sorted() -> None:
    read = Ner.check(
        Example({"text": "Anna left Oslo", "entities": [[10, 14, "place"], [0, 4, "person"]]}, "x.jsonl:1")
    )
    assert read["entities"] == [
        {"start": 0, "end": 4, "label": "person"},
        {"start": 10, "end": 14, "label": "place"},
    ]
    assert Ner.labels_of(read) == ["person", "place"]
    assert Ner.check(Example({"text": "no spans"})) == {"text": "no spans"}


def test_data_without_an_entity_is_refused() -> None:
    with pytest.raises(DataError, match=r"^a\.jsonl: no entity in the training data; ner needs at least one"):
        Ner.prepare(NerConfig(), [Example({"text": "nothing", "entities": []}, "a.jsonl:1")])


def test_the_page_is_whole_and_escapes_what_it_shows(make_task: MakeTask) -> None:
    text = "<b>Anna</b> & שלום"
    entity = {"start": 3, "end": 7, "label": "person", "score": 0.5}
    made = "".join(make_task().page([{"text": text, "entities": [entity]}]))
    assert made.startswith("<!doctype html>")
    assert made.endswith("</html>\n")
    assert "&lt;b&gt;<mark" in made
    assert "><bdi>Anna</bdi><small>person</small></mark>&lt;/b&gt; &amp; שלום" in made
    assert "http" not in made


def test_answers_are_json_with_text_and_score(make_task: MakeTask, make_module: MakeModule, tmp_path: Path) -> None:
    task = make_task()
    module = make_module(task)
    bundle.save(tmp_path / "m", task, module.backbone, module.head, {}, Registry())
    predictor = Predictor(bundle.load(str(tmp_path / "m"), Registry()), "cpu")
    texts = ["Anna left Oslo", "", "   ", "\u200b", "[CLS] [SEP]", "x" * 5000, "e\u0301" * 30]
    for text, answer in zip(texts, predictor.predict(texts), strict=True):
        assert json.loads(json.dumps(answer)) == answer
        for entity in answer["entities"]:
            assert list(entity) == ["start", "end", "label", "score", "text"]
            assert entity["text"] == text[entity["start"] : entity["end"]]
            assert entity["text"].strip() == entity["text"] != ""
            assert 0 <= entity["score"] <= 1


def test_the_score_of_an_entity_is_the_mean_of_its_pieces_wherever_it_stands(make_task: MakeTask) -> None:
    task, pieces = make_task(), 20_000
    batch = {
        "pieces": torch.tensor([pieces]),
        "starts": torch.arange(pieces).unsqueeze(0),
        "ends": torch.arange(1, pieces + 1).unsqueeze(0),
    }
    tags, scores = torch.zeros(1, pieces, dtype=torch.int64), torch.full((1, pieces), 0.97)
    for place in (1, pieces - 2):
        tags[0, place : place + 2] = torch.tensor([1, 2])
        scores[0, place : place + 2] = torch.tensor([0.9, 0.5])
    (answer,) = task.decode({"tags": tags, "scores": scores}, batch)
    assert [entity["score"] for entity in answer["entities"]] == pytest.approx([0.7, 0.7], abs=1e-6)


@pytest.mark.parametrize(
    ("scoring", "expected"),
    [("conlleval", [(0, 1, "person"), (2, 3, "person"), (3, 4, "place")]), ("strict", [(2, 3, "person")])],
)
def test_what_is_scored_is_what_is_answered(scoring: str, expected: list[Any], make_task: MakeTask) -> None:
    task = make_task(transitions="none", scoring=scoring)
    places = torch.arange(4).unsqueeze(0)
    batch = {"pieces": torch.tensor([4]), "starts": places, "ends": places + 1, "entities": torch.full((1, 3), -1)}
    predictions = {"tags": torch.tensor([[2, 0, 1, 4]]), "scores": torch.ones(1, 4)}  # I-person O B-person I-place
    (answer,) = task.decode(predictions, batch)
    found, _ = task.compare(predictions, batch)
    assert [(e["start"], e["end"], e["label"]) for e in answer["entities"]] == expected
    assert [(start, end, task.config.labels[kind]) for _, start, end, kind in found.tolist()] == expected


def test_entities_of_a_file_in_iob1_count_in_strict_scoring(write: Callable[..., str], make_task: MakeTask) -> None:
    examples = list(conll.read(write("Anna\tI-person\nleft\tO\nHarrow\tI-place\nBay\tI-place\nRome\tB-place\n")))
    task = make_task(transitions="none", scoring="strict")
    batch = _batch(task, examples)
    perfect = {"tags": batch["labels"].clamp(min=0), "scores": torch.ones(batch["labels"].shape)}
    scores = task.build_metrics()
    scores.update(*task.compare(perfect, batch))
    assert scores.compute()["f1"] == 1
    metric: Any = scores["spans"]
    assert metric.true.tolist() == [1, 2]


def test_windows_share_as_many_pieces_as_the_stride_says(make_task: MakeTask) -> None:
    example = Example({"text": "one two three four five six seven eight nine ten " * 8})
    windows = {}
    for stride in (0, 8, 16):
        task = make_task(stride=stride)
        windows[stride] = len(task.collate([task.encode(example)])["input_ids"])
    assert windows[0] < windows[8] < windows[16]
