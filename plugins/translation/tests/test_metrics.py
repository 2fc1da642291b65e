"""Scores against sacreBLEU's own functions, also where several processes have a part of the texts each."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import sacrebleu
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nlpkit_translation import Translation, TranslationConfig
from nlpkit_translation.metrics import SCORERS, CorpusScore, Faults, Texts, signature

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


def updated(metric: Texts, pairs: Sequence[tuple[str, str]]) -> Texts:
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
def test_processes_that_gather_their_texts_have_the_score_of_all(
    name: str, here: list[tuple[str, str]], there: list[tuple[str, str]]
) -> None:
    whole = float(updated(CorpusScore(SCORERS[name]()), here + there).compute())
    other = updated(CorpusScore(SCORERS[name]()), there)
    metric: Any = updated(CorpusScore(SCORERS[name]()), here)
    metric.distributed_available_fn = lambda: True
    metric.dist_sync_fn = lambda tensor, group=None: [tensor, torch.cat(other.texts)]  # as torch gathers them
    assert float(metric.compute()) == whole
    merged = updated(CorpusScore(SCORERS[name]()), here)
    merged.merge_state(other)
    assert float(merged.compute()) == whole


def test_scores_start_anew_and_are_copied_with_their_texts() -> None:
    metric = updated(CorpusScore(SCORERS["bleu"]()), [("a b c d", "a b c d")])
    assert float(copy.deepcopy(metric).compute()) == pytest.approx(100)
    metric.reset()
    assert float(metric.compute()) == 0
    assert float(updated(metric, [("a b c d", "e f g h")]).compute()) == 0


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
