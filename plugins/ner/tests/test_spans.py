"""Spans of random tags, illegal ones included, against the rules read tag by tag."""

from __future__ import annotations

import pytest
import torch
from nlpkit_ner.spans import Mode, spans


def one(tags: list[int], mode: Mode) -> list[list[int]]:
    return spans(torch.tensor([tags]), torch.tensor([len(tags)]), mode).tolist()


def read(tags: list[int], mode: Mode) -> list[tuple[int, int, int]]:
    """First token, token behind the last, and type of each entity, by walking over the tags."""
    found, open_since, kind = [], -1, -1
    for place, tag in enumerate([*tags, 0]):
        of_type = (tag - 1) // 2 if tag else -1
        is_begin, is_inside = tag % 2 == 1, tag > 0 and tag % 2 == 0
        if open_since >= 0 and not (is_inside and of_type == kind):
            found.append((open_since, place, kind))
            open_since = -1
        if open_since < 0 and (is_begin or (is_inside and mode == "conlleval")):
            open_since, kind = place, of_type
    return found


@pytest.mark.parametrize("mode", ["strict", "conlleval"])
def test_thousands_of_random_sequences_equal_those_read_tag_by_tag(mode: Mode) -> None:
    torch.manual_seed(0)
    tags, lengths = torch.randint(0, 7, (4000, 10)), torch.randint(0, 11, (4000,))
    expected = [
        [row, *span] for row, length in enumerate(lengths.tolist()) for span in read(tags[row, :length].tolist(), mode)
    ]
    found = spans(tags, lengths, mode)
    assert found.tolist() == expected
    assert found.dtype == torch.int64


def test_modes_differ_in_what_may_begin() -> None:
    tags = [2, 2, 0, 1, 4, 4, 2]  # I-x I-x O B-x I-y I-y I-x
    assert one(tags, "strict") == [[0, 3, 4, 0]]
    assert one(tags, "conlleval") == [[0, 0, 2, 0], [0, 3, 4, 0], [0, 4, 6, 1], [0, 6, 7, 0]]


def test_two_of_a_type_side_by_side_are_two() -> None:
    assert one([1, 1, 2, 1], "strict") == [[0, 0, 1, 0], [0, 1, 3, 0], [0, 3, 4, 0]]


def test_an_entity_ends_with_its_text() -> None:
    tags = torch.tensor([[0, 3], [4, 4]])
    assert spans(tags, torch.tensor([2, 2]), "strict").tolist() == [[0, 1, 2, 1]]


def test_nothing_is_read_behind_the_length() -> None:
    tags = torch.tensor([[1, 2, 2], [-100, -100, -100]])
    assert spans(tags, torch.tensor([2, 0])).tolist() == [[0, 0, 2, 0]]


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (2, 1)])
def test_texts_without_entities_give_no_spans(shape: tuple[int, int]) -> None:
    found = spans(torch.zeros(shape, dtype=torch.int64), torch.full(shape[:1], shape[1]))
    assert found.shape == (0, 4)
    assert found.dtype == torch.int64
