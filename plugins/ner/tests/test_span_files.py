from __future__ import annotations

import io
import json
import logging
import unicodedata
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nlpkit_ner import conll, offsets, span_files
from nlpkit_ner.characters import characters

from nlpkit.errors import DataError

PROFILE = settings(derandomize=True, deadline=None, max_examples=60)
TEXT = "Ann met Lee in Oslo"
SPANS = [(0, 3, "PER"), (8, 11, "PER"), (15, 19, "LOC")]
ENTITIES = [{"start": start, "end": end, "label": label} for start, end, label in SPANS]
LIKE = 'expected a list like [{"start": 0, "end": 6, "label": "LOC"}]'
GAK = "\u1100\u1161\u11a8"  # one Hangul syllable in three letters
ODD = [
    "Zoë",
    "e\u0301",
    "👩\u200d💻",
    "🇩🇪",
    "👍🏽",
    "שלום",
    "مرحبا",
    "New\u00a0York",
    "a\u200bb",
    "می\u200cخواهم",
    GAK,
    "\u0301",
]
WORDS = st.one_of(
    st.sampled_from(ODD),
    st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zs", "Zl", "Zp")), min_size=1, max_size=6),
)
Write = Callable[..., str]


@pytest.fixture
def write_rows(write: Write) -> Write:
    """Write rows as JSON lines, or a text as it is."""

    def _write(*rows: Any, name: str = "a.jsonl") -> str:
        whole = len(rows) == 1 and isinstance(rows[0], str)
        return write(rows[0] if whole else "".join(json.dumps(row) + "\n" for row in rows), name)

    return _write


def fails(path: str, message: str, hint: str) -> None:
    with pytest.raises(DataError) as caught:
        list(span_files.read(path))
    assert (caught.value.message, caught.value.hint) == (message, hint)


# One writer for each form, written from the tools' own descriptions.


def nlpkit(text: str, spans: list[tuple[int, int, str]]) -> Any:
    return {"text": text, "entities": [{"start": s, "end": e, "label": label} for s, e, label in spans]}


def prodigy(text: str, spans: list[tuple[int, int, str]]) -> Any:
    rows = [{"start": s, "end": e, "label": label, "token_start": 0, "token_end": 0} for s, e, label in spans]
    return {"text": text, "tokens": [], "spans": rows, "_view_id": "ner_manual", "answer": "accept"}


def doccano_lists(text: str, spans: list[tuple[int, int, str]]) -> Any:
    return {"id": 7, "text": text, "label": [[s, e, label] for s, e, label in spans], "Comments": []}


def doccano_objects(text: str, spans: list[tuple[int, int, str]]) -> Any:
    rows = [{"id": 1, "label": label, "start_offset": s, "end_offset": e} for s, e, label in spans]
    return {"id": 7, "text": text, "entities": rows, "relations": []}


def doccano_data(text: str, spans: list[tuple[int, int, str]]) -> Any:
    return {"id": 7, "data": text, "labels": [[s, e, label] for s, e, label in spans]}


def label_studio(text: str, spans: list[tuple[int, int, str]], key: str = "annotations") -> Any:
    values = [{"start": s, "end": e, "text": text[s:e], "labels": [label]} for s, e, label in spans]
    result = [
        {"id": "x", "from_name": "label", "to_name": "text", "type": "labels", "value": value} for value in values
    ]
    choice = {"type": "choices", "from_name": "kind", "to_name": "text", "value": {"choices": ["news"]}}
    relation = {"type": "relation", "from_id": "x", "to_id": "x", "direction": "right"}
    cancelled = {"was_cancelled": True, "result": [{"value": {"start": 0, "end": 99, "labels": ["BAD"]}}]}
    return {"id": 1, "data": {"text": text}, key: [cancelled, {"result": [choice, *result, relation]}]}


def label_studio_utf16(text: str, spans: list[tuple[int, int, str]]) -> Any:
    def units(offset: int) -> int:
        return len(text[:offset].encode("utf-16-le")) // 2

    row = label_studio(text, spans, "completions")
    for result in row["completions"][1]["result"]:
        if "start" in result.get("value", {}):
            result["value"].update(start=units(result["value"]["start"]), end=units(result["value"]["end"]))
    return row


