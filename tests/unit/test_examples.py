"""Readers of plugins, for both stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest

from nlpkit import splits
from nlpkit.config import compose
from nlpkit.errors import DataError, ModelError, PluginError, UsageError
from nlpkit.examples import Remembered, check_labels, check_parts, read_examples, read_labelled
from nlpkit.plugins import Registry
from nlpkit.prepare import pretraining
from nlpkit.request import Request
from nlpkit.task import Example, Field, Task, TaskConfig

PLUGIN = """
import nlpkit

def marked(path):
    for number, line in enumerate(open(path), 1):
        label, _, text = line.strip().partition("|")
        yield nlpkit.Example({"text": text, "label": label}, f"{path}:{number}")

def bare(path):
    for line in open(path):
        yield {"text": line.strip().partition("|")[2]}

@nlpkit.hookimpl
def nlpkit_datasets():
    rubbish = {"none": None, "number": 7, "names": ["a"], "numbers": [{"text": 5}], "half": [{"text": "\\ud800"}]}
    made = {name: nlpkit.Dataset(lambda path, value=value: value) for name, value in rubbish.items()}
    def leaves(path):
        raise SystemExit(3)
    def prints(path):
        print("hello")
        return [{"text": "a"}]
    made |= {"leaves": nlpkit.Dataset(leaves), "prints": nlpkit.Dataset(prints)}
    def told(path, columns=None, encoding="utf-8", errors="strict"):
        yield {"text": f"{columns} {encoding} {errors}"}
    made["told"] = nlpkit.Dataset(told, endings=(".told", ".twice"))
    def beside(text, label=None):
        yield {"text": f"{text} {label}", "label": "x"}
    made["two"] = nlpkit.Dataset(beside, sides=("text", "label"))
    made["other"] = nlpkit.Dataset(bare, endings=(".twice",))
    return {"marked": nlpkit.Dataset(marked), "bare": nlpkit.Dataset(bare), "files": nlpkit.Dataset(files={}), **made}
