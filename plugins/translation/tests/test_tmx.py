"""Translation memories."""

from __future__ import annotations

import logging
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nlpkit_translation.datasets import read_tmx

from nlpkit.errors import DataError

Write = Callable[..., str]
# what XML can hold; CR is made LF by every parser
TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff", include_characters="\t\n"),
    max_size=12,
)


def unit(**texts: str) -> str:
    variants = "".join(
        f'<tuv xml:lang="{language.replace("_", "-")}"><seg>{text}</seg></tuv>' for language, text in texts.items()
    )
    return f"<tu>{variants}</tu>\n"


def tmx(*units: str, before: str = "") -> str:
    header = '<header srclang="en" datatype="plaintext"><note xml:lang="en">made by hand</note></header>'
    return f'<?xml version="1.0"?>\n{before}<tmx version="1.4">{header}<body>\n{"".join(units)}</body></tmx>\n'


def read(path: str, **columns: str) -> list[tuple[str, str]]:
    return [(pair["source"], pair["target"]) for pair in read_tmx(path, columns)]


def refused(path: str, **columns: str) -> DataError:
    with pytest.raises(DataError) as caught:
        read(path, **columns)
    return caught.value


def test_units_are_pairs_in_the_order_of_the_first(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "nlpkit")
    path = write("a.tmx.gz", tmx(unit(en_US="One.", de_DE="Eins."), unit(de="Zwei.", en_GB="Two.")))
    pairs = list(read_tmx(path))
    assert pairs == [{"source": "One.", "target": "Eins."}, {"source": "Two.", "target": "Zwei."}]
    assert [pair.where for pair in pairs] == ["a.tmx.gz:3", "a.tmx.gz:4"]
    said = "a.tmx.gz: tmx; source = 'en', target = 'de', in the order of its first unit"
    assert [record.getMessage() for record in caplog.records] == [said]


def test_languages_are_named_by_their_beginning(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "nlpkit")
    path = write(
        "a.tmx",
        tmx(
            unit(en_GB="Colour.", en_US="Color.", de_AT="Farbe.", fr="Couleur."),
            unit(en_GB="Lift.", fr="Ascenseur."),
            unit(en_US="Elevator.", de="Aufzug."),
        ),
    )
    assert read(path, source="de", target="en") == [("Farbe.", "Colour."), ("Aufzug.", "Elevator.")]
    assert read(path, source="EN_us", target="de") == [("Color.", "Farbe."), ("Elevator.", "Aufzug.")]
    assert [record.getMessage() for record in caplog.records] == [
        "a.tmx: 2 pairs; left out: 1 without one of the two, 1 further variants",
        "a.tmx: 2 pairs; left out: 1 without one of the two",
    ]


def test_one_named_language_leaves_the_other(write: Write) -> None:
    assert read(write("a.tmx", tmx(unit(en="One.", de="Eins."))), source="de") == [("Eins.", "One.")]


def test_varieties_are_two_languages_where_there_are_no_others(write: Write) -> None:
    assert read(write("a.tmx", tmx(unit(en_US="Color.", en_GB="Colour.")))) == [("Color.", "Colour.")]


def test_codes_are_left_out_and_marked_text_stays(write: Write) -> None:
    english = (
        "\n Press <bpt i='1'>&lt;b&gt;</bpt>the <hi type='term'>red <ph>&lt;br/&gt;</ph>key</hi>"
        "<ept i='1'>&lt;/b&gt;</ept><ph>&lt;img alt=\"<sub>a <hi>key</hi></sub>\"&gt;</ph> &amp; wait&#33;"
        "<it pos='begin'>x</it>\n"
    )
    assert read(write("a.tmx", tmx(unit(en=english, de="Taste<ut>x</ut> <![CDATA[<rot>]]>")))) == [
        ("Press the red key & wait!", "Taste <rot>")
    ]


def test_old_memories_and_encodings_are_read(write: Write) -> None:
    variants = "<tuv lang='EN'><seg>caf\u00e9</seg></tuv><tuv lang='DE'><seg>Caf\u00e9</seg></tuv>"
    old = f"<tmx version='1.1'><body><tu>{variants}</tu>"
    declared = f"<?xml version='1.0' encoding='iso-8859-1'?>{old}</body></tmx>".encode("latin-1")
    wide = f"<?xml version='1.0' encoding='UTF-16'?>{old}</body></tmx>".encode("utf-16")
    named = f"{old}</body></tmx>".encode("cp1252")
    assert read(write("a.tmx", declared)) == read(write("b.tmx", wide)) == [("caf\u00e9", "Caf\u00e9")]
    assert [dict(pair) for pair in read_tmx(write("c.tmx", named), encoding="cp1252")] == [
        {"source": "caf\u00e9", "target": "Caf\u00e9"}
    ]


def test_doctype_without_entities_is_passed_over(write: Write) -> None:
    path = write("a.tmx", tmx(unit(en="One.", de="Eins."), before='<!DOCTYPE tmx SYSTEM "tmx14.dtd">'))
    assert read(path) == [("One.", "Eins.")]


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
DECLARED = "is declared; none is expanded, and no other file is read"


