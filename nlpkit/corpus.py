"""From texts to a token store: streaming, in parallel, and resumable after a kill at any moment."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import platformdirs

from nlpkit.encoder import LONG_CHARACTERS
from nlpkit.encoder_team import Team
from nlpkit.errors import DataError, ModelError, ResourceError, UsageError
from nlpkit.files import explain_os_errors, write_json
from nlpkit.plain_text import plain_backend
from nlpkit.token_store import DOCUMENT, FORMAT_VERSION, HEADER, Header, TokenStore, View
from nlpkit.token_writer import ELSEWHERE, Chunk, Output, Seen, State, after, forget, locked, recover
from nlpkit.tokenizer import check_unicode, separator, tokenizer_hash, vocabulary_size

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["TokenStore", "View", "build", "content_key", "folder_of"]

logger = logging.getLogger("nlpkit")

CHUNK_CHARACTERS = LONG_CHARACTERS  # what a worker takes at a time
COMMIT_BYTES = 1 << 23  # what a kill costs at most
Progress = Callable[[int, int], None]


def content_key(paths: Sequence[str | Path], *parts: str) -> str:
    """Name what a store is made from: the bytes of the files in their order, and what else decides the tokens.

    Args:
        paths: regular files.
        parts: the tokenizer's hash, and whatever settings choose the texts.

    Raises:
        UsageError: standard input, which cannot be read twice.
        DataError: a file that cannot be read.
    """
    digest = hashlib.sha256(f"format {FORMAT_VERSION}".encode())
    for path in paths:
        if str(path) == "-":
            raise UsageError("standard input cannot be kept as a corpus", "save it to a file and name the file")
        try:
            with open(path, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})", "name a readable file") from error
    for part in parts:
        digest.update(hashlib.sha256(part.encode()).digest())
    return digest.hexdigest()


def folder_of(key: str) -> Path:
    """Where the store of a key lies: in ``NLPKIT_CACHE``, or the user's cache folder."""
    cache = os.environ.get("NLPKIT_CACHE") or platformdirs.user_cache_dir("nlpkit")
    return Path(cache) / "stores" / key[:32]


def build(
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerBase,
    folder: str | Path,
    *,
    key: str,
    processes: int | None = None,
    progress: Progress | None = None,
    expected_bytes: int | None = None,
    facts: Callable[[], dict[str, int]] = dict,
    columns: Sequence[str] = (),
) -> TokenStore:
    """Tokenise a corpus into a store, or open the one that is there for the same key.

    Each text is a document: its token ids without [CLS], then the separator. Texts without a token are left out and
    counted. An interrupted build goes on from its last commit and gives the same bytes; a store or a build of another
    key is replaced; where another process builds in the folder, its end is awaited.

    Args:
        texts: the corpus; read once, from the beginning also when a build goes on.
        tokenizer: with a fast backend and a separator (or end) token.
        folder: of the store; made when missing.
        key: of content and tokenizer, from `content_key`.
        processes: encoders at work at a time, this process and others; None: the number of CPU cores.
        progress: called with bytes of text and tokens done so far.
        expected_bytes: of text in all; with it, the size is foretold and compared with the free disk.
        facts: asked when all texts are read; the header keeps the answer.
        columns: whose values stand before the texts (see `nlpkit.control`); the fingerprints are those of texts alone.

    Raises:
        DataError: no text at all, a lone surrogate, or texts that differ from those of the interrupted build.
        ModelError: a tokenizer without a separator.
        ResourceError: too little disk, foretold or met.
        RunFolderError: the folder cannot be written.
    """
    folder = Path(folder)
    if (store := _finished(folder, key)) is not None:
        return store
    with explain_os_errors(folder, ELSEWHERE):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder) as waited:
        if waited and (store := _finished(folder, key)) is not None:
            return store
        builder = _Builder(folder, tokenizer, key, facts, columns)
        builder.run(texts, processes or os.cpu_count() or 1, progress, expected_bytes)
        return TokenStore.open(folder)


def _finished(folder: Path, key: str) -> TokenStore | None:
    if not (folder / HEADER).exists():
        return None
    try:
        store = TokenStore.open(folder, verify=True)
    except DataError as error:
        logger.warning("%s; it is made again", error.message)
        return None
    return store if store.header.key == key else None


