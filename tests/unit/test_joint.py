"""Several tasks on one backbone: rows, heads, losses, scores and batches, each compared with those of single tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nlpkit_ner
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nlpkit_ner import Ner, NerConfig
from nlpkit_paraphrase import Paraphrase
from nlpkit_sentiment import Sentiment, SentimentConfig
from transformers import PretrainedConfig, PreTrainedTokenizerBase

import nlpkit
from nlpkit import TaskModule, backbone, bundle, labelled, score_notes
from nlpkit.batching import BatchPlan, mixed
from nlpkit.config import OptimConfig, compose, load, save
from nlpkit.data import EncodedExamples
from nlpkit.errors import DataError, PluginError, UsageError
from nlpkit.examples import checked
from nlpkit.joint.names import attribute, columns_of, files_of, group_of, names_of, settings_of, typed_data
from nlpkit.joint.rows import pool
from nlpkit.joint.scores import JointScores
from nlpkit.joint.task import JointTask, TaskExample, joint_task
from nlpkit.plugins import Registry
from nlpkit.plugins.blame import isolated, plugin_error
from nlpkit.predictor import Predictor
from nlpkit.request import Request
from nlpkit.scores import metrics_of
from nlpkit.task import Example, Field, Task

LABELLED = [
    ("a warm and funny film with a great cast", "pos"),
    ("the plot is thin and the jokes are old", "neg"),
    ("soft, light and just the right length", "pos"),
]
SPANS = [
    ("I would not buy this dress again, it tore and it was so slow that I left before the end", "dress"),
    ("came on time", "time"),
]
TEXTS = ["a great film", "so slow", "", "the dress tore again and again and again"]


def example_of(text: str, span: str) -> Example:
    start = text.index(span)
    return Example({"text": text, "entities": [{"start": start, "end": start + len(span), "label": "thing"}]})


SENTIMENTS = [Example({"text": text, "label": label}) for text, label in LABELLED]
ENTITIES = [example_of(*row) for row in SPANS]
BOTH = [*(TaskExample(e, "sentiment") for e in SENTIMENTS), *(TaskExample(e, "ner") for e in ENTITIES)]


@pytest.fixture(scope="session")
def make_joint(
    registry: Registry, words: PreTrainedTokenizerBase, small_config: Callable[..., PretrainedConfig]
) -> Callable[..., TaskModule]:
    """Sentiment and ner on a tiny model with random weights, large enough that logits differ."""

    def make(family: str = "bert", longest: int = 64, **weights: float) -> TaskModule:
        made: Any = registry.task("sentiment,ner")
        config = made.config_class(
            sentiment=SentimentConfig(labels=["neg", "pos"], max_length=longest),
            ner=NerConfig(labels=["thing"], max_length=longest, unit="word", stride=4),
            weights=weights,
        )
        torch.manual_seed(0)
        task = made(config, words)
        architecture = small_config(family)
        module = TaskModule(task, backbone.build(architecture), task.build_head(architecture))
        with torch.no_grad():
            for parameter in module.head.parameters():
                parameter.normal_(0, 0.3)
        return module.eval()

    return make


def single(joint: TaskModule, name: str) -> TaskModule:
    """One task by itself: the same backbone and head, and nothing of `nlpkit.joint` between them."""
    task, head = joint.task, joint.head
    assert isinstance(task, JointTask)
    return TaskModule(task.parts[name], joint.backbone, head.of(name)).eval()  # type: ignore[operator]


def batch_of(task: Task[Any], examples: Sequence[Example]) -> Any:
    return task.collate([task.encode(example) for example in examples])


@pytest.mark.parametrize("family", ["bert", "modernbert", "llama"])
@torch.no_grad()
def test_the_loss_is_the_weighted_sum_of_those_of_the_single_tasks(
    family: str, make_joint: Callable[..., TaskModule]
) -> None:
    joint = make_joint(family, ner=0.25)
    alone = {}
    for name, examples in (("sentiment", SENTIMENTS), ("ner", ENTITIES)):
        module = single(joint, name)
        alone[name] = float(module.loss_of(batch_of(module.task, examples)))
    mixed_rows = [BOTH[i] for i in (3, 0, 1, 4, 2)]
    assert float(joint.loss_of(batch_of(joint.task, mixed_rows))) == pytest.approx(
        alone["sentiment"] + 0.25 * alone["ner"], abs=1e-5
    )


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_answers_are_those_of_each_task_alone(family: str, make_joint: Callable[..., TaskModule]) -> None:
    joint = make_joint(family, longest=16)  # so that the last text is cut by one task, and read in windows by the other
    texts = [*TEXTS, " ".join(TEXTS * 4)]
    answers = Predictor(bundle.Loaded(joint.task, joint.backbone, joint.head, {}), "cpu").predict(texts)  # type: ignore[arg-type]
    for name in ("sentiment", "ner"):
        module = single(joint, name)
        alone = Predictor(bundle.Loaded(module.task, module.backbone, module.head, {}), "cpu").predict(texts)
        for mine, theirs in zip((answer[name] for answer in answers), alone, strict=True):
            assert flat(mine) == pytest.approx(flat(theirs), abs=1e-5)


def test_each_task_has_a_new_text_as_it_checks_it(
    make_joint: Callable[..., TaskModule], monkeypatch: pytest.MonkeyPatch
) -> None:
    joint, encode, complete = make_joint(), Sentiment.encode, Sentiment.complete
    model: Any = Predictor(bundle.Loaded(joint.task, joint.backbone, joint.head, {}), "cpu")  # type: ignore[arg-type]
    expected = model.predict(TEXTS)
    words = Field(("text",), structured=True)

    def check(cls: Any, example: Example) -> Example:
        example["text"] = example["text"].split(" ")
        return example

    def joined(call: Callable[..., Any]) -> Callable[..., Any]:
        return lambda self, *given: call(self, *given[:-1], {"text": " ".join(given[-1]["text"])})

    monkeypatch.setattr(Sentiment, "fields", {**Sentiment.fields, "text": words})
    monkeypatch.setattr(Sentiment, "check", classmethod(check))
    monkeypatch.setattr(Sentiment, "encode", joined(encode))
    monkeypatch.setattr(Sentiment, "complete", joined(complete))
    assert model.predict(TEXTS) == expected
    rows = list(checked(type(joint.task), [Example({"text": text}) for text in TEXTS]))
    assert list(model.stream(rows)) == expected and rows == [{"text": text} for text in TEXTS]


def flat(answer: Any, key: str = "") -> dict[str, Any]:
    if not isinstance(answer, dict | list):
        return {key: answer}
    pairs = answer.items() if isinstance(answer, dict) else enumerate(answer)
    return {k: v for name, value in pairs for k, v in flat(value, f"{key}.{name}").items()}


def test_the_backbone_reads_a_text_once_where_both_tasks_encode_it_alike(make_joint: Callable[..., TaskModule]) -> None:
    joint = make_joint()
    rows: list[int] = []
    joint.backbone.register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    Predictor(bundle.Loaded(joint.task, joint.backbone, joint.head, {}), "cpu").predict(TEXTS)  # type: ignore[arg-type]
    assert rows == [len(TEXTS)]


def test_training_gives_every_weight_a_gradient_also_of_a_task_that_has_no_row(
    make_joint: Callable[..., TaskModule],
) -> None:
    joint = make_joint().train()
    batch = batch_of(joint.task, BOTH[:2])
    assert [count for _, count in joint.head.terms(joint.hidden(batch), batch)] == [2, 0]
    joint.loss_of(batch).backward()
    gradients = {name: parameter.grad for name, parameter in joint.head.named_parameters()}
    assert all(gradient is not None for gradient in gradients.values())
    assert {name for name, gradient in gradients.items() if gradient is not None and gradient.any()} == {
        name for name in gradients if name.startswith("heads.task_sentiment.")
    }


def test_the_last_layer_is_computed_where_a_head_reads(make_joint: Callable[..., TaskModule]) -> None:
    joint = make_joint()
    first = joint.head.places(batch_of(joint.task, BOTH[:3]))
    assert first is not None and first.sum(1).tolist() == [1, 1, 1]
    assert joint.head.places(batch_of(joint.task, BOTH)) is None  # ner reads everywhere


@torch.no_grad()
def test_scores_are_those_of_the_single_tasks_and_their_mean(make_joint: Callable[..., TaskModule]) -> None:
    joint = make_joint()
    scores = joint.score([batch_of(joint.task, BOTH[:4]), batch_of(joint.task, BOTH[4:])], joint.task.build_metrics())
    for name, examples in (("sentiment", SENTIMENTS), ("ner", ENTITIES)):
        module = single(joint, name)
        alone = module.score([batch_of(module.task, examples)], module.task.build_metrics())
        assert {key: scores[f"{name}/{key}"] for key in alone} == pytest.approx(alone, abs=1e-5)
    assert scores["mean_score"] == pytest.approx((scores["sentiment/f1_macro"] + scores["ner/f1"]) / 2)


def test_a_loss_that_chooses_counts_negative_in_the_mean() -> None:
    from torchmetrics import MeanMetric, MetricCollection

    scores = JointScores(
        {"a": MetricCollection({"x": MeanMetric()}), "b": MetricCollection({"x": MeanMetric()})},
        {"a": type("A", (Sentiment,), {"score": "x"}), "b": type("B", (Sentiment,), {"score": "loss"})},
    )
    for _ in range(2):
        scores.update({"a": (torch.tensor(0.5),), "b": (torch.tensor(9.0),)}, {"b": [(torch.tensor(0.25), 3)]})
        assert float(scores.compute()["mean_score"]) == pytest.approx((0.5 - 0.25) / 2)
        scores.reset()


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 90)), min_size=1, max_size=120))
@settings(max_examples=40)
def test_every_stretch_of_a_mixed_order_has_the_share_of_each_kind(rows: list[tuple[int, int]]) -> None:
    kinds, lengths = np.array(rows).T
    order = mixed(lengths, kinds)
    assert sorted(order.tolist()) == list(range(len(rows)))
    for kind in set(kinds.tolist()):
        own = kinds[order] == kind
        expected = own.mean() * np.arange(1, len(rows) + 1)
        assert np.abs(own.cumsum() - expected).max() <= 1.5  # half a row of its own, and one of the others
        assert (np.diff(lengths[order][own]) >= 0).all()


def test_batches_hold_both_tasks_however_long_their_texts_are(make_joint: Callable[..., TaskModule]) -> None:
    task = make_joint().task
    long = [
        TaskExample(Example({"text": "great film " * (8 + i % 9), "label": "pos"}), "sentiment") for i in range(300)
    ]
    short = [TaskExample(example_of("dress tore", "dress"), "ner") for _ in range(100)]
    samples = EncodedExamples(task, [*long, *short])
    plan = BatchPlan(samples.lengths, 600, 32, 0, samples.kinds)
    batches = plan.epoch(0)
    assert sorted(np.concatenate(batches).tolist()) == list(range(400))
    shares = [samples.kinds[rows].mean() for rows in batches if len(rows) > 8]
    assert len(shares) > 15 and all(0.1 < share < 0.4 for share in shares)


@pytest.mark.parametrize(
    ("tasks", "data", "message"),
    [
        ("a,a", {}, "--task 'a,a': 'a' stands twice"),
        ("a,,b", {}, "--task 'a,,b': a name is missing beside a comma"),
        ("a,b", {"c": "x"}, "--data c=...: 'c' is none of the tasks a, b"),
        ("a,b", ["x.csv", "y.csv"], "x.csv, y.csv: for which of a, b?"),
        ("a", {"b": "x"}, "--data b=...: 'b' is none of the tasks a"),
    ],
)
def test_files_of_no_task_are_refused(tasks: str, data: Any, message: str) -> None:
    with pytest.raises(UsageError) as error:
        files_of(tasks, data, "--data")
    assert error.value.message == message


def test_files_are_told_apart_by_their_task() -> None:
    assert files_of("a, b", {"b": "3", "a": ["1", "2"]}, "--data") == (("1", "2", "3"), ("a", "a", "b"))
    assert files_of("a", ["1"], "--data") == files_of("a", {"a": "1"}, "--data") == (("1",), ())
    assert typed_data("a,b", (), ("a=x=1.csv", "b=y", "a=z"), "--data") == {"a": ["x=1.csv", "z"], "b": ["y"]}
    assert typed_data("a", (), ("x.csv",), "--dev") == ["x.csv"]


def test_settings_of_one_task_are_those_of_its_section_and_of_all() -> None:
    given_ = ["data.text=T", "data.my_task.text=M", "task.ner.stride=8", "data.ner.text=N"]
    own = ["task.stride=8", "data.text=N"]
    assert settings_of(given_, "ner", ["my-task", "ner"]) == ["data.text=T", *own]
    assert settings_of(given_[::-1], "ner", ["my-task", "ner"]) == ["data.text=T", *own[::-1]]  # the last one counts


def test_defaults_are_those_of_sections_and_what_all_tasks_want(registry: Registry) -> None:
    class Patient(Ner):
        name = "patient"
        defaults_public = {"strategy": "upper", "optim.clip": 0.5}  # noqa: RUF012

    made = joint_task({"sentiment": registry.task("sentiment"), "ner": Ner})
    assert made.defaults == {"task.sentiment.keep": "end"} and made.defaults_public == {}
    assert joint_task({"ner": Ner, "patient": Patient}).defaults_public == {"strategy": "upper"}


def test_settings_are_read_again_as_they_were_saved(registry: Registry, tmp_path: Path) -> None:
    made = registry.task("sentiment,ner")
    typed = [
        "data.ner.group=Thread",
        "task.ner.stride=8",
        "task.weights.ner=0.5",
        "data.ner.text=Post",
        "data.label=Stars",
        "task.max_length=32",
    ]
    config = compose(made, overrides=typed).config
    save(config, tmp_path / "config.yaml")
    assert load(made, tmp_path / "config.yaml") == config
    assert columns_of(config.data.columns, "ner") == {"text": "Post", "label": "Stars"}
    assert columns_of(config.data.columns, "sentiment") == {"label": "Stars"}
    assert [group_of(config.data.columns, name, "all") for name in ("ner", "sentiment")] == ["Thread", "all"]


def test_columns_are_read_again_where_a_task_is_called_so(registry: Registry, tmp_path: Path) -> None:
    made = joint_task({"columns": type("Odd", (registry.task("sentiment"),), {"name": "columns"}), "ner": Ner})
    config = compose(made, overrides=["data.text=Post", "data.columns_.text=Cell"]).config
    save(config, tmp_path / "config.yaml")
    assert load(made, tmp_path / "config.yaml") == config
    assert [columns_of(config.data.columns, name)["text"] for name in made.classes] == ["Cell", "Post"]


def test_a_setting_of_one_task_is_named_where_it_was_meant(registry: Registry) -> None:
    made = registry.task("sentiment,ner")
    composed = compose(made, overrides=["task.ner.stride=8", "task.weights.ner=0.5", "data.ner.text=Post"]).config
    assert (composed.task.of("ner").stride, composed.task.weights) == (8, {"ner": 0.5})  # type: ignore[attr-defined]
    assert composed.data.columns == {"ner.text": "Post"}
    for wrong, meant in (("task.labels=[a]", "task.sentiment.labels"), ("data.ner.txt=A", "data.ner.text")):
        with pytest.raises(UsageError) as error:
            compose(made, overrides=[wrong])
        assert error.value.hint.startswith(f"did you mean '{meant}'?")
    with pytest.raises(UsageError) as error:
        compose(made, overrides=["task.weights.topic=1"])
    assert error.value.message == "task.weights has 'topic', which is none of sentiment, ner"


def test_a_task_that_writes_is_refused(registry: Registry) -> None:
    with pytest.raises(UsageError) as error:
        registry.task("sentiment,translation")
    assert error.value.message == "'translation' writes, and only tasks that read share a model with others"
    assert error.value.hint == "nlpkit fit --task translation"


def test_one_class_is_made_of_the_same_tasks(registry: Registry) -> None:
    assert registry.task("sentiment,ner") is registry.task("sentiment, ner")
    assert names_of(registry.task("ner,sentiment").name) == ["ner", "sentiment"]


def test_a_step_with_zero_weight_leaves_that_head_to_its_decay(make_joint: Callable[..., TaskModule]) -> None:
    joint = make_joint(ner=0.0).train()
    joint.optim = OptimConfig(learning_rate=1e-3, weight_decay=0.0, schedule="constant", warmup=0.0)
    joint.total_steps = 1
    optimizer = joint.configure_optimizers()["optimizer"]
    before = {name: parameter.clone() for name, parameter in joint.head.named_parameters()}
    joint.loss_of(batch_of(joint.task, BOTH)).backward()
    optimizer.step()
    changed = {name.split(".")[1] for name, p in joint.head.named_parameters() if not p.equal(before[name])}
    assert changed == {"task_sentiment"}


@pytest.mark.parametrize("name", ["20news", "type", "keys", "of", "columns", "my-task"])
def test_tasks_of_any_name_share_a_model(
    name: str, registry: Registry, words: PreTrainedTokenizerBase, small_config: Callable[..., PretrainedConfig]
) -> None:
    made = joint_task({name: type("Odd", (registry.task("sentiment"),), {"name": name}), "ner": Ner})
    own = SentimentConfig(labels=["neg", "pos"], max_length=32)
    config: Any = {attribute(name): own, "ner": NerConfig(labels=["thing"], max_length=32, unit="word", stride=4)}
    task = made(made.config_class(**config), words)
    architecture = small_config("bert")
    module = TaskModule(task, backbone.build(architecture), task.build_head(architecture))
    rows = [TaskExample(SENTIMENTS[0], name), TaskExample(ENTITIES[0], "ner")]
    scores = module.score([batch_of(task, rows)], metrics_of(task, registry))
    assert set(scores) >= {"mean_score", f"{name}/accuracy", "ner/f1"}


@pytest.mark.parametrize("name", ["text", "seed"])
def test_a_task_is_called_by_no_name_that_a_row_has(name: str, registry: Registry) -> None:
    odd = type("Odd", (registry.task("sentiment"),), {"name": name})
    with pytest.raises(UsageError) as error:
        joint_task({name: odd, "ner": Ner})
    said = f"a task that shares a model cannot be called '{name}': a row has text, seed already"
    assert (error.value.message, error.value.hint) == (said, f"nlpkit fit --task {name}")


def test_many_tasks_share_a_model_and_too_many_are_refused_at_once(
    registry: Registry, words: PreTrainedTokenizerBase, small_config: Callable[..., PretrainedConfig]
) -> None:
    kind = registry.task("sentiment")
    classes: Any = {f"t{i}": type("One", (kind,), {"name": f"t{i}"}) for i in range(33)}
    made = joint_task({name: classes[name] for name in list(classes)[:32]})
    own = SentimentConfig(labels=["neg", "pos"], max_length=32)
    task = made(made.config_class(**dict.fromkeys(made.classes, own)), words)  # type: ignore[arg-type]
    module = TaskModule(task, backbone.build(small_config("bert")), task.build_head(small_config("bert")))
    scores = module.score([batch_of(task, [TaskExample(SENTIMENTS[0], name) for name in made.classes])], module.metrics)
    assert scores["loss"] == pytest.approx(sum(scores[f"{name}/loss"] for name in made.classes), rel=1e-5)
    with pytest.raises(UsageError) as error:
        joint_task(classes)
    assert error.value.message == "33 tasks, and at most 32 share a model"


@torch.no_grad()
def test_a_task_may_pad_its_rows_further_than_they_need(make_joint: Callable[..., TaskModule]) -> None:
    joint = make_joint()
    expected = float(joint.loss_of(batch_of(joint.task, BOTH)))
    part = joint.task.parts["sentiment"]  # type: ignore[attr-defined]
    narrow = part.collate

    def wide(features: Any) -> Any:
        pads = {"input_ids": part.tokenizer.pad_token_id}
        found = narrow(features).items()
        return {k: torch.nn.functional.pad(v, (0, 50), value=pads.get(k, 0)) if v.dim() == 2 else v for k, v in found}

    part.collate = wide
    assert float(joint.loss_of(batch_of(joint.task, BOTH))) == pytest.approx(expected, abs=1e-5)


@torch.no_grad()
def test_documents_of_a_part_are_read_each_by_itself(make_joint: Callable[..., TaskModule]) -> None:
    joint = make_joint(ner=0.0)
    alone = single(joint, "sentiment")
    encode, whole = alone.task.encode, float(alone.loss_of(batch_of(alone.task, SENTIMENTS)))

    def in_two(example: Example) -> Any:
        features = encode(example)
        return {**features, "documents": [1 + (i > 4) for i in range(len(features["input_ids"]))]}

    alone.task.encode = in_two  # type: ignore[method-assign]
    divided = float(alone.loss_of(batch_of(alone.task, SENTIMENTS)))
    assert abs(divided - whole) > 1e-3
    joint.task.parts["sentiment"].encode = in_two  # type: ignore[attr-defined]
    assert float(joint.loss_of(batch_of(joint.task, BOTH))) == pytest.approx(divided, abs=1e-5)


def test_positions_are_those_of_all_parts_or_of_none() -> None:
    ids, places = torch.tensor([[5, 6, 7]]), torch.tensor([[0, 2, 1]])
    with_them, without = {"input_ids": ids, "position_ids": places}, {"input_ids": ids}
    pooled = pool({"a": with_them, "b": {**with_them, "position_ids": places + 1}}, {"a": [0], "b": [1]}, 0)
    assert pooled["position_ids"].tolist() == [[0, 2, 1], [1, 3, 2]]
    for odd, what in ((without, "position_ids (B, L), which another has"), ({}, "input_ids (B, L)")):
        with pytest.raises(PluginError) as error:
            pool({"a": with_them, "b": odd}, {"a": [0], "b": [1]}, 0)
        assert error.value.message == f"task 'b' makes batches without {what}"


def test_a_task_that_makes_several_examples_of_a_row_is_refused() -> None:
    class Folded(Ner):
        name = "folded"

        @classmethod
        def unfold(cls, config: Any, examples: Sequence[Example]) -> Sequence[Example]:
            return [*examples, *examples]

    with pytest.raises(UsageError) as error:
        joint_task({"ner": Ner, "folded": Folded})
    assert error.value.message.startswith("'folded' makes several examples of a row")


def read(
    classes: dict[str, type[Task[Any]]], tables: dict[str, list[str]], registry: Registry, folder: Path, *settings: str
) -> labelled.Labelled:
    """The rows of a fit of several tasks; a table ``NAME`` is learnt, ``NAME.dev`` chooses."""
    for name, rows in tables.items():
        (folder / f"{name}.csv").write_text("".join(f"{row}\n" for row in rows))
    made: Any = joint_task(classes)
    parts: dict[bool, list[str]] = {dev: [n for n in tables if n.endswith(".dev") is dev] for dev in (False, True)}
    data, dev = (tuple(f"{folder}/{name}.csv" for name in parts[of]) for of in (False, True))
    of = {"data_of": tuple(parts[False]), "dev_of": tuple(name.removesuffix(".dev") for name in parts[True])}
    config = compose(made, overrides=settings).config
    return labelled.read(made, Request(made.name, data, dev, **of), config, registry)


def test_what_one_task_holds_out_in_any_text_is_not_learnt_by_another(
    registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    classes: Any = {"sentiment": registry.task("sentiment"), "paraphrase": Paraphrase}
    others = [f"one {i},two {i},{'yn'[i % 2]}" for i in range(4)]
    tables = {
        "sentiment": ["text,label", *(f"text {i},{'ab'[i % 2]}" for i in range(6)), "Held  out,a"],
        "sentiment.dev": ["text,label", "chosen a,a", "chosen b,b"],
        "paraphrase": ["first,second,label", *others, "first,Chosen B,y"],
        "paraphrase.dev": ["first,second,label", "any,held out,y", "some,more,n"],
    }
    with caplog.at_level("INFO", "nlpkit"):
        rows = read(classes, tables, registry, tmp_path)
    assert [example["text"] for example in rows.train if "text" in example] == [f"text {i}" for i in range(6)]
    assert [example["second"] for example in rows.train if "second" in example] == [f"two {i}" for i in range(4)]
    assert len(rows.dev) == 4
    left = "rows have a text of the dev part of"
    assert f"sentiment: 1 {left} paraphrase, and are left out" in caplog.messages
    assert f"paraphrase: 1 {left} sentiment, and are left out" in caplog.messages


@pytest.mark.parametrize("settings_", [["data.group=who"], ["data.one.group=who", "data.two.group=who"]])
def test_a_group_that_one_task_holds_out_is_not_learnt_by_another(
    settings_: list[str], registry: Registry, tmp_path: Path
) -> None:
    kind = registry.task("sentiment")
    classes = {name: type(name.title(), (kind,), {"name": name}) for name in ("one", "two")}
    people = {"one": range(13), "two": range(6, 11)}  # so that they hold out different ones
    rows = {n: [f"{n} text {i},{'ab'[i % 2]},{of[i % len(of)]}" for i in range(60)] for n, of in people.items()}
    found = read(classes, {n: ["text,label,who", *of] for n, of in rows.items()}, registry, tmp_path, *settings_)
    held, learnt = ({(e["text"][:3], e["who"]) for e in part} for part in (found.dev, found.train))
    assert {who for _, who in held} & {who for _, who in learnt} == set()
    assert {name for name, _ in held} == {name for name, _ in learnt} == {"one", "two"}


def test_each_task_may_have_a_column_of_groups_of_its_own(registry: Registry, tmp_path: Path) -> None:
    classes: Any = {"sentiment": registry.task("sentiment"), "paraphrase": Paraphrase}
    tables = {
        "sentiment": ["text,label,who", *(f"text {i},{'ab'[i % 2]},{i % 9}" for i in range(60))],
        "paraphrase": ["first,second,label,document", *(f"a {i},b {i},{'yn'[i % 2]},{i % 11}" for i in range(60))],
    }
    groups = ["data.sentiment.group=who", "data.paraphrase.group=document"]
    found = read(classes, tables, registry, tmp_path, *groups)
    for column in ("who", "document"):
        held, learnt = ({e[column] for e in part if column in e} for part in (found.dev, found.train))
        assert held and learnt and not held & learnt
    assert len(found.train) + len(found.dev) == 120  # numbers in columns of other names are others
    with pytest.raises(DataError) as error:
        read(classes, tables, registry, tmp_path, "data.group=who")
    assert "no column 'who'" in error.value.message


def test_a_task_whose_rows_all_choose_for_another_says_so(registry: Registry, tmp_path: Path) -> None:
    classes: Any = {"sentiment": registry.task("sentiment"), "paraphrase": Paraphrase}
    rows = [f"text {i},other {i},{'ab'[i % 2]}" for i in range(4)]
    tables = {"sentiment": ["text,second,label", *rows], "paraphrase": ["text1,text2,label", *rows * 2]}
    with pytest.raises(DataError) as error:
        read(classes, {**tables, "paraphrase.dev": tables["paraphrase"]}, registry, tmp_path)
    said = "sentiment: all 2 rows to learn from have a text of the dev part of paraphrase"
    assert error.value.message == said
    assert error.value.hint == "other texts for sentiment, or --dev paraphrase=FILE with others"


SMALL = ("model.preset=tiny", "model.vocabulary=100", "data.dev_share=0.3")
BAD = """
import nlpkit
from nlpkit_sentiment import Sentiment

