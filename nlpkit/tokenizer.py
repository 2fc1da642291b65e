"""Tokenizers: train one on the corpus, load one from a folder, know it by its content."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import string
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, takewhile
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from nlpkit.errors import DataError, ModelError, UsageError
from nlpkit.plain_text import content_of
from nlpkit.tokenizer_files import FAST, FILES, check_files, check_special_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger("nlpkit")

Kind = Literal["wordpiece", "bpe", "unigram"]
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # ids 0 to 4
SENTINELS = tuple(f"<extra_id_{i}>" for i in range(100))  # as in T5
SMALLEST_VOCABULARY = {"wordpiece": 64, "bpe": 256 + len(SPECIAL_TOKENS), "unigram": 64}
SAMPLE_BYTES = 100_000_000
PIECE_CHARACTERS = 65_536
_INNER_SPACE = re.compile(r"(?<=\S) (?=\S)")
_SPACE = re.compile(r"\s")


def train(
    texts: Iterable[str],
    *,
    kind: Kind,
    vocabulary: int,
    lowercase: bool,
    max_length: int,
    generates: bool = False,
    denoises: bool = False,
    special: Sequence[str] = (),
    sample_bytes: int = SAMPLE_BYTES,
) -> PreTrainedTokenizerBase:
    """Train a tokenizer that plain transformers reads back with equal ids.

    Args:
        texts: the corpus; read once, of which a sample spread over the whole is kept in memory.
        kind: WordPiece as in BERT, byte-level BPE as in GPT-2, or Unigram as in T5.
        vocabulary: tokens wanted; a small text gives fewer, and the log says so.
        lowercase: fold case; accents stay.
        max_length: longest input of the model in tokens, special tokens included.
        generates: for a decoder: a text stands between two [SEP], as a document does in a token store.
        denoises: for an encoder-decoder: a text ends with [SEP]; the vocabulary, which gets no larger, has `SENTINELS`.
        special: further special tokens, which no text spells; likewise within the vocabulary.
        sample_bytes: most text that is looked at, in bytes of UTF-8.

    Raises:
        DataError: no text, or text that cannot be encoded.
        UsageError: a vocabulary that cannot hold the alphabet and the special tokens.
    """
    extra = [*(SENTINELS if denoises else ()), *special]
    if vocabulary < (smallest := SMALLEST_VOCABULARY[kind] + len(extra)):
        raise UsageError(
            f"a vocabulary of {vocabulary} is too small: {kind} needs at least {smallest}",
            "model.vocabulary=8000, in nlpkit tokenizer train --vocab 8000",
        )
    sample = sample_texts(texts, sample_bytes)
    if not sample:
        raise DataError("the corpus has no text to train a tokenizer on", "name files with text, one text a row")
    backend = _TRAINERS[kind](sample, vocabulary - len(extra), lowercase)
    backend.add_special_tokens(extra)
    first = "" if denoises else "[SEP]:0 " if generates else "[CLS]:0 "
    backend.post_processor = _frame(backend, first, 1 if kind == "wordpiece" else 0)
    if (size := backend.get_vocab_size()) < vocabulary:
        logger.info("the text supports a vocabulary of %d tokens, not of %d", size, vocabulary)
    return _wrap(backend, kind, max_length, _roles(generates, denoises), extra)


def sample_texts(texts: Iterable[str], most_bytes: int) -> list[str]:
    """Keep texts spread evenly over a stream of unknown length, at most so many bytes of them.

    Each piece has a fixed pseudo-random rank; when the sample is full, the upper half of the ranks is given up.
    Blank texts are left out.

    Raises:
        DataError: a text with half of a surrogate pair.
    """
    kept: list[tuple[int, int, str]] = []
    limit, total = 1 << 64, 0
    for number, piece in enumerate(_text_pieces(texts)):
        rank = (number * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        if rank >= limit:
            continue
        kept.append((rank, size := len(piece.encode()), piece))
        total += size
        while total > most_bytes and len(kept) > 1:
            limit //= 2
            kept = [item for item in kept if item[0] < limit]
            total = sum(item[1] for item in kept)
    return [piece for _, _, piece in kept]


def _text_pieces(texts: Iterable[str]) -> Iterator[str]:
    for number, text in enumerate(texts, 1):
        check_unicode(text, f"text {number}")
        if text and not text.isspace():
            yield from pieces(text)


def check_unicode(text: str, where: str) -> None:
    """Refuse half surrogate pairs, which no file can hold and no tokenizer reads.

    Raises:
        DataError: naming the character and its place.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise DataError(
            f"{where}: lone surrogate U+{code:04X} at character {error.start + 1}, expected whole characters",
            "text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')",
        ) from None


