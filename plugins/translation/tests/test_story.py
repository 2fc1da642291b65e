"""The commands, on the plugin's own sample and on files of two languages."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import nlpkit_translation
import pytest
import sacrebleu
from commands import Ended, run_process
from commands import run_command as nlpkit
from nlpkit_translation import pairs
from nlpkit_translation.filters import Filters, keep

SAMPLE = Path(nlpkit_translation.__file__).parent / "sample.tsv"
TINY = ("model.preset=tiny", "trainer.max_steps=40", "optim.learning_rate=3e-3", "trainer.threads=1")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample as two files of lines, and a part of it to score."""
    folder = tmp_path_factory.mktemp("files")
    rows = [line.split("\t") for line in SAMPLE.read_text("utf-8").splitlines()[1:]]
    for name, part in (("train", rows), ("test", rows[:20])):
        for side, ending in enumerate(("en", "de")):
            (folder / f"{name}.{ending}").write_text("".join(f"{row[side]}\n" for row in part), "utf-8")
    return folder


@pytest.fixture(scope="module")
def run(files: Path) -> tuple[Path, Ended]:
    given = ("--source", files / "train.en", "--target", files / "train.de")
    dev = ("--dev-source", files / "test.en", "--dev-target", files / "test.de")
    ended = nlpkit("fit", "--task", "translation", *given, *dev, "--out", files / "run", *TINY)
    assert ended.code == 0, ended.err
    return files / "run", ended


def test_the_sample_is_of_different_pairs_that_no_filter_leaves_out() -> None:
    sample = list(pairs.read(str(SAMPLE)))
    assert len(sample) == len(list(keep(sample, Filters()))) == 400
    for side in ("source", "target"):
        assert Counter(pair[side] for pair in sample).most_common(1)[0][1] == 1
        assert all(pair[side] == pair[side].strip() and pair[side][-1] in ".?!" for pair in sample)


def test_the_sample_is_run_on_when_no_data_is_given(tmp_path: Path) -> None:
    ended = nlpkit("fit", "--task", "translation", "--out", tmp_path / "run", "trainer.max_steps=2")
    assert ended.code == 0, ended.err
    assert "no data was given: running on the plugin's own sample (400 short sentences in English" in ended.err
    results = json.loads((tmp_path / "run/results.json").read_text("utf-8"))
    assert sum(results["examples"].values()) == 400


def test_signatures_stand_below_the_scores_and_in_every_document(run: tuple[Path, Ended], files: Path) -> None:
    folder, ended = run
    signature = f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{sacrebleu.__version__}"
    assert f"bleu: {signature}" in ended.out.splitlines()
    assert json.loads((folder / "results.json").read_text("utf-8"))["about"]["bleu"] == signature
    scored = nlpkit("evaluate", folder, files / "test.en", files / "test.de", "--json")
    assert scored.code == 0, scored.err
    assert json.loads(scored.out)["about"]["bleu"] == signature


def test_next_commands_can_be_typed_as_they_stand(run: tuple[Path, Ended], files: Path) -> None:
    folder, ended = run
    assert ended.out.splitlines()[-2:] == [
        f"  nlpkit evaluate {folder} LABELLED.en LABELLED.de",
        f"  nlpkit predict {folder} NEW.en > predictions.jsonl",
    ]


@pytest.mark.parametrize("beam", [1, 3])
def test_what_predict_writes_has_the_bleu_that_evaluate_says(beam: int, run: tuple[Path, Ended], files: Path) -> None:
    folder, _ = run
    predicted = nlpkit("predict", folder, files / "test.en", "--beam", beam)
    assert predicted.code == 0, predicted.err
    rows = [json.loads(line) for line in predicted.out.splitlines()]
    true = (files / "test.de").read_text("utf-8").splitlines()
    assert [row["source"] for row in rows] == (files / "test.en").read_text("utf-8").splitlines()
    scored = nlpkit("evaluate", folder, files / "test.en", files / "test.de", f"--beam={beam}", "--json")
    scores = json.loads(scored.out)["scores"]
    found = [row["target"] for row in rows]
    assert scores["bleu"] == pytest.approx(sacrebleu.corpus_bleu(found, [true]).score, abs=1e-4)
    assert scores["chrf"] == pytest.approx(sacrebleu.corpus_chrf(found, [true]).score, abs=1e-4)
    assert scores["chrf"] > 5


@pytest.mark.parametrize("words", [("--beam", 3), ("--beam=3",), ("--beam", 3, "--length-penalty", 0.5)])
def test_settings_of_a_model_may_stand_before_it(
    words: tuple[object, ...], run: tuple[Path, Ended], files: Path
) -> None:
    ends = [
        nlpkit("predict", *order)
        for order in ((*words, run[0], files / "test.en"), (run[0], files / "test.en", *words))
    ]
    assert ends[0].code == 0, ends[0].err
    assert ends[0].out == ends[1].out
    pair = (files / "test.en", files / "test.de")
    scored = [nlpkit("evaluate", *order, "--json") for order in ((*words, run[0], *pair), (run[0], *pair, *words))]
    assert scored[0].code == 0, scored[0].err
    assert scored[0].out == scored[1].out


def test_files_with_both_sides_are_read_though_the_run_had_a_file_for_each(
    run: tuple[Path, Ended], files: Path, tmp_path: Path
) -> None:
    folder, _ = run
    sides = [(files / f"test.{side}").read_text("utf-8").splitlines() for side in ("en", "de")]
    pairs = tmp_path / "test.jsonl"
    rows = [json.dumps({"source": source, "target": target}) for source, target in zip(*sides, strict=True)]
    pairs.write_text("".join(f"{row}\n" for row in rows), "utf-8")
    predicted = nlpkit("predict", folder, pairs)
    assert predicted.code == 0, predicted.err
    assert [json.loads(line)["source"] for line in predicted.out.splitlines()] == sides[0]
    scored = nlpkit("evaluate", folder, pairs, "--json")
    assert scored.code == 0, scored.err
    by_lines = nlpkit("evaluate", folder, files / "test.en", files / "test.de", "--json")
    assert json.loads(scored.out)["scores"] == pytest.approx(json.loads(by_lines.out)["scores"])


def test_mistyped_beam_gets_the_nearest(run: tuple[Path, Ended], files: Path) -> None:
    ended = nlpkit("predict", run[0], files / "test.en", "-q", "--beem", "5")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.splitlines() == [
        "error: task.beem is no setting of a finished model",
        "hint: did you mean 'beam'? one of translation takes task.beam, task.engine, task.length_penalty, task.prefix, "
        "task.source_language, task.target_language; data.KEY=VALUE is for files",
    ]


def test_two_processes_end_with_the_scores_of_one(tmp_path: Path) -> None:
    ends = []
    for devices in (1, 2):
        out = tmp_path / str(devices)
        settings = (*TINY, "trainer.max_steps=6", "trainer.validations_per_epoch=1", f"trainer.devices={devices}")
        words = ("fit", "--task", "translation", "--out", out, *settings, "model.dropout=0", "task.max_length=16")
        ended = nlpkit(*words) if devices == 1 else run_process(*words)
        assert ended.code == 0, ended.err
        ends.append(json.loads((out / "results.json").read_text("utf-8"))["dev"])
    assert ends[0] == pytest.approx(ends[1], rel=0.02)
