"""From --exclude to the warning of evaluate: test texts stay out of a corpus, and a model says what it has seen."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from nlpkit.seen import FILE

TINY = ("model.preset=tiny", "model.vocabulary=300", "model.sequence_length=32", "trainer.max_steps=2")


def write_rows(path: Path, header: list[str], rows: list[list[str]]) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def text_of(number: int) -> str:
    return f"Order {number} came late, but item {number} is what I hoped for and number {number} fits me well."


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A corpus of 60 texts; a test set of 9 of them, 2 of these changed a little, and one of its own."""
    folder = tmp_path_factory.mktemp("leaks")
    corpus = write_rows(folder / "reviews.csv", ["review"], [[text_of(i)] for i in range(60)])
    rows = [[str(i), text_of(i).upper(), "good" if i % 2 else "bad"] for i in range(7)]
    rows += [[str(i), text_of(i).replace(",", " <br />"), "good"] for i in (7, 8)]
    test = write_rows(folder / "test.csv", ["id", "Comment", "label"], [*rows, ["9", "x", "bad"]])
    labelled = [[text_of(i), "good" if i % 2 else "bad"] for i in range(40, 80)]
    return {
        "corpus": corpus,
        "test": test,
        "labelled": write_rows(folder / "labelled.csv", ["text", "label"], labelled),
    }


