from __future__ import annotations

import gzip
import io
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nlpkit_ner import conll, schemes
from nlpkit_ner.schemes import SCHEMES, Scheme

from nlpkit import Example
from nlpkit.errors import DataError, NlpkitError, UsageError

DATA = Path(os.environ.get("NLPKIT_DATA", Path(__file__).parents[3].parent / "shared" / "data")) / "wnut17"
PROFILE = settings(derandomize=True, deadline=None, max_examples=50)
SHAPE = "expected CoNLL columns: a word a line, as many columns on every line, a blank line after each sentence"
OTHERS = "a line is like 'Berlin B-LOC'; csv, jsonl and txt files have readers of their own"
WRITE_O = "write O for a word that is in no entity"
NO_ROWS = "give a file with rows; nlpkit demo shop writes some to look at"
FORMS = "O, or a letter (B, I, E, S, L, U), a hyphen and a type, like B-PER"
ODD = [
    *("Zoë", "e\u0301", "\u0301", "👩\u200d💻", "🇩🇪", "שלום", "مرحبا", "a\u200bb", "\u200d"),
    *("New\u00a0York", "東京\u3000都", "#", "-", "{", '"'),
]
WORDS = st.one_of(
    st.sampled_from(ODD),
    st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zs", "Zl", "Zp")), min_size=1, max_size=8),
)
Write = Callable[..., str]


def read(path: str, **options: Any) -> list[tuple[str, list[tuple[str, str]]]]:
    """Texts with the words and type of each entity."""
    return [
        (row["text"], [(row["text"][e["start"] : e["end"]], e["label"]) for e in row["entities"]])
        for row in conll.read(path, **options)
    ]


def fails(path: str, message: str, hint: str, kind: type = DataError, **options: Any) -> None:
    with pytest.raises(NlpkitError) as caught:
        list(conll.read(path, **options))
    assert (type(caught.value), caught.value.message, caught.value.hint) == (kind, message, hint)


TWO = "Ann\tB-PER\nLee\tI-PER\nmet\tO\n\nin\tO\nOslo\tB-LOC\n"
TWO_READ = [("Ann Lee met", [("Ann Lee", "PER")]), ("in Oslo", [("Oslo", "LOC")])]


def test_sentences_become_texts_with_offsets_and_lines(write: Write) -> None:
    rows = list(conll.read(write(TWO)))
    assert rows == [
        {"text": "Ann Lee met", "entities": [{"start": 0, "end": 7, "label": "PER"}]},
        {"text": "in Oslo", "entities": [{"start": 3, "end": 7, "label": "LOC"}]},
    ]
    assert [row.where for row in rows] == ["a.conll:1", "a.conll:5"]


@pytest.mark.parametrize(
    "content",
    [
        TWO,
        TWO + "\n\n \n",
        TWO[:-1],
        TWO.replace("\n", "\r\n"),
        TWO.replace("\n", "\r\r\n"),
        "".join(f"{line}\t\t\n" if line else "\n" for line in TWO.split("\n")),
        TWO.replace("\n\n", "\n\t\n\n"),
        TWO.replace("\t", " "),
        TWO.replace("\t", "  \t "),
        "\ufeff" + TWO,
        ("\ufeff" + TWO).encode("utf-16-le"),
        gzip.compress(TWO.encode(), mtime=0),
        TWO.replace("\t", " NNP "),
        "-DOCSTART- -X- O\n\n" + TWO.replace("\t", " NNP "),
        "-DOCSTART-\tO\n\n" + TWO,
        "# a comment\n" + TWO.replace("in\t", "# id = 7\nin\t"),
        TWO.replace("\nLee", "\n# a comment inside a sentence\nLee"),
        "# note\n" + TWO.replace("\t", " "),
    ],
)
def test_the_same_sentences_in_many_spellings(write: Write, content: str | bytes) -> None:
    assert read(write(content)) == TWO_READ


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_scheme_of_a_file_is_found_and_said(write: Write, caplog: pytest.LogCaptureFixture, scheme: Scheme) -> None:
    tagged = schemes.tags([(0, 1, "PER"), (1, 3, "PER")], 4, scheme)
    path = write("".join(f"{word} {tag}\n" for word, tag in zip("abcd", tagged, strict=True)))
    with caplog.at_level(logging.INFO, "nlpkit"):
        assert read(path) == [("a b c d", [("a", "PER"), ("b c", "PER")])]
    assert caplog.messages == [f"a.conll: conll, {scheme}, 1 sentences, 4 words, tags in column 2 of 2"]


