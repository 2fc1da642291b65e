from __future__ import annotations

import contextlib
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nlpkit_ner import schemes
from nlpkit_ner.schemes import SCHEMES, Scheme, Span, TagError

from nlpkit.errors import DataError, UsageError

PROFILE = settings(derandomize=True, deadline=None, max_examples=150)
KINDS = st.sampled_from(["PER", "LOC", "creative-work", "B-PER", "ürün", "-"])
TABLE: list[tuple[Scheme, str]] = [
    ("IOB1", "I-PER O I-LOC I-LOC B-LOC"),
    ("IOB2", "B-PER O B-LOC I-LOC B-LOC"),
    ("BIOES", "S-PER O B-LOC E-LOC S-LOC"),
    ("BILOU", "U-PER O B-LOC L-LOC U-LOC"),
]


@st.composite
def sentences(draw: st.DrawFn) -> tuple[list[Span], int]:
    """Entities that lie side by side, and the number of words."""
    found: list[Span] = []
    place = 0
    for gap, size, kind in draw(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4), KINDS), max_size=6)):
        found.append((place + gap, place + gap + size, kind))
        place += gap + size
    return found, place + draw(st.integers(0, 2))


@pytest.mark.parametrize(("scheme", "tags"), TABLE)
def test_each_scheme_by_hand(scheme: Scheme, tags: str) -> None:
    entities = [(0, 1, "PER"), (2, 4, "LOC"), (4, 5, "LOC")]
    assert schemes.spans(tags.split(), scheme) == entities
    assert schemes.tags(entities, 5, scheme) == tags.split()
    assert schemes.detect([tags.split()]) == scheme


@PROFILE
@given(sentences(), st.sampled_from(SCHEMES))
def test_spans_come_back_from_their_tags(sentence: tuple[list[Span], int], scheme: Scheme) -> None:
    entities, length = sentence
    tagged = schemes.tags(entities, length, scheme)
    assert len(tagged) == length
    assert schemes.spans(tagged, scheme) == entities
    assert schemes.tags(schemes.spans(tagged, scheme), length, scheme) == tagged


@PROFILE
@given(st.lists(sentences(), max_size=4), st.sampled_from(SCHEMES))
def test_the_scheme_is_found_wherever_there_is_an_entity(file: list[tuple[list[Span], int]], scheme: Scheme) -> None:
    tagged = [schemes.tags(entities, length, scheme) for entities, length in file]
    assert schemes.detect(tagged) == (scheme if any(entities for entities, _ in file) else "IOB2")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_legal_is_what_entities_are_written_as_and_all_else_is_refused(scheme: Scheme) -> None:
    """Over all sequences of three tags: those that are read come back, and they are as many as there are entities."""
    letters = {"IOB1": "BI", "IOB2": "BI", "BIOES": "BIES", "BILOU": "BILU"}
    alphabet = ["O", *(f"{letter}-{kind}" for letter in letters[scheme] for kind in "XY")]
    legal = 0
    for tagged in product(alphabet, repeat=3):
        with contextlib.suppress(TagError):
            assert tuple(schemes.tags(schemes.spans(tagged, scheme), 3, scheme)) == tagged
            legal += 1
    ways = [1]  # to lay entities of two types over no word, one word, ...: the last word is O, or ends an entity
    for length in range(1, 4):
        ways.append(ways[length - 1] + 2 * sum(ways[:length]))
    assert legal == ways[3]


@pytest.mark.parametrize(
    ("tag", "hint"),
    [
        ("X-PER", "write B-PER, or I-PER where the entity goes on"),
        ("X-", "write O for a word that is in no entity"),
        ("--PER", "write O for a word that is in no entity"),
        ("B_PER", "write B-PER"),
        ("b-PER", "write B-PER"),
        ("B-", "write O for a word that is in no entity"),
        ("B", "write O for a word that is in no entity"),
        ("B- ", "write O for a word that is in no entity"),
        ("", "write O for a word that is in no entity"),
        ("o", "write O, the letter"),
        ("0", "write O, the letter"),
        ("PER", "write O for a word that is in no entity"),
    ],
)
def test_what_is_no_tag_is_refused(tag: str, hint: str) -> None:
    problem = f"'{tag}' is no tag; expected O, or a letter (B, I, E, S, L, U), a hyphen and a type, like B-PER"
    for action in (lambda: schemes.spans(["O", tag]), lambda: schemes.detect([["O"], ["O", tag]])):
        with pytest.raises(TagError) as caught:
            action()
        assert (caught.value.problem, caught.value.hint, caught.value.position) == (problem, hint, 1)
    assert caught.value.sentence == 1
    assert caught.value.message == f"token 2 of sentence 2: {problem}"


