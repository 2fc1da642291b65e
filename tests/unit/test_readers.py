from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import logging
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpkit.errors import DataError, NlpkitError, UsageError
from nlpkit.limits import BLOCK, ENCODING_PREFIX, LONGEST_LINE, TABLE_PREFIX
from nlpkit.readers import (
    Source,
    choose_columns,
    describe,
    expand,
    inspect,
    open_text,
    read_examples,
    read_rows,
    split_lines,
)
from nlpkit.task import LABEL_COLUMNS, TEXT_COLUMNS, Field

FIELDS = {"text": Field(TEXT_COLUMNS), "label": Field(LABEL_COLUMNS, required=False)}
DATA = Path(os.environ.get("NLPKIT_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
REAL = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data at {DATA}; set NLPKIT_DATA")
QUOTES = 'write a quote inside a text twice ("") and put quotes round the whole text'
REPLACES = "data.errors=replace puts U+FFFD in its place"
PROFILE = settings(derandomize=True, deadline=None, max_examples=150)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Write a file into the current folder, so that messages hold its bare name."""
    monkeypatch.chdir(tmp_path)

    def _write(name: str, content: str | bytes) -> str:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
        return name

    return _write


def rows(path: str, **options: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in read_rows(path, **options)]


def examples(*paths: str, **options: Any) -> list[dict[str, Any]]:
    return [dict(example) for example in read_examples(paths, FIELDS, **options)]


def fails(action: Callable[[], Iterable[Any]], message: str, hint: str | None = None, kind: type = DataError) -> None:
    with pytest.raises(NlpkitError) as caught:
        list(action())
    assert (type(caught.value), caught.value.message) == (kind, message)
    if hint is not None:
        assert caught.value.hint == hint


def table_of(records: list[list[str]], **options: Any) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, **options).writerows(records)
    return out.getvalue().encode()


def test_expand_lists_folders_sorted_and_recursively_without_hidden_or_unknown_files(write: Any) -> None:
    for name in ("d/b.txt", "d/a.csv.gz", "d/sub/c.jsonl", "d/.hidden.csv", "d/.git/x.csv", "d/notes.md"):
        write(name, "x")
    assert expand(["d"]) == ["d/a.csv.gz", "d/b.txt", "d/sub/c.jsonl"]


def test_expand_lists_globs_and_each_file_once(write: Any) -> None:
    write("a1.csv", "x")
    write("a2.csv", "x")
    assert expand(["a2.csv", "a?.csv", "./a1.csv"]) == ["a2.csv", "a1.csv"]


def test_expand_takes_a_file_whose_name_looks_like_a_glob(write: Any) -> None:
    write("a[1].csv", "x")
    write("a1.csv", "x")
    assert expand(["a[1].csv"]) == ["a[1].csv"]


def test_expand_keeps_standard_input(write: Any) -> None:
    assert expand(["-"]) == ["-"]


def test_expand_names_the_nearest_file_for_a_missing_one(write: Any) -> None:
    write("reviews.csv", "x")
    fails(lambda: expand(["review.csv"]), "review.csv: no such file or folder", "did you mean 'reviews.csv'?")


def test_expand_refuses_an_address(write: Any) -> None:
    """K07."""
    address = "https://example.org/a.csv"
    fails(lambda: expand([address]), f"{address}: an address, expected a local file", "download it first")


@pytest.mark.parametrize(("path", "message"), [("d", "d: no data in this folder"), ("*.csv", "*.csv: no file matches")])
def test_expand_refuses_a_folder_or_glob_without_data(write: Any, path: str, message: str) -> None:
    write("d/readme.md", "x")
    fails(lambda: expand([path]), message, "expected .csv, .tsv, .jsonl or .txt, each plain or .gz")


def test_expand_refuses_nothing() -> None:
    fails(lambda: expand([]), "no data given", "name a file, a folder, a glob, or - for standard input")


def test_reading_a_missing_file_is_a_data_error(write: Any) -> None:
    fails(lambda: read_rows("a.csv"), "a.csv: no such file or folder", "look what is there: ls .")


def test_reading_a_folder_is_a_data_error(write: Any) -> None:
    write("d/a.csv", "x")
    fails(lambda: read_rows("d"), "d: a folder, expected a file")


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.txt"])
@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "empty file"), (codecs.BOM_UTF8, "empty file"), (b"\n\r\n\n", "only blank lines")],
)
def test_a_file_without_text_is_refused_by_name(write: Any, name: str, content: bytes, message: str) -> None:
    fails(lambda: read_rows(write(name, content)), f"{name}: {message}")
    fails(lambda: read_rows(write(name + ".gz", gzip.compress(content))), f"{name}.gz: {message}")


@pytest.mark.parametrize(("name", "content"), [("a.csv", "text,label\n"), ("a.tsv", "text\tlabel\r\n\r\n")])
def test_a_header_without_rows_is_refused(write: Any, name: str, content: str) -> None:
    fails(lambda: read_rows(write(name, content)), f"{name}: a header and no rows")


def test_cells_stay_strings_as_they_stand_in_the_file(write: Any) -> None:
    odd = ["NA", "null", "None", "nan", "007", "1e5", "TRUE", "=1+1", "", "  ", " a ", "\u2028", "\x85", "é̂" * 99]
    path = write("a.csv", table_of([["text", "n"], *([cell, "0"] for cell in odd)]))
    assert [row["text"] for row in rows(path)] == odd


def test_quoted_cells_keep_line_breaks_and_rows_know_their_first_line(write: Any) -> None:
    path = write("a.csv", 'text,label\r\n"one\r\ntwo",1\r\n\r\n"a ""b""\n\n",2\r\nlast,3')
    found = list(read_rows(path))
    assert [row["text"] for row in found] == ["one\r\ntwo", 'a "b"\n\n', "last"]
    assert [row.where for row in found] == ["a.csv:2", "a.csv:5", "a.csv:8"]


def test_empty_texts_are_rows(write: Any) -> None:
    path = write("a.csv", 'text,label\n,1\n"  ",0\n')
    assert examples(path) == [{"text": "", "label": "1"}, {"text": "  ", "label": "0"}]


def test_a_table_of_one_column_keeps_its_empty_texts(write: Any) -> None:
    assert rows(write("a.csv", 'text\na\n\n""\nb\n')) == [{"text": t} for t in ("a", "", "", "b")]
    assert rows(write("a.tsv", 'text\na\n\n""\nb\n')) == [{"text": t} for t in ("a", "", "", "b")]


def test_lines_of_a_txt_end_at_lf_only(write: Any) -> None:
    content = "\n\na\x85b\u2028c\x0b\x0cd\re\r\n\n  \nlast"
    found = list(read_rows(write("a.txt", content)))
    assert [row["text"] for row in found] == ["", "", "a\x85b\u2028c\x0b\x0cd\re", "", "  ", "last"]
    assert [row.where for row in found] == [f"a.txt:{n}" for n in range(1, 7)]


def test_a_cell_above_the_limit_of_the_standard_library_is_read(write: Any) -> None:
    text = "é" * 140_000
    assert rows(write("a.csv", f"text,label\n{text},1\n")) == [{"text": text, "label": "1"}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "{}\n"),
        ("a.csv", "text\n{}\n"),
        ("a.csv", "{}\nx\n"),
        ("a.tsv", 'text\tn\n"{}"\t1\n'),
        ("a.jsonl", '{{"text": "{}"}}\n'),
    ],
)
def test_a_line_of_ten_megabytes_is_read(write: Any, name: str, content: str) -> None:
    text = "x" * 10_000_000
    (row,) = rows(write(name, content.format(text)))
    assert text in (*row.values(), *row)


def test_a_jsonl_that_is_longer_than_the_longest_line_is_read(write: Any) -> None:
    line = json.dumps({"text": "x" * 999_989}) + "\n"
    path = write("a.jsonl.gz", gzip.compress(line.encode() * (LONGEST_LINE * 3 // 10**6), 1))
    assert sum(1 for _ in read_rows(path)) == LONGEST_LINE * 3 // 10**6


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        ('text,label\n"a\nb",1\nc\n', "a.csv:4: 1 cell in this row; expected 2 as in the header", None),
        (
            "text,label\na,1\nb,c,1\n",
            "a.csv:3: 3 cells in this row; expected 2 as in the header",
            "put quotes round a text that holds ','",
        ),
        ('text,label\na,1\n"b,1\nc,1\n', "a.csv:3: a quote opens in this row and is never closed", QUOTES),
        (
            'text,label\na,1\n"b\n" c,1\n',
            "a.csv:3: a closing quote in this row (line 4) is followed by more text",
            QUOTES,
        ),
        (
            "text,label\na\rb,1\n",
            "a.csv:2: a lone carriage return outside quotes",
            "tr '\\r' '\\n' < FILE > NEW mends it",
        ),
        (
            "text,label, text\na,1,b\n",
            "a.csv:1: columns 1 and 3 are both called 'text'",
            "give each column a name of its own",
        ),
    ],
)
def test_csv_that_does_not_fit_is_refused_with_its_line(write: Any, content: str, message: str, hint: str) -> None:
    fails(lambda: read_rows(write("a.csv", content)), message, hint)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text\tlabel\na\t1\nb\n", "a.tsv:3: 1 cell in this row; expected 2 as in the header"),
        ("text\tlabel\na\t1\t2\n", "a.tsv:2: 3 cells in this row; expected 2 as in the header"),
        ('text\tlabel\n"a\nb\n', "a.tsv:2: a quote opens in this row and is never closed"),
        ("text\ttext\na\tb\n", "a.tsv:1: columns 1 and 2 are both called 'text'"),
    ],
)
def test_tsv_that_does_not_fit_is_refused_with_its_line(write: Any, content: str, message: str) -> None:
    fails(lambda: read_rows(write("a.tsv", content)), message)


def test_rows_before_a_damaged_one_are_read(write: Any) -> None:
    stream = read_rows(write("a.csv", "text,label\na,1\nb\n"))
    assert next(stream) == {"text": "a", "label": "1"}


def test_tsv_quotes_that_mean_nothing_stay(write: Any) -> None:
    path = write("a.tsv", 'text\tlabel\n" open\t1\nclose "\t0\nsaid "so" twice\t1\n"no" way"\t0\n')
    assert [row["text"] for row in rows(path)] == ['" open', 'close "', 'said "so" twice', '"no" way"']


def test_tsv_cells_quoted_by_a_spreadsheet_are_unquoted(write: Any) -> None:
    path = write("a.tsv", 'text\tlabel\n"a ""b"""\t1\n"line\nbreak"\t0\n"tab\tin"\t1\nend\t0\n')
    found = list(read_rows(path))
    assert [row["text"] for row in found] == ['a "b"', "line\nbreak", "tab\tin", "end"]
    assert found[-1].where == "a.tsv:6"


@pytest.mark.parametrize("last", ["one\ntwo", 'a ""b""\n\nc d', "\n"])
def test_tsv_quoted_texts_in_the_last_column_span_lines(write: Any, last: str) -> None:
    path = write("a.tsv", f'label\ttext\n0\tplain\n1\t"{last}"\n0\t"end"\n')
    assert [row["text"] for row in rows(path)] == ["plain", last.replace('""', '"'), "end"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_though_others_stand_in_the_texts(write: Any, delimiter: str) -> None:
    records = [["Text", "Label"], ["a, b; c | d\te", "x"], ["one, two; three", "y,z"], ["", ""]]
    path = write("a.csv", table_of(records, delimiter=delimiter))
    assert inspect(path).delimiter == delimiter
    assert [list(row.values()) for row in rows(path)] == records[1:]


def test_a_named_delimiter_is_used(write: Any) -> None:
    path = write("a.csv", "text^label\na,b^1\n")
    assert rows(path, delimiter="^") == [{"text": "a,b", "label": "1"}]
    assert rows(write("b.csv", "text\tlabel\na,b\t1\n"), delimiter="\\t") == [{"text": "a,b", "label": "1"}]


def test_a_delimiter_of_two_characters_is_refused(write: Any) -> None:
    path = write("a.csv", "text,label\na,1\n")
    message = "data.delimiter: '||' cannot be a delimiter; expected one character"
    fails(lambda: read_rows(path, delimiter="||"), message, "data.delimiter=;", UsageError)


def test_columns_without_a_name_are_numbered(write: Any) -> None:
    assert inspect(write("a.csv", ",text,\n0,a,b\n")).columns == ["column1", "text", "column3"]


def test_a_file_of_unknown_ending_is_told_by_its_first_line(write: Any) -> None:
    assert inspect(write("a.dat", '{"a": 1}\n')).format == "jsonl"
    assert inspect(write("b.tokens", "= Title =\n")).format == "txt"
    assert inspect(write("c.tokens", "a\tb\n"), format="tsv").columns == ["a", "b"]


def test_inspect_says_everything_about_a_file(write: Any) -> None:
    path = write("a.csv.gz", gzip.compress("Text;Rating\né;1\n".encode("cp1252")))
    source = inspect(path)
    assert source == Source("a.csv.gz", "csv", "cp1252", ";", True, ["Text", "Rating"], guessed=True)
    assert describe(source, {"text": "Text"}) == (
        "a.csv.gz: csv, gzip, cp1252 (a guess; data.encoding=NAME sets it), delimiter ';'; text = 'Text'"
    )


def test_standard_input_is_read_a_line_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("text,é\n\nb".encode())))
    found = list(read_examples(["-"], FIELDS))
    assert [(e["text"], e.where) for e in found] == [("text,é", "stdin:1"), ("", "stdin:2"), ("b", "stdin:3")]


def test_gzip_of_several_members_is_read_whatever_the_name(write: Any) -> None:
    content = gzip.compress(b"a\nb") + gzip.compress(b"c\n") + b"\0" * 512
    assert [row["text"] for row in rows(write("a.txt", content))] == ["a", "bc"]


def test_truncated_gzip_is_refused_at_any_length(write: Any) -> None:
    packed = gzip.compress(b"a line\n" * 50)
    for length in range(2, len(packed)):
        path = write("a.txt.gz", packed[:length])
        fails(lambda path=path: read_rows(path), "a.txt.gz: truncated gzip data")


def test_corrupt_gzip_is_refused(write: Any) -> None:
    packed = gzip.compress(b"a line\n" * 50)
    hint = "gzip -t a.txt.gz tells more; get the file again"
    fails(lambda: read_rows(write("a.txt.gz", packed[:-8] + b"\1" * 8)), "a.txt.gz: corrupt gzip data", hint)
    fails(lambda: read_rows(write("a.txt.gz", packed + b"junk")), "a.txt.gz: corrupt gzip data", hint)


def test_a_gz_that_is_not_gzip_is_refused(write: Any) -> None:
    message = "a.txt.gz: not gzip, as its ending says"
    fails(lambda: read_rows(write("a.txt.gz", "text\n")), message, "rename it without .gz if it is plain text")


@pytest.mark.parametrize(
    ("encoding", "found", "guessed"),
    [
        ("utf-8", "utf-8", False),
        ("utf-8-sig", "utf-8-sig", False),
        ("utf-16", "utf-16", False),
        ("utf-32", "utf-32", False),
        ("utf-16-le", "utf-16-le", True),
        ("utf-16-be", "utf-16-be", True),
        ("cp1252", "cp1252", True),
        ("latin-1", "cp1252", True),
    ],
)
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.txt"])
def test_encodings_are_told_apart(write: Any, name: str, encoding: str, found: str, guessed: bool) -> None:
    text = "schön, naïve “quoted” €5" if encoding != "latin-1" else "schön, naïve"
    content = {
        "a.csv": f'text,n\r\n"{text}",0\r\n',
        "a.tsv": f"text\tn\n{text}\t0\n",
        "a.jsonl": json.dumps({"text": text, "n": "0"}, ensure_ascii=False) + "\n",
        "a.txt": f"{text}\n",
    }[name]
    path = write(name, content.encode(encoding))
    assert (inspect(path).encoding, inspect(path).guessed) == (found, guessed)
    assert examples(path) == [{"text": text}]


def test_big_endian_utf16_with_a_mark_is_read(write: Any) -> None:
    assert rows(write("a.txt", codecs.BOM_UTF16_BE + "Ċ\n中".encode("utf-16-be"))) == [{"text": "Ċ"}, {"text": "中"}]


def test_a_named_encoding_is_used(write: Any) -> None:
    path = write("a.txt", "мир\n".encode("cp1251"))
    assert rows(path, encoding="windows-1251") == [{"text": "мир"}]
    assert rows(write("b.txt", "a+b\nc".encode("cp037")), encoding="cp037") == [{"text": "a+b"}, {"text": "c"}]


@pytest.mark.parametrize("encoding", [None, "utf-8", "UTF8", "utf-8-sig"])
def test_a_mark_is_dropped_at_the_start_only(write: Any, encoding: str | None) -> None:
    path = write("a.csv", codecs.BOM_UTF8 + "text,n\n\ufeffa,\ufeff\n".encode())
    assert rows(path, encoding=encoding) == [{"text": "\ufeffa", "n": "\ufeff"}]


@pytest.mark.parametrize("name", ["utf-9", "rot13", "base64", "a\0", "unicode_escape", "idna"])
def test_an_unknown_encoding_is_refused(write: Any, name: str) -> None:
    path = write("a.txt", "a\n")
    fails(lambda: read_rows(path, encoding=name), f"data.encoding: no encoding '{name}'", None, UsageError)


def test_utf16_without_a_mark_is_refused_when_only_utf16_was_named(write: Any) -> None:
    message = "a.txt: utf-16 stream does not start with bom"
    hint = "name the encoding: data.encoding=NAME, for example cp1252 or utf-16-le"
    fails(lambda: read_rows(write("a.txt", "ab\n".encode("utf-16-le")), encoding="utf-16"), message, hint)


def test_utf8_that_breaks_half_way_names_line_and_byte(write: Any) -> None:
    good = "text,label\n" + "schön,1\n" * 200
    path = write("a.csv", good.encode() + "x,0\nnaïve,0\n".encode("cp1252"))
    hint = "data.encoding=cp1252 if the file is in that; data.errors=replace goes on with U+FFFD in its place"
    fails(lambda: read_rows(path), "a.csv:203:3: byte 0xef is not utf-8", hint)


def test_ascii_that_turns_into_cp1252_after_the_prefix_names_line_and_byte(write: Any) -> None:
    line = b"x" * 99 + b"\n"
    count = ENCODING_PREFIX // 100 + 2 * BLOCK // 100
    path = write("a.txt", line * count + b"na\xefve\n")
    assert inspect(path).encoding == "utf-8"
    fails(lambda: read_rows(path), f"a.txt:{count + 1}:3: byte 0xef is not utf-8")
    assert rows(path, encoding="cp1252")[-1] == {"text": "naïve"}


def test_cp1252_that_breaks_half_way_hints_at_latin1(write: Any) -> None:
    path = write("a.txt", b"na\xefve\n" * (ENCODING_PREFIX // 6 + BLOCK) + b"a\x81\n")
    hint = "data.encoding=latin-1 if the file is in that; data.errors=replace goes on with U+FFFD in its place"
    fails(lambda: read_rows(path), f"a.txt:{ENCODING_PREFIX // 6 + BLOCK + 1}:2: byte 0x81 is not cp1252", hint)


def test_utf16_cut_in_mid_character_names_line_and_byte(write: Any) -> None:
    path = write("a.txt", "ab\ncd\n".encode("utf-16") + b"x")
    fails(lambda: read_rows(path), "a.txt:3: in byte 15 of the file: byte 0x78 is not utf-16")


def test_text_that_is_neither_utf8_nor_cp1252_is_refused(write: Any) -> None:
    path = write("a.txt", b"hello\nso \x8d\x81\x9d\n")
    goes_on = "data.encoding=utf-8 data.errors=replace goes on with U+FFFD in place of what is not"
    hint = f"data.encoding=NAME if you know it; {goes_on}"
    fails(lambda: read_rows(path), "a.txt:2:4: byte 0x8d is not UTF-8, and the file is not CP1252", hint)
    read = examples(path, encoding="utf-8", errors="replace")
    assert [row["text"] for row in read] == ["hello", "so \ufffd\ufffd\ufffd"]


def test_errors_replace_goes_on_and_logs_the_count(write: Any, caplog: pytest.LogCaptureFixture) -> None:
    path = write("a.txt", "schön\ufffd\n".encode() * 9 + b"na\xefve \xff\nb\0c\n")
    with caplog.at_level(logging.WARNING, logger="nlpkit"):
        texts = [e["text"] for e in examples(path, errors="replace")]
    assert texts == [*["schön\ufffd"] * 9, "na\ufffdve \ufffd", "b\ufffdc"]
    assert [record.getMessage() for record in caplog.records] == ["a.txt: 3 characters replaced by U+FFFD"]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.txt"])
def test_a_nul_byte_names_line_and_byte(write: Any, name: str) -> None:
    good = '{"text": "a good long line"}' if name == "a.jsonl" else "text a good long line"
    fails(
        lambda: read_rows(write(name, f"{good}\n{good}\nxy\0z\n")), f"{name}:3:3: a NUL byte, expected text", REPLACES
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04\x14\0\0\0\x08\0", "a.csv: a zip archive or a spreadsheet, expected text"),
        (b"PAR1\x15\x04\x15\x10", "a.csv: a parquet file, expected text"),
        (bytes(range(256)) * 8, "a.csv: binary data, expected text"),
        (b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c\x08builtins\x94.", "a.csv: binary data, expected text"),
        (b"\1\2\3\4\5\0\0\7", "a.csv: binary data, expected text"),
        (gzip.compress(b"text\na\n", mtime=0), "a.csv: gzip data inside gzip, expected text"),
    ],
)
def test_a_binary_file_is_refused(write: Any, content: bytes, message: str) -> None:
    packed = gzip.compress(content) if content[:2] == b"\x1f\x8b" else content
    fails(lambda: read_rows(write("a.csv", packed)), message)


def test_jsonl_scalars_keep_their_spelling(write: Any) -> None:
    line = '{"text": "a", "i": 1, "f": 1.10, "e": 1E5, "t": true, "f2": false, "n": null, "s": "007", "big": %s}'
    (row,) = rows(write("a.jsonl", line % ("9" * 5000)))
    expected = {"i": "1", "f": "1.10", "e": "1E5", "t": "true", "f2": "false", "n": None, "s": "007", "big": "9" * 5000}
    assert row == {"text": "a"} | expected


def test_jsonl_blank_lines_hold_no_row_but_count_as_lines(write: Any) -> None:
    found = list(read_rows(write("a.jsonl", '\n{"text": "a"}\r\n \t\n{"text": "b\\n\\u2028é"}')))
    assert [(row["text"], row.where) for row in found] == [("a", "a.jsonl:2"), ("b\n\u2028é", "a.jsonl:4")]


SHAPE = 'expected one object a line, like {"text": "..."}'


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ('{"text": "b"},', "not JSON at character 14: extra data", SHAPE),
        ('{"text": "b",}', "not JSON at character 14: expecting property name enclosed in double quotes", SHAPE),
        ('{"text": b}', "not JSON at character 10: expecting value", SHAPE),
        ('{"text": "b", "text": "c"}', "the key 'text' stands twice in one object", "keep one of the two"),
        ('{"text": NaN}', "NaN is not JSON", 'write null, or "NaN" in quotes if it is a text'),
        ('{"text": -Infinity}', "-Infinity is not JSON", 'write null, or "-Infinity" in quotes if it is a text'),
        ('{"text": "\\ud800"}', "half a surrogate pair in 'text'", REPLACES),
        ('{"text": "a\\u0000"}', "a NUL character in 'text'", REPLACES),
        ("[" * 100_000, "JSON nested too deeply", SHAPE),
        ('[{"text": "b"}]', f"a JSON array; {SHAPE}", "jq -c '.[]' FILE > FILE.jsonl"),
        ("{", f"JSON that spans lines; {SHAPE}", "jq -c . FILE > FILE.jsonl"),
        ('"b"', f"a JSON value that is no object; {SHAPE}", ""),
        ("12", f"a JSON value that is no object; {SHAPE}", ""),
    ],
)
@pytest.mark.parametrize("before", ["", '{"text": "a"}\n\n'])
def test_jsonl_that_is_wrong_is_refused_with_its_line(
    write: Any, before: str, line: str, message: str, hint: str
) -> None:
    number = before.count("\n") + 1
    fails(lambda: read_rows(write("a.jsonl", before + line + "\n")), f"a.jsonl:{number}: {message}", hint)


def test_jsonl_escapes_of_whole_pairs_are_read(write: Any) -> None:
    assert rows(write("a.jsonl", '{"text": "\\ud83d\\ude00"}\n')) == [{"text": "😀"}]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"body": "b"}', "no 'text' in row; it has 'body'"),
        ('{"text": null}', "'text' is null"),
        ('{"text": ["b"]}', "'text' is a list; expected a string"),
        ('{"text": {"a": "b"}}', "'text' is an object; expected a string"),
    ],
)
def test_jsonl_rows_without_the_text_are_refused(write: Any, line: str, message: str) -> None:
    path = write("a.jsonl", f'{{"text": "a"}}\n{line}\n')
    fails(lambda: read_examples([path], FIELDS), f"a.jsonl:2: {message}")