class Bad(Sentiment):
    name = "bad"
    METHOD

@nlpkit.hookimpl
def nlpkit_tasks():
    return [Bad]
"""
GIVEN = {
    "prepare": "@classmethod\n    def prepare(cls, config, examples): pass",
    "select": "@classmethod\n    def select(cls, config, examples): pass",
    "labels_of": "@classmethod\n    def labels_of(cls, example): return example['label']",
    "encode": "def encode(self, example): return {'ids': [1]}",
    "start": "def start(self, head, backbone): pass",
    "build_head": "def build_head(self, backbone): return backbone",
    "build_metrics": "def build_metrics(self): return {}",
    "collate": "def collate(self, features): return list(features)",
    "compare": "def compare(self, predictions, batch): return predictions",
    "decode": "def decode(self, predictions, batch): return [{}]",
    "complete": "def complete(self, answer, example): pass",
}


@pytest.fixture(scope="module")
def moods(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("moods") / "moods.csv"
    path.write_text("text,label\n" + "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(12)))
    return path


@pytest.mark.parametrize("method", GIVEN)
def test_what_a_part_gives_is_looked_at_as_if_it_were_alone(method: str, moods: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "bad.py"
    plugin.write_text(BAD.replace("METHOD", GIVEN[method]))
    messages = []
    for data in ({"bad": moods}, {"ner": nlpkit_ner.__path__[0] + "/sample.conll", "bad": moods}):
        with pytest.raises(PluginError) as error:
            learn_and_answer(",".join(data), data, plugin)
        messages.append(error.value.message)
    assert messages[0].startswith(f"plugin 'bad' ({plugin}): Bad.{method} gives ")
    assert messages[0] == messages[1]


@pytest.mark.parametrize(
    ("method", "found", "said"),
    [
        ("baselines", {"majority": 0.5}, "gives a float for 'majority', expected a dict such as {'f1_macro': 0.5}"),
        ("baselines", {"a": {"f1": torch.ones(2)}}, "gives a Tensor for 'a/f1', expected a number"),
        ("baselines", {"a": {"f1": "0.5"}}, "gives a str for 'a/f1', expected a number"),
        ("about_scores", {"f1": 1}, "gives an int for 'f1', expected a text"),
    ],
)
def test_what_is_said_beside_scores_is_looked_at(
    method: str, found: Any, said: str, make_joint: Callable[..., TaskModule], monkeypatch: pytest.MonkeyPatch
) -> None:
    joint = make_joint()
    rows = {"baselines": (BOTH, BOTH)}.get(method, ())
    monkeypatch.setattr(Sentiment, method, lambda self, *rows: found)
    for task in (joint.task, joint.task.parts["sentiment"]):  # type: ignore[attr-defined]
        with pytest.raises(PluginError) as error:
            getattr(score_notes, method)(task, *rows)
        assert error.value.message.endswith(f"Sentiment.{method} {said}")


def test_simple_methods_are_asked_before_the_training_and_their_numbers_are_plain(
    moods: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores: Any = {"f1_macro": torch.tensor(0.5), "accuracy": np.float32(0.25), "loss": float("nan")}
    monkeypatch.setattr(Sentiment, "baselines", lambda *_: {"simple": scores})
    made = nlpkit.fit("sentiment", moods, out=tmp_path / "run", overrides=[*SMALL, "trainer.max_steps=1"])
    assert made.results["baselines"] == {"simple": {"f1_macro": 0.5, "accuracy": 0.25}}
    monkeypatch.setattr(Sentiment, "baselines", lambda *_: {"simple": 0.5})
    monkeypatch.setattr("nlpkit.trainer.train", lambda *_, **named: pytest.fail("it has begun"))
    with pytest.raises(PluginError, match=r"Sentiment.baselines gives a float"):
        nlpkit.fit("sentiment", moods, out=tmp_path / "odd", overrides=SMALL)
    assert not (tmp_path / "odd").exists()


def test_our_error_over_what_a_part_gave_names_its_plugin(make_joint: Callable[..., TaskModule]) -> None:
    joint = make_joint()
    messages = []
    for module, rows, prefix in ((single(joint, "sentiment"), SENTIMENTS, ""), (joint, BOTH, "sentiment/")):
        batch = batch_of(module.task, rows)
        with pytest.raises(IndexError) as error:
            module.loss_of({**batch, f"{prefix}labels": batch[f"{prefix}labels"] + 7})
        messages.append(getattr(plugin_error(error.value), "message", "a bug in nlpkit"))
    assert "Sentiment.encode: nlpkit's Head.loss cannot use what it gives: IndexError: Target 8" in messages[0]
    assert messages[0] == messages[1]


def test_what_metrics_cannot_take_of_a_part_names_its_plugin(moods: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "bad.py"
    plugin.write_text(BAD.replace("METHOD", "def compare(self, predictions, batch): return (predictions,)"))
    for data in ({"bad": moods}, {"ner": nlpkit_ner.__path__[0] + "/sample.conll", "bad": moods}):
        with pytest.raises(PluginError) as error, isolated():
            learn_and_answer(",".join(data), data, plugin)
        assert error.value.message.startswith(
            f"plugin 'bad' ({plugin}): Bad.compare: nlpkit's update_metrics cannot use what it gives: TypeError: "
        )


def test_a_part_that_chooses_by_a_score_it_lacks_is_named(make_joint: Callable[..., TaskModule]) -> None:
    joint = make_joint()
    joint.metrics["tasks"].classes["sentiment"] = type("Odd", (Sentiment,), {"score": "fluency"})
    with pytest.raises(PluginError, match=r"Odd.score is 'fluency', expected one of .*accuracy, f1"):
        joint.score([batch_of(joint.task, BOTH)], joint.metrics)


def test_of_each_task_it_is_said_how_many_of_its_texts_are_cut(moods: Path, caplog: pytest.LogCaptureFixture) -> None:
    limits = ["task.sentiment.max_length=4", "task.ner.max_length=200"]
    data = {"sentiment": moods, "ner": nlpkit_ner.__path__[0] + "/sample.conll"}
    with caplog.at_level("INFO", "nlpkit"):
        nlpkit.assemble("sentiment,ner", data, overrides=[*SMALL, *limits])
    said = "100% of the texts of sentiment are longer than 4 tokens and are cut (task.sentiment.max_length)"
    assert [line for line in caplog.messages if " are cut " in line] == [said]


def learn_and_answer(task: str, data: Any, plugin: Path) -> None:
    module, batches = nlpkit.assemble(task, data, plugins=plugin, overrides=SMALL)
    module.eval().loss_of(next(iter(batches.train_dataloader())))
    module.score(batches.val_dataloader(), module.metrics)
    Predictor(bundle.Loaded(module.task, module.backbone, module.head, {}), "cpu").predict(TEXTS)
