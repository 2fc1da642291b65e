from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpkit.config import RunConfig, compose, from_plain, load, number, save, to_plain
from nlpkit.errors import PluginError, UsageError
from nlpkit.task import Field, Task, TaskConfig


@dataclass
class Inner:
    depth: int = number(2, at_least=1)


@dataclass
class ReviewConfig(TaskConfig):
    margin: float = number(0.5, above=0, at_most=1)
    width: int | None = None
    mode: Literal["soft", "hard"] = "soft"
    stars: Literal[1, 2] = 1
    pooling: str | None = None
    sizes: list[int] = field(default_factory=lambda: [1, 2])
    names: dict[str, str] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=lambda: {"positive": 1.0})
    inner: Inner = field(default_factory=Inner)


class Review(Task[ReviewConfig]):
    name = "review"
    config_class = ReviewConfig
    fields: ClassVar[dict[str, Field]] = {"text": Field(("text",)), "label": Field(("label",), required=False)}
    defaults: ClassVar[dict[str, Any]] = {"optim.learning_rate": 1e-3, "data.text": "Review Text"}


LISTING = "nlpkit config docs --task review lists every setting"


def configured(*overrides: str) -> RunConfig:
    return compose(Review, overrides=overrides).config


def review(*overrides: str) -> ReviewConfig:
    task = configured(*overrides).task
    assert isinstance(task, ReviewConfig)
    return task


def refusal(*overrides: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        compose(Review, overrides=overrides)
    return caught.value


def test_compose_without_arguments_has_the_dataclass_defaults_and_the_tasks() -> None:
    expected = RunConfig(task=ReviewConfig())
    expected.optim.learning_rate = 1e-3
    expected.data.columns = {"text": "Review Text"}
    assert configured() == expected


def test_compose_order_is_defaults_task_run_file_overrides_flags(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("optim:\n  learning_rate: 3\n  clip: 3\n  warmup: 0.3\nseed: 3\n")
    composed = compose(
        Review,
        defaults={"optim.learning_rate": 2, "optim.weight_decay": 2},
        file=file,
        overrides=["optim.clip=4", "seed=4"],
        flags={"seed": 5, "trainer.max_steps": None},
    )
    optim = composed.config.optim
    assert (optim.weight_decay, optim.warmup, optim.clip, composed.config.seed) == (2, 0.3, 4, 5)
    keys = ["optim.layer_decay", "data.columns.text", "optim.weight_decay", "optim.warmup", "optim.clip", "seed"]
    origins = [composed.origins[key] for key in keys]
    assert origins == ["default", "task review", "run", f"{file}:4", "command line", "flag --seed"]
    assert composed.origins["trainer.max_steps"] == "default"


def test_compose_flag_origin_is_the_flag_as_typed() -> None:
    assert compose(Review, flags={"trainer.max_steps": 7}).origins["trainer.max_steps"] == "flag --max-steps"


def test_compose_of_the_task_base_class_has_the_shared_settings() -> None:
    assert compose(Task, overrides=["seed=7"]).config == RunConfig(seed=7)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.text())
@pytest.mark.parametrize("key", ["data.group", "data.columns.text", "data.text", "task.names.a.b"])
def test_override_of_a_string_is_exactly_what_was_typed(key: str, text: str) -> None:
    config = configured(f"{key}={text}")
    assert isinstance(config.task, ReviewConfig)
    found = {
        "data.group": config.data.group,
        "data.columns.text": config.data.columns["text"],
        "data.text": config.data.columns["text"],
        "task.names.a.b": config.task.names.get("a.b"),
    }
    assert found[key] == text


@pytest.mark.parametrize(
    "text",
    ["007", "no", "null", "~", "a: b", "a=b", "#abc", "3.10", "12:30:00", "@x", "???", "${seed}", " x ", "", "\udcff"],
)
def test_override_of_a_string_is_no_yaml(text: str) -> None:
    """K05."""
    assert configured(f"task.head={text}").task.head == text
    assert review(f"task.pooling={text}").pooling == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[a, b]", ["a", "b"]),
        ("a,b", ["a", "b"]),
        ("[no, 007, null, 1e3]", ["no", "007", "null", "1e3"]),
        ("['a, b', \"c\"]", ["a, b", "c"]),
        ("['']", [""]),
        ("", []),
        ("[]", []),
        ("very good", ["very good"]),
        ("it's,so", ["it's", "so"]),
        ("[[a]]", ["[a]"]),
        ("a${seed},b", ["a${seed}", "b"]),
    ],
)
def test_override_of_a_list_keeps_its_texts_raw(text: str, value: list[str]) -> None:
    assert configured(f"task.labels={text}").task.labels == value