def test_words_that_begin_with_a_hash_are_words_where_they_have_all_columns(write: Write) -> None:
    content = "#\tO\n#NLProc\tB-event\n# a comment\n#\ttext\twith\ttabs\n\n# more\n##\tO\n"
    assert read(write(content)) == [("# #NLProc", [("#NLProc", "event")]), ("##", [])]
    assert read(write("# note\n#NLProc B-event\n# O\n")) == [("#NLProc #", [("#NLProc", "event")])]


def test_a_file_of_words_that_all_begin_with_a_hash(write: Write) -> None:
    assert read(write("#a\tB-x\n#b\tI-x\n")) == [("#a #b", [("#a #b", "x")])]


def test_words_keep_the_white_space_inside_them(write: Write) -> None:
    content = "New\u00a0York\tB-LOC\n東京\u3000都\tI-LOC\n10 000\tO\nA\u2028B\tO\nC\x0bD\x85E\tO\n"
    text = "New\u00a0York 東京\u3000都 10 000 A\u2028B C\x0bD\x85E"
    assert read(write(content)) == [(text, [("New\u00a0York 東京\u3000都", "LOC")])]
    assert read(write("New\u00a0York B-LOC\n")) == [("New\u00a0York", [("New\u00a0York", "LOC")])]


def test_one_column_is_text_to_predict_for(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "nlpkit"):
        rows = list(conll.read(write("Ann\nmet\n# a comment\n#NLProc\n\nO\n")))
    assert rows == [{"text": "Ann met #NLProc"}, {"text": "O"}]
    assert [row.where for row in rows] == ["a.conll:1", "a.conll:6"]
    assert caplog.messages == ["a.conll: conll, 2 sentences, 4 words, no tags"]


CONLLU = (
    "# global.columns = ID FORM LEMMA NER MISC\n# text = vámonos a Oslo\n1-2\tvámonos\t_\tO\t_\n1\tvamos\tir\tO\t_\n"
    "2\tnos\tnos\tO\t_\n2.1\tsilent\t_\tO\t_\n3\ta\ta\tO\t_\n4\tOslo\tOslo\tB-LOC\tSpaceAfter=No\n"
)


@pytest.mark.parametrize("tags", ["NER", 4, "4", -2, "-2"])
def test_conllu_names_its_columns_and_numbers_its_words(write: Write, tags: int | str) -> None:
    assert read(write(CONLLU), tags=tags) == [("vamos nos a Oslo", [("Oslo", "LOC")])]


def test_a_first_comment_may_name_the_columns(write: Write) -> None:
    content = "# word\tner\tchunk\nOslo\tB-LOC\tB-NP\n"
    assert read(write(content), tags="ner") == [("Oslo", [("Oslo", "LOC")])]
    assert read(write("# word ner chunk\nOslo B-LOC B-NP\n"), tags="ner") == [("Oslo", [("Oslo", "LOC")])]


def test_a_column_that_is_not_there(write: Write) -> None:
    known = "it has ID, FORM, LEMMA, NER, MISC"
    hint = "did you mean 'NER'? give its number, -1 for the last"
    fails(write(CONLLU), f"a.conll:1: no column 'NERR'; {known}", hint, UsageError, tags="NERR")
    nameless = "a.conll:1: no column 'ner'; no line before this one names columns"
    fails(write(TWO), nameless, "give its number, -1 for the last", UsageError, tags="ner")
    counted = "columns count from 1, from the end from -1"
    for number in (0, 3, -3):
        fails(write(TWO), f"a.conll:1: no column {number}; it has 2 columns", counted, UsageError, tags=number)
    fails(write("# x\n\nOslo\n"), "a.conll:3: no column 2; it has 1 column", counted, UsageError, tags=2)


def test_words_stand_in_the_first_column_without_tags(write: Write) -> None:
    path = write("B-LOC\tOslo\nO\tis\n")
    for tags in (1, "1", -2):
        assert read(path, tags=tags) == [("Oslo is", [("Oslo", "LOC")])]
    path = write("# global.columns = ID NER WORD\n1\tB-LOC\tOslo\n2\tO\tis\n")
    assert read(path, tags="NER") == [("Oslo is", [("Oslo", "LOC")])]


def test_a_column_of_tags_alone_has_no_words(write: Write) -> None:
    message = "a.conll:1: no column is left for the words; it has 1 column"
    fails(write("O\nB-LOC\n"), message, "write word and tag on every line", UsageError, tags=1)


def test_the_column_that_is_empty_at_first_stays_so_or_is_named(write: Write) -> None:
    content = "a\tO\t\n" * 2_000 + "b\tO\tB-LOC\n"
    message = "a.conll:2001: 'b': 'B-LOC' in column 3, which is empty on the lines before"
    fails(write(content), message, "name the column of the tags: data.entities=N")
    assert len(read(write(content), tags=2)) == 1
    fails(
        write(content),
        f"a.conll:1: column 3 of 3 has no tags but ''; expected {FORMS}",
        "data.entities=2",
        tags=3,
    )


