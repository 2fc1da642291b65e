"""The page with entities in colour."""

from __future__ import annotations

from html.parser import HTMLParser

from nlpkit_ner.page import page


class _Marks(HTMLParser):
    """What stands in each element that is open, by the names of all elements around it."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, str]] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open += [tag] if tag not in ("meta", "!doctype") else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "p" in self.open:
            self.found.append((" ".join(self.open[self.open.index("p") :]), data))


def drawn(text: str, start: int, end: int, label: str) -> list[tuple[str, str]]:
    row = {"text": text, "entities": [{"start": start, "end": end, "label": label, "score": 0.5}]}
    return _Marks("".join(page([row], [label]))).found


def test_signs_of_html_are_text_in_entity_label_and_around() -> None:
    assert drawn("<i>a</i> <&> & <u>", 9, 12, "<b>") == [
        ("p", "<i>a</i> "),
        ("p mark bdi", "<&>"),
        ("p mark small", "<b>"),
        ("p", " & <u>"),
    ]


def test_a_character_that_turns_the_order_is_apart_from_the_label() -> None:
    assert drawn("\u202eevil", 0, 5, "place")[:2] == [("p mark bdi", "\u202eevil"), ("p mark small", "place")]
    assert "mark, mark small { unicode-bidi: isolate; }" in "".join(page([], []))
