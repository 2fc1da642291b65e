"""Files as texts of a model, and the store of their tokens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tiny_runs import small_tokenizer

from nlpkit import config as config_module
from nlpkit.config import RunConfig
from nlpkit.objectives.clm import Clm
from nlpkit.plugins import Registry
from nlpkit.texts import Texts


def settings(**data: Any) -> RunConfig:
    config = config_module.compose(Clm).config
    return replace(config, data=replace(config.data, **data))


def stored(file: Path, columns: dict[str, str] | None, config: RunConfig) -> str:
    words = small_tokenizer()
    store = Texts(Clm, [str(file)], config, Registry(), beside=True, columns=columns).store(words)
    return words.decode(store.document(0), skip_special_tokens=True).strip()


def test_each_column_of_one_file_has_a_store_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "reviews.csv"
    file.write_text("text,Review Text\nsoft,warm\n")
    asked: tuple[dict[str, str] | None, ...] = ({"text": "text"}, {"text": "Review Text"}, None)
    assert [stored(file, columns, settings()) for columns in asked] == ["soft", "warm", "soft"]
    assert stored(file, {"text": "text"}, settings(columns={"text": "Review Text"})) == "warm"


def test_column_is_found_again_by_its_name_as_it_stands_before_texts(tmp_path: Path) -> None:
    file = tmp_path / "reviews.csv"
    file.write_text("text,Dept|  Name\nsoft,warm\n")
    config = settings(control=["Dept|  Name"])
    known = Texts(Clm, [str(file)], config, Registry()).count_control()
    assert known is not None
    assert known.columns == ("Dept/ Name",)
    found = Texts(Clm, [str(file)], settings(control=list(known.columns)), Registry(), beside=True)
    assert list(found.read()) == list(Texts(Clm, [str(file)], config, Registry()).read())
    assert list(found.read()) == ["Dept/ Name: warm | soft"]
