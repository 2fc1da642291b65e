"""Both directions in one model: pairs the other way round, tags that no text spells, and what a user may ask for."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nlpkit_translation import Translation, TranslationConfig
from nlpkit_translation.directions import Directions, both_ways, named, tag
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

import nlpkit
from nlpkit import Example, dev_part, prepare, running, tokenizer
from nlpkit.cli import main
from nlpkit.errors import ModelError, UsageError
from nlpkit.plugins import Registry

WORDS = {"one": "ak", "two": "be", "three": "cu", "four": "di", "five": "el", "six": "fu", "seven": "go", "eight": "hy"}
LANGUAGES: dict[str, Any] = {"source_language": "en", "target_language": "toy"}
BOTH: dict[str, Any] = {**LANGUAGES, "directions": "both", "languages": ["en", "toy"]}
SIDES = [" ".join(words) for words in ([a, b] for a in WORDS for b in WORDS if a != b)]


def in_toy(text: str) -> str:
    """Word for word."""
    return " ".join(WORDS[word] for word in text.split())


def as_settings(values: dict[str, Any]) -> list[str]:
    return [f"task.{key}={value}" for key, value in values.items()]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> nlpkit.Run:
    """A tiny model that has learnt both directions, of two words each."""
    folder = tmp_path_factory.mktemp("both")
    sides = random.Random(0).sample(SIDES, len(SIDES))
    for name, part in (("train", sides[6:]), ("dev", sides[:6])):
        rows = "".join(f"{text}\t{in_toy(text)}\n" for text in part)
        (folder / f"{name}.tsv").write_text("source\ttarget\n" + rows, "utf-8")
    small = ["model.preset=tiny", "model.sequence_length=32", "task.label_smoothing=0", "model.vocabulary=420"]
    how = ["trainer.max_steps=120", "trainer.batch_tokens=400", "optim.learning_rate=3e-3", "trainer.threads=1"]
    return nlpkit.fit(
        "translation",
        folder / "train.tsv",
        dev=folder / "dev.tsv",
        out=folder / "run",
        overrides=[*small, *how, "trainer.precision=32", *as_settings(LANGUAGES), "task.directions=both"],
    )


@pytest.fixture(scope="module")
def tagged() -> Any:
    """With the tags of both languages."""
    return tokenizer.train(
        iter([*SIDES, *map(in_toy, SIDES)]),
        kind="bpe",
        vocabulary=420,
        lowercase=False,
        max_length=32,
        denoises=True,
        special=[tag("en"), tag("toy")],
    )


def test_both_directions_are_learnt(run: nlpkit.Run) -> None:
    texts = ["one two", "eight three"]
    assert [row["target"] for row in nlpkit.load(run.folder).predict(texts)] == list(map(in_toy, texts))
    back = nlpkit.load(run.folder, overrides="task.target_language=en")
    assert [row["target"] for row in back.predict(list(map(in_toy, texts)))] == texts


def test_the_dev_part_is_scored_in_both_and_a_file_in_one(run: nlpkit.Run, tmp_path: Path) -> None:
    dev = run.results["dev"]
    assert {"bleu", "bleu/en-toy", "bleu/toy-en", "chrf", "chrf/en-toy", "chrf/toy-en"} <= set(dev)
    assert run.results["examples"] == {"train": 100, "dev": 12}
    (tmp_path / "back.tsv").write_text("source\ttarget\n" + "".join(f"{in_toy(s)}\t{s}\n" for s in SIDES[:9]), "utf-8")
    scores = nlpkit.evaluate(run.folder, tmp_path / "back.tsv", overrides="task.target_language=en")["scores"]
    assert scores["chrf"] == scores["chrf/toy-en"] > 80 and "chrf/en-toy" not in scores


def test_the_command_has_an_option_for_it(run: nlpkit.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "new.txt").write_text("ak be\n")
    assert main(["predict", str(run.folder), str(tmp_path / "new.txt"), "--target-language", "en"]) == 0
    assert json.loads(capsys.readouterr().out) == {"source": "ak be", "target": "one two"}


def test_directions_are_stored_and_read_back(run: nlpkit.Run) -> None:
    stored = json.loads((run.model / "nlpkit.json").read_text())["task_config"]
    assert {key: stored[key] for key in BOTH} == BOTH
    config = nlpkit.load(run.folder).task.config
    assert {key: getattr(config, key) for key in BOTH} == BOTH


def test_plain_transformers_is_told_by_the_tag_before_the_text(run: nlpkit.Run) -> None:
    model: Any = AutoModelForSeq2SeqLM.from_pretrained(run.model)
    words: Any = AutoTokenizer.from_pretrained(run.model)
    for text, expected in (("<2toy>one two", "ak be"), ("<2en> ak be", "one two")):
        ids = model.generate(**words(text, return_tensors="pt"))
        assert words.decode(ids[0], skip_special_tokens=True).strip() == expected


def test_a_direction_that_was_not_learnt_is_refused_with_those_that_were(run: nlpkit.Run) -> None:
    with pytest.raises(UsageError) as caught:
        nlpkit.load(run.folder, overrides="task.target_language=fr")
    assert caught.value.message == ("en -> fr is no direction of this model, which translates en -> toy and toy -> en")
    assert caught.value.hint == "--target-language toy or --target-language en"


@pytest.mark.parametrize("text", ["one <2toy> two", "<2en>", "<2en> one", "<2toy><2toy>", "<2 en>"])
def test_a_tag_that_a_text_spells_is_text(text: str, tagged: Any) -> None:
    task = Translation(TranslationConfig(**BOTH), tagged)
    tags = tagged.convert_tokens_to_ids([tag("en"), tag("toy")])
    features = task.encode(Example({"source": text, "target": text}))
    assert features["input_ids"][0] == tags[1]
    assert not set(tags) & {*features["input_ids"][1:], *features["labels"]}
    assert tagged.decode(features["input_ids"], skip_special_tokens=True).strip() == text


def test_a_tag_is_one_token_before_each_part_and_counts(tagged: Any) -> None:
    with_tag = Translation(TranslationConfig(max_length=8, **BOTH), tagged)
    back = Translation(TranslationConfig(max_length=8, **BOTH | {"target_language": "en"}), tagged)
    toy, en = tagged.convert_tokens_to_ids([tag("toy"), tag("en")])
    short, long = Example({"source": "one two"}), Example({"source": "one two three. four five six. seven eight one."})
    bare = tagged("one two")["input_ids"]
    assert with_tag.encode(short)["input_ids"] == [toy, *bare] == tagged("<2toy> one two")["input_ids"]
    assert back.encode(short)["input_ids"] == [en, *bare]
    features = with_tag.encode(long)
    assert len(features["parts"]) > 2 and max(features["parts"]) <= 8
    assert features["input_ids"].count(toy) == len(features["parts"])


def test_a_tag_stands_behind_what_begins_a_text() -> None:
    words: Any = tokenizer.train(
        iter(SIDES), kind="wordpiece", vocabulary=100, lowercase=False, max_length=32, special=["<2en>", "<2toy>"]
    )
    ids = Translation(TranslationConfig(**BOTH), words).encode(Example({"source": "one"}))["input_ids"]
    assert words.convert_ids_to_tokens(ids) == ["[CLS]", "<2toy>", "one", "[SEP]"]
    assert ids == words("<2toy> one")["input_ids"]


def test_a_tokenizer_with_tags_has_them_put_where_one_direction_is_learnt_further(
    tagged: Any,
) -> None:
    task = Translation(TranslationConfig(**{**BOTH, "directions": "one"}), tagged)
    assert task.encode(Example({"source": "one"}))["input_ids"][0] == tagged.convert_tokens_to_ids(tag("toy"))


def test_a_tokenizer_without_tags_is_refused_for_both_and_serves_one() -> None:
    words = tokenizer.train(iter(SIDES), kind="bpe", vocabulary=300, lowercase=False, max_length=32)
    with pytest.raises(
        ModelError, match=r"^the tokenizer has no <2en> and no <2toy>, by which a model of both"
    ) as caught:
        Translation(TranslationConfig(**BOTH), words)
    assert caught.value.hint == "leave out --from; or leave out task.directions, and fit a model of each direction"
    one = Translation(TranslationConfig(**LANGUAGES, languages=["en", "toy"]), words)
    bare = Translation(TranslationConfig(), words)
    example = Example({"source": "one", "target": "ak"})
    assert one.encode(example) == bare.encode(example)
    assert one.about_scores()["direction"] == "en -> toy" and "direction" not in bare.about_scores()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_language": ""}, "task.target_language names no language, and the other one is named"),
        ({"source_language": "", "target_language": "", "directions": "both"}, "both needs their names"),
        ({"target_language": "en", "directions": "both"}, "needs two languages, and both are 'en'"),
        ({"target_language": "a b"}, "task.target_language is 'a b', expected a name without spaces"),
    ],
)
def test_languages_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        Translation.prepare(TranslationConfig(**{**LANGUAGES, **changes}), [])
    assert caught.value.hint.startswith("task.source_language=en task.target_language=de")


def test_a_model_without_names_is_asked_for_none(make_task: Callable[..., Translation]) -> None:
    with pytest.raises(UsageError, match=r"^this model was fitted without names of languages\n"):
        make_task(target_language="de")


@pytest.mark.parametrize("languages", [{}, {**LANGUAGES, "target_language": "fr", "languages": ["en", "fr"]}])
def test_a_model_with_tags_is_not_gone_on_with_without_them(languages: dict[str, Any], tagged: Any) -> None:
    with pytest.raises(
        UsageError, match=r"^this model tells languages apart by <2en>, <2toy>, and the settings"
    ) as caught:
        Translation(TranslationConfig(**languages), tagged)
    assert caught.value.hint == "task.source_language=en task.target_language=toy, or the other way round"


@pytest.mark.parametrize("way", [("fr", "fr"), ("fr", "en"), ("", "en"), ("en", "fr")])
def test_a_direction_of_another_language_is_refused(way: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match="is no direction of this model"):
        Directions("en", "de", both=True).find(*way)


def test_no_text_of_the_dev_part_is_learnt_the_other_way_round(tmp_path: Path, caplog: Any) -> None:
    rows = [(f"{text} {more}", in_toy(text)) for text in SIDES for more in ("now", "then")]
    (tmp_path / "pairs.tsv").write_text("source\ttarget\n" + "".join(f"{s}\t{t}\n" for s, t in rows), "utf-8")
    settings = [*as_settings(LANGUAGES), "task.directions=both", "data.dev_share=0.3", "model.vocabulary=420"]
    asked = running.fine_tuning("translation", str(tmp_path / "pairs.tsv"), overrides=[*settings, "model.preset=tiny"])
    caplog.set_level("INFO")
    prepared = prepare.fine_tuning(asked.request, asked.config, asked.registry)
    learnt, chooses = ({example["source"] for example in part} for part in prepared.examples)
    assert any(text in WORDS.values() for text in " ".join(chooses).split()) and not learnt & chooses
    assert "have a text that is in the dev part, too: left out" in caplog.text


def test_parts_of_a_long_source_have_the_tag_of_their_text(tagged: Any) -> None:
    task = Translation(TranslationConfig(max_length=16, **BOTH), tagged)
    pairs = [Example({"source": "one two\nthree four", "target": "ak be\ncu di"})]
    examples = task.unfold(task.config, pairs)
    ((_, asked),) = task.as_predicted(task.collate([task.encode(example) for example in examples]))
    toy, en = tagged.convert_tokens_to_ids([tag("toy"), tag("en")])
    assert asked["parts"].tolist() == [2, 2]
    assert asked["input_ids"][:, 0].tolist() == [toy, toy, en, en]


NAMES = st.sampled_from(["en", "de", "pt-BR", "日"])


@given(NAMES, NAMES, NAMES, NAMES)
def test_what_is_found_was_learnt_and_is_what_was_asked_for(source: str, target: str, asked: str, by: str) -> None:
    known = Directions(source, target, source != target)
    ways = {(source, target), (target, source)}
    if (by, asked) in ways:
        assert known.find(by, asked) == (by, asked)
    for way in ((source, asked), (by, target)):  # one of the two is changed
        if asked in (source, target) and way == (source, asked):
            assert known.find(*way)[1] == asked
        if by in (source, target) and way == (by, target):
            assert known.find(*way)[0] == by


@settings(max_examples=30)
@given(st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), max_size=5))
def test_each_pair_is_there_the_other_way_round(pairs: Sequence[tuple[str, str]]) -> None:
    rows = [Example({"source": s, "target": t}, f"a:{i}") for i, (s, t) in enumerate(pairs)]
    found = [(e["source"], e["target"], e["<to>"], e.where) for e in both_ways(rows, "en", "toy")]
    assert found[: len(rows)] == [(s, t, "toy", f"a:{i}") for i, (s, t) in enumerate(pairs)]
    assert found[len(rows) :] == [(t, s, "en", f"a:{i}") for i, (s, t) in enumerate(pairs)]


def test_the_dev_part_is_read_again_as_it_was_whatever_is_asked_for(run: nlpkit.Run) -> None:
    task = nlpkit.load(run.folder, overrides="task.target_language=en").task
    record = json.loads((run.model / "nlpkit.json").read_text())
    rows = dev_part.read(run.model, record, Translation, Registry())
    tags = [task.tokenizer.convert_ids_to_tokens(task.encode(row)["input_ids"][0]) for row in rows]
    assert tags == ["<2toy>"] * 6 + ["<2en>"] * 6
    assert task.in_languages_of_data


def test_names_are_kept_in_their_order() -> None:
    assert named(TranslationConfig(**LANGUAGES)) == ["en", "toy"]
    assert named(TranslationConfig()) == []