"""


@pytest.fixture
def plugins(tmp_path: Path) -> Registry:
    (tmp_path / "log_reader.py").write_text(PLUGIN)
    return Registry(files=(str(tmp_path / "log_reader.py"),))


@pytest.fixture
def log(tmp_path: Path) -> str:
    path = tmp_path / "reviews.log"
    path.write_text("good|soft and warm\nbad|it tore\n")
    return str(path)


def read(log: str, plugins: Registry, reader: str, need: tuple[str, ...] = ()) -> list[Example]:
    task: Any = plugins.task("sentiment")
    return list(
        read_examples(task, [log], compose(task, overrides=[f"data.reader={reader}"]).config, plugins, need=need)
    )


def test_reader_of_a_plugin_gives_the_examples(log: str, plugins: Registry) -> None:
    task = plugins.task("sentiment")
    found = read_labelled(task, [log], compose(task, overrides=["data.reader=marked"]).config, plugins)
    assert found == [{"text": "soft and warm", "label": "good"}, {"text": "it tore", "label": "bad"}]
    assert [example.where for example in found] == [f"{log}:1", f"{log}:2"]


def test_plain_rows_of_a_reader_are_numbered(log: str, plugins: Registry) -> None:
    found = read(log, plugins, "bare")
    assert [(example["text"], example.where) for example in found] == [
        ("soft and warm", f"{log}:1"),
        ("it tore", f"{log}:2"),
    ]


def test_reader_without_a_field_that_is_needed_is_refused(log: str, plugins: Registry) -> None:
    with pytest.raises(DataError) as caught:
        read(log, plugins, "bare", need=("label",))
    assert caught.value.message == f"{log}:1: no 'label' in what reader 'bare' gives, found 'text'"
    assert caught.value.hint.startswith("another reader is named with data.reader=NAME (bare, conll, half, ")


def refused(task: type[Task[Any]], path: Path, registry: Registry) -> DataError:
    """The error of reading a labelled file."""
    with pytest.raises(DataError) as caught:
        read_labelled(task, [str(path)], compose(task).config, registry)
    return caught.value


def test_reader_of_another_task_s_fields_is_told_of_that_task(tmp_path: Path, registry: Registry) -> None:
    path = tmp_path / "a.conll"
    path.write_text("Ada B-PER\n")
    error = refused(registry.task("sentiment"), path, registry)
    assert error.message == f"{path}:1: no 'label' in what reader 'conll' gives, found 'text', 'entities'"
    named = "such files are for nlpkit fit --task ner; another reader is named with data.reader=NAME (conll, "
    assert error.hint.startswith(named)
    assert "spans" in error.hint.removeprefix(named)


def test_rows_whose_reader_finds_no_field_are_shown_with_their_keys(tmp_path: Path, registry: Registry) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "Ada wrote", "people": []}\n')
    error = refused(registry.task("ner"), path, registry)
    assert error.message == f"{path}:1: no 'entities' in what reader 'spans' gives, found 'text'"
    assert error.hint.startswith("name its column with data.entities=COLUMN ('text', 'people'); another reader")


def test_columns_of_words_under_another_name_are_told_of_the_task_s_readers(tmp_path: Path, plugins: Registry) -> None:
    path = tmp_path / "emerging.annotated"
    path.write_text("Ada\tB-PER\n")
    assert refused(plugins.task("ner"), path, plugins).hint.startswith(
        "use csv, tsv or jsonl; or say what it is by data.reader=conll or data.reader=spans or data.reader=bare"
    )


@pytest.mark.parametrize(
    ("reader", "kind", "message"),
    [
        ("none", PluginError, "plugin OWNER: reader 'none' gives NoneType for LOG, expected rows"),
        ("number", PluginError, "plugin OWNER: reader 'number' gives int for LOG, expected rows"),
        ("names", PluginError, "plugin OWNER: reader 'names' gives str in LOG, expected field names and texts"),
        ("leaves", PluginError, "plugin OWNER: reader 'leaves' ends the program at LOG (SystemExit: 3)"),
        ("numbers", DataError, "LOG:1: 'text' of reader 'numbers' is int, expected a text"),
        ("half", DataError, "LOG:1: half a surrogate pair in 'text' of reader 'half'"),
    ],
)
def test_rubbish_from_a_reader_is_refused(
    reader: str, kind: type[Exception], message: str, log: str, plugins: Registry, tmp_path: Path
) -> None:
    with pytest.raises(kind) as caught:
        read(log, plugins, reader)
    owner = f"'log_reader' ({tmp_path}/log_reader.py)"
    assert caught.value.message == message.replace("LOG", log).replace("OWNER", owner)  # type: ignore[attr-defined]


def test_what_a_reader_prints_is_no_result(log: str, plugins: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    assert read(log, plugins, "prints") == [{"text": "a"}]
    found = capsys.readouterr()
    assert (found.out, found.err.splitlines()[-1]) == ("", "hello")


def test_data_set_that_is_no_reader_is_refused(log: str, plugins: Registry) -> None:
    with pytest.raises(UsageError) as caught:
        read(log, plugins, "files")
    assert caught.value.message == "data.reader is 'files', which has files and no reader of its own"


def test_unknown_reader_is_refused_with_the_nearest(log: str, plugins: Registry) -> None:
    with pytest.raises(UsageError) as caught:
        read(log, plugins, "maked")
    assert caught.value.message == "data.reader: unknown dataset 'maked'"
    assert caught.value.hint.endswith("; --plugin FILE.py brings one, data.reader= reads tables")
    assert caught.value.hint.startswith(
        "did you mean 'marked'? known datasets: bare, conll, files, half, leaves, marked, "
    )


def test_guessed_label_column_must_be_the_same_in_all_files(tmp_path: Path, registry: Registry) -> None:
    first, second = tmp_path / "labelled.csv", tmp_path / "new.csv"
    first.write_text("text,sentiment\na,good\nb,bad\n")
    second.write_text("text,product\nc,lamp\n")
    task = registry.task("sentiment")
    with pytest.raises(DataError) as caught:
        read_labelled(task, [str(first), str(second)], compose(task).config, registry)
    assert caught.value.message == (f"{second}: label = 'product' is a guess, and it is 'sentiment' in {first}")


def test_files_whose_label_column_differs_in_case_only_go_together(tmp_path: Path, registry: Registry) -> None:
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    first.write_text("text,Sentiment\na,good\n")
    second.write_text("text,sentiment\nb,bad\n")
    task = registry.task("sentiment")
    found = read_labelled(task, [str(first), str(second)], compose(task).config, registry)
    assert [example["label"] for example in found] == ["good", "bad"]


def test_preferred_column_is_taken_exactly_where_another_is_alike(tmp_path: Path, registry: Registry) -> None:
    path = tmp_path / "alike.csv"
    path.write_text("Text,text\na,b\n")
    task = registry.task("sentiment")
    found = read_examples(task, [str(path)], compose(task).config, registry, preferred={"text": "Text"})
    assert [example["text"] for example in found] == ["a"]


def test_columns_beside_a_reader_are_refused(log: str, plugins: Registry) -> None:
    task = plugins.task("sentiment")
    config = compose(task, overrides=["data.reader=marked", "data.text=review"]).config
    with pytest.raises(UsageError) as caught:
        list(read_examples(task, [log], config, plugins))
    said = f"{log}: reader 'marked' gives the fields itself, so that data.columns says nothing"
    assert caught.value.message == said


def test_preferred_column_is_taken_where_a_file_has_it(tmp_path: Path, registry: Registry) -> None:
    first, second = tmp_path / "both.csv", tmp_path / "usual.csv"
    first.write_text("text,My Comment\na,b\n")
    second.write_text("text,id\nc,1\n")
    task = registry.task("sentiment")
    columns = {"text": "My Comment"}
    found = read_examples(task, [str(first), str(second)], compose(task).config, registry, preferred=columns)
    assert [example["text"] for example in found] == ["b", "c"]


def test_label_column_that_only_its_place_tells_is_taken_with_a_warning(
    tmp_path: Path, registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "reviews.csv"
    path.write_text("id,review,product\n1,soft,coat\n2,torn,hat\n")
    task = registry.task("sentiment")
    config = compose(task).config
    assert [e["label"] for e in read_labelled(task, [str(path)], config, registry)] == ["coat", "hat"]
    said = "'product' is no usual name for the column of the label, and is taken as the only one left; another is named"
    assert f"{path}: {said} with data.label=COLUMN" in caplog.messages
    before = Remembered({"text": "review", "label": "sentiment"})
    with pytest.raises(DataError) as caught:
        read_labelled(task, [str(path)], config, registry, remembered=before)
    assert caught.value.message == f"{path}: no column 'sentiment'; it has 'id', 'review', 'product'"
    assert caught.value.hint == "name it with data.label=COLUMN; texts without labels are for nlpkit predict"


def test_column_named_now_is_not_taken_for_another_field_that_remembers_it(tmp_path: Path, registry: Registry) -> None:
    path = tmp_path / "swapped.csv"
    path.write_text("title,label,text\na,good,b\n")
    task = registry.task("sentiment")
    config = compose(task, overrides=["data.text=title"]).config
    before = Remembered(guessed={"text": "text", "label": "title"})
    assert read_labelled(task, [str(path)], config, registry, remembered=before) == [{"text": "a", "label": "good"}]


def test_files_that_lack_a_remembered_label_differently_are_refused(tmp_path: Path, registry: Registry) -> None:
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    first.write_text("text,mood\na,good\n")
    second.write_text("text,stars\nb,bad\n")
    task = registry.task("sentiment")
    before = Remembered(guessed={"text": "text", "label": "mood"})
    with pytest.raises(DataError) as caught:
        read_labelled(task, [str(first), str(second)], compose(task).config, registry, remembered=before)
    assert caught.value.message == f"{second}: label = 'stars' is a guess, and it is 'mood' in {first}"


def test_pretraining_reads_by_the_reader_of_a_plugin(tmp_path: Path, plugins: Registry) -> None:
    path = tmp_path / "corpus.log"
    path.write_text("".join(f"good|number {i} is soft and warm and {i * i} more\n" for i in range(400)))
    overrides = ["data.reader=marked", "model.preset=tiny", "model.vocabulary=300", "model.sequence_length=32"]
    config = compose(plugins.task("mlm", stage="pretrain"), overrides=overrides).config
    made = pretraining(Request("mlm", (str(path),)), config, plugins)
    assert made.facts["corpus"]["documents"] == 400
    assert "good" not in made.task.tokenizer.decode(made.train.features(0)["input_ids"])


class Told(Task[TaskConfig]):
    """Whose files are read by readers of its own, of which one takes columns."""

    name = "told"
    readers: ClassVar[dict[str, str]] = {"csv": "told", "txt": "told", "jsonl": "prints"}
    encode = build_head = build_metrics = decode = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("name", "need", "settings", "text"),
    [
        ("a.csv", ("label",), (), "{} utf-8 strict"),
        ("a.csv", ("label",), ("data.text=b",), "{'text': 'b'} utf-8 strict"),
        ("a.csv", (), (), "{} utf-8 strict"),
        ("a.txt", (), (), "text,b"),  # each line is a new text
        ("a.txt", ("label",), ("data.text=b",), "{'text': 'b'} utf-8 strict"),
        ("a.jsonl", ("label",), (), "a"),
        ("a.jsonl", (), (), "json"),
    ],
)
def test_readers_of_a_task_that_take_columns_serve_where_they_are_named_and_for_new_tables(
    name: str, need: tuple[str, ...], settings: tuple[str, ...], text: str, tmp_path: Path, plugins: Registry
) -> None:
    path = tmp_path / name
    path.write_text('{"text": "json"}\n' if name == "a.jsonl" else "text,b\nc,d\n")
    config = compose(Told, overrides=list(settings)).config
    if need:
        with pytest.raises(DataError, match="no 'label' in what reader"):
            list(read_examples(Told, [str(path)], config, plugins, need=need))
    found = next(iter(read_examples(Unlabelled, [str(path)], config, plugins, need=need)))
    assert found["text"].replace("None", "{}") == text


class Unlabelled(Told):
    """The same without labels."""

    fields: ClassVar[dict[str, Field]] = {"text": Field(("text",))}


@pytest.mark.parametrize(
    ("files", "need", "texts"),
    [
        ("a b", ("label",), ["a b"]),
        ("a1 a2 b1 b2", ("label",), ["a1 b1", "a2 b2"]),
        ("a b", (), ["a None", "b None"]),
    ],
)
def test_files_of_sides_are_read_together(
    files: str, need: tuple[str, ...], texts: list[str], tmp_path: Path, plugins: Registry
) -> None:
    paths = [tmp_path / name for name in files.split()]
    for path in paths:
        path.touch()
    task = plugins.task("sentiment")
    config = compose(task, overrides=["data.reader=two"]).config
    found = read_examples(task, [str(path) for path in paths], config, plugins, need=need)
    assert [example["text"].replace(f"{tmp_path}/", "") for example in found] == texts


def test_sides_that_lack_a_file_are_refused(tmp_path: Path, plugins: Registry) -> None:
    (tmp_path / "a").touch()
    task = plugins.task("sentiment")
    config = compose(task, overrides=["data.reader=two"]).config
    with pytest.raises(UsageError) as caught:
        list(read_examples(task, [str(tmp_path / "a")], config, plugins, need=("label",)))
    found = f"one file is given: {tmp_path}/a"
    assert caught.value.message == f"reader 'two' reads a file for each of text and label, and {found}"


def test_a_file_may_stand_on_several_sides(tmp_path: Path, plugins: Registry) -> None:
    """As where a model of translation learns both directions."""
    paths = [str(tmp_path / name) for name in "abba"]
    for path in paths:
        Path(path).touch()
    task = plugins.task("sentiment")
    config = compose(task, overrides=["data.reader=two"]).config
    found = list(read_examples(task, paths, config, plugins, need=("label",)))
    assert len(found) == 2 and len({example["text"] for example in found}) == 2


class Spans(Task[TaskConfig]):
    """Examples with a list, which may be none, beside the text."""

    name = "spans"
    fields: ClassVar[dict[str, Field]] = {
        "text": Field(("text",)),
        "spans": Field(("spans",), required=False, structured=True),
    }

    @classmethod
    def check(cls, example: Example) -> Example:
        if "spans" in example and not isinstance(example["spans"], list):
            raise DataError(f"{example.where}: 'spans' is no list")
        return Example({**example, "spans": sorted(example.get("spans", []))}, example.where)

    @classmethod
    def labels_of(cls, example: Example) -> list[str]:
        return example["spans"]

    encode = build_head = build_metrics = decode = None  # type: ignore[assignment]


def test_a_structured_field_keeps_lists_and_the_task_checks_each_example(tmp_path: Path, plugins: Registry) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one", "spans": ["b", "a"]}\n{"text": "two", "spans": []}\n')
    found = read_labelled(Spans, [str(path)], compose(Spans).config, plugins)
    assert found == [{"text": "one", "spans": ["a", "b"]}, {"text": "two", "spans": []}]
    path.write_text('{"text": "one", "spans": ["b", "a"]}\n{"text": "two", "spans": "x"}\n')
    with pytest.raises(DataError, match=f"^{path}:2: 'spans' is no list$"):
        read_labelled(Spans, [str(path)], compose(Spans).config, plugins)
    path.write_text('{"text": ["one"], "spans": []}\n')
    with pytest.raises(DataError, match=r"'text' is a list; expected a string"):
        read_labelled(Spans, [str(path)], compose(Spans).config, plugins)


class Numbers(Spans):
    """Examples with a number beside the text."""

    fields: ClassVar[dict[str, Field]] = {"text": Field(("text",)), "value": Field(("value",), required=False)}

    @classmethod
    def check(cls, example: Example) -> Example:
        return Example({**example, "value": float(example.get("value", 0))}, example.where)

    @classmethod
    def labels_of(cls, example: Example) -> list[str]:
        return []


def test_no_task_checks_a_label_that_is_empty(tmp_path: Path, registry: Registry, caplog: Any) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,value\none,8\ntwo,\n , \n")
    found = read_labelled(Numbers, [str(path)], compose(Numbers).config, registry)
    assert found == [{"text": "one", "value": 8.0}]
    assert caplog.messages == ["2 of 3 rows are left out: 1 without text, 2 without value"]
    found = list(read_examples(Numbers, [str(path)], compose(Numbers).config, registry))
    assert [row["value"] for row in found] == [8.0, 0.0, 0.0]


def test_labels_of_a_task_decide_what_is_known_and_what_is_held_out() -> None:
    rows = [Example({"text": f"t{i}", "spans": ["a"] * (i % 3 == 0) + ["b"] * (i % 2)}, f"x:{i}") for i in range(40)]
    train, held = splits.split(rows, 0.2, seed=0, labels_of=Spans.labels_of)
    counts = [sum(label in rows[i]["spans"] for i in held) for label in ("a", "b")]
    assert counts == [3, 4]  # of 14 and 20
    parts = [rows[i] for i in train], [rows[i] for i in held]
    check_parts(Spans, *parts, ["a", "b"])
    with pytest.raises(DataError, match=r"^x:\d+: label 'b' is none of a\n"):
        check_parts(Spans, *parts, ["a"])


def test_a_label_that_is_rare_among_several_is_no_mistake(caplog: pytest.LogCaptureFixture) -> None:
    train, dev = [Example({"text": "t", "spans": ["a", "b"]}, "x:1")], [Example({"text": "u", "spans": ["a"]}, "x:2")]
    check_parts(Spans, train, dev, ["a", "b"])
    assert "x: the dev part has no row of label 'b' (training part: 1, at x:1)" in caplog.messages


def labelled(*labels: str) -> list[Example]:
    return [Example({"text": f"text {i}", "label": label}, f"x:{i}") for i, label in enumerate(labels, 1)]


def refusal(registry: Registry, train: list[Example], dev: list[Example], column: str = "") -> tuple[str, str]:
    labels = sorted({e["label"] for e in train})
    with pytest.raises(DataError) as caught:
        check_parts(registry.task("sentiment"), train, dev, labels, column)
    return caught.value.message, caught.value.hint


@pytest.mark.parametrize("count", [0, 1])
def test_labels_that_differ_on_most_rows_are_no_labels(count: int, registry: Registry) -> None:
    rows = labelled(*map(str, range(30)), *"00")
    message, hint = refusal(registry, rows[count:], rows[:count], "id")
    assert message == "x: 30 different labels in 32 rows"
    assert hint == "is 'id' the column of the label? name it with data.label=COLUMN"
    assert refusal(registry, rows, [])[1] == "is it the column of the label? name it with data.label=COLUMN"


def test_texts_that_are_the_same_are_counted_where_none_can_be_held_out(registry: Registry) -> None:
    rows = [Example({"text": text, "label": text}, f"x:{i}") for i in range(30) for text in ("good", "bad")]
    assert refusal(registry, rows, [])[0] == (
        "x: no part of the 60 rows (2 different texts) can be held out to choose the best step"
    )


def test_rare_label_that_is_like_a_frequent_one_may_be_a_typo(registry: Registry) -> None:
    rows, dev = labelled(*["good", "bad"] * 10, "bda"), labelled("good", "bad")
    message, hint = refusal(registry, rows, dev)
    assert message == "x: the dev part has no row of label 'bda' (training part: 1, at x:21)"
    assert hint.startswith("is it a typo of 'bad'? add rows of that label, ")
    _, hint = refusal(registry, labelled(*["good", "bad"] * 3, "bda"), dev)  # not rare beside 4
    assert hint.startswith("add rows of that label, ")


@pytest.mark.parametrize(
    ("label", "asked"),
    [
        ("LOCC", "is it a typo of 'LOC'? "),
        ("per", "is it a typo of 'PER'? "),
        ("2", ""),
        ("date", ""),
    ],
)
def test_label_that_no_model_knows_may_be_a_typo(label: str, asked: str) -> None:
    with pytest.raises(DataError) as caught:
        check_labels(Spans, [Example({"text": "t", "spans": [label]}, "x:1")], ["LOC", "PER"], "is none", "so")
    assert caught.value.hint == asked + "so"


def test_the_ending_of_a_name_chooses_a_reader_and_settings_reach_it(tmp_path: Path, plugins: Registry) -> None:
    (tmp_path / "a.told").write_text("x")
    task: Any = plugins.task("sentiment")
    config = compose(task, overrides=["data.text=words", "data.encoding=latin-1", "data.errors=replace"]).config
    (found,) = read_examples(task, [str(tmp_path / "a.told")], config, plugins)
    assert found["text"] == "{'text': 'words'} latin-1 replace"
    before = Remembered({"text": "was"}, {"label": "guessed"})  # its columns are its own, so a guess is none of them
    (found,) = read_examples(task, [str(tmp_path / "a.told")], compose(task).config, plugins, remembered=before)
    assert found["text"] == "{'text': 'was'} utf-8 strict"  # its own defaults, where the user says nothing


def test_two_readers_of_one_ending_are_an_error_and_tables_keep_theirs(tmp_path: Path, plugins: Registry) -> None:
    (tmp_path / "a.twice").write_text("x|y")
    (tmp_path / "a.told.csv").write_text("text\nfrom a table\n")
    task: Any = plugins.task("sentiment")
    with pytest.raises(UsageError) as caught:
        list(read_examples(task, [str(tmp_path / "a.twice")], compose(task).config, plugins))
    assert caught.value.message == f"{tmp_path}/a.twice: readers other and told know this ending"
    assert caught.value.hint == "data.reader=other"
    assert [e["text"] for e in read_examples(task, [str(tmp_path / "a.told.csv")], compose(task).config, plugins)] == [
        "from a table"
    ]


@pytest.mark.parametrize("data", [None, [], {"columns": None}, {"guessed": {"text": 5}}, {"guessed": ["a"]}])
def test_a_damaged_memory_of_columns_is_an_error_of_the_model(data: Any) -> None:
    with pytest.raises(ModelError, match="names of columns"):
        Remembered.of({"data": data})
