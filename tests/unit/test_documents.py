"""What of a plain text file is a document: lines, paragraphs, files."""

from __future__ import annotations

import gzip
import logging
import os
import random
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nlpkit import readers
from nlpkit.config import compose
from nlpkit.errors import DataError
from nlpkit.limits import LONGEST_DOCUMENT
from nlpkit.objectives.mlm import Mlm
from nlpkit.plugins import Registry
from nlpkit.prepare import pretraining
from nlpkit.readers import Documents
from nlpkit.readers.documents import is_wrapped
from nlpkit.request import Request
from nlpkit.task import TEXT_COLUMNS, Field

DATA = Path(os.environ.get("NLPKIT_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
REAL = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data at {DATA}; set NLPKIT_DATA")
FIELDS = {"text": Field(TEXT_COLUMNS)}
LINES = st.sampled_from(
    ["a", "bb ccc", "  indented", "trailing  ", "", "", " ", "\t", "\f", "\fpage", "x\rx", "é\u2028é"]
)
TOGETHER = "of {} paragraphs or more: data.documents=paragraph makes each a text"
WORDS = "the coat is soft warm red and I wear it every day in winter because wind rain snow never come"


def read(path: Path, documents: Documents) -> list[tuple[str, str]]:
    return [
        (example.where, example["text"]) for example in readers.read_examples([str(path)], FIELDS, documents=documents)
    ]


def joined_in_turn(parts: list[tuple[int, str]], between: str, longest: int) -> list[tuple[int, str]]:
    """The oracle of what has room together: as many from the front as fit, then the rest."""
    if not parts:
        return []
    fitting = [n for n in range(1, len(parts) + 1) if len(between.join(text for _, text in parts[:n])) <= longest]
    count = max(fitting, default=1)
    whole = (parts[0][0], between.join(text for _, text in parts[:count]))
    return [whole, *joined_in_turn(parts[count:], between, longest)]


def documents_by_hand(content: str, unit: str, longest: int) -> list[tuple[int, str]]:
    lines = content.split("\n")
    blank = [not line.strip() for line in lines]
    starts = [i for i in range(len(lines)) if not blank[i] and (i == 0 or blank[i - 1])]
    paragraphs = []
    for start in starts:
        end = next((i for i in range(start, len(lines)) if blank[i]), len(lines))
        stripped = [(i + 1, lines[i].strip()) for i in range(start, end)]
        paragraphs += joined_in_turn(stripped, " ", longest)
    return paragraphs if unit == "paragraph" else joined_in_turn(paragraphs, "\n\n", longest)


@pytest.mark.parametrize("unit", ["paragraph", "file"])
@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    lines=st.lists(LINES, max_size=14),
    end=st.sampled_from(["\n", "\r\n"]),
    last=st.booleans(),
    longest=st.integers(1, 40),
)
def test_documents_equal_those_made_by_hand(
    unit: str, lines: list[str], end: str, last: bool, longest: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("made") / "book.txt"
    content = end.join(lines) + (end if last else "")
    path.write_bytes(content.encode())
    expected = [(f"{path}:{line}", text) for line, text in documents_by_hand(content, unit, longest)]
    try:
        found = read(path, Documents(unit, longest))  # type: ignore[arg-type]
    except DataError:
        found = []
    assert found == expected


def test_lines_of_a_paragraph_are_joined_and_paragraphs_kept_apart(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_bytes(b"\r\n   TITLE\r\n\r\nIt was\r\nlate.\r\n \r\n\f\r\nThe end")
    assert read(path, Documents("file")) == [(f"{path}:2", "TITLE\n\nIt was late.\n\nThe end")]
    assert read(path, Documents("paragraph")) == [
        (f"{path}:2", "TITLE"),
        (f"{path}:4", "It was late."),
        (f"{path}:8", "The end"),
    ]


def test_file_of_white_space_has_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text(" \n\f\n \n")
    with pytest.raises(DataError) as caught:
        read(path, Documents("file"))
    assert caught.value.message == f"{path}: no rows"


def test_file_longer_than_the_limit_is_cut_between_paragraphs(tmp_path: Path) -> None:
    path, paragraph = tmp_path / "endless.txt", "x " * 999 + "end"
    with open(path, "w") as file:
        for _ in range(LONGEST_DOCUMENT // len(paragraph) + 10):
            file.write(paragraph + "\n\n")
    first, second = read(path, Documents("file"))
    assert LONGEST_DOCUMENT - len(paragraph) - 2 < len(first[1]) <= LONGEST_DOCUMENT
    assert first[1].endswith("end") and second[1].startswith("x x")


def prose(seed: int, paragraphs: int = 30, ends: str = "\n") -> str:
    """Paragraphs of one to eighty words, wrapped at 70 characters."""
    draw = random.Random(seed)
    made = [textwrap.fill(" ".join(draw.choices(WORDS.split(), k=draw.randint(1, 80))), 70) for _ in range(paragraphs)]
    return "\n\n".join(made).replace("\n", ends)


@pytest.mark.parametrize("seed", range(5))
def test_wrapped_paragraphs_are_told_from_texts_a_line(seed: int) -> None:
    draw = random.Random(seed)
    texts = [" ".join(draw.choices(WORDS.split(), k=draw.randint(3, 40))) for _ in range(200)]
    assert is_wrapped(prose(seed))
    assert is_wrapped(prose(seed, ends="\r\n"))
    assert not is_wrapped("\n".join(texts))
    assert not is_wrapped("\n\n".join(texts))
    assert not is_wrapped("\n".join(text + "\n" * (i % 5 == 0) for i, text in enumerate(texts)))


@pytest.mark.parametrize(
    "start",
    [
        "",
        "\n \n",
        "one line",
        "the coat\nis warm\n" * 50,
        "word\nlist\n\n" * 50,
        "Roses are red,\nViolets are blue,\nSugar is sweet to the very last bite,\nAnd you too.\n\n" * 9,
        "衣服很好。\n我很喜欢，会再来买，谢谢。\n\n" * 30,
    ],
)
def test_verse_lists_and_little_text_are_lines(start: str) -> None:
    assert not is_wrapped(start)


@REAL
@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("gutenberg/*.txt.gz", "file"), ("imdb/unlabelled_25k.txt.gz", "line"), ("wikitext2/*.tokens", "line")],
)
def test_real_files_are_what_they_are(pattern: str, expected: str) -> None:
    for path in sorted(DATA.glob(pattern)):
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8", errors="replace") as file:
            assert Documents("auto").of(file.read(1 << 18)).unit == expected, path


def prepare(folder: Path, *settings: str) -> int:
    """Documents of the corpus that pre-training makes of a folder."""
    small = ["model.preset=tiny", "model.vocabulary=200", "model.embeddings=random", "model.sequence_length=16"]
    config = compose(Mlm, overrides=[*small, *settings]).config
    return pretraining(Request("mlm", (str(folder),)), config, Registry()).facts["corpus"]["documents"]


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of thirty books."""
    monkeypatch.setenv("NLPKIT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "books").mkdir()
    for number in range(30):
        (tmp_path / "books" / f"{number:02}.txt").write_text(prose(number, 8))
    return tmp_path / "books"


def test_pretraining_takes_each_book_as_a_document(library: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "nlpkit")
    assert prepare(library) == 30
    assert f"{library}/00.txt: txt, utf-8; the file a text, {TOGETHER.format(8)}" in caplog.messages
    assert prepare(library, "data.documents=paragraph") == 240
    lines = sum(bool(line) for path in library.iterdir() for line in path.read_text().split("\n"))
    assert prepare(library, "data.documents=line") == lines
    assert len(list((library.parent / "cache" / "stores").iterdir())) == 3


def test_a_single_book_is_cut_so_that_a_part_can_be_held_out(
    library: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "nlpkit")
    book = tmp_path / "book.txt"
    book.write_text("\n\n".join(path.read_text() for path in sorted(library.iterdir())))
    parts = prepare(book)
    assert parts == len(book.read_text()) // (1 << 14) + 1 > 1
    about = f"the file a text, cut between paragraphs at 16,384 characters, {TOGETHER.format(240)}"
    assert f"{book}: txt, utf-8; {about}" in caplog.messages
    caplog.clear()
    prepare(book, "data.documents=file")
    assert f"{book}: txt, utf-8; the file a text, cut between paragraphs at 16,384 characters" in caplog.messages


def test_other_stages_read_lines(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text(prose(1))
    assert len(list(readers.read_examples([str(path)], FIELDS))) == len(path.read_text().split("\n"))
