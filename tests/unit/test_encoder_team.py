"""Encoders in other processes give the same chunks, may die at any moment, and leave nobody behind."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models
from tokenizers import pre_tokenizers as pre

from nlpkit import corpus, plain_text, tokenizer
from nlpkit.encoder_team import Team
from nlpkit.errors import ModelError
from nlpkit.token_writer import Chunk

MUCH = 10_000_000  # bytes said to come, so that processes are started
TEXTS = [f"the dress number {i} was lovely, Größe {i % 40} 中 🙂" for i in range(2000)]
CHUNKS = [TEXTS[i : i + 50] for i in range(0, len(TEXTS), 50)]


@pytest.fixture(scope="module")
def backend() -> Tokenizer:
    words = tokenizer.train(TEXTS[:500], kind="bpe", vocabulary=400, lowercase=False, max_length=64)
    return plain_text.plain_backend(words)


@pytest.fixture
def team(backend: Tokenizer) -> Team:
    return Team(backend, 3, np.dtype("<u2"))


def encode(team: Team, workers: int = 3) -> list[Chunk]:
    with team.at_work(workers, MUCH) as pool:
        return [future.result() for future in [pool.submit(team.encode, chunk) for chunk in CHUNKS]]


def same(found: list[Chunk], expected: list[Chunk]) -> bool:
    pairs = zip(found, expected, strict=True)
    return all(a.tokens == b.tokens and (a.index == b.index).all() and a.texts == b.texts for a, b in pairs)


def test_processes_share_the_work_and_give_the_same_chunks(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [team._here(chunk) for chunk in CHUNKS]
    here, slow = team._here, []

    def slowly(texts: list[str]) -> Chunk:
        slow.append(len(texts))
        time.sleep(0.3)
        return here(texts)

    monkeypatch.setattr(team, "_here", slowly)
    assert same(encode(team), expected)
    assert len(team._processes) == 2
    assert len(slow) < len(CHUNKS)


def test_no_process_is_left(team: Team) -> None:
    encode(team)
    assert [process.poll() is not None for process in team._processes] == [True, True]


def test_no_process_is_left_by_ctrl_c_at_the_start(team: Team) -> None:
    with contextlib.suppress(KeyboardInterrupt), team.at_work(3, MUCH) as pool:
        for chunk in CHUNKS[:3]:
            pool.submit(team.encode, chunk)
        raise KeyboardInterrupt
    assert [process.poll() is not None for process in team._processes] == [True, True]


def test_the_processes_end_with_ours(backend: Tokenizer, tmp_path: Path) -> None:
    backend.save(str(tmp_path / "tokenizer.json"))
    code = (
        "import os, sys, time, numpy as np\nfrom tokenizers import Tokenizer\nfrom nlpkit.encoder_team import Team\n"
        "team = Team(Tokenizer.from_file(sys.argv[1]), 3, np.dtype('<u2'))\n"
        "with team.at_work(2, 10**7) as pool:\n"
        "    [f.result() for f in [pool.submit(team.encode, ['a b']) for _ in range(9)]]\n"
        "    print(team._processes[0].pid, flush=True)\n    os.kill(os.getpid(), 9)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, tmp_path / "tokenizer.json"], stdout=subprocess.PIPE, text=True)
    other = int(ended.stdout)
    for _ in range(100):
        try:
            state = Path(f"/proc/{other}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        time.sleep(0.1)
    pytest.fail(f"process {other} is still there")


@pytest.mark.parametrize("when", ["at the start", "before it", "later"])
def test_the_work_of_a_process_that_dies_is_done_here(team: Team, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    expected = [team._here(chunk) for chunk in CHUNKS]
    if when != "later":
        monkeypatch.setattr(sys, "executable", "false" if when == "at the start" else "/nowhere/python")
        assert same(encode(team), expected)
        return
    with team.at_work(3, MUCH) as pool:
        found = [pool.submit(team.encode, chunk).result() for chunk in CHUNKS[:10]]
        for process in team._processes:
            os.kill(process.pid, 9)
        found += [f.result() for f in [pool.submit(team.encode, chunk) for chunk in CHUNKS[10:]]]
    assert same(found, expected)


def test_what_cannot_be_encoded_is_an_error_wherever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Tokenizer(models.WordLevel({"known": 0}, unk_token="[UNK]"))  # without the token that it names
    backend.pre_tokenizer = pre.Whitespace()
    team = Team(backend, 0, np.dtype("<u2"))
    with team.at_work(2, MUCH) as pool:
        futures = [pool.submit(team.encode, ["strange"]) for _ in range(20)]
        for future in futures:
            with pytest.raises(ModelError, match="the tokenizer fails"):
                future.result()


@pytest.mark.parametrize(("workers", "expected_bytes"), [(1, MUCH), (4, None), (4, 100_000)])
def test_little_text_is_encoded_here(team: Team, workers: int, expected_bytes: int | None) -> None:
    with team.at_work(workers, expected_bytes) as pool:
        for future in [pool.submit(team.encode, chunk) for chunk in CHUNKS]:
            future.result()
    assert team._processes == []


def test_a_store_is_the_same_however_many_make_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "CHUNK_CHARACTERS", 2000)
    words = tokenizer.train(TEXTS[:500], kind="wordpiece", vocabulary=400, lowercase=True, max_length=64)
    stores = []
    for processes in (1, 3):
        folder = tmp_path / str(processes)
        corpus.build(TEXTS, words, folder, key="k", processes=processes, expected_bytes=MUCH)
        stores.append([(folder / name).read_bytes() for name in ("tokens.bin", "documents.bin", "store.json")])
    assert stores[0] == stores[1]