def label_studio_short(text: str, spans: list[tuple[int, int, str]]) -> Any:
    return {
        "id": 1,
        "text": text,
        "label": [{"start": s, "end": e, "text": text[s:e], "labels": [x]} for s, e, x in spans],
    }


def spacy(text: str, spans: list[tuple[int, int, str]]) -> Any:
    return [text, {"entities": [list(span) for span in spans]}]


def displacy(text: str, spans: list[tuple[int, int, str]]) -> Any:
    return {"text": text, "ents": nlpkit(text, spans)["entities"], "title": None}


FORMS = [
    *(nlpkit, prodigy, doccano_lists, doccano_objects, doccano_data, spacy, displacy),
    *(label_studio, label_studio_utf16, label_studio_short),
]


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_told_by_its_rows(write_rows: Write, form: Any) -> None:
    rows = list(span_files.read(write_rows(form(TEXT, SPANS[::-1]), form("so", []))))
    assert rows == [{"text": TEXT, "entities": ENTITIES}, {"text": "so", "entities": []}]
    assert [row.where for row in rows] == ["a.jsonl:1", "a.jsonl:2"]


@st.composite
def spanned(draw: st.DrawFn) -> tuple[str, list[tuple[int, int, str]]]:
    """Words joined by one space, and entities over some of them."""
    text, spans = "", []
    for word, kind in draw(st.lists(st.tuples(WORDS, st.sampled_from(["", "PER", "creative-work"])), max_size=6)):
        if kind:
            spans.append((len(text), len(text) + len(word), kind))
        text += f"{word} "
    return text[:-1], spans


@PROFILE
@given(st.lists(st.tuples(spanned(), st.sampled_from(FORMS)), min_size=1, max_size=4), st.sampled_from([None, 1]))
def test_any_text_comes_back_from_any_form(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[Any, Any]], indent: int | None
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    written = [form(text, spans) for (text, spans), form in rows]
    expected = [nlpkit(text, spans) for (text, spans), _ in rows]
    for content in (json.dumps(written, indent=indent), "\n".join(json.dumps(r, ensure_ascii=False) for r in written)):
        path.write_text(content, encoding="utf-8")
        assert list(span_files.read(str(path))) == expected


@PROFILE
@given(spanned())
def test_conll_and_json_hold_the_same(tmp_path_factory: pytest.TempPathFactory, row: tuple[str, Any]) -> None:
    text, spans = row
    if not text:
        return
    columns = io.StringIO(newline="\n")
    example = nlpkit(text, spans)
    conll.write([example], columns)
    path = tmp_path_factory.getbasetemp() / "any.conll"
    path.write_bytes(columns.getvalue().encode())
    assert list(conll.read(str(path))) == [example]


@pytest.mark.parametrize("break_after", ["[", "[\n", "\n [\n\n"])
def test_rows_of_an_array_have_the_line_they_begin_in(write_rows: Write, break_after: str) -> None:
    path = write_rows(
        f'{break_after}{{"text": "a",\n "entities": []}},\n\n{{"text": "b", "entities": []}}\n]\n', name="a.json"
    )
    first = 1 + break_after.count("\n")
    assert [(row.where, row["text"]) for row in span_files.read(path)] == [
        (f"a.json:{first}", "a"),
        (f"a.json:{first + 3}", "b"),
    ]


def test_rows_without_annotations_are_texts_to_predict_for(write_rows: Write) -> None:
    path = write_rows({"text": "a"}, {"data": {"text": "b"}, "annotations": []}, {"text": "c", "label": None})
    assert list(span_files.read(path)) == [{"text": "a"}, {"text": "b"}, {"text": "c"}]
    assert list(span_files.read(write_rows({"text": "a", "answer": "accept"}))) == [{"text": "a", "entities": []}]
    assert list(span_files.read(write_rows({"data": {"review": "d", "stars": 3}}))) == [{"text": "d"}]


def test_open_tasks_of_an_annotated_file_are_left_out_and_counted(
    write_rows: Write, caplog: pytest.LogCaptureFixture
) -> None:
    still_open = [{"text": "a"}, {"data": {"text": "b"}, "annotations": []}, {"text": "c", "label": None}]
    with caplog.at_level(logging.INFO, "nlpkit"):
        read = list(span_files.read(write_rows(*still_open, nlpkit(TEXT, SPANS), {"text": "d"}, nlpkit("e", []))))
    assert [(row["text"], row.where) for row in read] == [(TEXT, "a.jsonl:4"), ("e", "a.jsonl:6")]
    assert caplog.messages == ["a.jsonl: json with spans, 2 texts, 3 entities; left out 4 not annotated"]


