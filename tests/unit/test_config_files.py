from __future__ import annotations

import codecs
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpkit.config import RunConfig, compose, recipes
from nlpkit.errors import UsageError
from nlpkit.objectives.mlm import Mlm
from nlpkit.task import Task

CHECKOUT = Path(__file__).parents[2]
DOCS = "\nhint: nlpkit config docs lists every setting"


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def composed(content: str | bytes, *overrides: str) -> RunConfig:
    Path("run.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    return compose(Task, file="run.yaml", overrides=overrides).config


def refusal(content: str | bytes) -> str:
    with pytest.raises(UsageError) as caught:
        composed(content)
    return str(caught.value)


@pytest.mark.parametrize(
    "text", ["no", "007", "1e3", "null", "~", "012", "12:30:45", "1_000", "3.10", "=", "<<", "true"]
)
@pytest.mark.parametrize("quote", ["", "'", '"'])
def test_file_keeps_the_text_of_string_fields(text: str, quote: str) -> None:
    """K05."""
    written = f"{quote}{text}{quote}"
    config = composed(f"task:\n  head: {written}\n  labels: [{written}, b]\ndata:\n  columns:\n    text: {written}\n")
    assert (config.task.head, config.task.labels, config.data.columns) == (text, [text, "b"], {"text": text})


def test_file_types_values_as_overrides_do() -> None:
    config = composed("seed: 3\noptim: {clip: 1e-3, learning_rate: null}\nmodel:\n  lowercase: no\n  dropout:\n")
    assert (config.seed, config.optim.clip, config.optim.learning_rate) == (3, 1e-3, None)
    assert (config.model.lowercase, config.model.dropout) == (False, None)


def test_file_takes_dotted_keys_and_the_short_form_of_columns() -> None:
    config = composed("optim.clip: 2\ndata.text: Review Text\ndata:\n  label: Rating\ntask.labels: a, b\n")
    assert config.optim.clip == 2
    assert config.data.columns == {"text": "Review Text", "label": "Rating"}
    assert config.task.labels == ["a", "b"]


def test_file_refers_to_other_settings_after_the_merge() -> None:
    config = composed(
        "optim:\n  learning_rate: ${optim.clip}\ntask:\n  head: ${data.group}\n", "optim.clip=3", "data.group=${x"
    )
    assert config.optim.learning_rate == 3
    assert config.task.head == "${x"


def test_file_keeps_a_quoted_reference_as_text() -> None:
    assert composed("task:\n  head: '${seed}'\n").task.head == "${seed}"


def test_file_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "swordfish")
    assert refusal("task:\n  head: ${oc.env:SECRET}\n") == (
        "run.yaml:2: task.head is '${oc.env:SECRET}', "
        "but only ${section.name}, alone and without quotes, is filled in\n"
        "hint: put it in quotes to keep it as it is"
    )


@pytest.mark.parametrize(
    "content",
    ["", "\n\n", "# nothing\n", "---\n", "\ufeff", "{}", "optim:\n", "data:\n  columns:\n"],
)
def test_file_without_settings_is_fine(content: str) -> None:
    """K04."""
    assert composed(content) == RunConfig()


