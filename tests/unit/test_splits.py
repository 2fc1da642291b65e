from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpkit.errors import UsageError
from nlpkit.splits import conflicts, duplicates, fingerprint, overlap, split
from nlpkit.task import Example

PROFILE = settings(derandomize=True, deadline=None, max_examples=100)
ROW = st.fixed_dictionaries(
    {
        "text": st.sampled_from(["", " ", "a", "A ", "b", "c d", "C\u00a0D"]) | st.text(max_size=3),
        "label": st.sampled_from(["x", "y", "z", None]),
        "shop": st.sampled_from("12345678"),
    }
)
ROWS = st.lists(ROW, max_size=30)
SHARES = st.floats(0, 0.9)


def make(*rows: dict[str, Any]) -> list[Example]:
    return [Example(row) for row in rows]


def many(count: int, labels: str = "xy") -> list[Example]:
    return make(*({"text": f"text {n}", "label": labels[n % len(labels)]} for n in range(count)))


def texts(examples: list[Example], indices: list[int]) -> Counter[str]:
    return Counter(examples[index]["text"] for index in indices)


@pytest.mark.parametrize("other", ["GOOD  Shoe", " good\tshoe\n", "ｇood shoe", "good\u00a0shoe", "good\u2003ſhoe"])
def test_fingerprint_ignores_case_white_space_and_compatibility_forms(other: str) -> None:
    assert fingerprint(other) == fingerprint("good shoe")


def test_fingerprint_tells_words_apart() -> None:
    different = ["good shoe", "goodshoe", "good shoes", "good, shoe", "", "\u200bgood shoe", "é", "e"]
    assert len({fingerprint(text) for text in different}) == len(different)


def test_fingerprint_is_the_same_in_another_process() -> None:
    code = "from nlpkit.splits import fingerprint; print(fingerprint('gööd \\ud800'))"
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"]
    runs = {subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2)}
    assert runs == {f"{fingerprint('gööd ' + chr(0xD800))}\n"}


def test_split_holds_out_the_share_of_each_label() -> None:
    examples = [*many(900, "xxy"), *make(*({"text": f"rare {n}", "label": "z"} for n in range(20)))]
    train, held = split(examples, 0.15, seed=0)
    assert sorted(train + held) == list(range(920))
    assert Counter(examples[i]["label"] for i in held) == {"x": 90, "y": 45, "z": 3}


def test_split_gives_indices_in_input_order() -> None:
    train, held = split(many(50), 0.3, seed=1)
    assert (train, held) == (sorted(train), sorted(held))


def test_split_without_labels_holds_out_the_share() -> None:
    examples = make(*({"text": f"t{n}"} for n in range(1000)))
    assert len(split(examples, 0.1, seed=3)[1]) == 100
    assert len(split(examples, 0.1, seed=3, labels_of=lambda _: [])[1]) == 100


def test_split_of_another_seed_is_another() -> None:
    examples = many(200)
    assert split(examples, 0.2, seed=0) == split(examples, 0.2, seed=0)
    assert split(examples, 0.2, seed=0) != split(examples, 0.2, seed=1)


def test_split_moves_few_rows_when_a_row_is_added() -> None:
    examples = many(1000)
    before, after = (
        split(examples, 0.15, seed=0)[1],
        split([*examples, Example({"text": "new", "label": "x"})], 0.15, seed=0)[1],
    )
    assert len(set(before) ^ set(after)) <= 2


def test_split_holds_out_every_label_that_has_two_texts() -> None:
    train, held = split(many(8, "wxyz"), 0.1, seed=0)
    assert (len(train), len(held)) == (4, 4)


def test_split_keeps_a_single_text_of_a_label_for_training() -> None:
    examples = [*many(40), Example({"text": "only", "label": "z"})]
    assert all(40 in split(examples, 0.5, seed=seed)[0] for seed in range(10))


def test_split_of_nothing_or_one_text_holds_nothing_out() -> None:
    assert split([], 0.5, seed=0) == ([], [])
    assert split(make(*[{"text": "a", "label": "x"}] * 9), 0.9, seed=0) == (list(range(9)), [])


def test_split_holds_nothing_out_for_a_share_of_zero() -> None:
    assert split(many(9), 0, seed=0) == (list(range(9)), [])


@pytest.mark.parametrize("share", [-0.1, 1.0, 15.0, float("nan")])
def test_split_refuses_a_share_out_of_range(share: float) -> None:
    with pytest.raises(UsageError) as caught:
        split(many(4), share, seed=0)
    assert caught.value.message == f"data.dev_share: {share} of the rows cannot be held out; expected 0 to below 1"


