"""Training, saving and loading tokenizers."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase, T5Tokenizer

from nlpkit import plain_text, tokenizer
from nlpkit.errors import DataError, ModelError, UsageError

WORDS = ("the dress was lovely but far too large for me so I sent it back", "and asked for a smaller size", "quickly")
TEXTS = [f"{WORDS[i % 3]} {WORDS[i % 2][i % 5 :]}, {WORDS[i % 2]}." for i in range(60)] + ["Größe schön, 5 € wert!"] * 5
ODD = [
    "The DRESS was lovely",
    "",
    "   ",
    "Größe 5 €",
    "\ufffd",
    "a\x00b",
    "👗👗 \u0301\u0301",
    "日本語",
    "[SEP] [MASK]",
]
READ_PLAINLY = """
import json, sys
from transformers import AutoTokenizer
t = AutoTokenizer.from_pretrained(sys.argv[1], local_files_only=True)
texts = json.loads(sys.argv[2])
found = {"single": [dict(t(x)) for x in texts], "pair": dict(t("the dress", "too large")), "max": t.model_max_length}
assert "nlpkit" not in sys.modules
print(json.dumps(found))
"""


def train(kind: Any = "wordpiece", texts: list[str] = TEXTS, **changes: Any) -> PreTrainedTokenizerBase:
    values = {"vocabulary": 300, "lowercase": True, "max_length": 64, **changes}
    return tokenizer.train(iter(texts), kind=kind, **values)


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_saved_tokenizer_gives_equal_ids_in_a_process_without_nlpkit(kind: str, tmp_path: Path) -> None:
    trained = train(kind)
    trained.save_pretrained(tmp_path)
    command = [sys.executable, "-c", READ_PLAINLY, str(tmp_path), json.dumps(ODD)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout)
    assert found["single"] == [dict(trained(text)) for text in ODD]
    assert found["pair"] == dict(trained("the dress", "too large"))
    assert found["max"] == 64
    assert found["single"][0]["input_ids"][0] == 2
    assert found["single"][0]["input_ids"][-1] == 3


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_special_tokens_have_the_first_ids(kind: str) -> None:
    assert train(kind).convert_tokens_to_ids(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]) == [0, 1, 2, 3, 4]


def test_only_wordpiece_gives_token_types() -> None:
    assert train("wordpiece")("a", "b")["token_type_ids"] == [0, 0, 0, 1, 1]
    assert "token_type_ids" not in train("bpe")("a", "b")


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_lowercase_folds_case_and_keeps_umlauts(kind: str) -> None:
    folded, cased = train(kind), train(kind, lowercase=False)
    assert folded("GRÖSSE schön").input_ids == folded("grösse SCHÖN").input_ids
    assert folded("schön").input_ids != folded("schon").input_ids
    assert cased("The").input_ids != cased("the").input_ids


def test_byte_level_bpe_gives_back_every_text() -> None:
    trained = train("bpe", lowercase=False)
    for text in ("日本語", "👗👗", "a\x00b", "\ufffd", "tab\tand\n\nbreaks  "):
        assert trained.decode(trained(text, add_special_tokens=False).input_ids) == " " + text


def test_wordpiece_gives_no_token_for_the_replacement_character() -> None:
    assert train()("\ufffd").input_ids == [2, 3]


@pytest.mark.parametrize(("kind", "vocabulary"), [("wordpiece", 80), ("wordpiece", 300), ("bpe", 300)])
def test_training_again_gives_the_same_tokenizer(kind: str, vocabulary: int) -> None:
    texts = [*TEXTS, "rare: ÀÁÂÃ ÄÅÆÇ ÈÉÊË ÌÍÎÏ ÐÑÒÓ абвгдежз ийклмноп 漢字"]
    assert len({tokenizer.tokenizer_hash(train(kind, texts, vocabulary=vocabulary)) for _ in range(3)}) == 1


def test_hash_survives_saving_and_truncation_and_differs_by_content(tmp_path: Path) -> None:
    trained = train()
    expected = tokenizer.tokenizer_hash(trained)
    trained.save_pretrained(tmp_path)
    loaded = tokenizer.load(tmp_path)
    loaded(["the dress", "too"], truncation=True, max_length=4, padding=True)
    assert tokenizer.tokenizer_hash(loaded) == expected
    assert tokenizer.tokenizer_hash(train(lowercase=False)) != expected


def test_a_vocabulary_larger_than_the_text_supports_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "nlpkit"):
        size = len(train(vocabulary=5000))
    assert caplog.messages == [f"the text supports a vocabulary of {size} tokens, not of 5000"]
    assert 64 < size < 300


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_the_vocabulary_asked_for_is_not_exceeded(kind: str) -> None:
    chinese = ["".join(chr(0x4E00 + (i * 37 + j) % 4000) for j in range(50)) for i in range(200)]
    assert len(train(kind, texts=[*TEXTS, *chinese], vocabulary=400)) <= 400


def test_unigram_without_room_for_the_characters_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        train("unigram", vocabulary=80, texts=["".join(map(chr, range(0x4E00, 0x4F00)))] * 3)
    assert caught.value.message.startswith(
        "unigram cannot be trained to 80 tokens on a text of 256 different characters"
    )


def test_a_vocabulary_without_room_for_bytes_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        train("bpe", vocabulary=100)
    assert caught.value.message == "a vocabulary of 100 is too small: bpe needs at least 261"
    assert caught.value.hint == "model.vocabulary=8000, in nlpkit tokenizer train --vocab 8000"


@pytest.mark.parametrize("texts", [[], ["", " \n\t "]])
def test_an_empty_corpus_is_refused(texts: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        train(texts=texts)
    assert caught.value.message == "the corpus has no text to train a tokenizer on"


def test_a_lone_surrogate_is_named() -> None:
    with pytest.raises(DataError) as caught:
        train(texts=["fine", "not \ud83d fine"])
    assert caught.value.message == "text 2: lone surrogate U+D83D at character 5, expected whole characters"


def test_the_sample_is_bounded_and_spread_over_the_stream() -> None:
    sample = tokenizer.sample_texts((f"{i:07d}" for i in range(50_000)), 21_000)
    numbers = [int(text) for text in sample]
    assert 1_500 <= len(numbers) <= 3_000
    tenths = [sum(n // 5_000 == tenth for n in numbers) for tenth in range(10)]
    assert min(tenths) > 0.8 * max(tenths)
    assert numbers == sorted(numbers)


def test_one_long_text_is_sampled_in_pieces() -> None:
    sample = tokenizer.sample_texts(["word " * 400_000], 500_000)
    assert 200_000 < sum(map(len, sample)) <= 500_000


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.text(alphabet="ab \n\u3000é", max_size=200), st.integers(1, 20))
def test_pieces_are_bounded_and_join_to_the_text(text: str, size: int) -> None:
    found = list(tokenizer.pieces(text, size))
    assert "".join(found) == text
    assert all(len(piece) <= 2 * size for piece in found)


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_pieces_give_the_tokens_of_the_whole(kind: str) -> None:
    trained, text = train(kind), " ".join(TEXTS)
    parts = [trained(piece, add_special_tokens=False).input_ids for piece in tokenizer.pieces(text, 50)]
    assert len(parts) > 50
    assert list(chain(*parts)) == trained(text, add_special_tokens=False).input_ids


def test_a_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError) as caught:
        tokenizer.load(tmp_path)
    assert caught.value.message == f"{tmp_path}: no tokenizer found, expected tokenizer.json"
    assert caught.value.hint == "name a model folder with --from"


@pytest.mark.parametrize("content", [b"", b"{}", b"\x80\x04K", b"[1, 2]"])
def test_a_damaged_tokenizer_is_refused(content: bytes, tmp_path: Path) -> None:
    train().save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ModelError) as caught:
        tokenizer.load(tmp_path)
    assert caught.value.message.startswith(f"{tmp_path}: the tokenizer cannot be read: ")


def test_a_truncated_tokenizer_is_refused(tmp_path: Path) -> None:
    train().save_pretrained(tmp_path)
    whole = (tmp_path / "tokenizer.json").read_bytes()
    (tmp_path / "tokenizer.json").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError):
        tokenizer.load(tmp_path)


def test_loading_runs_no_code_of_the_folder(tmp_path: Path) -> None:
    train().save_pretrained(tmp_path)
    canary = tmp_path / "canary"
    (tmp_path / "evil.py").write_text(f"open({str(canary)!r}, 'w')\nclass Evil: pass\n")
    settings_file = tmp_path / "tokenizer_config.json"
    values = json.loads(settings_file.read_text())
    values |= {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}}
    settings_file.write_text(json.dumps(values))
    with pytest.raises(ModelError):
        tokenizer.load(tmp_path)
    assert not canary.exists()


def test_a_tokenizer_larger_than_the_model_is_refused() -> None:
    trained = train()
    tokenizer.check_matches(trained, len(trained))
    last = trained.convert_ids_to_tokens(len(trained) - 1)
    with pytest.raises(ModelError) as caught:
        tokenizer.check_matches(trained, len(trained) - 1)
    size = len(trained) - 1
    assert caught.value.message == (
        f"tokenizer and model do not match: '{last}' has id {size}, the model has {size} embeddings"
    )


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("kind", list(tokenizer.SMALLEST_VOCABULARY))
def test_special_tokens_spelled_in_a_text_are_text(kind: str, lowercase: bool) -> None:
    words = train(kind, lowercase=lowercase)
    text = "soft [SEP] warm[MASK] coat"
    words(text, padding="max_length", truncation=True, max_length=4)  # leaves its settings in the backend
    ids = plain_text.token_ids(words, text)
    assert not set(ids) & {words.sep_token_id, words.mask_token_id, words.pad_token_id}
    if lowercase or kind != "unigram":  # transformers lets Unigram cut the special token out of the text
        assert ids == words(text, add_special_tokens=False, split_special_tokens=True).input_ids
    assert_read_alike(words, text, ids)


def test_special_tokens_of_a_t5_spelled_in_a_text_are_text() -> None:
    letters = [(letter, -3.0) for letter in "\u2581</>_abcdeiknprstux03"]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581cat", -2.0), *letters]
    words = T5Tokenizer(vocab=vocabulary, extra_ids=4)
    words.add_tokens(["cat3"])  # no special token, behind those that are none of the model's
    text = "cat</s><extra_id_3> <pad> <unk>cat3"
    ids = plain_text.token_ids(words, text)
    assert words.decode(ids) == text
    assert not set(ids) & set(words.all_special_ids)
    assert words.convert_tokens_to_ids("cat3") == ids[-1]
    assert_read_alike(words, text, ids)
    words.add_tokens(["d</s>"])
    assert plain_text.token_ids(words, "cad</s>")[-1] == words.convert_tokens_to_ids("d</s>")


def test_a_character_that_unigram_does_not_know_is_unknown() -> None:
    words = train("unigram", lowercase=False)
    assert words.unk_token_id in plain_text.token_ids(words, "soft 日 coat")
    assert plain_text.token_ids(words, "soft 日 coat") == words("soft 日 coat", add_special_tokens=False).input_ids


def assert_read_alike(words: PreTrainedTokenizerBase, text: str, ids: list[int]) -> None:
    """By a copy, and by the copy of it that a helper process makes; both know what stands around a text."""
    copy = plain_text.plain_backend(words)
    for backend in (copy, plain_text.backend_from(copy.to_str())):
        assert backend.encode(text, add_special_tokens=False).ids == ids
        assert backend.encode("", add_special_tokens=True).ids == words("").input_ids