class _Builder:
    """Makes the files of one store."""

    def __init__(
        self,
        folder: Path,
        tokenizer: PreTrainedTokenizerBase,
        key: str,
        facts: Callable[[], dict[str, int]],
        columns: Sequence[str],
    ) -> None:
        if (end := separator(tokenizer)) is None:
            raise ModelError("the tokenizer has no separator token", "use a tokenizer with sep_token or eos_token")
        self.folder = folder
        self.vocabulary = vocabulary_size(tokenizer)
        self.dtype = np.dtype("<u2" if self.vocabulary < 1 << 16 else "<u4")  # the highest value is no id
        self.separator = int(end)
        self.team = Team(plain_backend(tokenizer), self.separator, self.dtype, columns)
        self.names = {"key": key, "tokenizer": tokenizer_hash(tokenizer), "dtype": self.dtype.str}
        self.content, self.facts = _Content(), facts

    def run(self, texts: Iterable[str], workers: int, progress: Progress | None, expected_bytes: int | None) -> None:
        """Go on from the last commit, or begin; end with store.json."""
        source, committed = iter(texts), recover(self.folder, self.names)
        self._skip(source, committed)
        state, foretold = committed, expected_bytes is None
        with Output(self.folder) as output:
            for chunk, seen in self._encoded(source, workers, expected_bytes):
                state = after(state, chunk, seen)
                if not foretold:
                    self._foretell(state, committed, expected_bytes or 0)
                    foretold = True
                state = output.append(chunk, state)
                if state.text_bytes - committed.text_bytes >= COMMIT_BYTES:
                    output.commit(committed := state)
                if progress is not None:
                    progress(state.text_bytes, state.tokens)
            output.commit(state)
        self._finish(state)

    def _skip(self, source: Iterator[str], done: State) -> None:
        """Pass over the texts of the interrupted build, and make sure that they are the same."""
        for chunk in _chunks(islice(source, done.texts)):
            self.content.update(chunk)
        if done.texts and self.content.state() != done.content:
            forget(self.folder)
            raise DataError(
                f"{self.folder}: the texts differ from those of the interrupted build",
                "run the command again: it begins anew",
            )

    def _encoded(self, source: Iterator[str], workers: int, expected_bytes: int | None) -> Iterator[tuple[Chunk, Seen]]:
        """Encode chunks side by side, in order, a few ahead."""
        waiting: deque[tuple[Future[Chunk], Seen]] = deque()
        with self.team.at_work(workers, expected_bytes) as pool:
            for chunk in _chunks(source):
                seen = self.content.update(chunk)
                waiting.append((pool.submit(self.team.encode, chunk), seen))
                while len(waiting) > 2 * workers:
                    future, seen = waiting.popleft()
                    yield future.result(), seen
            while waiting:
                future, seen = waiting.popleft()
                yield future.result(), seen

    def _foretell(self, state: State, written: State, expected_bytes: int) -> None:
        """Compare what the whole will take, going by the texts so far, with the disk."""
        size = self.dtype.itemsize * state.tokens + DOCUMENT.itemsize * state.documents
        needed = int(size * max(1.0, expected_bytes / max(1, state.text_bytes)))
        here = self.dtype.itemsize * written.tokens + DOCUMENT.itemsize * written.documents
        free = shutil.disk_usage(self.folder).free
        logger.info("token store: about %s for %s of text", _size(needed), _size(expected_bytes))
        if needed - here > free:
            raise ResourceError(
                f"{self.folder}: the token store needs about {_size(needed - here)}, the disk has {_size(free)} free",
                f"free some space, or {ELSEWHERE}",
            )

    def _finish(self, state: State) -> None:
        if not state.documents:
            forget(self.folder)
            raise DataError("the corpus has no text with a token in it", "name files with text, one text a row")
        if state.skipped:
            logger.info("%d texts without a token were left out of the corpus", state.skipped)
        header = Header(
            key=self.names["key"],
            tokenizer=self.names["tokenizer"],
            dtype=self.names["dtype"],
            content=state.content,
            vocabulary=self.vocabulary,
            separator=self.separator,
            tokens=state.tokens,
            documents=state.documents,
            skipped=state.skipped,
            text_bytes=state.text_bytes,
            tokens_crc=state.tokens_crc,
            documents_crc=state.documents_crc,
            facts=self.facts(),
        )
        write_json(self.folder / HEADER, asdict(header))
        forget(self.folder)


class _Content:
    """Fingerprint of the texts read so far, the same however they are cut into chunks."""

    def __init__(self) -> None:
        self._text, self._lengths = hashlib.sha256(), hashlib.sha256()
        self._seen = Seen(0, 0, "")

    def update(self, texts: list[str]) -> Seen:
        """Add texts and return what was seen in all.

        Raises:
            DataError: a lone surrogate.
        """
        try:
            joined = "".join(texts).encode()
        except UnicodeEncodeError:
            for number, text in enumerate(texts, self._seen.texts + 1):
                check_unicode(text, f"text {number} of the corpus")
            raise
        self._text.update(joined)
        self._lengths.update(np.array([len(text) for text in texts], "<i8").tobytes())
        self._seen = Seen(self._seen.texts + len(texts), self._seen.text_bytes + len(joined), self.state())
        return self._seen

    def state(self) -> str:
        """Return the fingerprint in hex."""
        return hashlib.sha256(self._text.digest() + self._lengths.digest()).hexdigest()


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    """Gather texts until they are a worker's share; a very long one is a chunk of its own."""
    chunk: list[str] = []
    characters = 0
    for text in texts:
        if chunk and characters + len(text) > CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
        chunk.append(text)
        characters += len(text) + 1  # so that empty texts do not gather without end
    if chunk:
        yield chunk


def _size(size: float) -> str:
    for unit in ("bytes", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.1f} {unit}" if unit != "bytes" else f"{size:.0f} bytes"
        size /= 1000
    return f"{size:.1f} TB"
