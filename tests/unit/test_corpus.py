"""Building, resuming, opening and reading token stores."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from nlpkit import corpus, tokenizer
from nlpkit.corpus import TokenStore
from nlpkit.errors import DataError, ModelError, ResourceError, RunFolderError, UsageError

SENTENCES = ["the dress was lovely", "far too large for me", "I sent it back", "asked for a smaller size", "Größe 5 €"]
FILES = ("tokens.bin", "documents.bin", "store.json")
CHILD = """
import logging, resource, sys, time
from nlpkit import corpus, tokenizer
kind, folder, model, count, pause = *sys.argv[1:4], int(sys.argv[4]), float(sys.argv[5])
if kind == "killed":
    corpus.CHUNK_CHARACTERS, corpus.COMMIT_BYTES = 1 << 12, 1 << 14
def texts():
    for number in range(count):
        if pause:
            time.sleep(pause)
        yield f"document {number * 7919 % 65521} says the dress was lovely {number % 13} times. " + "x" * (number % 5)
words = tokenizer.load(model)
if kind == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
try:
    corpus.build(texts(), words, folder, key="k")
except corpus.ResourceError as error:
    print(error.exit_code, error.message)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def child(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def documents(count: int) -> Iterator[str]:
    """The texts of the child process."""
    for number in range(count):
        yield f"document {number * 7919 % 65521} says the dress was lovely {number % 13} times. " + "x" * (number % 5)


def make_texts(count: int, seed: int = 0) -> list[str]:
    generator = random.Random(seed)
    return [" ".join(generator.choices(SENTENCES, k=generator.randint(1, 6))) + f" {i}" for i in range(count)]


@pytest.fixture(scope="module")
def bpe() -> PreTrainedTokenizerBase:
    return tokenizer.train(iter(SENTENCES * 5), kind="bpe", vocabulary=300, lowercase=False, max_length=64)


@pytest.fixture(scope="module")
def wordpiece() -> PreTrainedTokenizerBase:
    return tokenizer.train(
        iter([*SENTENCES, "0123456789 x"] * 5), kind="wordpiece", vocabulary=300, lowercase=True, max_length=64
    )


@pytest.fixture(scope="module")
def model(bpe: PreTrainedTokenizerBase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    bpe.save_pretrained(folder)
    return folder


@pytest.fixture
def store(bpe: PreTrainedTokenizerBase, tmp_path: Path) -> TokenStore:
    return corpus.build(make_texts(500), bpe, tmp_path / "store", key="k")


def expected_documents(words: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    found = [words(text, add_special_tokens=False, split_special_tokens=True).input_ids for text in texts]
    return [[*ids, words.sep_token_id] for ids in found if ids]


@pytest.mark.parametrize("name", ["bpe", "wordpiece"])
@settings(max_examples=40, deadline=None, derandomize=True)
@given(texts=st.lists(st.one_of(st.text(max_size=30), st.sampled_from([*SENTENCES, "", " ", "\ufffd", "[SEP]"]))))
def test_a_store_holds_what_the_tokenizer_gives(
    name: str, texts: list[str], request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    words = request.getfixturevalue(name)
    texts = ["the dress", *texts]
    store = corpus.build(iter(texts), words, tmp_path_factory.mktemp("store"), key="k")
    expected = expected_documents(words, texts)
    assert [store.document(i).tolist() for i in range(store.documents)] == expected
    assert len(store) == sum(map(len, expected))
    assert store.header.skipped == len(texts) - len(expected)
    assert store.header.text_bytes == sum(len(text.encode()) for text in texts)


@pytest.mark.parametrize("processes", [1, 2, 5])
def test_chunks_in_parallel_keep_the_order(
    processes: int, bpe: PreTrainedTokenizerBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "CHUNK_CHARACTERS", 300)
    texts = make_texts(300)
    store = corpus.build(texts, bpe, tmp_path / "store", key="k", processes=processes)
    assert [store.document(i).tolist() for i in range(len(texts))] == expected_documents(bpe, texts)


@pytest.mark.parametrize("name", ["bpe", "wordpiece"])
def test_a_line_of_a_megabyte_is_one_document_with_equal_tokens(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    words = request.getfixturevalue(name)
    texts = ["before", " ".join(make_texts(16_000)), "after"]
    assert len(texts[1]) > 1_000_000
    store = corpus.build(texts, words, tmp_path / "store", key="k")
    assert [store.document(i).tolist() for i in range(3)] == expected_documents(words, texts)


def test_a_large_vocabulary_takes_four_bytes(bpe: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    large = tokenizer.load(_saved(bpe, tmp_path / "model"))
    large.add_tokens([f"<token-{i}>" for i in range(66_000)])
    store = corpus.build(["the dress <token-65999>"], large, tmp_path / "store", key="k")
    assert store.header.dtype == "<u4"
    assert store.document(0).tolist() == expected_documents(large, ["the dress <token-65999>"])[0]
    assert store.document(0).max() > 1 << 16


def _saved(words: PreTrainedTokenizerBase, folder: Path) -> Path:
    words.save_pretrained(folder)
    return folder


def test_blocks_are_the_stream_without_the_remainder(store: TokenStore) -> None:
    stream = np.concatenate([store.document(i) for i in range(store.documents)])
    blocks = [store.block(i, 32) for i in range(store.blocks(32))]
    assert np.array_equal(np.concatenate(blocks), stream[: len(stream) // 32 * 32])
    with pytest.raises(IndexError):
        store.block(len(blocks), 32)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(share=st.floats(0, 0.99), seed=st.integers(0, 2**64), length=st.integers(1, 200))
def test_every_token_is_in_one_block_of_one_part(opened: TokenStore, share: float, seed: int, length: int) -> None:
    train, dev = opened.holdout(share, seed)
    assert train.documents + dev.documents == opened.documents
    found: Counter[int] = Counter()
    for view in (train, dev):
        stream = np.concatenate([np.empty(0, np.int64), *(view.document(i) for i in range(view.documents))])
        blocks = [view.block(i, length) for i in range(view.blocks(length))]
        assert np.array_equal(np.concatenate([np.empty(0, np.int64), *blocks]), stream[: len(blocks) * length])
        assert len(stream) - len(blocks) * length < length
        found.update(stream.tolist())
    assert found == Counter(opened.read(0, len(opened)).tolist())


@pytest.fixture(scope="module")
def opened(bpe: PreTrainedTokenizerBase, tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    texts = make_texts(120)
    return corpus.build([*texts, *texts[:40]], bpe, tmp_path_factory.mktemp("store"), key="k")


def test_the_held_out_share_is_near_and_differs_by_seed(store: TokenStore) -> None:
    dev = store.holdout(0.2, 1)[1]
    assert abs(len(dev) / len(store) - 0.2) < 0.01
    other = store.holdout(0.2, 2)[1]
    assert texts_of(dev) != texts_of(other)
    assert texts_of(store.holdout(0.2, 1)[1]) == texts_of(dev)
    assert not store.holdout(0, 1)[1].documents


def texts_of(view: corpus.View) -> set[tuple[int, ...]]:
    return {tuple(view.document(i).tolist()) for i in range(view.documents)}


def test_equal_texts_are_on_one_side_whatever_the_order(bpe: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    texts = make_texts(200)
    both = [*texts, *(f" {text.upper()} " for text in texts)]  # equal but for case and white space
    random.Random(1).shuffle(both)
    train, dev = corpus.build(both, bpe, tmp_path / "a", key="k").holdout(0.3, 5)
    again = corpus.build(both[::-1], bpe, tmp_path / "b", key="k").holdout(0.3, 5)[1]

    def folded(view: corpus.View) -> Counter[str]:
        return Counter(bpe.decode(view.document(i)[:-1]).strip().casefold() for i in range(view.documents))

    assert set(folded(dev).values()) == {2}
    assert not set(folded(train)) & set(folded(dev))
    assert folded(again) == folded(dev)


def test_one_document_among_few_is_held_out(bpe: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    train, dev = corpus.build(["the dress", "far too large for me"], bpe, tmp_path / "a", key="k").holdout(0.05, 1)
    assert (train.documents, dev.documents) == (1, 1)
    train, dev = corpus.build(["the dress"] * 3, bpe, tmp_path / "b", key="k").holdout(0.05, 1)
    assert (train.documents, dev.documents) == (3, 0)


def test_a_share_of_all_is_refused(store: TokenStore) -> None:
    with pytest.raises(UsageError) as caught:
        store.holdout(1.0, 0)
    assert caught.value.message == "data.dev_share is 1.0, expected 0 or more and less than 1"


def test_random_blocks_are_read_fast(store: TokenStore) -> None:
    train = store.holdout(0.3, 1)[0]
    count = train.blocks(32)
    started = time.process_time()
    for number in range(5_000):
        train.block(number * 31 % count, 32)
    assert time.process_time() - started < 0.5


def test_the_same_key_is_not_built_again(store: TokenStore, bpe: PreTrainedTokenizerBase) -> None:
    def none() -> Iterator[str]:
        raise AssertionError("the texts were read")
        yield

    again = corpus.build(none(), bpe, store.folder, key="k")
    assert again.header == store.header


def test_another_key_replaces_the_store(store: TokenStore, bpe: PreTrainedTokenizerBase) -> None:
    assert corpus.build(["the dress"], bpe, store.folder, key="other").documents == 1


def test_content_key_differs_by_content_order_and_parts(tmp_path: Path) -> None:
    a, b = tmp_path / "a.txt", tmp_path / "b.txt"
    a.write_text("one")
    b.write_text("two")
    keys = [corpus.content_key([a, b], "t"), corpus.content_key([b, a], "t"), corpus.content_key([a, b], "u")]
    a.write_text("onE")
    keys.append(corpus.content_key([a, b], "t"))
    assert len(set(keys)) == 4
    a.write_text("one")
    assert corpus.content_key([str(a), b], "t") == keys[0]
    with pytest.raises(DataError) as caught:
        corpus.content_key([tmp_path / "none"])
    assert caught.value.message == f"{tmp_path / 'none'}: cannot be read (No such file or directory)"
    with pytest.raises(UsageError):
        corpus.content_key(["-"])


def test_a_killed_build_goes_on_and_gives_the_same_bytes(
    model: Path, bpe: PreTrainedTokenizerBase, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    process = child("killed", tmp_path / "killed", model, 4000, 0.0005)
    journal = tmp_path / "killed" / "journal.jsonl"
    deadline = time.monotonic() + 120
    while not (journal.exists() and journal.read_bytes().count(b"\n") >= 4):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "killed" / "store.json").exists()
    with open(tmp_path / "killed" / "tokens.bin", "ab") as file:
        file.write(b"half a chunk")
    with pytest.raises(DataError) as caught:
        TokenStore.open(tmp_path / "killed")
    assert caught.value.message == f"{tmp_path / 'killed'}: no finished token store"
    done = json.loads(journal.read_bytes().split(b"\n")[-2])["texts"]
    with caplog.at_level(logging.INFO, "nlpkit"):
        corpus.build(documents(4000), bpe, tmp_path / "killed", key="k")
    assert f"token store: going on after {done} texts of an interrupted build" in caplog.messages
    corpus.build(documents(4000), bpe, tmp_path / "whole", key="k")
    for name in FILES:
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.fixture
def interrupted(bpe: PreTrainedTokenizerBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A build that stopped after some commits."""
    monkeypatch.setattr(corpus, "CHUNK_CHARACTERS", 1 << 10)
    monkeypatch.setattr(corpus, "COMMIT_BYTES", 1 << 12)

    def stopping() -> Iterator[str]:
        yield from documents(500)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        corpus.build(stopping(), bpe, tmp_path / "store", key="k")
    return tmp_path / "store"


def test_texts_that_changed_since_the_interruption_are_refused_then_built_anew(
    interrupted: Path, bpe: PreTrainedTokenizerBase
) -> None:
    changed = ["changed", *list(documents(500))[1:]]
    with pytest.raises(DataError) as caught:
        corpus.build(changed, bpe, interrupted, key="k")
    assert caught.value.message == f"{interrupted}: the texts differ from those of the interrupted build"
    store = corpus.build(changed, bpe, interrupted, key="k")
    assert [store.document(i).tolist() for i in range(500)] == expected_documents(bpe, changed)


@pytest.mark.parametrize("damage", ["journal cut", "journal garbage", "tokens short", "other key", "no journal"])
def test_a_build_that_cannot_go_on_begins_anew(damage: str, interrupted: Path, bpe: PreTrainedTokenizerBase) -> None:
    journal = interrupted / "journal.jsonl"
    if damage == "journal cut":
        journal.write_bytes(journal.read_bytes()[:-10])
    elif damage == "journal garbage":
        journal.write_bytes(b"\x00\xff" * 50)
    elif damage == "tokens short":
        os.truncate(interrupted / "tokens.bin", 10)
    elif damage == "no journal":
        journal.unlink()
    store = corpus.build(documents(500), bpe, interrupted, key="other" if damage == "other key" else "k")
    assert [store.document(i).tolist() for i in range(500)] == expected_documents(bpe, list(documents(500)))


@pytest.mark.parametrize("name", ["tokens.bin", "documents.bin"])
def test_a_store_of_the_wrong_size_is_refused(name: str, store: TokenStore) -> None:
    path = store.folder / name
    size = path.stat().st_size
    os.truncate(path, size - 1)
    with pytest.raises(DataError) as caught:
        TokenStore.open(store.folder)
    assert str(caught.value) == (
        f"{path}: {size - 1} bytes, expected {size}; the token store is damaged\n"
        f"hint: rm -r {store.folder}, then run the command again"
    )


def test_a_flipped_bit_is_found_and_the_store_made_again(
    store: TokenStore, bpe: PreTrainedTokenizerBase, caplog: pytest.LogCaptureFixture
) -> None:
    path = store.folder / "tokens.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    with pytest.raises(DataError):
        TokenStore.open(store.folder, verify=True)
    corpus.build(make_texts(500), bpe, store.folder, key="k")
    message = f"{path}: its checksum differs from store.json; the token store is damaged; it is made again"
    assert caplog.messages == [message]
    assert path.read_bytes() == whole


def test_an_index_that_does_not_fit_is_refused(store: TokenStore) -> None:
    path = store.folder / "documents.bin"
    path.write_bytes(np.random.default_rng(1).bytes(path.stat().st_size))
    with pytest.raises(DataError) as caught:
        TokenStore.open(store.folder)
    assert caught.value.message == f"{path}: its entries do not fit tokens.bin; the token store is damaged"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format_version": 1}', '{"format_version": 9}', "null"])
def test_a_damaged_description_is_refused(content: str, store: TokenStore) -> None:
    (store.folder / "store.json").write_text(content)
    with pytest.raises(DataError) as caught:
        TokenStore.open(store.folder)
    assert caught.value.message.endswith("; the token store is damaged")


@pytest.mark.parametrize("texts", [[], ["", "  ", "\ufffd"]])
def test_a_corpus_without_a_token_is_refused(
    texts: list[str], wordpiece: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught:
        corpus.build(texts, wordpiece, tmp_path / "store", key="k")
    assert caught.value.message == "the corpus has no text with a token in it"
    assert not (tmp_path / "store" / "store.json").exists()


def test_a_lone_surrogate_is_named(bpe: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        corpus.build(["fine", "x\udc00"], bpe, tmp_path / "store", key="k")
    assert caught.value.message == (
        "text 2 of the corpus: lone surrogate U+DC00 at character 2, expected whole characters"
    )


def test_a_tokenizer_without_separator_is_refused(bpe: PreTrainedTokenizerBase, model: Path, tmp_path: Path) -> None:
    bare = tokenizer.load(model)
    bare.sep_token = None
    with pytest.raises(ModelError) as caught:
        corpus.build(["a"], bare, tmp_path / "store", key="k")
    assert caught.value.message == "the tokenizer has no separator token"


def test_too_little_disk_is_foretold_before_writing(bpe: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    with pytest.raises(ResourceError) as caught:
        corpus.build(make_texts(50), bpe, tmp_path / "store", key="k", expected_bytes=10**16)
    assert caught.value.message.startswith(f"{tmp_path / 'store'}: the token store needs about ")
    assert caught.value.message.endswith(" free")
    assert (tmp_path / "store" / "tokens.bin").stat().st_size == 0


def test_the_size_is_foretold(bpe: PreTrainedTokenizerBase, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    texts = make_texts(50)
    size = sum(len(text.encode()) for text in texts)
    with caplog.at_level(logging.INFO, "nlpkit"):
        store = corpus.build(texts, bpe, tmp_path / "store", key="k", expected_bytes=10 * size)
    expected = 10 * (2 * len(store) + 16 * 50) / 1000
    assert caplog.messages == [f"token store: about {expected:.1f} KB for {size / 100:.1f} KB of text"]


def test_a_full_disk_leaves_no_store_and_the_next_build_goes_on(
    model: Path, bpe: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    out, err = child("full", tmp_path / "store", model, 4000, 0).communicate()
    assert out.splitlines()[:1] == [f"6 {tmp_path / 'store'}: the disk is full; the token store is not finished"], err
    assert not (tmp_path / "store" / "store.json").exists()
    store = corpus.build(documents(4000), bpe, tmp_path / "store", key="k")
    assert store.documents == 4000


def test_a_folder_that_cannot_be_made_is_refused(bpe: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError):
        corpus.build(["a"], bpe, tmp_path / "file" / "store", key="k")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_is_refused(bpe: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir(mode=0o555)
    with pytest.raises(RunFolderError):
        corpus.build(["a"], bpe, tmp_path / "store", key="k")


def test_a_fault_of_the_reader_is_not_taken_for_the_store(bpe: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    def failing() -> Iterator[str]:
        yield "a"
        raise PermissionError(13, "Permission denied", "reviews.csv")

    with pytest.raises(PermissionError):
        corpus.build(failing(), bpe, tmp_path / "store", key="k")


def test_a_second_builder_waits_for_the_first(model: Path, bpe: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    process = child("killed", tmp_path / "store", model, 1000, 0.0005)
    while not (tmp_path / "store" / "journal.jsonl").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    store = corpus.build(documents(1000), bpe, tmp_path / "store", key="k")
    assert process.wait() == 0, process.communicate()[1]
    assert store.documents == 1000
    store.verify()


def test_progress_counts_bytes_and_tokens(
    bpe: PreTrainedTokenizerBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "CHUNK_CHARACTERS", 300)
    calls: list[tuple[int, int]] = []
    report: Callable[[int, int], None] = lambda done, tokens: calls.append((done, tokens))  # noqa: E731
    store = corpus.build(make_texts(100), bpe, tmp_path / "store", key="k", progress=report)
    assert len(calls) > 5
    assert calls == sorted(calls)
    assert calls[-1] == (store.header.text_bytes, len(store))


def test_memory_does_not_grow_with_the_text(model: Path, tmp_path: Path) -> None:
    peaks = []
    for count in (20_000, 200_000):
        out, err = child("plain", tmp_path / str(count), model, count, 0).communicate()
        assert out, err
        peaks.append(int(out.split()[-1]))
    assert peaks[1] / peaks[0] < 1.1
