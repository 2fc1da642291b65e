"""The commands, on the plugin's own sample."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nlpkit_ner
import pytest
from commands import run_command as nlpkit
from commands import run_process

SAMPLE = Path(nlpkit_ner.__file__).parent / "sample.conll"
TINY = ("model.preset=tiny", "trainer.max_steps=40", "optim.learning_rate=2e-3")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ner") / "run"
    ended = nlpkit("fit", "--task", "ner", "--out", folder, *TINY)
    assert ended.code == 0, ended.err
    assert "no data was given: running on the plugin's own sample (120 short texts" in ended.err
    return folder


def test_evaluate_tells_f1_by_type_and_errors_apart(run: Path) -> None:
    ended = nlpkit("evaluate", run, SAMPLE, "--json")
    assert ended.code == 0, ended.err
    scores = json.loads(ended.out)["scores"]
    assert {"f1", "precision", "recall", "f1_macro", "f1/person", "errors/boundary", "errors/missing"} <= set(scores)
    assert 0 < scores["f1"] <= 1


def test_written_predictions_score_by_seqeval_as_evaluate_says(run: Path, tmp_path: Path) -> None:
    from nlpkit_ner import conll, schemes
    from seqeval.metrics import f1_score
    from seqeval.scheme import IOB2

    examples = list(conll.read(str(SAMPLE)))
    (tmp_path / "texts.txt").write_text("".join(f"{e['text']}\n" for e in examples), "utf-8")
    answers = [json.loads(line) for line in nlpkit("predict", run, tmp_path / "texts.txt").out.splitlines()]
    assert [a["text"] for a in answers] == [e["text"] for e in examples]

    def tags(row: Any, other: Any) -> list[str]:
        words, spans = conll.words_of(row["text"], row["entities"], other["entities"])
        return schemes.tags(spans, len(words))

    pairs = list(zip(examples, answers, strict=True))
    tagged = [tags(e, a) for e, a in pairs], [tags(a, e) for e, a in pairs]
    expected = f1_score(*tagged, mode="strict", scheme=IOB2)
    scores = json.loads(nlpkit("evaluate", run, SAMPLE, "--json").out)["scores"]
    assert scores["f1"] == pytest.approx(expected, abs=1e-6)


def test_a_model_without_learned_transitions_cannot_be_asked_for_them(run: Path, tmp_path: Path) -> None:
    (tmp_path / "posts.txt").write_text("Tom Abara left\n", "utf-8")
    ended = nlpkit("predict", run, tmp_path / "posts.txt", "--transitions", "crf")
    assert ended.code == 2 and not ended.out
    assert "was fitted without the weights that task.transitions=crf needs\n" in ended.err


def test_predict_draws_a_page(run: Path, tmp_path: Path) -> None:
    (tmp_path / "posts.txt").write_text("Tom Abara left Harrow Bay & <Lindholm>\n", "utf-8")
    ended = nlpkit("predict", run, tmp_path / "posts.txt", "--html", tmp_path / "spans.html")
    assert ended.code == 0, ended.err
    (row,) = map(json.loads, ended.out.splitlines())
    page = (tmp_path / "spans.html").read_text("utf-8")
    assert page.count("<mark ") == len(row["entities"])
    assert "&lt;" in page


def test_a_type_that_the_model_does_not_know_is_named_with_its_line(run: Path, tmp_path: Path) -> None:
    (tmp_path / "other.conll").write_text("Bo\tB-person\n\nthe\tO\nTimes\tB-paper\n", "utf-8")
    ended = nlpkit("evaluate", run, tmp_path / "other.conll")
    assert ended.code == 3
    assert f"{tmp_path}/other.conll:3: label 'paper' is none of the model's (organisation, person, place)" in ended.err


def test_a_column_of_tags_is_chosen_by_number_or_name(run: Path, tmp_path: Path) -> None:
    rows = "Bo\tB-person\tx\nleft\tO\tx\n"
    (tmp_path / "three.conll").write_text(rows, "utf-8")
    assert nlpkit("evaluate", run, tmp_path / "three.conll", "data.entities=2").code == 0
    (tmp_path / "named.conll").write_text(f"# global.columns = FORM NER MISC\n{rows}", "utf-8")
    assert nlpkit("evaluate", run, tmp_path / "named.conll", "data.entities=NER").code == 0


def test_a_page_that_cannot_be_written_is_refused_before_the_work(run: Path, tmp_path: Path) -> None:
    (tmp_path / "posts.txt").write_text("Tom Abara\n", "utf-8")
    for target in (tmp_path / "none" / "a.html", tmp_path):
        ended = nlpkit("predict", run, tmp_path / "posts.txt", "--html", target)
        assert (ended.code, ended.out) == (2, "")
        assert f"--html {target}: no file can be written there" in ended.err


def test_a_page_that_is_there_is_not_overwritten(run: Path, tmp_path: Path) -> None:
    (tmp_path / "posts.txt").write_text("Tom Abara\n", "utf-8")
    page = tmp_path / "spans.html"
    page.write_text("mine", "utf-8")
    ended = nlpkit("predict", run, tmp_path / "posts.txt", "--html", page)
    assert (ended.code, ended.out, page.read_text("utf-8")) == (8, "", "mine")
    assert f"error: --html {page}: exists, and nothing is overwritten" in ended.err.splitlines()


def test_what_annotators_rejected_is_not_scored(run: Path, tmp_path: Path) -> None:
    span = {"start": 0, "end": 9, "label": "person"}
    rows = [{"text": f"Tom Abara {i}", "spans": [span], "answer": a} for i, a in enumerate(("accept", "reject"))]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    ended = nlpkit("evaluate", run, tmp_path / "a.jsonl", "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["examples"] == 1


@pytest.mark.parametrize("objective", ["mlm", "mlm+nsp", "clm", "denoise"])
def test_entities_are_learnt_from_what_any_objective_has_pre_trained(objective: str, tmp_path: Path) -> None:
    from nlpkit_ner import conll

    texts = [e["text"] for e in conll.read(str(SAMPLE))]
    documents = ("\n".join(texts[i : i + 4]) for i in range(0, len(texts), 4))
    (tmp_path / "books.jsonl").write_text("".join(json.dumps({"text": d}) + "\n" for d in documents), "utf-8")
    sizes = ("model.vocabulary=420", "model.sequence_length=32", "model.preset=tiny", "data.dev_share=0.2")
    base = ("pretrain", tmp_path / "books.jsonl", "--objective", objective, "--out", tmp_path / "base", *sizes)
    ended = nlpkit(*base, "trainer.max_steps=2")
    assert ended.code == 0, ended.err
    ended = nlpkit(
        "fit", "--task", "ner", "--from", tmp_path / "base", "--out", tmp_path / "run", "trainer.max_steps=2"
    )
    assert ended.code == 0, ended.err
    (account,) = (line for line in ended.err.splitlines() if ": loaded " in line)
    assert "; new: classifier." in account or "; new: score." in account, account
    (tmp_path / "posts.txt").write_text("Tom Abara left Harrow Bay\n", "utf-8")
    (row,) = map(json.loads, nlpkit("predict", tmp_path / "run", tmp_path / "posts.txt").out.splitlines())
    assert all(row["text"][e["start"] : e["end"]] == e["text"] for e in row["entities"])


def test_two_processes_count_errors_as_one_does(tmp_path: Path) -> None:
    counts = []
    for devices in (1, 2):
        out = tmp_path / str(devices)
        settings = (
            "model.preset=tiny",
            "trainer.max_steps=1",
            f"trainer.devices={devices}",
            "optim.learning_rate=1e-9",
            "task.transitions=none",  # illegal tags, which are left out
            "task.scoring=strict",
        )
        words = ("fit", "--task", "ner", "--out", out, *settings, "trainer.batch_tokens=4000")
        ended = nlpkit(*words) if devices == 1 else run_process(*words)
        assert ended.code == 0, ended.err
        (row,) = (r for r in map(json.loads, (out / "metrics.jsonl").read_text().splitlines()) if "dev/f1" in r)
        counts.append({key: value for key, value in row.items() if "errors/" in key})
    assert counts[0] == counts[1] and counts[0]["dev/errors/missing"] > 0


def test_of_steps_with_equal_scores_the_one_with_the_lowest_loss_is_kept(tmp_path: Path) -> None:
    settings = ("trainer.max_steps=4", "trainer.batch_size=64", "optim.learning_rate=1e-5", "model.preset=tiny")
    ended = nlpkit("fit", "--task", "ner", "--out", tmp_path / "run", *settings)
    assert ended.code == 0, ended.err
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    scored = {row["step"]: row for row in rows if "dev/f1" in row}
    highest = max(row["dev/f1"] for row in scored.values())
    equal = [step for step, row in scored.items() if row["dev/f1"] == highest]
    best = json.loads((tmp_path / "run" / "results.json").read_text())["best_step"]
    assert best == min(equal, key=lambda step: scored[step]["dev/loss"]) != equal[0]