def test_jsonl_rows_may_lack_an_optional_field_unless_it_is_needed(write: Any) -> None:
    path = write("a.jsonl", '{"text": "a", "label": 1}\n{"text": "b"}\n{"text": "c", "label": null}\n')
    assert examples(path) == [{"text": "a", "label": "1"}, {"text": "b"}, {"text": "c"}]
    message = "a.jsonl:2: no 'label' in row; it has 'text'"
    hint = "name another column with data.label=COLUMN"
    fails(lambda: read_examples([path], FIELDS, need=("label",)), message, hint)


def test_jsonl_types_may_change_between_rows(write: Any) -> None:
    path = write("a.jsonl", '{"text": "a", "label": 1}\n{"text": 2, "label": "one"}\n')
    assert examples(path) == [{"text": "a", "label": "1"}, {"text": "2", "label": "one"}]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["review", "sentiment", "rating", "id"], {"text": "review", "label": "sentiment"}),
        (["column1", "Title", "Review Text", "Rating", "Class Name"], {"text": "Review Text", "label": "Rating"}),
        (["tweet_id", "airline_sentiment", "sentiment_gold", "text"], {"text": "text", "label": "airline_sentiment"}),
        (["reviewerID", "reviewText", "overall"], {"text": "reviewText"}),
        (["utterance"], {"text": "utterance"}),
        (["id", "utterance", "label"], {"text": "utterance", "label": "label"}),
        (["TEXT", "LABEL"], {"text": "TEXT", "label": "LABEL"}),
    ],
)
def test_columns_are_guessed_where_only_one_guess_is_possible(columns: list[str], expected: dict[str, str]) -> None:
    assert choose_columns(columns, FIELDS, {}, path="a.csv") == expected


