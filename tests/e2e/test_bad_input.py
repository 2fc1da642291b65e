"""Bad input through the command line: the exit code, one message with a hint, no traceback, nothing half written."""

from __future__ import annotations

import csv
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from namespaces import needs_namespaces

from nlpkit.files import write_manifest

SIZES = ("model.preset=tiny", "model.vocabulary=300", "model.sequence_length=32", "trainer.max_steps=2")
VERBS = ("pretrain", "fit", "evaluate", "predict")
ROWS = "give a file with rows; nlpkit demo shop writes some to look at"
REPLACE = "data.errors=replace puts U+FFFD in its place"
ENCODING = "name the encoding: data.encoding=NAME, for example cp1252 or utf-16-le"
MODEL_FOLDER = "give RUN or RUN/model"
SETTINGS = "nlpkit config docs --task sentiment lists every setting"


def assert_refused(ended: Any, code: int, message: str, hint: str, out: Path) -> None:
    """One message, at the end of stderr, and not a file where the output would have been."""
    said = re.sub(r"(no safetensors file) \(.+\)$", r"\1 (REASON)", ended.err, flags=re.M)  # of another library
    lines = said.splitlines()
    assert (ended.code, ended.out, lines[-2:]) == (code, "", [f"error: {message}", f"hint: {hint}"]), ended.err
    assert sum(line.startswith("error:") for line in lines) == 1
    assert "Traceback" not in ended.err
    assert not out.exists()


def arguments(verb: str, fitted: Any, path: Path, out: Path) -> tuple[str | Path, ...]:
    """A command that reads a file with this verb."""
    if verb in ("evaluate", "predict"):
        return verb, fitted.folder, path
    return verb, path, "--out", out, *SIZES


# files that no verb can read: content, message with PATH for the file, hint