def test_later_annotations_of_a_text_are_counted(write_rows: Write, caplog: pytest.LogCaptureFixture) -> None:
    row, other = label_studio(TEXT, SPANS), label_studio(TEXT, SPANS[:1])
    same = {"result": row["annotations"][1]["result"][::-1]}
    row["annotations"] += [same, other["annotations"][1], {"result": None}, other["annotations"][0]]
    with caplog.at_level(logging.INFO, "nlpkit"):
        assert list(span_files.read(write_rows(row))) == [{"text": TEXT, "entities": ENTITIES}]
    assert caplog.messages == [
        "a.jsonl: json with spans, 1 texts, 3 entities; left out 3 later annotations of texts, 2 of them different"
    ]


def test_quotes_that_are_too_short_do_not_refuse_their_span(
    write_rows: Write, caplog: pytest.LogCaptureFixture
) -> None:
    row = label_studio(TEXT, SPANS)
    row["annotations"][1]["result"][2]["value"]["text"] = "ee"
    with caplog.at_level(logging.INFO, "nlpkit"):
        assert list(span_files.read(write_rows(row))) == [{"text": TEXT, "entities": ENTITIES}]
    assert caplog.messages == [
        "a.jsonl: json with spans, 1 texts, 3 entities; 1 entities are longer than their own text, "
        "taken by their offsets"
    ]


def test_short_quotes_do_not_hide_offsets_in_utf16_units(write_rows: Write) -> None:
    spans = [(0, 3, "PER"), (4, 6, "x"), (7, 8, "x")]
    text = "Ann 💩b b"
    row = label_studio_utf16(text, spans)
    row["completions"][1]["result"][1]["value"]["text"] = "nn"
    assert list(span_files.read(write_rows(row))) == [nlpkit(text, spans)]


@pytest.mark.parametrize(
    "row",
    [
        {"entities": [], "spans": [[0, 3, "PER"]]},
        {"spans": [], "annotations": [{"start": 0, "end": 3, "label": "PER"}]},
        {"entities": [{"start": 0, "end": 3, "label": "PER"}], "label": [[0, 3, "PER"]]},
        {"entities": [[0, 3, "PER"]], "label": "good", "annotations": [{"user": 7}]},
        {"spans": [[0, 3, "PER"]], "labels": ["PER", "LOC"]},
        {"data": {"source": "web"}, "entities": [[0, 3, "PER"]]},
        {"annotations": [{"start": 0, "end": 3, "label": " PER "}]},
    ],
)
def test_the_key_that_holds_the_spans_is_read(write_rows: Write, row: Any) -> None:
    assert list(span_files.read(write_rows({"text": TEXT, **row}))) == [{"text": TEXT, "entities": ENTITIES[:1]}]


def test_what_is_left_out_and_changed_is_counted(write_rows: Write, caplog: pytest.LogCaptureFixture) -> None:
    cancelled = {"data": {"text": "a"}, "annotations": [{"was_cancelled": True, "result": []}]}
    rejected, ignored = ({**prodigy(TEXT, SPANS), "answer": answer} for answer in ("reject", "ignore"))
    padded = nlpkit(" Ann \n met", [(0, 6, "PER"), (7, 10, "X")])
    rows = [
        prodigy(TEXT, SPANS),
        rejected,
        rejected,
        ignored,
        cancelled,
        padded,
        label_studio_utf16("💩 Ann", [(2, 5, "P")]),
    ]
    with caplog.at_level(logging.INFO, "nlpkit"):
        read = list(span_files.read(write_rows(*rows)))
    assert [row["text"] for row in read] == [TEXT, " Ann \n met", "💩 Ann"]
    assert read[1]["entities"] == [{"start": 1, "end": 4, "label": "PER"}, {"start": 7, "end": 10, "label": "X"}]
    assert caplog.messages == [
        "a.jsonl: json with spans, 3 texts, 6 entities; left out 2 rejected; left out 1 ignored; left out 1 cancelled; "
        "white space taken off 1 entities; offsets of 1 texts converted from UTF-16 units"
    ]