def test_a_field_may_write_its_columns_as_files_do() -> None:
    fields = {"label": Field(("gold_label",), required=False)}
    assert choose_columns(["text", "Gold Label"], fields, {}, path="a.csv") == {"label": "Gold Label"}


def test_the_only_other_column_is_the_label_when_one_is_needed() -> None:
    found = choose_columns(["text", "mood"], FIELDS, {}, path="a.csv", need=("label",))
    assert found == {"text": "text", "label": "mood"}
    assert choose_columns(["text", "mood"], FIELDS, {}, path="a.csv") == {"text": "text"}


@pytest.mark.parametrize("columns", [["a", "b"], ["id", "label"], ["column1", "date"], ["It is a whole text. " * 4]])
def test_columns_are_not_guessed_when_unsafe(columns: list[str]) -> None:
    with pytest.raises(DataError, match=r"^a\.csv: no column for 'text'; it has '"):
        choose_columns(columns, FIELDS, {}, path="a.csv")


def test_a_field_without_a_column_lists_the_columns() -> None:
    hint = "name it with data.text=COLUMN; a file without a header needs one as its first line"
    columns = [f"c{n}" for n in range(30)]
    found = ", ".join(f"'c{n}'" for n in range(20))
    message = f"a.csv: no column for 'text'; it has {found}, 10 more"
    fails(lambda: choose_columns(columns, FIELDS, {}, path="a.csv"), message, hint)


