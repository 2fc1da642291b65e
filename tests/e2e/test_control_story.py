"""Text that is asked for by columns of the table, and how much of it is copied."""

from __future__ import annotations

import csv
import json
import os
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from nlpkit import bundle

TINY = ("model.preset=tiny", "model.vocabulary=600", "model.sequence_length=64", "trainer.max_steps=6")
COLUMNS = ("Review", "Stars", "Kind of thing")


def write_table(path: Path, rows: list[tuple[str, ...]], columns: tuple[str, ...] = COLUMNS) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Praise for 5 stars and blame for 1; hats have only one star, and some rows lack a kind or a text."""
    kinds = {"5": ["coat", ""], "1": ["coat", "hat | cap", "hat  |\ncap"]}
    said = {"5": "soft and warm, day", "1": "torn and late, day"}
    rows = [
        (f"{said[stars]} {i % 9}", stars, kinds[stars][i % len(kinds[stars])]) for i in range(120) for stars in "51"
    ]
    return write_table(tmp_path_factory.mktemp("data") / "reviews.csv", [*rows, ("", "3", "glove")])


@pytest.fixture(scope="module")
def asked(table: Path, command: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "asked"
    options = ("--objective", "clm", "--control", "Kind of thing,Stars", "--out", out, *TINY, "trainer.max_steps=300")
    ended = command("pretrain", table, *options)
    assert ended.code == 0, ended.err
    return out


def generated(command: Any, *arguments: object) -> list[dict[str, Any]]:
    ended = command("generate", *arguments, "--json")
    assert ended.code == 0, ended.err
    return [json.loads(line) for line in ended.out.splitlines()]


def test_run_ends_with_what_it_can_be_asked_for(asked: Path, command: Any) -> None:
    again = command("pretrain", "--resume", asked)
    asking = next(line.strip() for line in again.out.splitlines() if line.strip().startswith("nlpkit generate"))
    assert asking == f"nlpkit generate {asked} --set 'Kind of thing=coat'"
    assert command(*shlex.split(asking)[1:], "--tokens", "1").code == 0


@pytest.mark.parametrize(
    ("prompt", "value"), [("Stars: 5 | soft", "Stars=5"), ("Kind of thing:coat", "Kind of thing=coat"), ("soft: 5", "")]
)
def test_prompt_that_begins_with_attributes_is_said_to_be_text(
    prompt: str, value: str, asked: Path, command: Any
) -> None:
    ended = command("generate", asked, "--prompt", prompt, "--tokens", "1")
    assert ended.code == 0, ended.err
    what = f"prompt 1 begins with '{value.partition('=')[0]}:', and stands behind the attributes as text"
    said = [line for line in ended.err.splitlines() if "begins with" in line]
    assert said == ([f'warning: {what}; ask for it by --set "{value}"'] if value else [])


def test_what_was_read_is_known(asked: Path) -> None:
    control = json.loads((asked / "model" / "nlpkit.json").read_text())["control"]
    assert control["columns"] == ["Kind of thing", "Stars"]
    expected = {("coat", "5"): 60, ("", "5"): 60, ("coat", "1"): 40, ("hat / cap", "1"): 80}
    assert {tuple(values): count for values, count in control["rows"]} == expected


def test_documents_begin_with_their_attributes(asked: Path) -> None:
    from nlpkit import run, tokenizer

    words, store = tokenizer.load(asked / "model"), run.load_corpus(asked)
    first = [words.decode(store.document(i), skip_special_tokens=True).strip() for i in range(4)]
    assert first == [
        "Kind of thing: coat | Stars: 5 | soft and warm, day 0",
        "Kind of thing: coat | Stars: 1 | torn and late, day 0",
        "Stars: 5 | soft and warm, day 1",
        "Kind of thing: hat / cap | Stars: 1 | torn and late, day 1",
    ]
    assert store.documents == 240  # and none for the row without a text


def test_text_is_as_it_is_asked_for(asked: Path, command: Any) -> None:
    how = ("-n", "30", "--tokens", "12", "--temperature", "0.3", "--seed", "1")
    found = {}
    for stars in "51":
        rows = generated(command, asked, "--set", f"Stars={stars}", *how)
        assert {row["attributes"]["Stars"] for row in rows} == {stars}
        for text, attributes in ((row["text"], row["attributes"]) for row in rows):
            assert not text.startswith(" | ".join(f"{k}: {v}" for k, v in attributes.items() if v)), text
        found[stars] = {word: sum(word in row["text"] for row in rows) for word in ("soft", "torn")}
    # what a model this small writes depends on its start and on rounding: it need only follow what is asked for
    assert found["5"]["soft"] > found["1"]["soft"] + 8, found
    assert found["1"]["torn"] > found["5"]["torn"] + 8, found


def test_columns_that_are_not_asked_for_are_drawn_from_rows_of_the_data(asked: Path, command: Any) -> None:
    rows = generated(command, asked, "--set", "Stars=1", "-n", "40", "--tokens", "1")
    kinds = [row["attributes"]["Kind of thing"] for row in rows]
    assert set(kinds) == {"coat", "hat / cap"}
    assert 18 <= kinds.count("hat / cap") <= 36  # two of three
    rows = generated(command, asked, "--set", "Kind of thing=hat | cap", "-n", "5", "--tokens", "1")
    assert [row["attributes"] for row in rows] == [{"Stars": "1", "Kind of thing": "hat / cap"}] * 5
    assert len(generated(command, asked, "--set", "Kind of thing=", "--tokens", "1")) == 1  # none is a value, too


def test_a_prompt_stands_after_the_attributes(asked: Path, command: Any) -> None:
    (row,) = generated(
        command, asked, "--set", "Stars=5", "--prompt", "soft and", "--tokens", "9", "--temperature", "0"
    )
    assert row["prompt"] == "soft and"
    assert row["text"].startswith(" warm, day")


def test_what_no_row_has_together_is_said(asked: Path, command: Any) -> None:
    ended = command("generate", asked, "--set", "Stars=5", "--set", "Kind of thing=hat/cap", "--tokens", "2")
    assert ended.code == 2  # the value is "hat / cap"
    assert ended.err.splitlines()[-2:] == [
        "error: --set: no text of the training data has 'hat/cap' in 'Kind of thing'",
        "hint: did you mean 'hat / cap'? its values are 'coat', 'hat / cap', ''",
    ]
    ended = command("generate", asked, "--set", "Stars=5", "--set", "Kind of thing=hat / cap", "--tokens", "2")
    assert ended.code == 0
    assert "no text of the training data has Stars=5, Kind of thing=hat / cap together" in ended.err


@pytest.mark.parametrize(
    ("given", "message", "hint"),
    [
        (
            ("Star=5",),
            "--set: the model was trained with no column 'Star'",
            "did you mean 'Stars'? its columns are 'Kind of thing', 'Stars'",
        ),
        (
            ("Stars=6",),
            "--set: no text of the training data has '6' in 'Stars'",
            "its values are '1', '5'",
        ),
        (("Stars",), "--set Stars: expected COLUMN=VALUE", '--set "Rating=5"'),
        (("Stars=5", "Stars=1"), "--set names 'Stars' twice", "leave one of them out"),
    ],
)
def test_what_the_model_does_not_know_is_refused(
    asked: Path, command: Any, given: tuple[str, ...], message: str, hint: str
) -> None:
    ended = command("generate", asked, *(word for one in given for word in ("--set", one)))
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.splitlines()[-2:] == [f"error: {message}", f"hint: {hint}"]


def test_plain_transformers_writes_from_the_same_beginning(asked: Path, command: Any) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    words, model = (kind.from_pretrained(asked / "model") for kind in (AutoTokenizer, AutoModelForCausalLM))
    ids = words("Kind of thing: coat | Stars: 5 |", return_tensors="pt")["input_ids"][:, :-1]
    found = model.generate(ids, max_new_tokens=8, do_sample=False)
    how = ("--set", "Stars=5", "--set", "Kind of thing=coat", "--tokens", "8", "--temperature", "0")
    (row,) = generated(command, asked, *how)
    assert words.decode(found[0, ids.shape[1] :], skip_special_tokens=True).strip() == row["text"].strip()


def test_the_same_table_without_control_is_another_store(
    asked: Path, table: Path, command: Any, tmp_path: Path
) -> None:
    ended = command("pretrain", table, "--objective", "clm", "--out", tmp_path / "plain", *TINY)
    assert ended.code == 0, ended.err
    plain, other = (bundle.read_record(str(run / "model")) for run in (tmp_path / "plain", asked))
    assert plain and other
    assert plain["store"] != other["store"]
    assert "control" not in plain
    ended = command("generate", tmp_path / "plain", "--set", "Stars=5")
    assert ended.code == 2
    assert ended.err.splitlines()[-2:] == [
        "error: --set: this model was trained without attributes",
        "hint: nlpkit pretrain TABLE --objective clm --control COLUMN makes one with",
    ]


@pytest.mark.parametrize(
    ("rows", "control", "message"),
    [
        (
            [("a b", str(i)) for i in range(101)],
            "id",
            ":102: column 'id' has more than 100 different values, too many to ask for",
        ),
        ([("a b", "x" * 101)], "id", ":2: 101 characters in 'id', expected a value of at most 100"),
        ([("a b", "1")], "idd", ": no column 'idd'; it has 'text', 'id'"),
    ],
)
def test_a_column_that_cannot_be_asked_for_is_refused(
    tmp_path: Path, command: Any, rows: list[tuple[str, ...]], control: str, message: str
) -> None:
    path = write_table(tmp_path / "t.csv", rows, ("text", "id"))
    ended = command("pretrain", path, "--objective", "clm", "--control", control, "--out", tmp_path / "run", *TINY)
    assert ended.code == 3
    assert ended.err.splitlines()[-2] == f"error: {path}{message}"
    assert not (tmp_path / "run").exists()


def test_too_many_rows_of_values_are_refused(tmp_path: Path, command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nlpkit.control.CONTROL_ROWS", 3)
    rows = [("a b", str(i % 2), str(i)) for i in range(4)]
    path = write_table(tmp_path / "t.csv", rows, ("text", "one", "two"))
    ended = command("pretrain", path, "--objective", "clm", "--control", "one,two", "--out", tmp_path / "run", *TINY)
    expected = f"error: {path}:5: the columns of data.control have more than 3 different rows of values"
    assert (ended.code, ended.err.splitlines()[-2]) == (3, expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ("--objective", "mlm", "--control", "Stars"),
            "data.control is for an objective whose model writes, and mlm is none",
        ),
        (("--objective", "clm", "--control", "Stars,Stars"), "data.control has 'Stars' twice"),
        (("--objective", "clm", "--control", "Stars,"), "data.control has an empty name, expected columns"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    table: Path, command: Any, tmp_path: Path, settings: tuple[str, ...], message: str
) -> None:
    ended = command("pretrain", table, *settings, "--out", tmp_path / "run", *TINY)
    assert (ended.code, ended.err.splitlines()[-2]) == (2, f"error: {message}")
    assert not (tmp_path / "run").exists()


def test_plain_text_has_no_columns(tmp_path: Path, command: Any) -> None:
    (tmp_path / "t.txt").write_text("a b c\n")
    ended = command(
        "pretrain", tmp_path / "t.txt", "--objective", "clm", "--control", "Stars", "--out", tmp_path / "run"
    )
    expected = f"error: {tmp_path / 't.txt'}: plain text has no column 'Stars' (data.control)"
    assert (ended.code, ended.err.splitlines()[-2]) == (3, expected)


def test_null_and_missing_keys_of_jsonl_are_left_out(tmp_path: Path, command: Any) -> None:
    rows = [{"text": f"a soft coat {i}", **extra} for i in range(60) for extra in ({"stars": 5}, {"stars": None}, {})]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "run"
    ended = command("pretrain", tmp_path / "t.jsonl", "--objective", "clm", "--control", "stars", "--out", out, *TINY)
    assert ended.code == 0, ended.err
    control = json.loads((out / "model" / "nlpkit.json").read_text())["control"]
    assert control == {"columns": ["stars"], "rows": [[[""], 120], [["5"], 60]]}


def test_texts_of_a_test_set_are_left_out_behind_their_attributes(table: Path, command: Any, tmp_path: Path) -> None:
    test = write_table(tmp_path / "test.csv", [("soft and warm, day 1",)], ("text",))
    options = ("--objective", "clm", "--control", "Stars", "--exclude", test, "--out", tmp_path / "run", *TINY)
    ended = command("pretrain", table, *options)
    assert ended.code == 0, ended.err
    corpus = json.loads((tmp_path / "run" / "results.json").read_text())["corpus"]
    assert (corpus["documents"], corpus["excluded"]["exact"]) == (240 - 14, 14)  # of days 0 to 8 and 120 rows


def test_prompt_longer_than_the_context_is_refused_before_any_text(asked: Path, command: Any) -> None:
    ended = command("generate", asked, "--prompt", "the coat", "--prompt", "soft " * 90, "--set", "Stars=5")
    assert (ended.code, ended.out) == (2, "")
    message, hint = ended.err.splitlines()[-2:]
    assert message.startswith("error: prompt 2 has ")
    assert message.endswith(" tokens, and the model reads 64")
    assert hint == "hint: give a shorter prompt"


def test_novelty_finds_what_is_copied(asked: Path, command: Any) -> None:
    how = ("--set", "Stars=5", "--temperature", "0", "--tokens", "12", "--novelty")
    (row,) = generated(command, asked, *how)
    found = row["novelty"]
    assert found["longest_copied"]["text"] in row["text"]
    assert found["longest_copied"]["text"] in found["longest_copied"]["excerpt"]
    assert found["longest_copied"]["tokens"] >= 4
    assert 0 <= found["new_4grams"] <= 1
    ended = command("generate", asked, *how)
    span = found["longest_copied"]
    told = f"longest copy: {span['tokens']} tokens, '{span['text']}', as in document {span['document']}: "
    assert told in ended.out


def test_a_token_store_that_is_gone_is_made_again_by_the_hint(
    asked: Path, table: Path, command: Any, tmp_path: Path
) -> None:
    record = bundle.read_record(str(asked / "model"))
    assert record
    folder = Path(os.environ["NLPKIT_CACHE"]) / "stores" / record["store"][:32]
    shutil.rmtree(folder)
    ended = command("generate", asked, "--novelty", "--tokens", "4")
    assert (ended.code, ended.out) == (3, "")
    message, hint = ended.err.splitlines()[-2:]
    assert message == f"error: {folder}: the token store of this model is not there any more"
    words = shlex.split(hint.removeprefix("hint: this makes it again: "))
    assert words[:3] == ["nlpkit", "pretrain", str(table)]
    ended = command(*[str(tmp_path / "again") if word == "NEW" else word for word in words[1:]])
    assert ended.code == 0, ended.err
    assert command("generate", asked, "--novelty", "--tokens", "4").code == 0


def test_a_model_without_a_store_has_no_novelty(fitted: Any, command: Any) -> None:
    ended = command("generate", fitted.folder, "--novelty")
    assert ended.code == 4
    assert ended.err.splitlines()[-2] == f"error: {fitted.folder}: nlpkit.json names no token store"


def test_text_is_scored_behind_its_attributes_as_it_was_learnt(
    asked: Path, table: Path, command: Any, tmp_path: Path
) -> None:
    ended = command("evaluate", asked, table, "--json")
    assert ended.code == 0, ended.err
    scores = json.loads(ended.out)
    corpus = json.loads((asked / "results.json").read_text())["corpus"]
    assert scores["tokens"] == corpus["tokens"] // 64 * 64
    assert "no column" not in ended.err

    with open(table, encoding="utf-8", newline="") as file:
        bare = [(row["Review"],) for row in csv.DictReader(file)]
    texts = write_table(tmp_path / "bare.csv", bare, ("Review",))
    ended = command("evaluate", asked, texts, "--json")
    what = "which stand before the texts that this model learns from; its texts are scored without"
    assert f"warning: {texts}: no column 'Kind of thing', 'Stars', {what}" in ended.err.splitlines()
    assert json.loads(ended.out)["scores"]["loss"] > scores["scores"]["loss"] + 0.1


def test_a_watched_text_is_scored_behind_its_attributes(table: Path, command: Any, tmp_path: Path) -> None:
    rows = [("a warm day and a soft coat", str(1 + 4 * (i % 2))) for i in range(300)]
    general = write_table(tmp_path / "general.csv", rows, ("Review", "Stars"))
    options = ("--objective", "clm", "--control", "Stars", "--watch", general, "--out", tmp_path / "run", *TINY)
    ended = command("pretrain", table, *options)
    assert ended.code == 0, ended.err
    assert "no column" not in ended.err
    ended = command("evaluate", tmp_path / "run", general, "--json")
    watched = json.loads((tmp_path / "run" / "results.json").read_text())["watch"]["end"]["loss"]
    assert json.loads(ended.out)["scores"]["loss"] == pytest.approx(watched, abs=1e-3)
    plain = write_table(tmp_path / "plain.csv", [row[:1] for row in rows], ("Review",))
    bare = command("evaluate", tmp_path / "run", plain, "--json")
    assert json.loads(bare.out)["tokens"] < json.loads(ended.out)["tokens"]