def test_a_document_ends_the_sentence_before_it(write: Write) -> None:
    assert read(write("a\tO\n-DOCSTART-\tO\nb\tB-x\n")) == [("a", []), ("b", [("b", "x")])]


def test_two_answers_to_a_text_are_about_the_same_words() -> None:
    text, whole, part = "the U.S. now", [{"start": 4, "end": 8, "label": "x"}], [{"start": 4, "end": 7, "label": "x"}]
    assert conll.words_of(text, whole, part) == (["the", "U.S", ".", "now"], [(1, 3, "x")])
    assert conll.words_of(text, part, whole) == (["the", "U.S", ".", "now"], [(1, 2, "x")])


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TWO.encode())))
    assert [row.where for row in conll.read("-")] == ["stdin:1", "stdin:5"]


def test_very_long_words_are_read_and_shortened_in_messages(write: Write) -> None:
    word = "w" * 5000
    assert read(write(f"{word}\tB-x\n")) == [(word, [(word, "x")])]
    message = f"a.conll:2: '{'w' * 37}...': 'B_x' is no tag; expected {FORMS}"
    fails(write(f"a\tO\n{word}\tB_x\n"), message, "write B-x")


IN_IOB2 = "in IOB2 an entity begins with B-LOC"


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (
            "a\tO\nb\tO\nc\n",
            "a.conll:3: 'c': 1 column; expected 2, divided by tabs, as on other lines",
            "put a tab between columns",
        ),
        (
            "a O\nb O\nNew York B-LOC\n",
            "a.conll:3: 'New': 3 columns; expected 2, divided by blanks, as on other lines",
            "put tabs between all columns if words hold blanks",
        ),
        (
            "a N O\nb N O\n\nc O\n",
            "a.conll:4: 'c': 2 columns; expected 3, divided by blanks, as on other lines",
            "write the columns that are missing",
        ),
        (
            "# global.columns = ID FORM NER\n1\ta\n",
            "a.conll:2: 'a': 2 columns; expected 3, divided by tabs, as named in line 1",
            "put a tab between columns",
        ),
        ("a\tO\n\tO\n", "a.conll:2: no word in column 1", "delete the line, or mend it"),
        ("a\tO\n \tO\n", "a.conll:2: no word in column 1", "delete the line, or mend it"),
        (
            "a\tO\nb\tX-PER\n",
            f"a.conll:2: 'b': 'X-PER' is no tag; expected {FORMS}",
            "write B-PER, or I-PER where the entity goes on",
        ),
        ("a\tO\nb\t\n", f"a.conll:2: 'b': '' is no tag; expected {FORMS}", WRITE_O),
        (
            "word\ttag\nOslo\tB-LOC\n",
            f"a.conll:1: 'word': 'tag' is no tag; expected {FORMS}",
            f"if this line names the columns, delete it: tail -n +2 FILE > NEW; else {WRITE_O}",
        ),
        ("# x\na B-PER\n\nb B-PER\n# y z w\nc I-LOC\n", f"a.conll:6: 'c': I-LOC after B-PER; {IN_IOB2}", "write B-LOC"),
        ("a B-LOC\n\nb I-LOC\n", f"a.conll:3: 'b': I-LOC at the start of the sentence; {IN_IOB2}", "write B-LOC"),
        (
            "Oslo\tPROPN\nis\tAUX\ncold\tADJ\nnow\tADV\n",
            f"a.conll:1: column 2 of 2 has no tags but 'PROPN', 'AUX', 'ADJ'; expected {FORMS}",
            "words alone are read without tags: cut -f1 FILE > NEW",
        ),
        (
            "1 B-LOC Oslo\n2 O cold\n",
            f"a.conll:1: column 3 of 3 has no tags but 'Oslo', 'cold'; expected {FORMS}",
            "data.entities=2",
        ),
        (
            "B-LOC\tOslo\nO\tcold\n",
            f"a.conll:1: column 2 of 2 has no tags but 'Oslo', 'cold'; expected {FORMS}",
            "data.entities=1",
        ),
        (
            "# global.columns = ID FORM UPOS\n1 Oslo PROPN\n",
            f"a.conll:2: column 3 of 3 has no tags but 'PROPN'; expected {FORMS}",
            "words alone are read without tags: awk '{print $2}' FILE > NEW",
        ),
        (
            "a\t\nb\t\n",
            f"a.conll:1: column 2 of 2 has no tags but ''; expected {FORMS}",
            "words alone are read without tags: cut -f1 FILE > NEW",
        ),
        (
            "a\tO\nb\tO\nc\tB-LOC\tx\n",
            "a.conll:3: 'c': 3 columns; expected 2, divided by tabs, as on other lines",
            "delete the tabs that are too many",
        ),
        (
            "# global.columns = ID FORM NER\n1\ta\tO\nx\tb\tO\n",
            "a.conll:3: ID is 'x', expected a number, a range like 1-2, or 1.1 of an empty node",
            "number the words of each sentence from 1",
        ),
        ("a\tO\nb\tO\n\u00a0\tB-LOC\n", "a.conll:3: LOC on white space alone (U+00A0)", "write O, or delete the line"),
        (
            "a\tO\rb\tO\r",
            "a.conll:1: a carriage return (CR) at character 4, expected LF or CRLF at the end of each line",
            r"if CR ends the lines: tr '\r' '\n' < FILE > NEW; else delete it",
        ),
        (
            "a\tO\n\nb\rc\tO\n",
            "a.conll:3: a carriage return (CR) at character 2, expected LF or CRLF at the end of each line",
            r"if CR ends the lines: tr '\r' '\n' < FILE > NEW; else delete it",
        ),
        ('{"text": "Oslo is cold"}\n{"text": "so"}\n', f"a.conll:1: JSON; {SHAPE}", OTHERS),
        ('[{"text": "Oslo"}]\n', f"a.conll:1: JSON; {SHAPE}", OTHERS),
        ("text,label\ncold,bad\nwarm,good\n", f"a.conll:1: cells divided by ','; {SHAPE}", OTHERS),
        (
            "Oslo is cold\nAnn met Lee in the long street\nShe left\nso\n",
            f"a.conll:2: 7 columns, where line 1 has 3; {SHAPE}",
            OTHERS,
        ),
        ("\n \n\t\n", "a.conll: no word in the file", NO_ROWS),
        (
            "-DOCSTART- O\n\n",
            "a.conll: no word in the file",
            NO_ROWS,
        ),
    ],
)
def test_what_cannot_be_read_is_named(write: Write, content: str, message: str, hint: str) -> None:
    fails(write(content), message, hint)