def test_two_columns_of_one_name_are_not_guessed() -> None:
    message = "a.csv: 'text' could be any of 'Review_Text', 'review text'"
    hint = 'choose one, for example "data.text=Review_Text"'
    fails(lambda: choose_columns(["Review_Text", "review text"], FIELDS, {}, path="a.csv"), message, hint)


def test_named_columns_are_used_and_their_spelling_is_forgiven() -> None:
    columns = ["text", "Review Text", "stars"]
    assert choose_columns(columns, FIELDS, {"text": "review_text"}, path="a.csv") == {
        "text": "Review Text",
        "label": "stars",
    }


def test_a_named_column_that_is_missing_brings_the_nearest_name() -> None:
    columns = ["Review Text", "Rating"]
    message = "a.csv: no column 'Reviw Txt'; it has 'Review Text', 'Rating'"
    hint = "did you mean 'Review Text'? name it with data.text=COLUMN"
    fails(lambda: choose_columns(columns, FIELDS, {"text": "Reviw Txt"}, path="a.csv"), message, hint)


def test_a_named_optional_column_may_be_missing_unless_it_is_needed() -> None:
    chosen = {"label": "Rating"}
    assert choose_columns(["text"], FIELDS, chosen, path="a.csv") == {"text": "text"}
    message = "a.csv: no column 'Rating'; it has 'text'"
    fails(lambda: choose_columns(["text"], FIELDS, chosen, path="a.csv", need=("label",)), message)