@pytest.mark.parametrize(
    ("override", "section", "name", "value"),
    [
        ("seed=12", "", "seed", 12),
        ("seed=1_000", "", "seed", 1000),
        ("optim.clip=1e-3", "optim", "clip", 1e-3),
        ("optim.clip=5", "optim", "clip", 5.0),
        ("optim.clip=.5", "optim", "clip", 0.5),
        ("model.lowercase=no", "model", "lowercase", False),
        ("model.lowercase=Yes", "model", "lowercase", True),
        ("model.lowercase=false", "model", "lowercase", False),
        ("model.dropout=0.1", "model", "dropout", 0.1),
        ("optim.learning_rate=none", "optim", "learning_rate", None),
        ("optim.learning_rate=null", "optim", "learning_rate", None),
        ("trainer.precision=32", "trainer", "precision", "32"),
        ("task.stars=2", "task", "stars", 2),
        ("task.width=4", "task", "width", 4),
        ("task.sizes=[3, 4]", "task", "sizes", [3, 4]),
        ("task.weights.negative=2", "task", "weights", {"positive": 1.0, "negative": 2.0}),
        ("data.label=Rating", "data", "columns", {"text": "Review Text", "label": "Rating"}),
        ("task.inner.depth=3", "task", "inner", Inner(3)),
        ("optim.learning_rate=${optim.muon_learning_rate}", "optim", "learning_rate", 0.02),
    ],
)
def test_override_has_the_type_of_its_field(override: str, section: str, name: str, value: Any) -> None:
    config = configured(override)
    found = getattr(getattr(config, section) if section else config, name)
    assert found == value
    assert type(found) is type(value)


def test_override_given_twice_takes_the_last() -> None:
    assert configured("seed=1", "seed=2").seed == 2


@pytest.mark.parametrize(
    ("override", "message", "hint"),
    [
        ("sed=1", "no setting 'sed'", f"did you mean 'seed'? {LISTING}"),
        ("optim.learning_rat=1", "no setting 'optim.learning_rat'", f"did you mean 'optim.learning_rate'? {LISTING}"),
        ("learning_rate=1", "no setting 'learning_rate'", f"did you mean 'optim.learning_rate'? {LISTING}"),
        ("optm.clip=1", "no setting 'optm.clip'", f"did you mean 'optim.clip'? {LISTING}"),
        ("task.margn=1", "no setting 'task.margn'", f"did you mean 'task.margin'? {LISTING}"),
        ("data.lable=x", "no setting 'data.lable'", f"did you mean 'data.label'? {LISTING}"),
        ("data.columns.lable=x", "no setting 'data.columns.lable'", f"did you mean 'data.columns.label'? {LISTING}"),
        ("seed.x=1", "no setting 'seed.x'", f"did you mean 'seed'? {LISTING}"),
        ("qqq=1", "no setting 'qqq'", LISTING),
        ("=1", "no setting ''", LISTING),
        ("zzz", "'zzz' is no setting, expected KEY=VALUE", LISTING),
        ("checkpoint=1", "checkpoint is a section, not one value", "its settings are checkpoint.every_steps"),
        ("data.columns=x", "data.columns is 'x', expected names with values", "write data.columns.NAME=VALUE"),
        ("trainer.threads=1.5", "trainer.threads is '1.5', expected a whole number of at least 0", LISTING),
        ("trainer.threads=", "trainer.threads is '', expected a whole number of at least 0", LISTING),
        ("trainer.threads=١", "trainer.threads is '١', expected a whole number of at least 0", LISTING),
        ("trainer.accumulate=0", "trainer.accumulate is '0', expected a whole number of at least 1", LISTING),
        ("task.width=x", "task.width is 'x', expected a whole number or none", LISTING),
        ("task.width=" + "9" * 30, f"task.width is '{'9' * 30}', expected a whole number of at most 64 bits", LISTING),
        (
            "task.width=" + "9" * 5000,
            f"task.width is '{'9' * 57}'..., expected a whole number of at most 64 bits",
            LISTING,
        ),
        ("optim.clip=nan", "optim.clip is 'nan', expected a finite number", LISTING),
        ("optim.clip=1e400", "optim.clip is '1e400', expected a finite number", LISTING),
        ("optim.clip=-1", "optim.clip is '-1', expected a number of at least 0", LISTING),
        ("data.dev_share=1", "data.dev_share is '1', expected a number above 0 and below 1", LISTING),
        ("optim.learning_rate=0", "optim.learning_rate is '0', expected a number above 0 or none", LISTING),
        ("task.margin=1.5", "task.margin is '1.5', expected a number above 0 and at most 1", LISTING),
        ("model.lowercase=1", "model.lowercase is '1', expected true or false", LISTING),
        ("optim.name=adam", "optim.name is 'adam', expected one of 'adamw', 'muon'", LISTING),
        ("task.stars=3", "task.stars is '3', expected one of '1', '2'", LISTING),
        ("task.sizes=[1, x]", "task.sizes is 'x', expected a whole number", LISTING),
        ("task.labels=[a, b", "task.labels is '[a, b', whose brackets do not match", LISTING),
        ("task.labels=['a, b]", 'task.labels is "[\'a, b]", whose quotes do not match', LISTING),
        ("task.labels=a,,b", "task.labels is 'a,,b', which has an empty entry", LISTING),
        ("task.labels=a,", "task.labels is 'a,', which has an empty entry", LISTING),
        ("task.weights.a=x", "task.weights.a is 'x', expected a number", LISTING),
        (
            "optim.clip=${oc.env:HOME}",
            "optim.clip is '${oc.env:HOME}', but only ${section.name}, alone and without quotes, is filled in",
            LISTING,
        ),
        (
            "optim.clip=${nope}",
            "optim.clip is '${nope}', which refers to no setting",
            "write ${section.name} of a setting that has a value",
        ),
        (
            "optim.clip=${optim.clip}",
            "optim.clip is '${optim.clip}', which refers to itself",
            "write ${section.name} of a setting that has a value",
        ),
        (
            "optim.clip=${optim.name}",
            "optim.clip ('${optim.name}') is 'adamw', expected a number of at least 0",
            "write ${section.name} of a setting that has a value",
        ),
    ],
)
def test_override_that_does_not_fit_is_refused(override: str, message: str, hint: str) -> None:
    """K06."""
    error = refusal(override)
    assert (error.message, error.hint) == (f"command line: {message}", hint)