FILES: dict[str, tuple[bytes, str, str]] = {
    "empty.csv": (b"", "PATH: empty file", ROWS),
    "mark.csv": (b"\xef\xbb\xbf", "PATH: empty file", ROWS),
    "blank.csv": (b"\n\r\n\n", "PATH: only blank lines", ROWS),
    "header.csv": (b"text,label\n", "PATH: a header and no rows", ROWS),
    "columns.csv": (
        b"id,date\n1,2020\n2,2021\n",
        "PATH: no column for 'text'; it has 'id', 'date'",
        "name it with data.text=COLUMN; a file without a header needs one as its first line",
    ),
    "nul.csv": (b"text,label\ngood,yes\nb\0d,no\n", "PATH:3:2: a NUL byte, expected text", REPLACE),
    "nul.jsonl": (
        b'{"text": "good", "label": "yes"}\n{"text": "b\\u0000d", "label": "no"}\n',
        "PATH:2: a NUL character in 'text'",
        REPLACE,
    ),
    "surrogate.jsonl": (
        b'{"text": "good", "label": "yes"}\n{"text": "b\\ud800d", "label": "no"}\n',
        "PATH:2: half a surrogate pair in 'text'",
        REPLACE,
    ),
    "cut.jsonl": (
        b'{"text": "good", "label": "yes"}\n{"text": \n',
        "PATH:2: not JSON at character 11: expecting value",
        'expected one object a line, like {"text": "..."}',
    ),
    "binary.csv": (bytes(range(256)) * 40, "PATH: binary data, expected text", ENCODING),
    "image.csv": (
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        "PATH: an image, expected text",
        "give a csv, tsv, jsonl or txt file",
    ),
    "half.csv": (
        b"text,label\n" + "schön,yes\n".encode() * 30 + "schön,no\n".encode("cp1252"),
        "PATH:32:4: byte 0xf6 is not utf-8",
        "data.encoding=cp1252 if the file is in that; data.errors=replace goes on with U+FFFD in its place",
    ),
    "long.csv": (
        b"text,label\n" + b"x" * (33 << 20) + b",yes\n",
        "PATH:2: a line longer than 32 MiB",
        "put each text on a line of its own",
    ),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", FILES)
def test_file_that_cannot_be_read_is_refused(name: str, verb: str, fitted: Any, command: Any, tmp_path: Path) -> None:
    content, message, hint = FILES[name]
    path, out = tmp_path / name, tmp_path / "run"
    path.write_bytes(content)
    ended = command(*arguments(verb, fitted, path, out))
    assert_refused(ended, 3, message.replace("PATH", str(path)), hint, out)


@pytest.mark.parametrize("verb", VERBS)
def test_file_that_is_missing_is_refused(verb: str, fitted: Any, command: Any, tmp_path: Path) -> None:
    path, out = tmp_path / "absent.csv", tmp_path / "run"
    ended = command(*arguments(verb, fitted, path, out))
    assert_refused(ended, 3, f"{path}: no such file or folder", f"look what is there: ls {tmp_path}", out)


@pytest.mark.parametrize("verb", VERBS)
def test_folder_without_data_is_refused(verb: str, fitted: Any, command: Any, tmp_path: Path) -> None:
    path, out = tmp_path / "notes", tmp_path / "run"
    path.mkdir()
    (path / "readme.md").write_text("no data")
    hint = "expected .csv, .tsv, .jsonl or .txt, each plain or .gz"
    assert_refused(command(*arguments(verb, fitted, path, out)), 3, f"{path}: no data in this folder", hint, out)


# texts and labels

TEA = [(f"tea number {i}", "negative" if i % 2 else "positive") for i in range(40)]
LABEL = "name another column with data.label=COLUMN"
LABELLED: dict[str, tuple[tuple[str, ...], list[tuple[str, str]], str, str]] = {
    "one class": (
        ("fit",),
        [(text, "positive") for text, _ in TEA],
        "PATH: only the label 'positive' in the training data; sentiment needs two or more",
        "add rows with another label, or name another column with data.label=COLUMN",
    ),
    "class absent from dev": (
        ("fit",),
        [*TEA, ("the only one", "mixed")],
        "PATH: the dev part has no row of label 'mixed' (training part: 1, at PATH:42)",
        "add rows of that label, raise data.dev_share, or give a dev file with --dev",
    ),
    "too few rows for dev": (
        ("fit",),
        TEA[:2],
        "PATH: no part of the 2 rows can be held out to choose the best step",
        "add rows (equal texts and equal groups stay together), or give a dev file with --dev",
    ),
    "blank texts": (
        ("fit", "evaluate"),
        [("", "positive"), ("  ", "negative"), ("\t", "negative")] * 9,
        "PATH: no labelled row",
        "check data.text=COLUMN data.label=COLUMN",
    ),
    "blank labels": (
        ("fit", "evaluate"),
        [(text, " ") for text, _ in TEA],
        "PATH: no labelled row",
        "check data.text=COLUMN data.label=COLUMN",
    ),
    "blank corpus": (
        ("pretrain",),
        [("", ""), ("  ", ""), ("\t", "")] * 9,
        "PATH: every text is empty",
        "name the column with data.text=COLUMN",
    ),
    "unknown label": (
        ("evaluate",),
        [*TEA, ("so so", "mixed")],
        "PATH:42: label 'mixed' is none of the model's (negative, positive)",
        "name the column of the labels with data.label=COLUMN, if this file has labels",
    ),
}


@pytest.mark.parametrize(("case", "verb"), [(case, verb) for case, (verbs, *_) in LABELLED.items() for verb in verbs])
def test_rows_that_cannot_be_used_are_refused(case: str, verb: str, fitted: Any, command: Any, tmp_path: Path) -> None:
    _, rows, message, hint = LABELLED[case]
    path, out = tmp_path / "rows.csv", tmp_path / "run"
    write_rows(path, rows)
    ended = command(*arguments(verb, fitted, path, out))
    assert_refused(ended, 3, message.replace("PATH", str(path)), hint, out)


def write_rows(path: Path, rows: list[tuple[str, str]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])


def test_dev_file_that_lacks_a_class_is_refused(shop: Path, command: Any, tmp_path: Path) -> None:
    path, out = tmp_path / "dev.csv", tmp_path / "run"
    write_rows(path, [("good tea", "positive")])
    ended = command("fit", shop / "labelled.csv", "--dev", path, "--out", out, *SIZES)
    message = f"{path}: the dev part has no row of label 'negative' (training part: 220)"
    assert_refused(
        ended, 3, message, "add rows of that label, raise data.dev_share, or give a dev file with --dev", out
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"text": "b"}', "no 'label' in row; it has 'text'"),
        ('{"text": "b", "label": null}', "'label' is null"),
    ],
)
def test_evaluate_refuses_a_row_without_a_label(
    row: str, message: str, fitted: Any, command: Any, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"text": "a", "label": "positive"}}\n{row}\n')
    ended = command("evaluate", fitted.folder, path)
    assert_refused(ended, 3, f"{path}:2: {message}", LABEL, tmp_path / "run")