def test_a_column_named_for_no_field_is_refused() -> None:
    message, hint = "data.columns: no field 'txt' to read", "did you mean 'text'? the task reads 'text', 'label'"
    fails(lambda: choose_columns(["a"], FIELDS, {"txt": "a"}, path="a.csv"), message, hint, UsageError)


def test_examples_of_several_files_report_each_file_once(write: Any) -> None:
    paths = [
        write("a.csv", "Review,Stars\na,1\n"),
        write("b.jsonl", '{"text": "b", "label": 2}\n'),
        write("c.txt", "c\n"),
    ]
    seen: list[tuple[str, dict[str, str]]] = []
    found = examples(*paths, on_source=lambda source, mapping: seen.append((source.path, mapping)))
    assert found == [{"text": "a", "label": "1"}, {"text": "b", "label": "2"}, {"text": "c"}]
    assert seen == [
        ("a.csv", {"text": "Review", "label": "Stars"}),
        ("b.jsonl", {"text": "text", "label": "label"}),
        ("c.txt", {"text": "text"}),
    ]


def test_examples_carry_further_columns(write: Any) -> None:
    path = write("a.csv", "text,shop id,n\na,7,0\n")
    assert examples(path, extra={"shop id": "data.group"}) == [{"text": "a", "shop id": "7"}]
    message = "a.csv: no column 'shpid'; it has 'text', 'shop id', 'n'"
    hint = "did you mean 'shop id'? name it with data.group=COLUMN"
    fails(lambda: read_examples([path], FIELDS, extra={"shpid": "data.group"}), message, hint)


