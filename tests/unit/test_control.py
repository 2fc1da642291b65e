"""Attributes before texts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nlpkit import control
from nlpkit.control import Control
from nlpkit.task import Example

cells = st.text("ab |/:\n\t", max_size=6)
tables = st.lists(st.tuples(st.sampled_from(["a text", " "]), cells, cells), min_size=1, max_size=20)


def examples(table: list[tuple[str, str, str]]) -> list[Example]:
    return [Example({"text": text, "A": one, "B b": two}) for text, one, two in table]


@given(tables)
def test_different_values_make_different_beginnings_on_one_line(table: list[tuple[str, str, str]]) -> None:
    known = control.count(examples(table), ["A", "B b"])
    beginnings = [control.prefix(dict(zip(known.columns, values, strict=True))) for values in known.rows]
    assert len(set(beginnings)) == len(beginnings)
    assert not any(character in beginning for beginning in beginnings for character in "\n\t")
    assert sum(known.rows.values()) == sum(text == "a text" for text, _, _ in table)


@given(tables)
def test_each_text_begins_with_what_its_row_says(table: list[tuple[str, str, str]]) -> None:
    for (text, one, two), example in zip(table, control.written(examples(table), ["A", "B b"]), strict=True):
        one, two = (" ".join(cell.replace("|", "/").split()) for cell in (one, two))
        parts = [f"A: {one}"] * bool(one) + [f"B b: {two}"] * bool(two) + ["a text"]
        assert example["text"] == (" | ".join(parts) if text == "a text" else text)
        assert control.bare(["A", "B b"])(example["text"]) == text


def test_only_the_attributes_are_no_text() -> None:
    take = control.bare(["A", "B b"])
    texts = ["A: is for apple", "a | b", "B b: 1 | A: 2 | b", "A: 1 | B b: 2 | A: 3 | b", ""]
    assert list(map(take, texts)) == ["A: is for apple", "a | b", "A: 2 | b", "A: 3 | b", ""]


@given(st.dictionaries(st.tuples(st.sampled_from("xy"), st.sampled_from("uvw")), st.integers(1, 9), min_size=1))
def test_draws_keep_to_rows_of_the_data(rows: dict[tuple[str, str], int]) -> None:
    known = Control(("A", "B"), rows)
    assert Control.of({"control": known.plain()}) == known
    asked = known.check({"A": next(iter(rows))[0]})
    drawn = known.draw(asked, 8, seed=1)
    assert drawn == known.draw(asked, 8, seed=1)
    assert all((one["A"], one["B"]) in rows and one["A"] == asked["A"] for one in drawn)


def test_draws_are_as_frequent_as_rows() -> None:
    drawn = Control(("A",), {("x",): 900, ("y",): 100}).draw({}, 1000, seed=2)
    assert 70 < sum(one["A"] == "y" for one in drawn) < 130
