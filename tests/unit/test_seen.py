"""Fingerprints of what a model has seen: counted, joined, sampled, written and read."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from nlpkit import seen
from nlpkit.errors import ModelError
from nlpkit.splits import fingerprints

TEXTS = [f"a review of the thing with the number {i} on it" for i in range(400)]


def test_count_says_how_many_texts_each_stage_has_seen() -> None:
    known = seen.join(seen.of_texts("pretrain", TEXTS[:100]), seen.of_texts("finetune", TEXTS[90:120]))
    asked = [TEXTS[80].upper(), *TEXTS[95:130], "another text that has nothing to do with these"]
    assert seen.count(known, asked) == {"pretrain": 6, "finetune": 25}


def test_count_takes_no_text_of_fewer_than_eight_words() -> None:
    short = ["great product", "I love it, I really do"]
    assert seen.count(seen.of_texts("pretrain", short), short) == {"pretrain": 0}


def test_count_of_a_bundle_without_fingerprints_is_empty() -> None:
    assert seen.count({}, TEXTS) == {}


def test_join_of_one_stage_twice_has_the_texts_of_both() -> None:
    both = seen.join(seen.of_texts("pretrain", TEXTS[:100]), seen.of_texts("pretrain", TEXTS[50:150]))
    assert both["pretrain"].values.tolist() == sorted(fingerprints(TEXTS[:150]).tolist())


def test_sketch_of_very_many_texts_is_a_sample_that_counts_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen, "SEEN_TEXTS", 100)
    known = seen.of_texts("pretrain", TEXTS)
    assert known["pretrain"].is_sample
    assert len(known["pretrain"].values) == 100
    assert seen.count(known, TEXTS) == {"pretrain": 400}  # of those that it can tell, all
    others = [text + " now" for text in TEXTS]
    assert seen.count(known, others) == {"pretrain": 0}
    assert 150 <= seen.count(known, [*TEXTS[:200], *others[:200]])["pretrain"] <= 250


def test_join_with_a_sample_is_the_sample_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen, "SEEN_TEXTS", 100)
    first, second = seen.of_texts("pretrain", TEXTS[:300]), seen.of_texts("pretrain", TEXTS[250:])
    both, once = seen.join(first, second)["pretrain"], seen.of_texts("pretrain", TEXTS)["pretrain"]
    assert (both.values.tolist(), both.top) == (once.values.tolist(), once.top)


def test_write_and_read_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen, "SEEN_TEXTS", 100)
    known = seen.join(seen.of_texts("pretrain", TEXTS), seen.of_texts("finetune", TEXTS[:7]))
    seen.write(tmp_path, known)
    again = seen.read(tmp_path)
    assert {stage: (s.values.tolist(), s.top) for stage, s in again.items()} == {
        stage: (s.values.tolist(), s.top) for stage, s in known.items()
    }
    assert (tmp_path / seen.FILE).stat().st_size < 8 * 107 + 400


def test_nothing_seen_is_no_file(tmp_path: Path) -> None:
    seen.write(tmp_path, {})
    assert list(tmp_path.iterdir()) == []
    assert seen.read(tmp_path) == {}


VALUES = np.array([1, 5, 9], np.uint64)


@pytest.mark.parametrize(
    ("tensors", "tops"),
    [
        ({"pretrain": VALUES[::-1].copy()}, {"pretrain": "9"}),
        ({"pretrain": VALUES}, {"pretrain": "8"}),
        ({"pretrain": VALUES}, {"pretrain": "many"}),
        ({"pretrain": VALUES}, None),
        ({"pretrain": VALUES.astype(np.float32)}, {"pretrain": "9"}),
        ({"pretrain": VALUES[None]}, {"pretrain": "9"}),
        ({"other": VALUES}, {"other": "9"}),
    ],
)
def test_file_of_anything_else_is_refused(tmp_path: Path, tensors: dict[str, np.ndarray], tops: dict | None) -> None:
    save_file(tensors, tmp_path / seen.FILE, tops)
    with pytest.raises(ModelError) as caught:
        seen.read(tmp_path)
    assert caught.value.message == f"{tmp_path / seen.FILE}: no fingerprints of texts, or damaged"


def test_file_that_is_no_safetensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / seen.FILE).write_bytes(b"\x80\x04pickle")
    with pytest.raises(ModelError, match="no fingerprints of texts, or damaged"):
        seen.read(tmp_path)


def test_warning_names_files_counts_and_what_to_type(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "nlpkit"):
        seen.warn({"pretrain": 1137, "finetune": 3}, 4998, ["my test.csv"])
        seen.warn({"pretrain": 0, "finetune": 0}, 4998, ["b.csv"])
        seen.warn({}, 4998, ["b.csv"])
        seen.warn({"pretrain": 2}, 150, [], "dev texts")
    assert caplog.messages == [
        "my test.csv: 1,137 of 4,998 texts stood in the corpus of this model (pre-training): scores on them flatter; "
        "to leave them out there: nlpkit pretrain ... --exclude 'my test.csv'",
        "my test.csv: 3 of 4,998 texts were used to fit this model: scores on them flatter; take others",
        "the sample: 2 of 150 dev texts stood in the corpus of this model (pre-training): scores on them flatter",
    ]