def test_override_problems_are_reported_all_at_once(tmp_path: Path) -> None:
    """K06."""
    file = tmp_path / "run.yaml"
    file.write_text("sed: 1\noptim:\n  clip: x\n")
    with pytest.raises(UsageError) as caught:
        compose(Review, file=file, overrides=["optim.nam=x", "seed=1.5", "data=3"], flags={"strategy": "all"})
    assert str(caught.value) == (
        "6 problems in the settings\n"
        f"  {file}:1: no setting 'sed' (did you mean 'seed'?)\n"
        f"  {file}:3: optim.clip is 'x', expected a number of at least 0\n"
        "  command line: no setting 'optim.nam' (did you mean 'optim.name'?)\n"
        "  command line: seed is '1.5', expected a whole number of at least 0 and at most 4294967295\n"
        "  command line: data is a section, not one value (its settings are data.columns, data.dev_share, data.group, "
        "data.control, data.reader, data.documents, data.encoding, data.delimiter, data.errors)\n"
        "  flag --strategy: strategy is 'all', expected one of 'full', 'layerwise', 'upper', 'freeze', 'lora'\n"
        f"hint: {LISTING}"
    )


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"seed": "1"}, "seed is '1', expected a whole number of at least 0 and at most 4294967295"),
        ({"seed": True}, "seed is True, expected a whole number of at least 0 and at most 4294967295"),
        ({"seed": 1.0}, "seed is 1.0, expected a whole number of at least 0 and at most 4294967295"),
        ({"seed": None}, "seed is none, expected a whole number of at least 0 and at most 4294967295"),
        ({"optim": {"clip": float("inf")}}, "optim.clip is inf, expected a finite number"),
        ({"optim": {"clip": 10**5000}}, "optim.clip is a number of 16610 bits, expected a finite number"),
        ({"task": {"head": 3}}, "task.head is 3, expected text"),
        ({"task": {"labels": [["a"]]}}, "task.labels is a list, expected text"),
        ({"task": {"head": {"a": 1}}}, "task.head is a section, expected text"),
    ],
)
def test_plain_values_must_have_the_type_already(plain: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        from_plain(Review, plain, where="nlpkit.json")
    assert (caught.value.message, caught.value.hint) == (f"nlpkit.json: {message}", LISTING)


texts = st.text()
floats = st.floats(min_value=1e-300, max_value=1, allow_nan=False)
review_configs = st.builds(
    ReviewConfig,
    labels=st.lists(texts),
    head=texts,
    margin=floats,
    width=st.none() | st.integers(-(2**63) + 1, 2**63 - 1),
    mode=st.sampled_from(["soft", "hard"]),
    pooling=st.none() | texts | st.sampled_from(["null", "None", "~", "${seed}", "no", "???"]),
    sizes=st.lists(st.integers(0, 9)),
    names=st.dictionaries(texts, texts | st.sampled_from(["???", "${a", "\n", "a\nb", "- a", "1e3", "\ufeff", "\x85"])),
    weights=st.dictionaries(texts, floats),
    inner=st.builds(Inner, depth=st.integers(1, 9)),
)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(review_configs)
def test_plain_round_trip_is_the_identity(task: ReviewConfig) -> None:
    config = RunConfig(task=task)
    assert from_plain(Review, to_plain(config)) == config


@settings(max_examples=60, derandomize=True, deadline=None)
@given(review_configs)
def test_file_round_trip_is_the_identity(tmp_path_factory: pytest.TempPathFactory, task: ReviewConfig) -> None:
    file = tmp_path_factory.getbasetemp() / "config.yaml"
    config = RunConfig(task=task)
    save(config, file)
    assert load(Review, file) == config


def test_plain_has_json_types_only() -> None:
    class Word(str):
        pass

    plain = to_plain(replace(ReviewConfig(), labels=[Word("a")]))
    assert type(plain["labels"][0]) is str
    assert plain["inner"] == {"depth": 2}


def test_plain_refuses_what_json_does_not_have() -> None:
    with pytest.raises(TypeError, match=r"^(Posix|Windows)Path is no plain value$"):
        to_plain(replace(ReviewConfig(), head=Path("x")))  # type: ignore[arg-type]


def test_from_plain_of_one_section_has_defaults_for_the_rest() -> None:
    assert from_plain(Review, {"task": {"labels": ["a", "b"]}}) == RunConfig(task=ReviewConfig(labels=["a", "b"]))


def plugin_error(**members: Any) -> PluginError:
    with pytest.raises(PluginError) as caught:
        compose(type("Broken", (Review,), {"__module__": "broken", **members}))
    return caught.value


def test_task_with_wrong_defaults_is_named() -> None:
    error = plugin_error(defaults={"optim.learning_rat": 1, "seed": "x"})
    assert error.message == (
        "2 problems in the settings\n"
        "  task review: no setting 'optim.learning_rat' (did you mean 'optim.learning_rate'?)\n"
        "  task review: seed is 'x', expected a whole number of at least 0 and at most 4294967295"
    )
    assert error.hint == "mend broken.Broken"


def test_task_with_a_type_that_settings_cannot_have_is_named() -> None:
    @dataclass
    class Odd(TaskConfig):
        where: Path = Path()

    Odd.__annotations__["where"] = Path
    Odd.__qualname__ = "Odd"
    error = plugin_error(config_class=Odd)
    assert error.message == f"{__name__}.Odd.where has the type Path, which a setting cannot have"


def test_task_with_a_setting_without_default_is_named() -> None:
    @dataclass(kw_only=True)
    class Odd(TaskConfig):
        size: int

    error = plugin_error(config_class=Odd)
    assert error.hint == "give every setting a default"


def test_task_config_that_is_no_dataclass_is_named() -> None:
    class Odd(TaskConfig):
        size: int = 3

    Odd.__qualname__ = "Odd"
    error = plugin_error(config_class=Odd)
    assert (error.message, error.hint) == (f"{__name__}.Odd is no dataclass", "write @dataclass above the class")


def test_task_config_may_refuse_values_that_do_not_fit_together() -> None:
    @dataclass
    class Strict(TaskConfig):
        low: int = 1
        high: int = 2

        def __post_init__(self) -> None:
            if self.low > self.high:
                raise ValueError("low is above high")

    task = type("StrictTask", (Review,), {"config_class": Strict})
    with pytest.raises(UsageError) as caught:
        compose(task, overrides=["task.low=3"])
    assert str(caught.value) == "task: low is above high\nhint: change a setting that begins with task."


def test_config_imports_no_torch() -> None:
    code = "import sys, nlpkit.config; print(sorted({'torch', 'numpy', 'pytorch_lightning'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
