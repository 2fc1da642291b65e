"""The story of the README through the command line: demo, pretrain, fit, evaluate, predict, and what is refused."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_pretrain_ends_with_its_loss_beside_word_frequencies_and_the_next_command(base: Any) -> None:
    assert base.ended.code == 0
    lines = base.ended.out.splitlines()
    assert lines[0].split() == ["SCORE", "MODEL", "WORD", "FREQUENCIES"]
    assert [line.split()[0] for line in lines[1:3]] == ["accuracy", "loss"]
    assert lines[-3:] == [
        f"run: {base.folder}",
        "next:",
        f"  nlpkit fit --task TASK LABELLED.csv --from {base.folder} --out {base.folder.parent / 'task'}",
    ]


def test_pretrain_says_once_what_it_found_and_shows_progress_on_stderr(base: Any, shop: Path) -> None:
    lines = base.ended.err.splitlines()
    assert sum(line.startswith(f"{shop / 'reviews.csv'}: csv, utf-8") for line in lines) == 1
    assert "base: 6 steps" in lines
    assert sum(line.startswith("base: step 6 of 6 (100%), dev loss ") for line in lines) == 1
    assert "shards" not in base.ended.err


def test_fit_prints_baselines_beside_the_model(fitted: Any) -> None:
    assert fitted.ended.code == 0
    lines = fitted.ended.out.splitlines()
    assert lines[0].split() == ["SCORE", "MODEL", "MAJORITY", "TF-IDF"]
    results = json.loads((fitted.folder / "results.json").read_text())
    scores = [results["dev"], results["baselines"]["majority"], results["baselines"]["tfidf"]]
    for line in lines[1:3]:
        name, *cells = line.split()
        assert cells == [f"{column[name]:.4f}" for column in scores]
    assert lines[-2:] == [
        f"  nlpkit evaluate {fitted.folder} LABELLED.csv",
        f"  nlpkit predict {fitted.folder} NEW.csv > predictions.jsonl",
    ]


def test_fit_that_finds_nothing_says_so(command: Any, tmp_path: Path) -> None:
    rows = ["the O\n" * (number * 7 % 30) + "the B-PER\n" + "the O\n" * 30 + f"{number} O\n\n" for number in range(40)]
    (tmp_path / "a.conll").write_text("".join(rows))
    settings = ("model.preset=tiny", "trainer.max_steps=12", "optim.learning_rate=1e-2")
    ended = command("fit", "--task", "ner", tmp_path / "a.conll", "--out", tmp_path / "run", *settings)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    said = "dev f1 is 0: the model has learnt nothing yet; train longer (trainer.max_epochs, trainer.max_steps)"
    told = f"warning: {said} or from another model (--from)" in ended.err.splitlines()
    assert (results["dev"]["f1"], told) == (0, True)


def test_next_commands_name_files_like_those_of_the_training(
    shop: Path, base: Any, command: Any, tmp_path: Path
) -> None:
    file, out = tmp_path / "labelled.jsonl", tmp_path / "run"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows_of(shop / "labelled.csv")))
    ended = command("fit", file, "--from", base.folder, "--out", out, "trainer.max_steps=1")
    assert ended.out.splitlines()[-2:] == [
        f"  nlpkit evaluate {out} LABELLED.jsonl",
        f"  nlpkit predict {out} NEW.jsonl > predictions.jsonl",
    ]


@pytest.mark.parametrize(
    ("files", "ending"),
    [([], ".csv"), (["a.conll"], ".conll"), (["a/b.c.csv.gz"], ".csv.gz"), (["folder"], ".csv"), (["x/*.tsv"], ".tsv")],
)
def test_ending_of_the_next_files_is_that_of_the_first(files: list[str], ending: str) -> None:
    from nlpkit.cli.results import _ending

    assert _ending(files) == ending


def test_fit_that_does_not_beat_tfidf_says_so(fitted: Any) -> None:
    results = json.loads((fitted.folder / "results.json").read_text())
    mine, theirs = results["dev"]["f1_macro"], results["baselines"]["tfidf"]["f1_macro"]
    assert mine < theirs, "six steps beat nothing"
    assert f"the model does not beat TF-IDF: f1_macro {mine:.4f} against {theirs:.4f}" in fitted.ended.out.splitlines()


def test_fit_tells_where_its_weights_came_from(fitted: Any, base: Any) -> None:
    assert any(line.startswith(f"{base.folder}") and "loaded" in line for line in fitted.ended.err.splitlines())


def test_evaluate_as_json_has_scores_and_the_number_of_examples(fitted: Any, shop: Path, command: Any) -> None:
    ended = command("evaluate", fitted.folder, shop / "more-labelled.csv", "--json", "--quiet")
    assert (ended.code, ended.err) == (0, "")
    evaluated = json.loads(ended.out)
    assert evaluated["examples"] == 200
    assert {"accuracy", "f1_macro", "loss"} <= set(evaluated["scores"])


def test_evaluate_prints_a_table(fitted: Any, shop: Path, command: Any) -> None:
    ended = command("evaluate", fitted.folder, shop / "more-labelled.csv")
    lines = ended.out.splitlines()
    assert lines[0] == "SCORE        MODEL"
    assert lines[-1] == "200 examples"


def test_evaluate_gate_that_fails_is_exit_9_after_the_scores(fitted: Any, shop: Path, command: Any) -> None:
    gate = ("--fail-under", "accuracy=1.01")
    ended = command("evaluate", fitted.folder, shop / "more-labelled.csv", "--json", "--quiet", *gate)
    accuracy = json.loads(ended.out)["scores"]["accuracy"]
    assert (ended.code, ended.err) == (9, f"error: accuracy is {accuracy:.4f}, under 1.01\n")


def test_evaluate_gate_that_holds_is_exit_0(fitted: Any, shop: Path, command: Any) -> None:
    assert command("evaluate", fitted.folder, shop / "more-labelled.csv", "--fail-under", "accuracy=0").code == 0


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        ("accuracy", "--fail-under is 'accuracy', expected METRIC=NUMBER"),
        ("accuracy=nan", "--fail-under is 'accuracy=nan', expected METRIC=NUMBER"),
        ("loss=1", "--fail-under loss: a lower loss is better, so this gate says nothing"),
        ("bits_per_byte=1", "--fail-under bits_per_byte: a lower bits_per_byte is better, so this gate says nothing"),
        ("acuracy=0.5", "--fail-under names 'acuracy', which is none of the scores"),
    ],
)
def test_evaluate_refuses_a_gate_that_cannot_be_checked(
    fitted: Any, shop: Path, command: Any, gate: str, message: str
) -> None:
    ended = command("evaluate", fitted.folder, shop / "more-labelled.csv", "--quiet", "--fail-under", gate)
    assert (ended.code, ended.err.splitlines()[0]) == (2, f"error: {message}")


def test_predict_writes_a_json_object_a_text_in_order(fitted: Any, shop: Path, command: Any) -> None:
    ended = command("predict", fitted.folder, shop / "new.csv")
    assert ended.code == 0
    rows = [json.loads(line) for line in ended.out.splitlines()]
    assert [row["text"] for row in rows] == [row["review"] for row in rows_of(shop / "new.csv")]
    assert {tuple(row) for row in rows} == {("text", "label", "score", "scores")}


def test_predict_refuses_a_pretrained_run_and_says_what_to_do(base: Any, shop: Path, command: Any) -> None:
    ended = command("predict", base.folder, shop / "reviews.csv")
    assert ended.code == 4
    assert ended.out == ""
    assert "pre-trained by mlm, which has learnt no task yet" in ended.err
    assert f"nlpkit fit --task TASK LABELLED.csv --from {base.folder}" in ended.err


def test_python_refuses_to_predict_with_a_pretrained_run_as_the_command_does(base: Any, shop: Path) -> None:
    import nlpkit
    from nlpkit.errors import ModelError

    with pytest.raises(ModelError) as caught:
        nlpkit.load(base.folder)
    assert caught.value.message == f"{base.folder}: pre-trained by mlm, which has learnt no task yet"
    assert caught.value.hint == f"nlpkit fit --task TASK LABELLED.csv --from {base.folder}"
    assert nlpkit.evaluate(base.folder, shop / "new.csv")["scores"]["loss"] > 0


def test_predict_streams_standard_input_and_ends_quietly_when_nobody_reads_on(fitted: Any) -> None:
    arguments = [sys.executable, "-m", "nlpkit", "predict", str(fitted.folder), "-", "--quiet"]
    pipe = subprocess.PIPE
    with subprocess.Popen(arguments, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write("".join(f"text {i} {'long ' * 160}\n" for i in range(2048)))  # past what detection reads
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["text"].startswith("text 0 ")  # stdin is still open
        process.stdout.close()
        process.stdin.write("text\n" * 2048)
        process.stdin.close()
        assert (process.wait(120), process.stderr.read()) == (141, "")


def test_fit_without_data_says_that_it_runs_on_the_sample(command: Any, tmp_path: Path) -> None:
    tiny = ("model.preset=tiny", "model.vocabulary=300", "trainer.max_steps=1")
    ended = command("fit", "--task", "sentiment", "--out", tmp_path / "run", *tiny, "--json")
    assert ended.code == 0
    assert ended.err.splitlines()[0].startswith("warning: no data was given: running on the plugin's own sample (")
    assert json.loads(ended.out)["folder"] == str(tmp_path / "run")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("fit", "--task", "sentimnt"), 2, None),
        (("fit", "trainer.max_stps=3"), 2, "command line: no setting 'trainer.max_stps'"),
        (("fit", "trainer.max_steps=many"), 2, None),
        (("fit", "absent.csv"), 3, "absent.csv: no such file or folder"),
        (("pretrain",), 2, "no text given"),
        (
            ("pretrain", "-"),
            2,
            "standard input is read once, a run reads its data more than once",
        ),
        (("fit", "-"), 2, "standard input is read once, a run reads its data more than once"),
        (("fit", "--from", "absent"), 4, None),
        (("evaluate", "absent", "x.csv"), 3, "x.csv: no such file or folder"),
        (
            ("fit", "--task", "sentiment", "task.labels=[a, b, a]"),
            2,
            "task.labels has 'a' twice, expected each label once",
        ),
        (("fit", "--task", "sentiment", "task.labels=[a]"), 2, "task.labels has only 'a', expected two or more"),
        (("fit", "task.head=mean"), 2, "unknown head 'mean'"),
        (("fit", "task.metrics=[kappa]"), 2, "unknown metric 'kappa'"),
        (("evaluate", "absent"), 2, "no text given"),
        (("predict", "absent"), 2, "no text given"),
        (("predict", "absent", "x.csv", "seed=1"), 2, "seed is no setting of a finished model"),
        (("fit", "--resume", "absent"), 4, "absent: no such folder"),
        (("fit", "--resume-anyway"), 2, "--resume-anyway without --resume"),
        (
            ("fit", "--resume", "absent", "--seed", "1", "a.csv"),
            2,
            "--resume goes on with the run as it began, and a.csv, --seed would change it",
        ),
        (("pretrain", "a.csv", "--objective", "sentiment"), 2, None),
    ],
)
def test_mistake_has_its_exit_code_and_leaves_nothing(
    arguments: tuple[str, ...],
    code: int,
    message: str | None,
    command: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = command(*arguments)
    errors = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert (ended.code, ended.out, len(errors)) == (code, "", 1), ended.err
    assert message is None or errors == [f"error: {message}"]
    assert "Traceback" not in ended.err
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_existing_run_folder_is_refused(fitted: Any, shop: Path, command: Any) -> None:
    """D13."""
    before = sorted(fitted.folder.rglob("*"))
    ended = command("fit", shop / "labelled.csv", "--out", fitted.folder)
    assert ended.code == 8
    assert ended.err.splitlines() == [
        f"error: {fitted.folder}: is not empty, and a run is never overwritten",
        "hint: choose another --out",  # a finished run cannot be gone on with
    ]
    assert sorted(fitted.folder.rglob("*")) == before


def test_finished_run_is_shown_again_and_nothing_is_done(fitted: Any, command: Any) -> None:
    """R12 of the reliability cases."""
    before = {path: path.read_bytes() for path in fitted.folder.rglob("*") if path.is_file()}
    ended = command("fit", "--resume", fitted.folder)
    assert (ended.code, ended.out) == (0, fitted.ended.out)
    assert ended.err == f"{fitted.folder}: already finished; nothing was done\n"
    assert {path: path.read_bytes() for path in fitted.folder.rglob("*") if path.is_file()} == before


def test_file_whose_name_has_an_equals_sign_is_a_file(
    fitted: Any, shop: Path, command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("day=1.csv").write_bytes((shop / "new.csv").read_bytes())
    ended = command("predict", fitted.folder, "day=1.csv")
    assert (ended.code, len(ended.out.splitlines())) == (0, 20)


def test_settings_of_a_new_model_are_said_to_do_nothing_with_from(
    base: Any, shop: Path, command: Any, tmp_path: Path
) -> None:
    arguments = ("fit", shop / "labelled.csv", "--from", base.folder, "--out", tmp_path / "run", "trainer.max_steps=1")
    ended = command(*arguments, "model.preset=base", "model.family=bert", "model.dropout=0.2")
    assert ended.code == 0
    warnings = [line for line in ended.err.splitlines() if line.startswith("warning: ")]
    assert warnings == ["warning: model.preset, model.family: only for a new model; --from brings its own"]


def test_python_takes_paths_where_it_takes_names(fitted: Any, base: Any, shop: Path, tmp_path: Path) -> None:
    import nlpkit

    again = nlpkit.fit(
        "sentiment", shop / "labelled.csv", source=base.folder, out=tmp_path / "run", overrides=["trainer.max_steps=1"]
    )
    assert json.loads((again.folder / "run.json").read_text())["request"]["source"] == str(base.folder)
    assert nlpkit.evaluate(again.model, shop / "more-labelled.csv")["examples"] == 200
    assert len(nlpkit.load(again.model).predict(["fine", "torn"])) == 2


def test_predict_of_a_single_text_is_refused(fitted: Any) -> None:
    import nlpkit
    from nlpkit.errors import DataError

    with pytest.raises(DataError, match="predict takes a list of texts, found one text"):
        nlpkit.load(fitted.folder).predict("one text")


def test_finished_run_keeps_its_last_and_its_best_checkpoint(fitted: Any) -> None:
    best = json.loads((fitted.folder / "results.json").read_text())["best_step"]
    kept = sorted(path.name for path in (fitted.folder / "checkpoints").iterdir())
    assert kept == sorted({f"step-{best:08d}", f"step-{6:08d}"})


def test_bundle_of_a_plugin_folder_names_its_file(shop: Path, base: Any, command: Any, tmp_path: Path) -> None:
    plugin = tmp_path / "mood"
    plugin.mkdir()
    (plugin / "__init__.py").write_text(
        "import nlpkit\n@nlpkit.hookimpl\ndef nlpkit_tasks():\n    from mood.task import Mood\n    return [Mood]\n"
    )
    (plugin / "task.py").write_text(
        "from nlpkit_sentiment import Sentiment\nclass Mood(Sentiment):\n    name = 'mood'\n"
    )
    run = tmp_path / "run"
    arguments = ("--task", "mood", "--plugin", plugin, "--from", base.folder, "--out", run, "trainer.max_steps=1")
    ended = command("fit", shop / "labelled.csv", *arguments)
    assert ended.code == 0
    assert ended.out.splitlines()[-1] == f"  nlpkit predict {run} NEW.csv --plugin {plugin} > predictions.jsonl"
    ended = command("predict", run, shop / "new.csv")
    assert (ended.code, ended.err.splitlines()[-2:]) == (
        5,
        [
            f"error: {run / 'model'}: made by task 'mood' of the plugin file mood/__init__.py, which is not given",
            "hint: --plugin mood/__init__.py",
        ],
    )


def test_model_of_another_kind_is_refused_before_anything_is_written(shop: Path, command: Any, tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel, T5Config, T5EncoderModel

    from nlpkit import tokenizer

    words = tokenizer.train(["a coat and a hat"], kind="wordpiece", vocabulary=64, lowercase=True, max_length=64)
    gpt2, t5 = tmp_path / "gpt2", tmp_path / "t5"
    GPT2LMHeadModel(GPT2Config(vocab_size=300, n_embd=32, n_layer=1, n_head=2, n_positions=64)).save_pretrained(gpt2)
    T5EncoderModel(T5Config(vocab_size=300, d_model=32, d_kv=16, d_ff=32, num_layers=1, num_heads=2)).save_pretrained(
        t5
    )
    for folder in (gpt2, t5):
        words.save_pretrained(folder)
    for verb, folder, message in (
        ("pretrain", gpt2, "gpt2 is a decoder, and mlm is for an encoder"),
        ("fit", t5, "config.json has no decoder_start_token_id, the token that the decoder begins with"),
        ("pretrain", t5, "t5 has an encoder and a decoder, of which mlm trains only one"),
    ):
        ended = command(verb, shop / "labelled.csv", "--from", folder, "--out", tmp_path / "run")
        assert ended.code == 4, ended.err
        assert f"error: {message}" in ended.err.splitlines()
        assert not (tmp_path / "run").exists()