def test_a_further_column_cannot_take_the_name_of_a_field(write: Any) -> None:
    path = write("a.csv", "text,label,sentiment\na,x,1\n")
    message = "a.csv: the field 'label' is read from 'sentiment', so the column 'label' has no name left"
    fails(lambda: read_examples([path], FIELDS, {"label": "sentiment"}, extra={"label": "data.group"}), message)


def test_plain_text_has_no_label_to_fit(write: Any) -> None:
    path = write("a.txt", "a\n")
    message = "a.txt: plain text has no column for 'label'"
    fails(
        lambda: read_examples([path], FIELDS, need=("label",)),
        message,
        "use csv, tsv or jsonl",
    )
    fails(
        lambda: read_examples([path], FIELDS, need=("label",), others=lambda: ["conll", "spans"]),
        message,
        "use csv, tsv or jsonl; or say what it is by data.reader=conll or data.reader=spans",
    )


def test_a_txt_is_read_though_another_column_was_named(write: Any) -> None:
    assert [dict(e) for e in read_examples([write("a.txt", "a\n")], FIELDS, {"text": "Review Text"})] == [{"text": "a"}]


_PEAK = r"""
import re, sys
from nlpkit.errors import DataError
from nlpkit.readers import read_rows
def peak():  # ru_maxrss would begin with that of the process that started this one
    return int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read())[1])
before = peak()
try:
    print(sum(1 for _ in read_rows(sys.argv[1])))
except DataError as error:
    print(error.message)
print((peak() - before) // 1024)
"""