def test_doccano_with_emoji_is_taken_as_it_is_and_said(write_rows: Write, caplog: pytest.LogCaptureFixture) -> None:
    rows = [form("👍 Ann", [(2, 5, "PER")]) for form in (doccano_lists, doccano_objects, nlpkit, label_studio_short)]
    rows += [doccano_lists("Ann 👍", [(0, 3, "PER")])]
    with caplog.at_level(logging.WARNING, "nlpkit"):
        read = list(span_files.read(write_rows(*rows)))
    assert [row["entities"][0]["start"] for row in read] == [2, 2, 2, 2, 0]
    assert caplog.messages == [
        "a.jsonl: 2 texts have characters above U+FFFF, such as emoji, before the end of an entity; doccano counts "
        "them as two by default, here they are one: look whether these entities are where they should be"
    ]


def test_numbers_as_nlpkits_own_reader_spells_them(write_rows: Write) -> None:
    assert span_files.normalise([{"start": "0", "end": "3", "label": "PER"}], "a:1", TEXT) == ENTITIES[:1]


def test_one_row_of_a_plugin_in_any_form() -> None:
    counts: Counter[str] = Counter()
    value = {"entities": [(15, 19, "LOC"), (0, 4, "PER")]}
    assert span_files.normalise(value, "a:1", TEXT, counts) == [ENTITIES[0], ENTITIES[2]]
    assert counts[offsets.SHRUNK] == 1


ENDS = "end is the offset after the last character"
CODE_POINTS = "offsets are characters (code points) from 0, not bytes"


@pytest.mark.parametrize(
    ("spans", "message", "hint"),
    [
        (
            [(0, 7, "A"), (4, 11, "B")],
            "span 0:7 'Ann met' (A) and span 4:11 'met Lee' (B) overlap: they cross",
            "shorten one of the two",
        ),
        (
            [(4, 7, "B"), (0, 11, "A")],
            "span 0:11 'Ann met Lee' (A) and span 4:7 'met' (B) overlap: one lies within the other",
            "keep the one that is meant, mostly the longer",
        ),
        (
            [(0, 3, "A"), (0, 7, "B")],
            "span 0:3 'Ann' (A) and span 0:7 'Ann met' (B) overlap: one lies within the other",
            "keep the one that is meant, mostly the longer",
        ),
        (
            [(0, 4, "A"), (0, 3, "B")],
            "span 0:3 'Ann' (A) and span 0:3 'Ann' (B) cover the same words",
            "keep one of the two",
        ),
        ([(15, 20, "A")], "span 15:20 'Oslo' (A) leaves the text, which has 19 characters", CODE_POINTS),
        ([(-1, 3, "A")], "span -1:3 'Ann' (A) leaves the text, which has 19 characters", CODE_POINTS),
        ([(30, 40, "A")], "span 30:40 (A) leaves the text, which has 19 characters", CODE_POINTS),
        ([(3, 3, "A")], "span 3:3 (A) is empty", ENDS),
        ([(5, 3, "A")], "span 5:3 (A) ends before it starts", ENDS),
        ([(3, 4, "A")], "span 3:4 (A) is white space", "delete the span"),
    ],
)
def test_spans_that_do_not_lie_side_by_side_in_the_text(write_rows: Write, spans: Any, message: str, hint: str) -> None:
    fails(write_rows(nlpkit("so", []), nlpkit(TEXT, spans)), f"a.jsonl:2: {message}", hint)


@pytest.mark.parametrize(
    ("text", "span", "message", "near"),
    [
        (
            "Jose\u0301 x",
            (0, 4),
            "span 0:4 'Jose' (A) ends inside the character 'e\u0301' (U+0065 U+0301)",
            "end it at 5",
        ),
        (
            "Jose\u0301 x",
            (4, 7),
            "span 4:7 '\u0301 x' (A) starts inside the character 'e\u0301' (U+0065 U+0301)",
            "start it at 3",
        ),
        ("❤\ufe0f x", (0, 1), "span 0:1 '❤' (A) ends inside the character '❤\ufe0f' (U+2764 U+FE0F)", "end it at 2"),
        (
            "👩\u200d💻 x",
            (0, 1),
            "span 0:1 '👩' (A) ends inside the character '👩\u200d💻' (U+1F469 U+200D U+1F4BB)",
            "end it at 3",
        ),
        (
            "👩\u200d💻 x",
            (2, 3),
            "span 2:3 '💻' (A) starts inside the character '👩\u200d💻' (U+1F469 U+200D U+1F4BB)",
            "start it at 0",
        ),
        ("👍🏽 x", (0, 1), "span 0:1 '👍' (A) ends inside the character '👍🏽' (U+1F44D U+1F3FD)", "end it at 2"),
        ("🇩🇪🇫🇷", (0, 3), "span 0:3 '🇩🇪🇫' (A) ends inside the character '🇫🇷' (U+1F1EB U+1F1F7)", "end it at 4"),
        (
            f"{GAK} x",
            (0, 2),
            f"span 0:2 '{GAK[:2]}' (A) ends inside the character '{GAK}' (U+1100 U+1161 U+11A8)",
            "end it at 3",
        ),
    ],
)
def test_spans_that_cut_a_character(
    write_rows: Write, text: str, span: tuple[int, int], message: str, near: str
) -> None:
    row = nlpkit(text, [(*span, "A")])
    fails(write_rows(row), f"a.jsonl:1: {message}", f"{near}; offsets are characters (code points)")