@pytest.mark.parametrize(
    ("doctype", "text", "message"),
    [
        (f'[<!ENTITY l0 "ha">{LAUGHS}]', "&l9;", f"a.tmx:2: the entity 'l0' {DECLARED}"),
        ('[<!ENTITY x SYSTEM "file:secret.txt">]', "&x;", f"a.tmx:2: the entity 'x' {DECLARED}"),
        ('[<!ENTITY % x SYSTEM "file:secret.txt"> %x;]', "One.", f"a.tmx:2: the entity 'x' {DECLARED}"),
        ('SYSTEM "tmx14.dtd"', "&nbsp;", "a.tmx:3: '&nbsp;' is no entity of XML"),
    ],
)
def test_entities_are_not_expanded_and_no_file_is_read(write: Write, doctype: str, text: str, message: str) -> None:
    write("secret.txt", "do not tell")
    path = write("a.tmx", tmx(unit(en=text, de="Eins."), before=f"<!DOCTYPE tmx {doctype}>"))
    assert refused(path).message == message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tmx("<tu>\n  <oops>"), "a.tmx:4:11: broken XML: mismatched tag"),
        (tmx(unit(en="a", de="b"))[:-20], "a.tmx:3:79: broken XML: no element found"),
        (tmx(unit(en="a \x1f", de="b")), "a.tmx:3:31: broken XML: not well-formed (invalid token)"),
        (tmx(unit(en="\u00e9 & b", de="b")), "a.tmx:3:32: broken XML: not well-formed (invalid token)"),
        ("<html><body/></html>", "a.tmx:1: <html>, expected <tmx>"),
        (tmx("<tu>\n<tuv><seg>a</seg></tuv></tu>"), "a.tmx:4: <tuv> without its language"),
        (tmx(unit(en="a", de="b"), unit(en="c", fr="d")), "a.tmx:4: more than two languages: 'en', 'de', 'fr'"),
        (tmx(unit(en="a", de="b", fr="c")), "a.tmx:3: more than two languages: 'en', 'de', 'fr'"),
        (tmx(unit(en="a"), unit(en="b")), "a.tmx: no unit in two languages; it has 'en'"),
        (tmx(), "a.tmx: no rows"),
        (tmx(unit(en="a", de="  "), unit(en="b", de="")), "a.tmx: the target is empty in all 2 rows"),
        ("", "a.tmx: empty file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "a.tmx: an image, expected text"),
        (b"<?xml version='1.0' encoding='klingon'?><tmx/>", "a.tmx:1: no encoding 'klingon'"),
        (tmx(unit(en="caf\u00e9" * 9, de="b")).encode() + b"\xff", "a.tmx:5: byte 0xff is not utf-8"),
    ],
)
def test_bad_memories_are_refused_with_their_place(write: Write, content: str | bytes, message: str) -> None:
    error = refused(write("a.tmx", content))
    assert error.message == message
    assert error.hint


def test_languages_that_are_not_there_are_named(write: Write) -> None:
    error = refused(write("a.tmx", tmx(unit(en="a", de="b"))), source="en", target="fr")
    assert error.message == "a.tmx: no unit in two languages, 'en' and 'fr'; it has 'en', 'de'"


def test_forbidden_characters_can_be_replaced(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    path = write("a.tmx", tmx(unit(en="a \x1f", de="b")))
    assert [dict(pair) for pair in read_tmx(path, errors="replace")] == [{"source": "a \ufffd", "target": "b"}]
    assert caplog.records[-1].getMessage() == "a.tmx: 1 characters replaced by U+FFFD"


def test_truncated_gzip_is_refused(write: Write) -> None:
    path = Path(write("a.tmx.gz", tmx(*(unit(en=f"One {n}", de=f"Eins {n}") for n in range(9000)))))
    path.write_bytes(path.read_bytes()[:-20])
    assert refused(str(path)).message == "a.tmx.gz: truncated gzip data"


def test_long_segments_are_read_and_endless_ones_refused(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("a.tmx", tmx(unit(en="x" * 100_000, de="y")))
    assert [len(text) for text in read(path)[0]] == [100_000, 1]
    monkeypatch.setattr("nlpkit_translation.tmx.LONGEST_LINE", 50_000)
    assert refused(path).message == "a.tmx:3: a unit or a tag longer than 0 MiB"
    attribute = write("b.tmx", f"<tmx><body><tu note='{'x' * 600_000}'/></body></tmx>")
    assert refused(attribute).message == "b.tmx:1: a unit or a tag longer than 0 MiB"


def test_memory_is_that_of_a_block_even_on_one_line(write: Write) -> None:
    one = unit(en="x" * 500, de="y" * 500).strip()
    path = write("a.tmx", tmx(one * 10_000))  # 10 MB
    tracemalloc.start()
    try:
        count = sum(1 for _ in read_tmx(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 10_000
    assert peak < 8 << 20


@settings(max_examples=60)
@given(pairs=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]]) -> None:
    pairs = [("x", "y"), *pairs]
    path = tmp_path_factory.mktemp("tmx") / "a.tmx"
    path.write_bytes(tmx(*(unit(en=escape(a), de=escape(b)) for a, b in pairs)).encode())
    found = [(pair["source"], pair["target"]) for pair in read_tmx(str(path), encoding="utf-8")]
    assert found == [(a.strip(), b.strip()) for a, b in pairs]