def peak_of(path: str) -> tuple[str, int]:
    """What reading printed, and the MiB by which the peak of memory grew."""
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak of memory is read from /proc")
    code = textwrap.dedent(_PEAK)
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", code, path]
    out = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    *said, peak = out.splitlines()
    return "\n".join(said), int(peak)


@pytest.mark.parametrize(
    ("name", "start", "message"),
    [
        ("a.txt.gz", b"", "a.txt.gz:1: a line longer than 32 MiB"),
        ("a.csv.gz", b"text,label\n", "a.csv.gz:2: a line longer than 32 MiB"),
        ("a.jsonl.gz", b'{"text": "', "a.jsonl.gz:1: a line longer than 32 MiB"),
    ],
)
def test_a_line_of_a_gigabyte_is_refused_in_flat_memory(write: Any, name: str, start: bytes, message: str) -> None:
    path = write(name, gzip.compress(start) + gzip.compress(b"x" * 2**20) * 1024)
    said, peak = peak_of(path)
    assert said == message
    assert peak < 200, peak


@pytest.mark.parametrize("start", [b'text,label\na,1\n"', b'text,label\na,1\n"",'])
def test_an_unclosed_quote_in_a_gigabyte_is_refused_in_flat_memory(write: Any, start: bytes) -> None:
    block = (b"a line of text\n" if start.endswith(b'\n"') else b'"\n","\n",') * (2**20 // 15)
    path = write("a.csv.gz", gzip.compress(start) + gzip.compress(block) * 1024)
    said, peak = peak_of(path)
    assert said == "a.csv.gz:3: the row that begins here is longer than 32 MiB"
    assert peak < 300, peak


@pytest.mark.parametrize(
    ("name", "line"), [("a.csv.gz", b'"some text, quoted",1\n'), ("a.txt.gz", b"some plain text that is longer\n")]
)
def test_memory_does_not_grow_with_the_file(write: Any, name: str, line: bytes) -> None:
    block = line * (2**18 // len(line))
    header = b"text,label\n" if name == "a.csv.gz" else b""
    small, large = (write(f"{n}{name}", gzip.compress(header) + gzip.compress(block) * n) for n in (3, 30))
    (_, least), (count, most) = peak_of(small), peak_of(large)
    assert int(count) == 30 * block.count(b"\n")
    assert most <= least + 4


CELL = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12) | st.text(
    'ab", ;|\r\n\x85\u2028é', max_size=8
)


def slow_csv(text: str, delimiter: str) -> list[list[str]]:
    """Quoted cells by the book, a character at a time."""
    found: list[list[str]] = []
    row, cell, i, quoted = [], "", 0, False
    while i < len(text):
        char = text[i]
        if quoted:
            if char == '"' and text[i + 1 : i + 2] == '"':
                cell, i = cell + '"', i + 1
            elif char == '"':
                quoted = False
            else:
                cell += char
        elif char == '"':
            quoted = True
        elif char == delimiter:
            row, cell = [*row, cell], ""
        elif text.startswith("\r\n", i):
            found, row, cell, i = [*found, [*row, cell]], [], "", i + 1
        else:
            cell += char
        i += 1
    return found


@given(st.integers(2, 4).flatmap(lambda n: st.lists(st.lists(CELL, min_size=n, max_size=n), min_size=1, max_size=6)))
@PROFILE
def test_csv_agrees_with_a_slow_reader(tmp_path_factory: Any, body: list[list[str]]) -> None:
    head = [f"h{n}" for n in range(len(body[0]))]
    content = table_of([head, *body], quoting=csv.QUOTE_ALL)
    path = tmp_path_factory.getbasetemp() / "property.csv"
    path.write_bytes(content)
    found = list(read_rows(str(path), delimiter=","))
    assert [list(row.values()) for row in found] == slow_csv(content.decode(), ",")[1:]
    ends = [len(table_of([head, *body[:n]], quoting=csv.QUOTE_ALL)) for n in range(len(body))]
    lines = [content[:end].count(b"\n") + 1 for end in ends]
    assert [row.where for row in found] == [f"{path}:{line}" for line in lines]


@given(st.lists(st.lists(CELL.filter(lambda c: not ("\t" in c and "\n" in c)), min_size=3, max_size=3), min_size=1))
@PROFILE
def test_tsv_of_a_spreadsheet_comes_back(tmp_path_factory: Any, body: list[list[str]]) -> None:
    path = tmp_path_factory.getbasetemp() / "property.tsv"
    path.write_bytes(table_of([["a", "b", "c"], *body], dialect="excel-tab", quoting=csv.QUOTE_ALL))
    assert [list(row.values()) for row in read_rows(str(path))] == body


@given(
    st.lists(CELL.filter(lambda cell: "\n" not in cell), min_size=1).filter(
        lambda lines: any(line.strip("\r") for line in lines)
    )
)
@PROFILE
def test_txt_agrees_with_a_split_at_lf(tmp_path_factory: Any, lines: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "property.txt"
    content = "\n".join(["start", *lines]) + "\n"
    path.write_bytes(content.encode())
    expected = [line[:-1] if line.endswith("\r") else line for line in content.split("\n")[:-1]]
    assert [row["text"] for row in read_rows(str(path))] == expected


@given(st.lists(st.dictionaries(st.sampled_from(["text", "b", "ü"]), CELL, min_size=1), min_size=1), st.booleans())
@PROFILE
def test_jsonl_comes_back(tmp_path_factory: Any, body: list[dict[str, str]], escaped: bool) -> None:
    path = tmp_path_factory.getbasetemp() / "property.jsonl"
    path.write_bytes("".join(json.dumps(row, ensure_ascii=escaped) + "\n" for row in body).encode())
    assert rows(str(path)) == body


@given(
    st.binary(max_size=200) | st.text('ab,;\t"\r\n{}[]:\\u0é', max_size=60).map(str.encode),
    st.sampled_from(["csv", "tsv", "jsonl", "txt"]),
)
@settings(PROFILE, max_examples=600)
def test_any_bytes_are_read_or_refused_by_our_own_errors(tmp_path_factory: Any, content: bytes, kind: str) -> None:
    path = tmp_path_factory.getbasetemp() / f"fuzz.{kind}"
    path.write_bytes(content)
    try:
        outcome = "rows" if list(read_rows(str(path))) else "nothing"
    except DataError as error:
        outcome = error.message.replace(str(path), "refused")
    assert outcome.startswith(("rows", "refused:"))


@pytest.mark.parametrize("shift", range(-3, 4))
@pytest.mark.parametrize("at", [BLOCK, 2 * BLOCK, ENCODING_PREFIX, 4 * TABLE_PREFIX])
def test_a_seam_of_blocks_changes_nothing(write: Any, at: int, shift: int) -> None:
    text = "x" * (at + shift - 8) + "\n" + "é中😀\r\n" * 4
    expected = [{"text": line.removesuffix("\r")} for line in text.split("\n")[:-1]]
    assert rows(write("a.txt", text)) == expected
    assert rows(write("b.txt", text.encode("utf-16"))) == expected
    assert rows(write("a.csv", "text\r\n" + text)) == expected


@REAL
@pytest.mark.parametrize(
    ("file", "count", "mapping", "encoding"),
    [
        (
            "womens_clothing_reviews/Womens Clothing E-Commerce Reviews.csv",
            23_486,
            {"text": "Review Text", "label": "Rating"},
            "utf-8",
        ),
        ("sst2/train.tsv", 6_920, {"text": "sentence", "label": "label"}, "utf-8"),
        ("sst5/test.tsv", 2_210, {"text": "sentence", "label": "label"}, "utf-8"),
        ("imdb/train_5k.csv.gz", 5_000, {"text": "review", "label": "sentiment"}, "utf-8"),
        ("imdb/unlabelled_25k.txt.gz", 25_000, {"text": "text"}, "utf-8"),
        ("wikitext2/wiki.valid.tokens", 3_760, {"text": "text"}, "utf-8"),
    ],
)
def test_real_files_are_read_whole(file: str, count: int, mapping: dict[str, str], encoding: str) -> None:
    seen: list[Any] = []
    found = sum(1 for _ in read_examples([str(DATA / file)], FIELDS, on_source=lambda *args: seen.append(args)))
    assert (found, seen[0][1], seen[0][0].encoding) == (count, mapping, encoding)


@REAL
def test_real_reviews_keep_their_line_breaks_and_blanks() -> None:
    path = DATA / "womens_clothing_reviews" / "Womens Clothing E-Commerce Reviews.csv"
    texts = [e["text"] for e in read_examples([str(path)], FIELDS)]
    assert (texts.count(""), sum("\n" in t for t in texts), sum(t.count("\r\n") for t in texts)) == (845, 2024, 3212)
    assert len(set(texts)) - 1 == 22_634


@pytest.mark.parametrize(
    ("data", "settings", "lines", "said"),
    [
        (b"\xef\xbb\xbfone\r\ntwo", (None, "strict"), ["one\r\n", "two"], []),
        (gzip.compress("eins\nzwölf\n".encode(), mtime=0), (None, "strict"), ["eins\n", "zwölf\n"], []),
        ("zwölf\n".encode("cp1252"), (None, "strict"), ["zwölf\n"], ["cp1252 (a guess; data.encoding=NAME sets it)"]),
        ("zwölf\n".encode("cp1252"), ("cp1252", "strict"), ["zwölf\n"], []),
        ("zwölf\n".encode("cp1252"), ("utf-8", "replace"), ["zw\ufffdlf\n"], ["1 characters replaced by U+FFFD"]),
    ],
)
def test_readers_of_plugins_open_text_and_what_is_guessed_or_replaced_is_said(
    write: Any, caplog: Any, data: bytes, settings: Any, lines: list[str], said: list[str]
) -> None:
    caplog.set_level(logging.INFO, "nlpkit")
    with open_text(write("a.x", data), *settings) as text:
        assert list(split_lines(text)) == lines
    assert [record.getMessage() for record in caplog.records] == [f"a.x: {line}" for line in said]


def test_readers_of_plugins_name_the_line_that_cannot_be_decoded(write: Any) -> None:
    path = write("a.x", b"one\ntw\xffo\n")

    def read() -> list[str]:
        with open_text(path, "utf-8", "strict") as text:
            return list(split_lines(text))

    fails(read, "a.x:2:3: byte 0xff is not utf-8")