@pytest.mark.parametrize(
    "content",
    [
        codecs.BOM_UTF8 + b"seed: 3\n",
        "seed: 3\n".encode("utf-16"),
        b"seed: 3\r\n",
        b"---\nseed: 3\n...\n",
        b'{"seed": 3}',
        b"seed: 3",
    ],
)
def test_file_encodings_and_line_ends_are_read(content: bytes) -> None:
    """K04."""
    assert composed(content) == RunConfig(seed=3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- seed: 1\n", "run.yaml:1: a list at the top, expected settings\nhint: write a setting as 'seed: 1'"),
        ("seed\n", "run.yaml:1: a single value at the top, expected settings\nhint: write a setting as 'seed: 1'"),
        ("seed: 1\nseed: 2\n", "run.yaml:2: 'seed' is given twice, first on line 1\nhint: leave one of them out"),
        (
            "optim:\n  clip: 1\noptim.clip: 2\n",
            "run.yaml:3: optim.clip is given twice, first on line 2\nhint: leave one of them out",
        ),
        (
            "optim:\n\tclip: 1\n",
            "run.yaml:2: a tab at the start of the line, expected spaces\nhint: indent with spaces",
        ),
        (
            "seed: 1\n---\nseed: 2\n",
            "run.yaml:2: a second document begins, expected one\nhint: put all settings into one",
        ),
        (
            "seed: 1\ntask:\n  head: !!python/object/apply:os.system ['touch canary']\n",
            "run.yaml:3: the tag '!!python/object/apply:os.system' is not allowed\nhint: write the plain value",
        ),
        (
            "task: !!python/name:os.system\n",
            "run.yaml:1: the tag '!!python/name:os.system' is not allowed\nhint: write the plain value",
        ),
        (
            "task:\n  head: !!python/object/apply:pathlib.PosixPath [x]\n",
            "run.yaml:2: the tag '!!python/object/apply:pathlib.PosixPath' is not allowed\nhint: write the plain value",
        ),
        (
            "!!python/object:x.Y seed: 1\n",
            "run.yaml:1: the tag '!!python/object:x.Y' is not allowed\nhint: write the plain value",
        ),
        ("seed: !x 1\n", "run.yaml:1: the tag '!x' is not allowed\nhint: write the plain value"),
        (
            "task:\n  labels: *all\n",
            "run.yaml:2: '*all' is an anchor or alias, which are not allowed\n"
            "hint: repeat the value, refer to it as ${section.name}, or put text in quotes",
        ),
        (
            "? [a]\n: 1\n",
            "run.yaml:1: a name is a list or a section, expected text\nhint: write 'name: value'",
        ),
        (
            "seed: 1\ntask: [a\n",
            "run.yaml:3: no valid YAML: expected ',' or ']', but got '<stream end>' while parsing a flow sequence\n"
            "hint: put text with special characters in quotes",
        ),
        (
            "task:\n  head: a: b\n",
            "run.yaml:2: no valid YAML: mapping values are not allowed here\n"
            "hint: put text with special characters in quotes",
        ),
        (
            "seed: 1\ntask:\n  head: a\0b\n",
            'run.yaml:3: character 0x0 is not allowed\nhint: write it as an escape in double quotes, such as "\\0"',
        ),
        (b"seed: 1\n\ntask: \xff\n", "run.yaml:3: not utf-8 text\nhint: save the file as UTF-8"),
        ("task:\n  head: [a]\n", f"run.yaml:2: task.head is a list, expected text{DOCS}"),
        (
            "seed:\n  x: 1\n",
            f"run.yaml:1: seed is a section, expected a whole number of at least 0 and at most 4294967295{DOCS}",
        ),
        (
            "checkpoint: 1\n",
            "run.yaml:1: checkpoint is a section, not one value\nhint: its settings are checkpoint.every_steps",
        ),
        (
            "data:\n  columns: x\n",
            "run.yaml:2: data.columns is 'x', expected names with values\nhint: write data.columns.NAME=VALUE",
        ),
        (
            "optim:\n  clip: 1\n  nam: x\n",
            "run.yaml:3: no setting 'optim.nam'\n"
            "hint: did you mean 'optim.name'? nlpkit config docs lists every setting",
        ),
    ],
)
def test_file_that_does_not_fit_is_refused_with_its_line(content: str | bytes, message: str) -> None:
    """K01, K04."""
    assert refusal(content) == message
    assert not Path("canary").exists()