@pytest.fixture(scope="module")
def runs(files: dict[str, Path], command: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Pre-training without the test set and with it, each fitted."""
    folder = tmp_path_factory.mktemp("runs")
    ended = {}
    for name, exclude in {"clean": ("--exclude", files["test"]), "leaky": ()}.items():
        base, fitted = folder / f"{name}-base", folder / name
        ended[f"{name}-base"] = command("pretrain", files["corpus"], *exclude, "--out", base, *TINY)
        ended[name] = command("fit", files["labelled"], "--from", base, "--out", fitted, "trainer.max_steps=2")
    return {"folder": folder, **ended}


def test_pretrain_says_how_many_documents_it_left_out(runs: dict[str, Any], files: dict[str, Path]) -> None:
    assert runs["clean-base"].code == 0, runs["clean-base"].err
    lines = runs["clean-base"].err.splitlines()
    assert lines[0] == f"{files['test']}: csv, utf-8, delimiter ','; text = 'Comment'"
    assert f"9 of its documents were left out as repeats of {files['test']}: 7 exact, 2 near" in lines
    assert any(line.startswith("corpus: 51 documents, ") for line in lines)


def test_what_was_left_out_stands_in_every_record(runs: dict[str, Any], files: dict[str, Path]) -> None:
    folder = runs["folder"] / "clean-base"
    excluded = {"files": [str(files["test"])], "exact": 7, "near": 2}
    bundle = json.loads((folder / "model" / "nlpkit.json").read_text())
    assert json.loads((folder / "results.json").read_text())["corpus"]["excluded"] == excluded
    assert json.loads((folder / "run.json").read_text())["corpus"]["excluded"] == excluded
    assert bundle["history"][0]["corpus"]["excluded"] == excluded
    fitted = json.loads((runs["folder"] / "clean" / "model" / "nlpkit.json").read_text())
    assert fitted["history"][0] == bundle["history"][0]


def test_store_of_another_test_set_is_another(
    runs: dict[str, Any], files: dict[str, Path], command: Any, tmp_path: Path
) -> None:
    base, less = runs["folder"] / "clean-base", write_rows(tmp_path / "less.csv", ["text"], [[text_of(3)]])
    counts = []
    for name, exclude in {"a": files["test"], "b": less, "c": files["test"]}.items():
        arguments = ("pretrain", files["corpus"], "--from", base, "--exclude", exclude, "trainer.max_steps=1")
        assert command(*arguments, "--out", tmp_path / name).code == 0
        corpus = json.loads((tmp_path / name / "results.json").read_text())["corpus"]
        counts.append((corpus["documents"], corpus["excluded"]["exact"], corpus["excluded"]["near"]))
    assert counts == [(51, 7, 2), (59, 1, 0), (51, 7, 2)]


def test_evaluate_warns_of_texts_that_were_in_the_corpus(
    runs: dict[str, Any], files: dict[str, Path], command: Any
) -> None:
    ended = command("evaluate", runs["folder"] / "leaky", files["test"], "data.text=Comment", "--json", "--quiet")
    assert ended.code == 0
    assert ended.err.splitlines() == [
        f"warning: {files['test']}: 7 of 10 texts stood in the corpus of this model (pre-training): scores on them "
        f"flatter; to leave them out there: nlpkit pretrain ... --exclude {files['test']}"
    ]
    assert json.loads(ended.out)["seen"] == {"pretrain": 7, "finetune": 0}


def test_evaluate_says_nothing_where_they_were_left_out(
    runs: dict[str, Any], files: dict[str, Path], command: Any
) -> None:
    ended = command("evaluate", runs["folder"] / "clean", files["test"], "data.text=Comment", "--json", "--quiet")
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out)["seen"] == {"pretrain": 0, "finetune": 0}


def test_evaluate_warns_of_texts_that_the_model_was_fitted_on(
    runs: dict[str, Any], files: dict[str, Path], command: Any
) -> None:
    ended = command("evaluate", runs["folder"] / "clean", files["labelled"], "--json", "--quiet")
    assert ended.err.splitlines()[1] == (
        f"warning: {files['labelled']}: 40 of 40 texts were used to fit this model: scores on them flatter; take others"
    )
    assert json.loads(ended.out)["seen"] == {"pretrain": 20, "finetune": 40}


def test_fit_warns_of_dev_texts_that_were_in_the_corpus(
    runs: dict[str, Any], files: dict[str, Path], command: Any, tmp_path: Path
) -> None:
    dev = write_rows(
        tmp_path / "dev.csv", ["text", "label"], [[text_of(i), "bad" if i % 2 else "good"] for i in (9, 90)]
    )
    arguments = ("fit", files["labelled"], "--dev", dev, "--from", runs["folder"] / "clean-base")
    ended = command(*arguments, "--out", tmp_path / "run", "trainer.max_steps=1")
    assert (
        f"warning: {dev}: 1 of 2 dev texts stood in the corpus of this model (pre-training): scores on them flatter; "
        f"to leave them out there: nlpkit pretrain ... --exclude {dev}"
    ) in ended.err.splitlines()


def test_fit_does_not_advise_to_exclude_the_training_file_that_its_dev_part_is_cut_from(
    runs: dict[str, Any], files: dict[str, Path]
) -> None:
    (warning,) = [line for line in runs["leaky"].err.splitlines() if "stood in the corpus" in line]
    assert warning.startswith(f"warning: {files['labelled']}: ")
    assert warning.endswith(
        " of 6 dev texts stood in the corpus of this model (pre-training): scores on them flatter; "
        "surer ones come from new texts: --dev FILE"
    )


def test_pretraining_that_goes_on_remembers_both_corpora(
    runs: dict[str, Any], files: dict[str, Path], command: Any, tmp_path: Path
) -> None:
    more = write_rows(tmp_path / "more.csv", ["text"], [[text_of(i)] for i in range(60, 100)])
    arguments = ("pretrain", more, "--from", runs["folder"] / "leaky-base", "--out", tmp_path / "run")
    assert command(*arguments, "trainer.max_steps=1").code == 0
    both = write_rows(tmp_path / "both.csv", ["text"], [[text_of(i)] for i in range(50, 70)])
    ended = command("evaluate", tmp_path / "run", both, "--json", "--quiet")
    assert json.loads(ended.out)["seen"] == {"pretrain": 20}


def test_short_texts_count_as_new_whatever_is_evaluated(files: dict[str, Path], command: Any, tmp_path: Path) -> None:
    texts = [[text_of(i)] for i in range(30)] + [["Great product, as ever"]] * 30
    corpus = write_rows(tmp_path / "corpus.csv", ["text"], texts)
    assert command("pretrain", corpus, "--out", tmp_path / "run", *TINY).code == 0
    test = write_rows(tmp_path / "test.csv", ["text"], texts[20:40])
    ended = command("evaluate", tmp_path / "run", test, "--json")
    assert json.loads(ended.out)["seen"] == {"pretrain": 10}
    assert sum(line.startswith(f"{test}: csv") for line in ended.err.splitlines()) == 1


def test_bundle_without_fingerprints_works_and_tells_nothing(
    runs: dict[str, Any], files: dict[str, Path], command: Any, tmp_path: Path
) -> None:
    from nlpkit.files import write_manifest

    older = tmp_path / "older"
    shutil.copytree(runs["folder"] / "leaky" / "model", older)
    (older / FILE).unlink()
    write_manifest(older)
    ended = command("evaluate", older, files["test"], "data.text=Comment", "--json", "--quiet")
    assert (ended.code, ended.err, json.loads(ended.out)["seen"]) == (0, "", {})


@pytest.mark.parametrize("verb", ["evaluate", "fit", "pretrain"])
def test_damaged_fingerprints_are_refused(
    runs: dict[str, Any], files: dict[str, Path], command: Any, tmp_path: Path, verb: str
) -> None:
    from nlpkit.files import write_manifest

    damaged, name = tmp_path / "damaged", "labelled" if verb == "fit" else "corpus"
    shutil.copytree(runs["folder"] / "leaky" / "model", damaged)
    (damaged / FILE).write_bytes((damaged / FILE).read_bytes()[:-8])
    write_manifest(damaged)
    first = (verb, damaged, files["test"]) if verb == "evaluate" else (verb, files[name], "--from", damaged)
    ended = command(*first, *(() if verb == "evaluate" else ("--out", tmp_path / "run")), "--quiet")
    message = f"{damaged / FILE}: no fingerprints of texts, or damaged"
    assert (ended.code, ended.err.splitlines()) == (4, [f"error: {message}", "hint: copy the whole folder again"])


def test_fingerprints_that_the_manifest_does_not_know_are_refused(
    runs: dict[str, Any], files: dict[str, Path], command: Any, tmp_path: Path
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(runs["folder"] / "leaky" / "model", changed)
    shutil.copy(runs["folder"] / "clean-base" / "model" / FILE, changed / FILE)
    ended = command("evaluate", changed, files["test"], "--quiet")
    assert ended.code == 4
    assert ended.err.startswith(f"error: {changed / FILE}: ")


ROWS = "give a file with rows; nlpkit demo shop writes some to look at"


@pytest.mark.parametrize(
    ("content", "code", "message", "hint"),
    [
        (None, 3, "FILE: no such file or folder", "ls FOLDER"),
        ("", 3, "FILE: empty file", ROWS),
        ("id,date\n1,2\n", 3, "FILE: no column for 'text'; it has 'id', 'date'", "data.text=COLUMN"),
        ("id,text\n1,\n2, \n", 3, "FILE: no text to exclude", "data.text=COLUMN"),
        ("ALL", 3, "all 60 texts of the corpus repeat texts of FILE; none is left", "exclude another file"),
        ("ALL BUT ONE", 3, "CORPUS: 1 documents with ", "; --exclude took the rest"),
    ],
)
def test_exclude_of_what_cannot_be_used_is_refused(
    files: dict[str, Path],
    command: Any,
    tmp_path: Path,
    content: str | None,
    code: int,
    message: str,
    hint: str,
) -> None:
    file, out = tmp_path / "exclude.csv", tmp_path / "run"
    if content is not None and content.startswith("ALL"):
        write_rows(file, ["text"], [[text_of(i)] for i in range(60 if content == "ALL" else 59)])
    elif content is not None:
        file.write_text(content)
    ended = command("pretrain", files["corpus"], "--exclude", file, "--out", out, *TINY, "--quiet")
    error, advice = ended.err.splitlines()[-2:]
    expected = message.replace("FILE", str(file)).replace("CORPUS", str(files["corpus"]))
    assert (ended.code, ended.out) == (code, "")
    assert error.startswith(f"error: {expected}")
    assert hint.replace("FOLDER", str(tmp_path)) in advice
    assert not out.exists()


def test_column_of_the_corpus_need_not_be_that_of_the_test_set(
    files: dict[str, Path], command: Any, tmp_path: Path
) -> None:
    corpus = write_rows(tmp_path / "corpus.csv", ["id", "Words"], [[str(i), text_of(i)] for i in range(60)])
    same = write_rows(tmp_path / "same.csv", ["text", "Words"], [["nothing", text_of(50)]])
    arguments = ("pretrain", corpus, "data.text=Words", "--exclude", files["test"], "--exclude", same, *TINY)
    ended = command(*arguments, "--out", tmp_path / "run")
    assert f"10 of its documents were left out as repeats of {files['test']}, {same}: 8 exact, 2 near" in ended.err


def test_resumed_run_leaves_out_the_same_watches_on_and_remembers_its_parent(
    runs: dict[str, Any], files: dict[str, Path], command: Any, tmp_path: Path
) -> None:
    from nlpkit import run
    from nlpkit.errors import Interrupted

    source = tmp_path / "source"
    shutil.copytree(runs["folder"] / "leaky", source)

    class Stop:
        def start(self, *_: Any) -> None: ...

        def scores(self, *_: Any) -> None: ...

        def end(self) -> None: ...

        def step(self, step: int, *_: Any) -> None:
            if step == 2:
                import os
                import signal

                os.kill(os.getpid(), signal.SIGTERM)

    more = write_rows(tmp_path / "more.csv", ["text"], [[text_of(i)] for i in range(60, 100)])
    exclude = write_rows(tmp_path / "exclude.csv", ["text"], [[text_of(61)]])
    settings = ("trainer.max_steps=4", "checkpoint.every_steps=1")
    with pytest.raises(Interrupted):
        run.pretrain(
            more,
            exclude=exclude,
            watch=files["corpus"],
            source=source,
            out=tmp_path / "run",
            overrides=settings,
            progress=Stop(),
        )
    shutil.rmtree(source)
    ended = command("pretrain", "--resume", tmp_path / "run")
    assert ended.code == 0, ended.err
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert results["corpus"]["excluded"]["exact"] == 1
    assert [row["watch/loss"] for row in rows if row["step"] == 0] == [results["watch"]["start"]["loss"]]
    evaluated = command("evaluate", tmp_path / "run", files["corpus"], "--json", "--quiet")
    assert json.loads(evaluated.out)["seen"] == {"pretrain": 60, "finetune": 20}
