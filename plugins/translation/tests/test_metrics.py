"""Scores against sacreBLEU's own functions, also where several processes have a part of the texts each."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from nlpkit_translation import Translation, TranslationConfig
from nlpkit_translation.metrics import SCORERS, CorpusScore, Faults, signature

from nlpkit.plugins import Registry
from nlpkit.scores import metrics_of

WORDS = ["Der", "Hund", "die", "Katze", "sieht", "3,5", "Häuser", "nicht", "…", "日本", "e\u0301", "it's", "(x)", "."]
TEXT = st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12
)
CORPUS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=8)
THEIRS = {
    "bleu": lambda found, true: sacrebleu.corpus_bleu(found, [true]).score,
    "bleu_lowercase": lambda found, true: sacrebleu.corpus_bleu(found, [true], lowercase=True).score,
    "chrf": lambda found, true: sacrebleu.corpus_chrf(found, [true]).score,
}


def updated(metric: CorpusScore, pairs: Sequence[tuple[str, str]]) -> CorpusScore:
    if pairs:
        found, true = zip(*pairs, strict=True)
        metric.update(found, true, [""] * len(pairs), [True] * len(pairs))
    return metric


@pytest.mark.parametrize("name", THEIRS)
@settings(max_examples=30)
@given(CORPUS)
def test_a_score_is_sacrebleu_s_own(name: str, corpus: list[tuple[str, str]]) -> None:
    metric = CorpusScore(SCORERS[name]())
    for start in range(0, len(corpus), 3):  # batch by batch
        updated(metric, corpus[start : start + 3])
    found, true = map(list, zip(*corpus, strict=True))
    assert float(metric.compute()) == pytest.approx(THEIRS[name](found, true), abs=1e-4)


@pytest.mark.parametrize("name", THEIRS)
@settings(max_examples=15)
@given(CORPUS, CORPUS)
def test_processes_that_add_up_have_the_score_of_all(
    name: str, here: list[tuple[str, str]], there: list[tuple[str, str]]
) -> None:
    whole = float(updated(CorpusScore(SCORERS[name]()), here + there).compute())
    other = updated(CorpusScore(SCORERS[name]()), there)
    metric: Any = updated(CorpusScore(SCORERS[name]()), here)
    metric.distributed_available_fn = lambda: True
    metric.dist_sync_fn = lambda tensor, group=None: [tensor, other.sums]  # as torch gathers them
    assert float(metric.compute()) == whole
    merged = updated(CorpusScore(SCORERS[name]()), here)
    merged.merge_state(other)
    assert float(merged.compute()) == whole


def test_scores_start_anew_and_are_copied_with_their_sums() -> None:
    metric = updated(CorpusScore(SCORERS["bleu"]()), [("a b c d", "a b c d")])
    assert float(copy.deepcopy(metric).compute()) == pytest.approx(100)
    metric.reset()
    assert float(metric.compute()) == 0
    assert float(updated(metric, [("a b c d", "e f g h")]).compute()) == 0


ONE_OF_TWO = """
import json, sys, torch
from nlpkit.plugins import Registry
from nlpkit.scores import metrics_of
from nlpkit_translation import Translation, TranslationConfig
class Named:
    config = TranslationConfig(metrics=["bleu_lowercase"])
    name, build_metrics = "translation", Translation.build_metrics
rank, world, meeting, texts = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4])
torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
metrics = metrics_of(Named(), Registry())
for row in texts[rank::world]:
    metrics.update(*([value] for value in row))
print(json.dumps({name: float(value) for name, value in metrics.compute().items()}))
torch.distributed.destroy_process_group()
"""


def test_two_processes_have_the_scores_of_one(tmp_path: Path) -> None:
    sources = ["the dog sleeps at 8:30", "she has a red car", "they are late", "a b c", "we read the book"]
    found = ["der Hund schläft", "SIE HAT ein Auto", "ja ja ja ja", "a b c", ""]
    true = ["der Hund schläft um 8.30", "sie hat ein rotes Auto", "sie sind spät dran", "a b c", "wir lesen das Buch"]
    texts = json.dumps(list(zip(found, true, sources, [True, True, False, True, True], strict=True)))
    ends = {}
    for world in (1, 2):
        words = [str(world), str(tmp_path / f"meeting-{world}"), texts]
        commands = [[sys.executable, "-c", ONE_OF_TWO, str(rank), *words] for rank in range(world)]
        started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
        ends[world] = [json.loads(process.communicate()[0].splitlines()[-1]) for process in started]
    assert ends[2] == ends[1] * 2
    (scores,) = ends[1]
    assert scores["bleu_lowercase"] > scores["bleu"] > 0 and scores["faults/unended"] == 1 and scores["kept"] == 0
    assert scores["bleu"] == pytest.approx(THEIRS["bleu"](found, true), abs=1e-4)


def test_no_text_is_kept() -> None:
    metric, faults = updated(CorpusScore(SCORERS["chrf"]()), [("ein Hund", "der Hund")] * 1000), Faults()
    faults.update(["ein Hund"] * 1000, ["der Hund"] * 1000, ["a dog"] * 1000, [True] * 1000)
    assert metric.sums.numel() == 3 * 6  # of n-grams of one to six characters: theirs, ours, both
    assert [list(m._defaults) for m in (metric, faults)] == [["sums"], ["counts"]]


def test_faults_are_counted_once_for_each_text_and_not_where_there_was_nothing_to_say() -> None:
    metric = Faults()
    found = ["", "the dog sleeps", "ja ja ja ja", "um 8.30 Uhr", "", "x\0y"]
    sources = ["a", "the dog sleeps", "yes", "at 8:30 or 9", " \n", "b"]
    metric.update(found, found, sources, [False, True, True, True, False, True])
    scores = {name: float(value) for name, value in metric.compute().items()}
    assert scores == {
        "kept": 0.5,
        "faults/empty": 1.0,
        "faults/copied": 1.0,
        "faults/repeats": 1.0,
        "faults/unended": 1.0,
    }


def test_nothing_to_keep_is_all_kept() -> None:
    assert float(Faults().compute()["kept"]) == 1


def test_signatures_are_those_that_papers_give() -> None:
    version = sacrebleu.__version__
    assert signature("bleu") == f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:{version}"
    assert signature("bleu_lowercase") == f"nrefs:1|case:lc|eff:no|tok:13a|smooth:exp|version:{version}"
    assert signature("chrf") == f"nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:{version}"


def test_lower_case_scores_are_added_by_name_and_say_what_they_are(make_task: Any) -> None:
    task: Translation = make_task(metrics=["bleu_lowercase"])
    assert isinstance(task.config, TranslationConfig)
    metrics = metrics_of(task, Registry())
    metrics.update(["DER HUND UND DIE KATZE"], ["der Hund und die Katze"], ["the dog"], [True])
    scores = metrics.compute()
    assert float(scores["bleu_lowercase"]) == pytest.approx(100) and float(scores["bleu"]) < 50
    assert task.about_scores() == {name: signature(name) for name in ("bleu", "chrf", "bleu_lowercase")}
    assert list(make_task().about_scores()) == ["bleu", "chrf"]