B_OR_I_PER = "and with B-PER only right after another PER"
WRONG: list[tuple[Scheme, str, int, str, str]] = [
    ("IOB2", "O I-PER", 1, "I-PER after O; in IOB2 an entity begins with B-PER", "write B-PER"),
    ("IOB2", "I-PER", 0, "I-PER at the start of the sentence; in IOB2 an entity begins with B-PER", "write B-PER"),
    ("IOB2", "B-LOC I-PER", 1, "I-PER after B-LOC; in IOB2 an entity begins with B-PER", "write B-PER"),
    (
        "IOB2",
        "O S-PER",
        1,
        "S-PER is not of IOB2; expected O, B-PER, I-PER",
        "use the letters of one scheme in all files",
    ),
    ("IOB1", "O B-PER", 1, f"B-PER after O; in IOB1 an entity begins with I-PER, {B_OR_I_PER}", "write I-PER"),
    (
        "BIOES",
        "B-PER O",
        0,
        "B-PER before O; in BIOES an entity ends with E-PER, or is S-PER if it is one word",
        "write S-PER",
    ),
    (
        "BIOES",
        "B-PER I-PER",
        1,
        "I-PER at the end of the sentence; in BIOES an entity ends with E-PER, or is S-PER if it is one word",
        "write E-PER",
    ),
    (
        "BILOU",
        "U-PER L-PER",
        1,
        "L-PER after U-PER; in BILOU an entity begins with B-PER, or is U-PER if it is one word",
        "write U-PER",
    ),
    (
        "BIOES",
        "E-PER I-PER E-PER",
        0,
        "E-PER at the start of the sentence; in BIOES an entity begins with B-PER, or is S-PER if it is one word",
        "write S-PER",
    ),
]


@pytest.mark.parametrize(("scheme", "tags", "position", "problem", "hint"), WRONG)
def test_a_tag_out_of_place_is_named(scheme: Scheme, tags: str, position: int, problem: str, hint: str) -> None:
    with pytest.raises(TagError) as caught:
        schemes.spans(tags.split(), scheme)
    assert (caught.value.position, caught.value.problem, caught.value.hint) == (position, problem, hint)


def test_a_file_that_fits_no_scheme_is_held_to_the_one_it_breaks_least() -> None:
    good = ["B-PER", "I-PER", "O", "B-LOC"]
    with pytest.raises(TagError) as caught:
        schemes.detect([good, good, ["O", "O", "I-LOC", "B-LOC"], good, ["I-PER"]])
    assert (caught.value.sentence, caught.value.position) == (2, 2)
    assert caught.value.problem == "I-LOC after O; in IOB2 an entity begins with B-LOC"


def test_an_unclosed_entity_at_the_end_of_a_sentence_is_found_in_a_file() -> None:
    with pytest.raises(TagError) as caught:
        schemes.detect([["B-PER", "E-PER"], ["O", "S-LOC"], ["O", "B-LOC"]])
    assert (caught.value.sentence, caught.value.position) == (2, 1)


@pytest.mark.parametrize(
    ("entities", "message"),
    [
        ([(0, 2, "PER"), (1, 3, "LOC")], "entity 1:3 (LOC) overlaps the one before it"),
        ([(2, 4, "PER")], "entity 2:4 (PER); expected one or more of 3 words"),
        ([(1, 1, "PER")], "entity 1:1 (PER); expected one or more of 3 words"),
        ([(0, 1, " ")], "entity 0:1 has no type"),
    ],
)
def test_spans_that_cannot_be_tagged_are_refused(entities: list[Span], message: str) -> None:
    with pytest.raises(DataError) as caught:
        schemes.tags(entities, 3)
    assert caught.value.message == message


def test_an_unknown_scheme_names_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        schemes.spans(["O"], "iob")  # type: ignore[arg-type]
    assert caught.value.message == "no scheme 'iob' of tags"
    assert caught.value.hint == "did you mean 'IOB2'? expected one of IOB2, BIOES, BILOU, IOB1"
