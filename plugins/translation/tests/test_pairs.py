"""Pairs in tables and JSON lines."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nlpkit_translation.datasets import read_pairs
from nlpkit_translation.sides import is_language

from nlpkit.errors import DataError

Write = Callable[..., str]
PAIR = [{"source": "One.", "target": "Eins."}]
NO_TARGET = "neither tabs nor JSON in its first line, so that there is no target beside the source"
CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n\t\ufeff"), max_size=10)
ANY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), max_size=10)


def read(path: str, **columns: str) -> list[dict[str, str]]:
    return [dict(pair) for pair in read_pairs(path, columns)]


def refused(path: str, **columns: str) -> DataError:
    with pytest.raises(DataError) as caught:
        read(path, **columns)
    return caught.value


@pytest.mark.parametrize(
    ("name", "content", "columns"),
    [
        ("a.tsv", "One.\tEins.\n", {}),
        ("a.txt", "One.\tEins.\n", {}),
        ("a.en-de", "\ufeffOne.\tEins.\r\n", {}),
        ("a.tsv.gz", "source\ttarget\nOne.\tEins.\n", {}),
        ("a.tsv", "target\tsource\nEins.\tOne.\n", {}),
        ("a.tsv", "en\tde\nOne.\tEins.\n", {}),
        ("a.tsv", "eng_Latn\tdeu_Latn\nOne.\tEins.\n", {}),
        ("a.tsv", "id\tpt-BR\tzh_Hans\n7\tOne.\tEins.\n", {}),
        ("a.tsv", "de\ten\nEins.\tOne.\n", {"source": "en"}),
        ("a.tsv", "English\tGerman\nOne.\tEins.\n", {"source": "english", "target": "German"}),
        ("a.tsv", "3\tOne.\t9\tEins.\n", {"source": "2", "target": "4"}),
        ("a.tsv", "Eins.\tOne.\n", {"source": "2"}),
        ("a.tsv", "de\ten\nEins.\tOne.\n", {"source": "2", "target": "1"}),
        ("a.csv", "source,target\nOne.,Eins.\n", {}),
        ("a.csv.gz", "en;de\nOne.;Eins.\n", {}),
        ("a.csv", "One.,Eins.\n", {"source": "1", "target": "2"}),
        ("a.jsonl", '{"source": "One.", "target": "Eins."}\n', {}),
        ("a.jsonl", '{"id": 3, "de": "Eins.", "en": "One."}\n', {"source": "en", "target": "de"}),
        ("a.jsonl", '{"id": "3", "translation": {"en": "One.", "de": "Eins."}}\n', {}),
        (
            "a.jsonl.gz",
            '{"translation": {"de": "Eins.", "en": "One.", "fr": "Un."}}\n',
            {"source": "en", "target": "de"},
        ),
        ("a.data", '\n{"src": "One.", "tgt": "Eins."}\n', {}),
    ],
)
def test_sides_are_told_by_name_language_or_number(
    write: Write, name: str, content: str, columns: dict[str, str]
) -> None:
    assert read(write(name, content), **columns) == PAIR


def test_what_was_chosen_is_said(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "nlpkit")
    read(write("a.tsv", "One.\tEins.\n"))
    read(write("a.csv", "en;de\nOne.;Eins.\n"))
    read(write("a.jsonl", '{"translation": {"en": "One.", "de": "Eins."}}\n'))
    assert [record.getMessage() for record in caplog.records] == [
        "a.tsv: tsv, no header; source = column 1, target = column 2",
        "a.csv: csv, delimiter ';', header; source = 'en', target = 'de'",
        "a.jsonl: jsonl; source = 'en', target = 'de'",
    ]


def test_quotes_mean_nothing_in_tsv_and_something_in_csv(write: Write) -> None:
    assert read(write("a.tsv", '"Yes."\t"Ja."\n"No, I\tNein\n')) == [
        {"source": '"Yes."', "target": '"Ja."'},
        {"source": '"No, I', "target": "Nein"},
    ]
    assert read(write("a.csv", 'en,de\n"Yes, ""I""\nsaid.",Ja.\n')) == [{"source": 'Yes, "I"\nsaid.', "target": "Ja."}]


def test_places_are_lines_of_the_file(write: Write) -> None:
    path = write("a.csv", 'en,de\n"One\nand a half",x\nTwo,y\n')
    assert [pair.where for pair in read_pairs(path)] == ["a.csv:2", "a.csv:4"]
    assert [pair.where for pair in read_pairs(write("a.tsv", "a\tb\n\nc\td\n"))] == ["a.tsv:1", "a.tsv:3"]


def test_new_texts_need_no_target(write: Write) -> None:
    assert read(write("a.tsv", "One.\n\nTwo.\n")) == [{"source": "One."}, {"source": ""}, {"source": "Two."}]
    assert read(write("a.csv", "id,source\n1,One.\n")) == [{"source": "One."}]
    assert read(write("a.jsonl", '{"en": "One."}\n'), source="en", target="de") == [{"source": "One."}]
    assert read(write("a.jsonl", '{"source": "One.", "target": null}\n')) == [{"source": "One."}]


@pytest.mark.parametrize(
    ("name", "content", "columns", "message"),
    [
        ("a.tsv", "a\tb\tc\n", {}, "a.tsv: 3 columns and no header that names the sides"),
        ("a.tsv", "a\tb\tc\n", {"target": "3"}, "a.tsv: 3 columns, of which none is named for the source"),
        ("a.tsv", "a\tb\n", {"source": "1", "target": "3"}, "a.tsv: no column 3; it has 2"),
        ("a.tsv", "a\tb\n", {"source": "0"}, "a.tsv: no column 0; it has 2"),
        ("a.tsv", "a\tb\nc\n", {}, "a.tsv:2: 1 cell in this row; expected 2 as in the first"),
        ("a.tsv", "a\tb\nc\td\te\n", {}, "a.tsv:2: 3 cells in this row; expected 2 as in the first"),
        ("a.tsv", "a\tb\n", {"source": "en"}, "a.tsv: no column 'en'; it has 'a', 'b'"),
        ("a.tsv", "en\tde\n", {}, "a.tsv: a header and no rows"),
        ("a.tsv", "\n\n", {}, "a.tsv: no rows"),
        ("a.tsv", "a\t\nb\t \n", {}, "a.tsv: the target is empty in all 2 rows"),
        ("a.csv", "en,de\n,x\n", {}, "a.csv: the source is empty in the only row"),
        ("a.csv", 'en,de\n"a,b\n', {}, "a.csv:2: a quote opens in this row and is never closed"),
        ("a.csv", "en,de,fr\na,b,c\n", {}, "a.csv: no column for 'source'; it has 'en', 'de', 'fr'"),
        ("a.txt", "only lines\nof text\n", {}, f"a.txt: {NO_TARGET}"),
        ("a.jsonl", '{"en": "a", "de": "b"}\n{"de": "c"}\n', {}, "a.jsonl:2: no 'en' in row; it has 'de'"),
        ("a.jsonl", '{"en": null, "de": "b"}\n', {}, "a.jsonl:1: 'en' is null; it has 'en', 'de'"),
        ("a.jsonl", '{"en": ["a"], "de": "b"}\n', {}, "a.jsonl:1: 'en' is a list; expected a text"),
        ("a.jsonl", '{"translation": {"en": "\\ud800", "de": "b"}}\n', {}, "a.jsonl:1: half a surrogate pair in 'en'"),
        ("a.jsonl", '{"en": "a"\n', {}, "a.jsonl:1: not JSON at character 12: expecting ',' delimiter"),
        ("a.tsv", "", {}, "a.tsv: empty file"),
        ("a.tsv", "PK\x03\x04...", {}, "a.tsv: a zip archive or a spreadsheet, expected text"),
    ],
)  # fmt: skip
def test_bad_files_are_refused_with_their_place(
    write: Write, name: str, content: str, columns: dict[str, str], message: str
) -> None:
    error = refused(write(name, content), **columns)
    assert error.message == message
    assert error.hint


@pytest.mark.parametrize(
    ("content", "named", "side", "other"),
    [
        ("source\tQuelle\nOne.\tEins.\n", "source", "source", "target"),
        ("id\tText\n7\tOne.\n", "Text", "source", "target"),
        ("Satz\tTranslation\n", "Translation", "target", "source"),
        ("id\tsentence\tscore\n7\tOne.\t3\n", "sentence", "source", "target"),
    ],
)
def test_first_line_that_names_one_side_alone_is_refused_until_it_is_said_what_it_is(
    write: Write, content: str, named: str, side: str, other: str
) -> None:
    error = refused(write("a.tsv", content))
    expected = f"a.tsv:1: '{named}' may be the name of the {side} or a text, for nothing in this line names the {other}"
    assert error.message == expected
    assert error.hint == f"of a header name the columns, data.{side}='{named}'; of texts count them, " + (
        "data.source=1 data.target=2"
    )


def test_name_of_a_side_above_a_single_column_is_a_header(write: Write) -> None:
    assert read(write("a.tsv", "source\nOne.\n")) == [{"source": "One."}]


def test_it_is_a_header_where_columns_are_named_and_a_pair_where_they_are_counted(write: Write) -> None:
    path = write("a.tsv", "source\tQuelle\nOne.\tEins.\n")
    pairs = [{"source": "source", "target": "Quelle"}, *PAIR]
    assert read(path, source="1", target="2") == read(path, source="1") == pairs
    assert read(path, source="source", target="Quelle") == PAIR
    assert read(write("b.tsv", "source\nOne.\n"), source="1") == [{"source": "source"}, {"source": "One."}]


def test_truncated_gzip_is_refused(write: Write) -> None:
    path = Path(write("a.tsv.gz", "".join(f"One {n}\tEins {n}\n" for n in range(9000))))
    path.write_bytes(path.read_bytes()[:-20])
    assert refused(str(path)).message == "a.tsv.gz: truncated gzip data"


def test_long_cells_are_read_whole(write: Write) -> None:
    (pair,) = read(write("a.csv", f"en,de\n{'x' * 100_000},{'y' * 200_000}\n"))
    assert [len(text) for text in pair.values()] == [100_000, 200_000]


def as_tsv(pairs: list[tuple[str, str]]) -> str:
    return "".join(f"{a}\t{b}\n" for a, b in pairs)


def as_csv(pairs: list[tuple[str, str]], mark: str) -> str:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=mark, quoting=csv.QUOTE_ALL).writerows([("en", "de"), *pairs])
    return out.getvalue()


def as_jsonl(pairs: list[tuple[str, str]], nested: bool, escaped: bool) -> str:
    rows = [{"en": a, "de": b} for a, b in pairs]
    return "".join(json.dumps({"translation": r} if nested else r, ensure_ascii=escaped) + "\n" for r in rows)


@pytest.mark.parametrize(
    ("name", "text", "written"),
    [
        ("a.tsv", CELL, as_tsv),
        *(("a.csv", ANY, partial(as_csv, mark=mark)) for mark in ",;"),
        *(("a.jsonl", ANY, partial(as_jsonl, nested=n, escaped=e)) for n in (False, True) for e in (False, True)),
    ],
)
@settings(max_examples=20)
@given(data=st.data())
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, name: str, text: Any, written: Callable[..., str], data: st.DataObject
) -> None:
    pairs = [("x", "y"), *data.draw(st.lists(st.tuples(text, text), min_size=1, max_size=5))]
    path = tmp_path_factory.mktemp("written") / name
    path.write_bytes(written(pairs).encode())
    assert [(pair["source"], pair["target"]) for pair in read_pairs(str(path), encoding="utf-8")] == pairs


@pytest.mark.parametrize("name", ["en", "pt-BR", "zh_Hant_TW", "deu_Latn", "id"])
def test_codes_of_languages_are_known(name: str) -> None:
    assert is_language(name)


@pytest.mark.parametrize("name", ["", "English", "xx", "EN", "text", "go", "en-", "I am"])
def test_other_names_are_no_codes(name: str) -> None:
    assert not is_language(name)