@st.composite
def tagged_sentences(draw: st.DrawFn) -> tuple[list[str], list[schemes.Span]]:
    """Words, and entities over them that lie side by side."""
    words: list[str] = []
    spans: list[schemes.Span] = []
    pieces = st.tuples(st.lists(WORDS, min_size=1, max_size=3), st.sampled_from(["", "PER", "creative-work"]))
    for piece, kind in draw(st.lists(pieces, min_size=1, max_size=5)):
        if kind:
            spans.append((len(words), len(words) + len(piece), kind))
        words += piece
    return words, spans


FILES = st.lists(tagged_sentences(), min_size=1, max_size=4)


@PROFILE
@given(FILES, st.sampled_from(SCHEMES))
def test_any_words_and_entities_come_back(
    tmp_path_factory: pytest.TempPathFactory, file: list[tuple[list[str], list[schemes.Span]]], scheme: Scheme
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.conll"
    sentences = (
        "".join(f"{word}\t{tag}\n" for word, tag in zip(words, schemes.tags(spans, len(words), scheme), strict=True))
        for words, spans in file
    )
    path.write_bytes("\n".join(sentences).encode())
    expected = [
        (" ".join(words), [(" ".join(words[first:end]), kind) for first, end, kind in spans]) for words, spans in file
    ]
    assert read(str(path)) == expected

    copy = io.StringIO(newline="\n")
    conll.write(conll.read(str(path)), copy, scheme)
    assert copy.getvalue().rstrip("\n") == path.read_bytes().decode().rstrip("\n")


def test_write_cuts_words_where_entities_end() -> None:
    file = io.StringIO()
    examples = [Example({"text": "so (New  York).", "entities": [{"start": 4, "end": 13, "label": "LOC"}]})]
    conll.write([*examples, Example({"text": " ", "entities": []})], file, "BIOES")
    assert file.getvalue() == "so\tO\n(\tO\nNew\tB-LOC\nYork\tE-LOC\n).\tO\n\n"


@pytest.mark.parametrize(
    ("name", "sentences", "words"),
    [("wnut17train.conll", 3394, 62730), ("emerging.dev.conll", 1009, 15733), ("emerging.test.annotated", 1287, 23394)],
)
def test_real_tweets_are_read_whole(name: str, sentences: int, words: int) -> None:
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"{path}: no such file; set NLPKIT_DATA")
    rows = list(conll.read(str(path)))
    columns = [line.split("\t") for line in path.read_bytes().decode().split("\n") if line.strip()]
    assert (len(rows), len(columns)) == (sentences, words)
    assert " ".join(row["text"] for row in rows) == " ".join(word for word, _ in columns)
    assert Counter(entity["label"] for row in rows for entity in row["entities"]) == Counter(
        tag[2:] for _, tag in columns if tag.startswith("B-")
    )