def test_evaluate_counts_the_rows_it_leaves_out(fitted: Any, command: Any, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.csv", [("good", "positive"), ("no label", ""), (" ", "negative")])
    ended = command("evaluate", fitted.folder, tmp_path / "rows.csv", "--json")
    assert (ended.code, json.loads(ended.out)["examples"]) == (0, 1)
    assert "warning: 2 of 3 rows are left out: 1 without text, 1 without label" in ended.err.splitlines()


ODD = [
    *("", "   ", "\t", "a", "x" * 1_000_000, "😀😀🎉", "\u200b", "\u202eright to left", "e" + "\u0301" * 1000),
    *("\ufffd", "[MASK] [PAD] [CLS]", "\u2028", "\x85", "\x1c", "two\nlines", "NA", "null", "=1+1"),
]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_predict_answers_every_odd_text_in_order(kind: str, fitted: Any, command: Any, tmp_path: Path) -> None:
    path = tmp_path / f"odd.{kind}"
    if kind == "csv":
        write_rows(path, [(text, "") for text in ODD])
    else:
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in ODD))
    ended = command("predict", fitted.folder, path)
    rows = [json.loads(line) for line in ended.out.split("\n")[:-1]]
    assert (ended.code, [row["text"] for row in rows]) == (0, ODD), ended.err
    assert {row["label"] for row in rows} <= {"negative", "positive"}


def test_predict_answers_empty_lines_too(fitted: Any, command: Any, tmp_path: Path) -> None:
    (tmp_path / "new.txt").write_text("a\n\n  \n\nb\n")
    ended = command("predict", fitted.folder, tmp_path / "new.txt")
    assert [json.loads(line)["text"] for line in ended.out.splitlines()] == ["a", "", "  ", "", "b"]
    assert ended.err.splitlines()[-1] == "warning: 3 of 5 texts are empty; what is predicted for them means nothing"


def test_text_of_ten_megabytes_is_predicted_and_comes_back_whole(fitted: Any, command: Any, tmp_path: Path) -> None:
    long = "x" * (10 << 20)
    write_rows(tmp_path / "new.csv", [("before", ""), (long, ""), ("after", "")])
    ended = command("predict", fitted.folder, tmp_path / "new.csv")
    assert (ended.code, len(ended.out.splitlines())) == (0, 3)
    assert [json.loads(line)["text"] for line in ended.out.splitlines()] == ["before", long, "after"]