LAUGHS = "a: &a [lol, lol]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LAUGHS, "run.yaml:1: '&a' is an anchor or alias, which are not allowed"),
        ("a: &a [*a]\n", "run.yaml:1: '&a' is an anchor or alias, which are not allowed"),
        ("task: " + "[" * 20_000, "run.yaml:1: nested deeper than 20 levels"),
        ("task: " + "{a: " * 20_000, "run.yaml:1: nested deeper than 20 levels"),
        ("\n".join("  " * depth + "a:" for depth in range(1000)), "run.yaml:21: nested deeper than 20 levels"),
        ("# x\n" * 25_000_000, "run.yaml: larger than 4194304 bytes, expected a short file of settings"),
    ],
    ids=["laughs", "recursion", "brackets", "braces", "indents", "100MB"],
)
def test_file_that_costs_much_is_refused_at_once(content: str, message: str) -> None:
    """K03."""
    Path("run.yaml").write_text(content)
    start = time.process_time()
    with pytest.raises(UsageError) as caught:
        compose(Task, file="run.yaml")
    assert time.process_time() - start < 2
    assert caught.value.message == message


@settings(max_examples=150, derandomize=True, deadline=None)
@given(st.binary(max_size=60) | st.text("[]{}:,-?&*!|>'\"%@`# \n\tas1$", max_size=40).map(str.encode))
def test_file_of_any_bytes_ends_in_our_error_or_a_run(content: bytes) -> None:
    try:
        outcome: RunConfig | UsageError = composed(content)
    except UsageError as error:
        outcome = error
    assert isinstance(outcome, RunConfig) or "run.yaml" in outcome.message


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing.yaml", "missing.yaml: cannot be read (no such file or directory)"),
        (".", ".: cannot be read (is a directory)"),
        ("-", "-: cannot be read (no such file or directory)"),
        ("~/run.yaml", "~/run.yaml: cannot be read (no such file or directory)"),
        ("../../absent.yaml", "../../absent.yaml: cannot be read (no such file or directory)"),
        ("run.yaml ", "run.yaml : cannot be read (no such file or directory)"),
        ("https://example.org/run.yaml", "https://example.org/run.yaml: cannot be read (no such file or directory)"),
        ("a\0b", "a\\x00b: cannot be read (no file has such a name)"),
        ("a\nb\udcff", "a\\nb\\udcff: cannot be read (no such file or directory)"),
        ("x" * 300, f"{'x' * 300}: cannot be read (file name too long)"),
    ],
)
def test_file_that_cannot_be_read_is_named(path: str, message: str) -> None:
    """K07."""
    Path("run.yaml").write_text("seed: 3")
    with pytest.raises(UsageError) as caught:
        compose(Task, file=path)
    names = ", ".join(sorted(path.stem for path in (CHECKOUT / "configs").glob("*.yaml")))
    assert str(caught.value) == f"{message}\nhint: give a YAML file or the name of a recipe: {names}"


@pytest.mark.parametrize("path", sorted((CHECKOUT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_recipe_composes_and_differs_from_the_defaults_in_all_it_says(path: Path) -> None:
    task = Mlm if path.read_text().startswith("# nlpkit pretrain ") else Task
    by_name = compose(task, file=path.stem)
    assert by_name.config == compose(task, file=path).config
    told = {key: origin for key, origin in by_name.origins.items() if origin.startswith(f"{path.stem}:")}
    assert told
    plain, standard = (_flat(compose(task, file=file).config) for file in (path, None))
    assert [key for key in told if plain[key] == standard[key]] == []


@pytest.mark.parametrize(
    ("task", "recipe", "message", "hint"),
    [
        (Task, "demo", "a recipe for nlpkit pretrain, not for nlpkit fit", "--config fit-small"),
        (Mlm, "fit-small", "a recipe for nlpkit fit, not for nlpkit pretrain", "--config demo, --config pretrain-cpu"),
    ],
)
def test_recipe_of_the_other_command_is_refused(task: Any, recipe: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        compose(task, file=recipe)
    assert caught.value.message == f"--config {recipe}: {message}"
    assert caught.value.hint == f"a YAML file of your own, or {hint}"


def test_recipes_are_those_of_the_configs_folder() -> None:
    assert {path.stem for path in (CHECKOUT / "configs").glob("*")} == set(recipes())


def _flat(config: Any, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in vars(config).items():
        found |= _flat(value, f"{prefix}{name}.") if hasattr(value, "__dataclass_fields__") else {prefix + name: value}
    return found
