"""The readers as the core finds and calls them, for a task that reads pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import pytest
from nlpkit_translation.fields import FIELDS

from nlpkit.config import compose
from nlpkit.errors import DataError
from nlpkit.examples import Remembered, read_examples, read_labelled
from nlpkit.plugins import Registry
from nlpkit.task import Field, Task, TaskConfig

Write = Callable[..., str]
PAIRS = [{"source": "One.", "target": "Eins."}, {"source": "Two.", "target": "Zwei."}]


class Pairs(Task[TaskConfig]):
    """A task of pairs, as far as reading needs one."""

    name = "pairs"
    fields: ClassVar[dict[str, Field]] = FIELDS
    readers: ClassVar[dict[str, str]] = dict.fromkeys(("csv", "tsv", "jsonl", "txt"), "pairs")
    sides = "parallel"
    encode = build_head = build_metrics = decode = None  # type: ignore[assignment]


def labelled(*paths: str, settings: tuple[str, ...] = ()) -> list[dict[str, str]]:
    config = compose(Pairs, overrides=list(settings)).config
    return [dict(pair) for pair in read_labelled(Pairs, paths, config, Registry())]


TMX = (
    '<tmx version="1.4"><body>'
    '<tu><tuv xml:lang="de"><seg>Eins.</seg></tuv><tuv xml:lang="en"><seg>One.</seg></tuv></tu>'
    '<tu><tuv xml:lang="en"><seg>Two.</seg></tuv><tuv xml:lang="de"><seg>Zwei.</seg></tuv></tu></body></tmx>'
)


@pytest.mark.parametrize(
    ("files", "settings"),
    [
        ({"a.tsv": "One.\tEins.\nTwo.\tZwei.\n"}, ()),
        ({"a.txt.gz": "One.\tEins.\nTwo.\tZwei.\n"}, ()),
        ({"a.tsv": "Eins.\tOne.\nZwei.\tTwo.\n"}, ("data.source=2", "data.target=1")),
        ({"a.csv": "de,en\nEins.,One.\nZwei.,Two.\n"}, ("data.source=en",)),
        ({"a.jsonl": '{"translation": {"en": "One.", "de": "Eins."}}\n', "b.tsv": "Two.\tZwei.\n"}, ()),
        ({"a.tmx.gz": TMX}, ("data.source=en", "data.target=de")),
        ({"a.en": "One.\n", "b.en.gz": "Two.\n", "a.de": "Eins.\n", "b.de": "Zwei.\n"}, ("data.reader=parallel",)),
        ({"a.en": "One.\r\nTwo.\r\n", "a.de": "Eins.\nZwei."}, ("data.reader=parallel", "data.encoding=utf-8")),
    ],
)
def test_files_of_every_form_are_read_for_training(
    write: Write, files: dict[str, str], settings: tuple[str, ...]
) -> None:
    assert labelled(*(write(name, content) for name, content in files.items()), settings=settings) == PAIRS


@pytest.mark.parametrize(
    ("files", "settings", "texts"),
    [
        ({"new.txt": "One.\ttab\nTwo.\n"}, (), ["One.\ttab", "Two."]),
        ({"new.en": "One.\n", "more.en": "Two.\n"}, ("data.reader=parallel",), ["One.", "Two."]),
        ({"new.tsv": '"One."\nTwo.\n'}, (), ['"One."', "Two."]),
        ({"new.csv": "id,source\n1,One.\n"}, (), ["One."]),
        ({"new.jsonl": '{"en": "One."}\n'}, (), ["One."]),
    ],
)
def test_new_texts_have_no_target(
    write: Write, files: dict[str, str], settings: tuple[str, ...], texts: list[str]
) -> None:
    paths = [write(name, content) for name, content in files.items()]
    config = compose(Pairs, overrides=list(settings)).config
    before = Remembered({"source": "en"}) if "new.jsonl" in files else Remembered()
    found = read_examples(Pairs, paths, config, Registry(), remembered=before)
    assert [pair["source"] for pair in found] == texts


def test_pair_without_a_target_is_refused_in_training(write: Write) -> None:
    with pytest.raises(DataError) as caught:
        labelled(write("a.csv", "id,source\n1,One.\n"))
    assert caught.value.message == "a.csv:2: no 'target' in what reader 'pairs' gives, found 'source'"