@pytest.mark.parametrize("verb", ["pretrain", "fit", "evaluate"])
def test_line_of_ten_megabytes_is_read(verb: str, fitted: Any, command: Any, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label", "log"), *((*row, "") for row in TEA)])
        csv.writer(file).writerow(("one more", "positive", "x" * (10 << 20)))
    ended = command(*arguments(verb, fitted, path, tmp_path / "run"))
    assert ended.code == 0, ended.err


# names, keys and values


@pytest.mark.parametrize(
    ("given", "message", "hint"),
    [
        (
            ("fit", "--task", "sentimnt"),
            "unknown task 'sentimnt'",
            "did you mean 'sentiment'? known tasks: ner, sentiment, translation; see nlpkit tasks",
        ),
        (
            ("pretrain", "--objective", "mlmm"),
            "unknown objective 'mlmm'",
            "did you mean 'mlm'? known objectives: clm, denoise, mlm, mlm+nsp, nsp; see nlpkit tasks",
        ),
        (("fit", "task.metrics=[blue]"), "unknown metric 'blue'", "known metrics: bleu_lowercase"),
        (("fit", "task.head=none"), "unknown head 'none'", "known heads: none"),
        (
            ("fit", "task.max_length=33"),
            "task.max_length is 33, this model reads from 3 to 32 tokens",
            "task.max_length=32; a new model reads as many as model.sequence_length says",
        ),
        (
            ("fit", "task.max_length=2"),
            "task.max_length is 2, this model reads from 3 to 32 tokens",
            "task.max_length=32; a new model reads as many as model.sequence_length says",
        ),
        (("fit", "data.encoding=klingon"), "data.encoding: no encoding 'klingon'", "data.encoding=cp1252, for example"),
        (
            ("evaluate", "data.lable=Stars"),
            "command line: no setting 'data.lable'",
            f"did you mean 'data.label'? {SETTINGS}",
        ),
    ],
)
def test_name_or_value_that_does_not_exist_is_refused(
    given: tuple[str, ...], message: str, hint: str, shop: Path, fitted: Any, command: Any, tmp_path: Path
) -> None:
    verb, *rest = given
    out = tmp_path / "run"
    ended = command(*arguments(verb, fitted, shop / "labelled.csv", out), *rest)
    assert_refused(ended, 2, message, hint, out)


def test_quiet_and_verbose_are_refused(command: Any) -> None:
    said = "error: --quiet prints less and --verbose more\nhint: leave one of them out\n"
    assert (command("tasks", "-qv").code, command("tasks", "-qv").err) == (2, said)


@pytest.mark.parametrize(
    ("verb", "key", "value", "expected"),
    [
        ("fit", "seed", "1.5", "a whole number of at least 0 and at most 4294967295"),
        ("fit", "model.preset", "huge", "one of 'tiny', 'mini', 'small', 'base'"),
        ("fit", "task.max_length", "-1", "a whole number of at least 0"),
        ("pretrain", "task.rate", "2", "a number above 0 and below 1"),
        ("predict", "data.errors", "ignore", "one of 'strict', 'replace'"),
        ("evaluate", "data.errors", "ignore", "one of 'strict', 'replace'"),
    ],
)
def test_value_that_does_not_fit_is_refused(
    verb: str, key: str, value: str, expected: str, shop: Path, fitted: Any, command: Any, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    ended = command(*arguments(verb, fitted, shop / "labelled.csv", out), f"{key}={value}")
    hint = SETTINGS.replace("--task sentiment", "--objective mlm") if verb == "pretrain" else SETTINGS
    assert_refused(ended, 2, f"command line: {key} is '{value}', expected {expected}", hint, out)


@pytest.mark.parametrize("verb", VERBS)
def test_column_that_is_missing_is_refused(verb: str, shop: Path, fitted: Any, command: Any, tmp_path: Path) -> None:
    path, out = shop / "labelled.csv", tmp_path / "run"
    ended = command(*arguments(verb, fitted, path, out), "data.text=reviw")
    message = f"{path}: no column 'reviw'; it has 'id', 'product', 'review', 'sentiment'"
    assert_refused(ended, 3, message, "did you mean 'review'? name it with data.text=COLUMN", out)


def test_lora_without_peft_is_refused_before_any_work(
    shop: Path, command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    out = tmp_path / "run"
    ended = command("fit", shop / "labelled.csv", "--out", out, "strategy=lora")
    assert_refused(ended, 2, "strategy=lora needs the package peft", "pip install 'nlpkit-core[lora]'", out)


# models


class Bomb:
    """Unpickling it would run a command."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.canary}",)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


def start_from(verb: str, model: Path, shop: Path, out: Path) -> tuple[str | Path, ...]:
    """A command that opens a model with this verb."""
    if verb in ("evaluate", "predict"):
        return verb, model, shop / "labelled.csv"
    return verb, shop / "labelled.csv", "--from", model, "--out", out, "trainer.max_steps=2"


def plain_model(run: Path, folder: Path) -> Path:
    """The model of a run as any transformers folder: nobody says what must be in it."""
    shutil.copytree(run / "model", folder)
    for name in ("nlpkit.json", "manifest.json"):
        (folder / name).unlink()
    return folder


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("absent", "MODEL: no such folder"),
        ("file", "MODEL: is a file, not a folder"),
        ("empty", "MODEL: no config.json, so it is no model folder"),
    ],
)
def test_model_that_is_none_is_refused(
    verb: str, kind: str, message: str, shop: Path, command: Any, tmp_path: Path
) -> None:
    model, out = tmp_path / "model", tmp_path / "run"
    if kind == "file":
        model.write_text("text")
    elif kind == "empty":
        model.mkdir()
    ended = command(*start_from(verb, model, shop, out))
    missing = (
        "for a name on the hub add --hub" if verb in ("pretrain", "fit") else "give the run folder that --out named"
    )
    hint = missing if kind == "absent" else MODEL_FOLDER
    assert_refused(ended, 4, message.replace("MODEL", str(model)), hint, out)


@pytest.mark.parametrize(("known", "code"), [(0, 3), (3, 0)])
def test_texts_of_another_language_than_the_model(
    base: Any, command: Any, tmp_path: Path, known: int, code: int
) -> None:
    corpus = tmp_path / "corpus.csv"
    words = ["the", "coat", "is"][:known]
    texts = [" ".join([*words, "дом"] * 20 + ["сад"] * i) for i in range(200)]
    corpus.write_text("\n".join(["text", *texts]), "utf-8")
    out = tmp_path / "run"
    ended = command("pretrain", corpus, "--from", base.folder, "--out", out, "trainer.max_steps=1")
    assert ended.code == code
    if known:
        assert f"warning: {corpus}: the tokenizer does not know " in ended.err
    else:
        assert f"error: {corpus}: the tokenizer knows no word of these texts" in ended.err
        assert "hint: leave out --from, or start from a model of this language" in ended.err
        assert not out.exists()


@pytest.mark.parametrize("verb", VERBS)
def test_truncated_weights_are_refused(verb: str, shop: Path, fitted: Any, command: Any, tmp_path: Path) -> None:
    """C01."""
    run, out = tmp_path / "broken", tmp_path / "run"
    shutil.copytree(fitted.folder, run)
    weights = run / "model" / "model.safetensors"
    size = weights.stat().st_size
    os.truncate(weights, size // 2)
    ended = command(*start_from(verb, run, shop, out))
    damage = f"{size // 2} bytes, the manifest says {size}; the file is damaged", "copy the whole folder again"
    if verb in ("pretrain", "fit"):
        damage = (
            "damaged or no safetensors file (REASON)",
            "copy it again",
        )
    assert_refused(ended, 4, f"{weights}: {damage[0]}", damage[1], out)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
@pytest.mark.parametrize("verb", ["pretrain", "fit"])
def test_pickle_in_place_of_weights_never_runs(
    verb: str, name: str, shop: Path, base: Any, command: Any, canary: Path, tmp_path: Path
) -> None:
    """C06."""
    model, out = plain_model(base.folder, tmp_path / "model"), tmp_path / "run"
    (model / "model.safetensors").unlink()
    (model / name).write_bytes(pickle.dumps(Bomb(canary)))
    ended = command(*start_from(verb, model, shop, out))
    expected = {
        "pytorch_model.bin": (
            f"{model}: only pytorch_model.bin, a pickle, which nlpkit never loads; expected model.safetensors",
            "save the model again as safetensors",
        ),
        "model.safetensors": (
            f"{model / name}: damaged or no safetensors file (REASON)",
            "copy it again",
        ),
    }
    assert_refused(ended, 4, *expected[name], out)
    assert not canary.exists()


@pytest.mark.parametrize("forged", [False, True])
def test_pickle_in_place_of_a_checkpoint_never_runs(
    forged: bool, fitted: Any, command: Any, canary: Path, tmp_path: Path
) -> None:
    """C06."""
    run = tmp_path / "stopped"
    shutil.copytree(fitted.folder, run)
    (run / "results.json").unlink()
    (checkpoint,) = (run / "checkpoints").iterdir()
    (checkpoint / "state.ckpt").write_bytes(pickle.dumps(Bomb(canary)))
    if forged:
        write_manifest(checkpoint)
    ended = command("fit", "--resume", run)
    found = "no checkpoint of nlpkit (" if forged else "its sha256 differs from the manifest"
    size = "" if forged else "the manifest says"
    assert f"warning: {checkpoint / 'state.ckpt'}: " in ended.err and (found in ended.err or size in ended.err)
    message = f"{run / 'checkpoints'}: no whole checkpoint"
    assert_refused(ended, 4, message, "start the run again with another --out", canary)


def of_absent_plugin(run: Path, copy: Path) -> Path:
    """A run as a plugin that is not installed would have left it."""
    shutil.copytree(run, copy)
    record = copy / "model" / "nlpkit.json"
    said = {"task": "irony", "plugin": {"name": "irony", "distribution": "nlpkit-irony", "version": "3.1"}}
    record.write_text(json.dumps(json.loads(record.read_text()) | said))
    write_manifest(copy / "model")
    return copy


@pytest.mark.parametrize("verb", ["evaluate", "predict"])
def test_bundle_of_an_absent_plugin_names_it(verb: str, shop: Path, fitted: Any, command: Any, tmp_path: Path) -> None:
    """C18."""
    run = of_absent_plugin(fitted.folder, tmp_path / "irony")
    ended = command(*start_from(verb, run, shop, tmp_path / "run"))
    message = f"{run / 'model'}: made by task 'irony' of nlpkit-irony 3.1, which is not installed"
    assert_refused(ended, 5, message, "pip install nlpkit-irony==3.1, or from where you had it", tmp_path / "run")


def test_body_of_a_bundle_needs_no_plugin(shop: Path, base: Any, command: Any, tmp_path: Path) -> None:
    run = of_absent_plugin(base.folder, tmp_path / "irony")
    ended = command(*start_from("fit", run, shop, tmp_path / "run"))
    assert ended.code == 0, ended.err


# disks

ON_A_DISK = """
import contextlib, io, json, os, subprocess, sys
from pathlib import Path
from nlpkit.cli import main
disk, shop, settings = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]

@contextlib.contextmanager
def mounted(size, writable=True):
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "x", str(disk)], check=True)
    try:
        if not writable:
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)