@pytest.mark.parametrize(
    ("left", "right"),
    [("🇩🇪", "🇫🇷"), ("می", "\u200cخواهم"), ("a ", "\u0301b"), (GAK, GAK), ("a", "b"), ("e\u0301", "e")],
)
def test_characters_side_by_side_may_be_parted(left: str, right: str) -> None:
    assert not characters(left + right).cuts(len(left))


ROW = {"text": TEXT, "spans": []}
ITEM = {"start": 0, "end": 3, "label": "PER"}
WHOLE = "expected a whole number of characters"
SHAPE = 'expected a text with its spans, like {"text": "...", "entities": [...]}'
ONE_EACH = "write one JSON object a line, or one array of them"


@pytest.mark.parametrize(
    ("row", "message", "hint"),
    [
        ({**ROW, "spans": [ITEM, {**ITEM, "start": 1.0}]}, f"span 2: 'start' is 1.0; {WHOLE}", LIKE),
        ({**ROW, "spans": [{**ITEM, "end": True}]}, f"span 1: 'end' is true; {WHOLE}", LIKE),
        ({**ROW, "spans": [{**ITEM, "end": "x"}]}, f"span 1: 'end' is \"x\"; {WHOLE}", LIKE),
        ({**ROW, "spans": [{"start": 0, "end": 3}]}, "span 1 has no 'label'; it has 'start', 'end'", LIKE),
        ({**ROW, "spans": [{"start": 0, "label": "A"}]}, "span 1 has no 'end'; it has 'start', 'label'", LIKE),
        ({**ROW, "spans": [{**ITEM, "label": " "}]}, 'span 1: the label is " "; expected a name', LIKE),
        ({**ROW, "spans": [{**ITEM, "label": 3}]}, "span 1: the label is 3; expected a name", LIKE),
        (
            {**ROW, "spans": [{**ITEM, "label": ["A", "B"]}]},
            "span 1 has 2 labels; expected one",
            "keep the label that is meant",
        ),
        ({**ROW, "spans": [[0, 3]]}, 'span 1 is a list; expected [0, 6, "LOC"] or an object', LIKE),
        ({**ROW, "spans": ["PER"]}, 'span 1 is a text; expected [0, 6, "LOC"] or an object', LIKE),
        ({"text": TEXT, "label": "good"}, "'label' is a text", LIKE),
        ([TEXT, {"cats": {}}], "spans are an object", LIKE),
        (
            {**ROW, "spans": [{**ITEM, "text": "Bob"}]},
            "span 0:3 'Ann' (PER) is 'Bob' by its own text",
            "export it again; the text was changed since",
        ),
        (
            label_studio("💩 Ann", [])
            | {"annotations": [{"result": [{"value": {**ITEM, "labels": ["P"], "text": "Ann"}}]}]},
            "span 0:3 '💩 A' (PER) is 'Ann' by its own text",
            "export it again; the text was changed since",
        ),
        (
            {"text": TEXT, "spans": [[0, 3, "PER"]], "ents": [[0, 3, "LOC"]]},
            "'spans' and 'ents' hold different spans",
            "leave out one of the two",
        ),
        (
            {"text": TEXT, "entities": [[0, 3]], "label": [[0, 3, "LOC"]]},
            "'entities' and 'label' hold different spans",
            "leave out one of the two",
        ),
        (
            {"text": TEXT, "entities": ["PER"], "label": []},
            'span 1 is a text; expected [0, 6, "LOC"] or an object',
            LIKE,
        ),
        ({**ROW, "spans": [{**ITEM, "start": "9" * 5000}]}, f"span 1: 'start' is \"{'9' * 39}; {WHOLE}", LIKE),
        ({"review": "x", "spans": []}, "no 'text' in row; it has 'review', 'spans'", SHAPE),
        ({"text": None}, "the text is null", "write it as a string"),
        ({"text": "a\ud800"}, "half a surrogate pair in the text, character 2", "delete it from the text"),
        ({"text": "\0"}, "a NUL character in the text, character 1", "delete it from the text"),
        ({"data": {"a": "x", "b": "y"}}, "no 'text' in 'data'; it has 2 texts", "name the text 'text' in 'data'"),
        (
            {"data": {"text": "x"}, "annotations": [7]},
            "'annotations' is no list of objects",
            "export it as JSON, not as JSON-MIN",
        ),
        (7, f"a number; {SHAPE}", 'jq -c ".[]" FILE > NEW makes lines of an array'),
    ],
)
def test_rows_that_are_not_understood(write_rows: Write, row: Any, message: str, hint: str) -> None:
    fails(write_rows({"text": "so"}, row), f"a.jsonl:2: {message}", hint)


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        ('{"text": "a"}\n{"text": \n', "a.jsonl:2: not JSON at character 10: expecting value", ONE_EACH),
        ('[\n{"text": "a"},\n {"text" "b"}]', "a.jsonl:3: not JSON at character 10: expecting ':' delimiter", ONE_EACH),
        ('[\n{"text": "a"}\n{"text": "b"}]', "a.jsonl:3: not JSON at character 1: expecting ',' or ']'", ONE_EACH),
        ('\n[\n{"text": "a"},\n{"text": "b"}\n', "a.jsonl:4: not JSON at character 14: expecting ',' or ']'", ONE_EACH),
        (
            '[\n{"text": "a"},\n{"text": "b",\n"text": "c"}\n]\n',
            "a.jsonl:3: the key 'text' stands twice in one object",
            "keep one of the two",
        ),
        (
            '["a", {"entities": [[0, 1, "A"]}]\n',
            "a.jsonl:1: not JSON at character 32: expecting ',' delimiter",
            ONE_EACH,
        ),
        ('{"text": "a", "text": "b"}', "a.jsonl:1: the key 'text' stands twice in one object", "keep one of the two"),
        ("[" * 100_000, "a.jsonl:1: JSON nested too deeply", ONE_EACH),
        ("Oslo is cold\n", "a.jsonl:1: not JSON at character 1: expecting value", ONE_EACH),
        (
            '[\n{"text": "a"}\n]\n[\n{"text": "b"}\n]\n',
            "a.jsonl:4: not JSON at character 1: more after the end of the array",
            ONE_EACH,
        ),
        ('[\n{"text": "a"}\n] x', "a.jsonl:3: not JSON at character 3: more after the end of the array", ONE_EACH),
        ('[{"text": "a"}] x', "a.jsonl:1: not JSON at character 17: more after the end of the array", ONE_EACH),
        ('[\n{"text": "a"},\n]', "a.jsonl:3: not JSON at character 1: a value has to follow ','", ONE_EACH),
        (
            '{"text": "a"}\n{"text": "b", "n": ' + "9" * 5000 + "}",
            "a.jsonl:2: a number of more than 4,300 digits",
            "delete it, or write it in quotes if it is a name",
        ),
        ("[]\n", "a.jsonl: no rows", "give a file with rows; nlpkit demo shop writes some to look at"),
    ],
)
def test_files_that_are_no_json(write_rows: Write, content: str, message: str, hint: str) -> None:
    fails(write_rows(content), message, hint)


def test_quotes_may_differ_in_white_space() -> None:
    value = [{"start": 0, "end": 8, "label": "A", "text": "Ann Lee"}]
    assert span_files.normalise(value, "a:1", "Ann\r\nLee") == [{"start": 0, "end": 8, "label": "A"}]


def test_a_cut_at_no_place_of_a_text_of_composed_letters() -> None:
    text = unicodedata.normalize("NFC", "Zoë läßt Åsa grüßen, 東京")
    assert not any(characters(text).cuts(place) for place in range(len(text) + 1))
