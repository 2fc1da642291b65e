"""Two files, line by line."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nlpkit_translation.datasets import read_parallel
from nlpkit_translation.shift import first_shift

from nlpkit.errors import DataError

Write = Callable[..., str]
HINT = "line N of one file must be the translation of line N of the other"
LINE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\n\r\ufeff"), max_size=12)


def refused(source: str, target: str | None) -> DataError:
    with pytest.raises(DataError) as caught:
        list(read_parallel(source, target))
    return caught.value


def test_lines_of_two_files_are_pairs_with_the_place_of_the_source(write: Write) -> None:
    pairs = list(read_parallel(write("a.en", "One.\nTwo.\n"), write("a.de", "Eins.\nZwei.\n")))
    assert pairs == [{"source": "One.", "target": "Eins."}, {"source": "Two.", "target": "Zwei."}]
    assert [pair.where for pair in pairs] == ["a.en:1", "a.en:2"]


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\r"])
def test_only_lf_and_crlf_end_a_line(write: Write, mark: str) -> None:
    pairs = list(read_parallel(write("a.en", f"one{mark}and\ntwo\n"), write("a.de", "eins\r\nzwei\r\n")))
    assert pairs == [{"source": f"one{mark}and", "target": "eins"}, {"source": "two", "target": "zwei"}]


def test_mark_is_dropped_and_a_last_line_may_lack_its_end(write: Write) -> None:
    source = write("a.en", b"\xef\xbb\xbfone\n\nthree")
    pairs = list(read_parallel(source, write("a.de.gz", "eins\n\ndrei\n")))
    assert [(pair["source"], pair["target"]) for pair in pairs] == [("one", "eins"), ("", ""), ("three", "drei")]


def test_sides_may_be_in_different_encodings(write: Write) -> None:
    source = write("a.en", "caf\u00e9\n".encode("utf-16"))
    assert [dict(pair) for pair in read_parallel(source, write("a.de", "Caf\u00e9\n"))] == [
        {"source": "caf\u00e9", "target": "Caf\u00e9"}
    ]


def test_one_file_alone_gives_sources(write: Write) -> None:
    assert list(read_parallel(write("a.en", "One.\nTwo.\n"))) == [{"source": "One."}, {"source": "Two."}]


@settings(max_examples=60)
@given(pairs=st.lists(st.tuples(LINE, LINE), min_size=1, max_size=6), end=st.sampled_from(["\n", "\r\n"]))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]], end: str
) -> None:
    pairs = [("x", "y"), *pairs]
    folder = tmp_path_factory.mktemp("pairs")
    for place, name in enumerate(("a.en", "a.de")):
        (folder / name).write_bytes("".join(pair[place] + end for pair in pairs).encode())
    found = read_parallel(str(folder / "a.en"), str(folder / "a.de"), encoding="utf-8")
    assert [(pair["source"], pair["target"]) for pair in found] == pairs


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("a\nb\nc\n", "a\nb\n", "a.en:3: no partner for this line; a.en has 3 lines and a.de 2"),
        ("a\n", "a\nb\nc\n\n", "a.de:2: no partner for this line; a.en has 1 lines and a.de 4"),
    ],
)
def test_unequal_files_are_refused_with_the_first_line_that_has_no_partner(
    write: Write, source: str, target: str, message: str
) -> None:
    error = refused(write("a.en", source), write("a.de", target))
    assert (error.message, error.hint) == (message, HINT)


def sentences(count: int) -> tuple[list[str], list[str]]:
    """Lines of very different lengths, and others about as long as their partners."""
    draw = random.Random(7)
    sizes = [draw.randint(5, 150) for _ in range(count)]
    return ["x" * size for size in sizes], ["y" * round(size * draw.uniform(0.9, 1.3)) for size in sizes]


def test_lengths_tell_about_where_a_line_is_missing(write: Write) -> None:
    source, target = sentences(1000)
    del target[399]
    error = refused(write("a.en", "\n".join(source)), write("a.de", "\n".join(target)))
    assert error.message == "a.en:1000: no partner for this line; a.en has 1,000 lines and a.de 999"
    assert error.hint.startswith(f"{HINT}; by their lengths (a guess) they fit up to about line ")
    first, last = first_shift(list(map(len, source[:-1])), list(map(len, target))) or (0, 0)
    assert first <= 400 <= last + 1 and last - first < 40
    assert error.hint.endswith(f" they fit up to about line {first}, and no more from line {last} on")


def test_lengths_that_show_no_shift_give_no_guess() -> None:
    source, target = (list(map(len, side)) for side in sentences(1000))
    assert first_shift(source, target) is None
    assert first_shift(source[:-1], target[1:]) is None  # from the first line on
    assert first_shift(source[:100], target[:100]) is None
    assert first_shift([7] * 500, [7] * 500) is None


def test_harder_half_of_a_corpus_is_no_shift() -> None:
    source, target = (list(map(len, side)) for side in sentences(1000))
    draw = random.Random(1)
    target[500:] = [round(size * draw.uniform(0.7, 1.6)) for size in source[500:]]
    assert first_shift(source, target) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a.de: empty file"),
        (b"\n \n\t\n", "a.de: the target is empty in all 3 rows"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "a.de: an image, expected text"),
        (b"ab\0c\ncd\nef\n", "a.de:1:3: a NUL byte, expected text"),
        (b"eins\nzw\xffei\ndrei \xe2\x80\x94\xe2\x80\x94\n", "a.de:2:3: byte 0xff is not utf-8"),
    ],
)
def test_files_without_a_text_are_refused(write: Write, content: bytes, message: str) -> None:
    assert refused(write("a.en", "one\ntwo\nthree\n"), write("a.de", content)).message == message
    assert refused(write("a.en", content), write("a.fr", "un\ndeux\ntrois\n")).message == message.replace(
        "a.de", "a.en"
    ).replace("target", "source")


def test_missing_file_is_named(write: Write) -> None:
    assert refused(write("a.en", "one\n"), "a.de").message == "a.de: no such file or folder"


def test_truncated_gzip_is_refused(write: Write) -> None:
    path = Path(write("a.de.gz", "".join(f"Satz {n}\n" for n in range(5000))))
    path.write_bytes(path.read_bytes()[:-20])
    assert refused(write("a.en", "one\n" * 5000), str(path)).message == "a.de.gz: truncated gzip data"


def test_line_of_100000_characters_is_read_whole(write: Write) -> None:
    (pair,) = read_parallel(write("a.en", "x" * 100_000), write("a.de", "kurz"))
    assert len(pair["source"]) == 100_000