def run(*arguments):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([*map(str, arguments), *settings])
    left = sorted(path.name for path in disk.rglob("step-*") if path.is_dir())
    print(json.dumps([code, out.getvalue(), err.getvalue().splitlines()[-2:], os.listdir(disk), left]))

pretrain, fit = ("pretrain", f"{shop}/reviews.csv"), ("fit", f"{shop}/labelled.csv")
for verb in (pretrain, fit):
    for size in ("16k", "512k", "7m"):
        with mounted(size):
            run(*verb, "--out", disk / "run")
    with mounted("1m", writable=False):
        run(*verb, "--out", disk / "run")
        run(*verb, "--out", disk)
elsewhere = disk.parent / "elsewhere"
os.environ["NLPKIT_CACHE"] = str(disk / "cache")
with mounted("1m", writable=False):
    run(*pretrain, "--out", elsewhere)
assert not elsewhere.exists()
"""


@pytest.fixture(scope="module")
def on_a_disk(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """How commands end whose disk is full or read-only; all in one process that mounts disks of its own."""
    disk = tmp_path_factory.mktemp("disks") / "disk"
    disk.mkdir()
    settings = [*SIZES[:-1], "trainer.max_steps=4", "trainer.batch_tokens=256", "checkpoint.every_steps=1"]
    command = [*needs_namespaces(), sys.executable, "-c", ON_A_DISK, str(disk), str(shop), *settings]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return disk, [json.loads(line) for line in done.stdout.splitlines()]


def full(path: Path, more: str = "") -> list[str]:
    hint = f"hint: free some space, or use another --out{more}"
    return [f"error: {path}: the disk is full; nothing was changed", hint]


def without_sizes(said: list[str]) -> list[str]:
    """D01: what a checkpoint takes is more than what was free."""
    found = re.fullmatch(r"(.*): a checkpoint takes ([\d,]+) bytes, ([\d,]+) are free", said[0])
    assert found
    assert int(found[2].replace(",", "")) > int(found[3].replace(",", ""))
    return [found[1], *said[1:]]


def read_only(path: Path, hint: str = "use another --out") -> list[str]:
    return [f"error: {path}: cannot be written (Read-only file system)", f"hint: {hint}"]


@pytest.mark.parametrize(("first", "verb"), [(0, "pretrain"), (5, "fit")])
def test_full_disk_before_anything_is_saved_leaves_nothing(
    first: int, verb: str, on_a_disk: tuple[Path, list[Any]]
) -> None:
    disk, ends = on_a_disk
    assert ends[first] == [6, "", full(disk / "run" / "setup"), [], []]
    *end, said, folders, saved = ends[first + 1]
    assert (*end, without_sizes(said), folders, saved) == (
        6,
        "",
        full(disk / "run" / "checkpoints" / "step-00000001"),
        [],
        [],
    )


@pytest.mark.parametrize(("first", "verb"), [(0, "pretrain"), (5, "fit")])
def test_full_disk_later_keeps_what_was_saved_and_says_how_to_go_on(
    first: int, verb: str, on_a_disk: tuple[Path, list[Any]]
) -> None:
    disk, ends = on_a_disk
    code, out, said, names, saved = ends[first + 2]
    failed = disk / "run" / "checkpoints" / f"step-{len(saved) + 1:08d}"
    assert (code, out, names) == (6, "", ["run"])
    assert without_sizes(said) == full(failed, f"; then nlpkit {verb} --resume {disk / 'run'}")
    assert saved == [f"step-{step:08d}" for step in range(1, len(saved) + 1)]
    assert saved


@pytest.mark.parametrize("first", [0, 5], ids=["pretrain", "fit"])
def test_read_only_folder_is_refused_before_any_work(first: int, on_a_disk: tuple[Path, list[Any]]) -> None:
    """D05."""
    disk, ends = on_a_disk
    assert ends[first + 3] == [8, "", read_only(disk / "run"), [], []]
    assert ends[first + 4] == [8, "", read_only(disk), [], []]


def test_read_only_cache_names_the_variable_that_moves_it(on_a_disk: tuple[Path, list[Any]]) -> None:
    disk, ends = on_a_disk
    code, out, (error, hint), names, _ = ends[10]
    assert (code, out, names) == (8, "", [])
    assert error.startswith(f"error: {disk / 'cache' / 'stores'}/")
    assert error.endswith(": cannot be written (Read-only file system)")
    assert hint == "hint: keep token stores on another disk: NLPKIT_CACHE=DIR"