def pieces(text: str, characters: int = PIECE_CHARACTERS) -> Iterator[str]:
    """Cut a text into pieces of at most twice so many characters, which joined are the text.

    Cuts are made before a single space within a line, where no tokenizer of ours joins both sides into one token;
    where there is none, at any white space; where there is none either, at the limit.
    """
    start = 0
    while len(text) - start > 2 * characters:
        low, high = start + characters, start + 2 * characters
        found = _INNER_SPACE.search(text, low, high) or _SPACE.search(text, low, high)
        end = found.start() if found else high
        yield text[start:end]
        start = end
    yield text[start:] if start else text


def _train_bpe(sample: list[str], vocabulary: int, lowercase: bool) -> Tokenizer:
    backend = Tokenizer(models.BPE())
    steps = [normalizers.NFC(), *([normalizers.Lowercase()] if lowercase else [])]
    backend.normalizer = normalizers.Sequence(steps)
    # The prefix space makes a word the same token at the start of a text as inside it.
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(sample, trainer=trainer, length=len(sample))
    return backend


def _train_wordpiece(sample: list[str], vocabulary: int, lowercase: bool) -> Tokenizer:
    backend = Tokenizer(models.WordPiece(vocab={}, unk_token="[UNK]", max_input_chars_per_word=100))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    alphabet = _alphabet(sample, backend.normalizer, (vocabulary - len(SPECIAL_TOKENS)) * 2 // 3)
    # The library numbers the inner characters, and breaks ties between rare ones, by the order of a hash table, which
    # differs from run to run: with both fixed from outside, equal texts give equal tokenizers.
    inner = [f"##{character}" for character in alphabet if not _stands_alone(character)]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=[*SPECIAL_TOKENS, *inner],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    backend.train_from_iterator(sample, trainer=trainer, length=len(sample))
    trained = Tokenizer(models.WordPiece(backend.get_vocab(), unk_token="[UNK]", max_input_chars_per_word=100))
    trained.normalizer, trained.pre_tokenizer = backend.normalizer, backend.pre_tokenizer
    trained.decoder = decoders.WordPiece()
    trained.add_special_tokens(list(SPECIAL_TOKENS))
    return trained


def _train_unigram(sample: list[str], vocabulary: int, lowercase: bool) -> Tokenizer:
    backend = Tokenizer(models.Unigram())
    steps = [normalizers.NFKC(), *([normalizers.Lowercase()] if lowercase else [])]
    backend.normalizer = normalizers.Sequence(steps)
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=vocabulary, special_tokens=list(SPECIAL_TOKENS), unk_token="[UNK]", show_progress=False
    )
    try:
        backend.train_from_iterator(sample, trainer=trainer, length=len(sample))
    except Exception as error:  # the library raises bare Exception
        characters = len({c for text in sample for c in backend.normalizer.normalize_str(text)})
        raise UsageError(
            f"unigram cannot be trained to {vocabulary} tokens on a text of {characters} different characters: {error}",
            "a larger vocabulary, or another kind: model.tokenizer=bpe, in nlpkit tokenizer train --kind bpe",
        ) from None
    return backend


_TRAINERS = {"wordpiece": _train_wordpiece, "bpe": _train_bpe, "unigram": _train_unigram}


def _alphabet(sample: list[str], normalizer: normalizers.Normalizer, entries: int) -> list[str]:
    """List the characters of a sample, leaving out the rarest where they need more entries of the vocabulary."""
    found: set[str] = set()
    for text in sample:
        found.update(normalizer.normalize_str(text))
    found = {character for character in found if not character.isspace()}
    if sum(map(_entries, found)) > entries:
        counts: Counter[str] = Counter()
        for text in sample:
            counts.update(normalizer.normalize_str(text))
        ranked = sorted(found, key=lambda character: (-counts[character], character))
        ends = accumulate(map(_entries, ranked))
        found = {character for character, end in zip(ranked, ends, strict=True) if end <= entries}
    return sorted(found)


def _entries(character: str) -> int:
    return 1 if _stands_alone(character) else 2


def _stands_alone(character: str) -> bool:
    """Whether BERT makes a word of it: then it needs no entry for the inside of a word."""
    return character in string.punctuation or "\u4e00" <= character <= "\u9fff"