def test_split_keeps_groups_together_and_near_the_share() -> None:
    rng = random.Random(0)
    examples = make(
        *({"text": f"t{n}", "label": rng.choice("xxy"), "shop": str(rng.randrange(60))} for n in range(3000))
    )
    train, held = split(examples, 0.2, seed=0, group="shop")
    assert not {examples[i]["shop"] for i in train} & {examples[i]["shop"] for i in held}
    share = Counter(examples[i]["label"] for i in held)
    total = Counter(example["label"] for example in examples)
    assert all(abs(share[label] / total[label] - 0.2) < 0.03 for label in "xy")


def test_split_does_not_join_groups_by_their_blank_texts() -> None:
    examples = make(*({"text": " " if n % 2 else f"t{n}", "shop": str(n // 2)} for n in range(200)))
    assert len(split(examples, 0.5, seed=0, group="shop")[1]) == 100


def test_duplicates_and_conflicts_leave_blank_texts_aside() -> None:
    examples = make(
        {"text": "", "label": "x"},
        {"text": "Good", "label": "x"},
        {"text": "bad", "label": "y"},
        {"text": " ", "label": "y"},
        {"text": "good ", "label": "x"},
        {"text": "BAD", "label": "x"},
        {"text": "bad"},
    )
    assert duplicates(examples) == [[1, 4], [2, 5, 6]]
    assert conflicts(examples) == [[2, 5, 6]]


def test_overlap_lists_the_test_rows_that_were_trained_on() -> None:
    train = make({"text": "a b"}, {"text": ""})
    assert overlap(train, make({"text": "c"}, {"text": " A  B"}, {"text": ""}, {"text": "a b"})) == [1, 3]


def test_tokens_in_a_list_are_a_text() -> None:
    examples = make({"tokens": ["a", "b"]}, {"tokens": ["A", "b"]}, {"tokens": ["ab"]})
    assert duplicates(examples, text="tokens") == [[0, 1]]


@given(ROWS, SHARES, st.integers(0, 5), st.randoms(use_true_random=False), st.sampled_from([None, "shop"]))
@PROFILE
def test_split_does_not_depend_on_the_order_of_the_rows(
    rows: list[dict[str, Any]], share: float, seed: int, rng: random.Random, group: str | None
) -> None:
    examples, shuffled = make(*rows), make(*rows)
    rng.shuffle(shuffled)
    sides = split(examples, share, seed=seed, group=group)
    others = split(shuffled, share, seed=seed, group=group)
    assert [texts(examples, side) for side in sides] == [texts(shuffled, side) for side in others]


@given(ROWS, SHARES, st.sampled_from([None, "shop"]))
@PROFILE
def test_split_never_parts_equal_texts(rows: list[dict[str, Any]], share: float, group: str | None) -> None:
    examples = make(*rows)
    train, held = split(examples, share, seed=0, group=group)
    assert sorted(train + held) == list(range(len(rows)))
    assert not overlap([examples[i] for i in train], [examples[i] for i in held])


@given(st.lists(st.sampled_from("xyz"), max_size=60), SHARES)
@PROFILE
def test_split_of_different_texts_rounds_each_label(labels: list[str], share: float) -> None:
    examples = make(*({"text": f"t{n}", "label": label} for n, label in enumerate(labels)))
    held = Counter(labels[i] for i in split(examples, share, seed=0)[1])
    for label, total in Counter(labels).items():
        wanted = min(max(share * total, share > 0 and total > 1), total - 1)
        assert abs(held[label] - wanted) <= 0.5 + 1e-9


PAIRS = [("is it red", "is it not blue", "x"), ("is it red", "is it warm", "y"), ("IS IT RED", "is it  warm", "x")]


def test_of_several_texts_all_must_be_shared() -> None:
    rows = make(*({"first": a, "second": b, "label": label} for a, b, label in PAIRS))

    assert duplicates(rows, text=["first", "second"]) == [[1, 2]]
    assert conflicts(rows, text=["first", "second"]) == [[1, 2]]
    assert overlap(rows[:1], rows, text=["first", "second"]) == [0]
    assert overlap(rows[1:2], rows, text=["first", "second"]) == [1, 2]


def test_of_several_texts_a_word_counts_where_it_stands() -> None:
    rows = make({"first": "red a", "second": "b"}, {"first": "red", "second": "a b"})

    assert duplicates(rows, text=["first", "second"]) == []