def _frame(backend: Tokenizer, first: str, pair_type: int) -> processors.TemplateProcessing:
    return processors.TemplateProcessing(
        single=f"{first}$A:0 [SEP]:0",
        pair=f"{first}$A:0 [SEP]:0 $B:{pair_type} [SEP]:{pair_type}",
        special_tokens=[(name, backend.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )


def _roles(generates: bool, denoises: bool) -> dict[str, str]:
    roles = {f"{name[1:-1].lower()}_token": name for name in SPECIAL_TOKENS}
    roles |= {"bos_token": "[SEP]"} if generates else {}
    return roles | ({"eos_token": "[SEP]"} if generates or denoises else {})


def _wrap(
    backend: Tokenizer, kind: Kind, max_length: int, roles: dict[str, str], extra: list[str]
) -> PreTrainedTokenizerBase:
    from transformers import PreTrainedTokenizerFast

    types = ["token_type_ids"] if kind == "wordpiece" and "eos_token" not in roles else []
    inputs = ["input_ids", *types, "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=max_length,
        model_input_names=inputs,
        extra_special_tokens=extra,
        **roles,
    )


def for_documents(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The same tokens for a decoder: a text stands between two separators, where an encoder's has [CLS] before it.

    A tokenizer that has an end of text, or no separator, is given back as it is.
    """
    from transformers import PreTrainedTokenizerFast

    if tokenizer.eos_token is not None or tokenizer.sep_token is None:
        return tokenizer
    end = str(tokenizer.sep_token)
    backend = Tokenizer.from_str(content_of(tokenizer))
    backend.post_processor = processors.TemplateProcessing(
        single=f"{end}:0 $A:0 {end}:0",
        pair=f"{end}:0 $A:0 {end}:0 $B:0 {end}:0",
        special_tokens=[(end, backend.token_to_id(end))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=tokenizer.model_max_length,
        model_input_names=["input_ids", "attention_mask"],
        **{**tokenizer.special_tokens_map, "bos_token": end, "eos_token": end},
    )


def same_tokens(one: PreTrainedTokenizerBase, other: PreTrainedTokenizerBase) -> bool:
    """Whether two make the same ids of a text, whatever special tokens they put around it."""
    contents = [json.loads(content_of(tokenizer)) for tokenizer in (one, other)]
    return contents[0] | {"post_processor": None} == contents[1] | {"post_processor": None}


def sentinels(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Ids of the tokens that stand in the place of spans, in their order; none where the tokenizer has none."""
    vocabulary = tokenizer.get_vocab()
    return tuple(vocabulary[token] for token in takewhile(vocabulary.__contains__, SENTINELS))


def separator(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Id of the token that ends a document: what divides two texts, or ends one; None: there is neither."""
    return tokenizer.eos_token_id if tokenizer.sep_token_id is None else tokenizer.sep_token_id


def vocabulary_size(tokenizer: PreTrainedTokenizerBase) -> int:
    """Rows of an embedding that has one for each token; more than there are tokens where their numbers have gaps."""
    return max(tokenizer.get_vocab().values()) + 1


def make_ready(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Give a tokenizer that others made what training needs: a token to pad with, and an end that is cut."""
    if tokenizer.pad_token is None:  # as in GPT-2; what stands there is masked
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.truncation_side = "right"  # which end is cut is for the new task to say, not for an earlier one
    return tokenizer


def load(
    folder: str | Path,
    hub: bool = False,
    *,
    hint: str = "name a model folder with --from",
    slow: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
) -> PreTrainedTokenizerBase:
    """Open the tokenizer of a model folder, without network and without running its code.

    Args:
        folder: a local folder, or with ``hub`` the name of a hub model.
        hub: whether the network may be used.
        hint: what to type where there is none.
        slow: classes without a fast form that will do, and the files that each is made of.

    Raises:
        UsageError: it needs the package sentencepiece, which is not installed.
        ModelError: there is no tokenizer, it is damaged, or it has no fast form and is none of ``slow``.
    """
    if Path(folder).is_dir():
        check_files(Path(folder), slow)
    if not hub and not any((Path(folder) / name).is_file() for name in FILES):
        raise ModelError(f"{folder}: no tokenizer found, expected {FAST}", hint)
    from transformers import AutoTokenizer

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Marian's asks for a package of which it makes no use
            tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=not hub, trust_remote_code=False)
    except Exception as error:  # the readers below raise bare Exception, too
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"{folder}: the tokenizer cannot be read: {reason}", "copy the tokenizer files once more"
        ) from error
    is_fast = getattr(tokenizer, "backend_tokenizer", None) is not None
    if not (is_fast or type(tokenizer).__name__ in slow) or not len(tokenizer):
        raise ModelError(f"{folder}: the tokenizer has no fast form, expected {FAST}", "save it as a fast one")
    if not is_fast:
        check_special_tokens(folder, tokenizer)
    loaded: PreTrainedTokenizerBase = tokenizer
    return loaded


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the SHA-256 of what decides the ids: vocabulary, merges, normaliser, special tokens."""
    return hashlib.sha256(content_of(tokenizer).encode()).hexdigest()


def check_matches(tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> None:
    """Refuse a tokenizer that gives ids the model has no embedding for.

    Raises:
        ModelError: naming the token with the highest id.
    """
    token, highest = max(tokenizer.get_vocab().items(), key=lambda item: item[1], default=("", -1))
    if highest < 0:
        raise ModelError("the tokenizer has no tokens", "use the tokenizer that was saved with the model")
    if highest >= vocab_size:
        raise ModelError(
            f"tokenizer and model do not match: '{token}' has id {highest}, the model has {vocab_size} embeddings",
            "use the tokenizer that was saved with the model",
        )
