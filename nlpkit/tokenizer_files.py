"""What the folder of a tokenizer must have for transformers to read it, where transformers would not say it plainly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlpkit.errors import ModelError, UsageError
from nlpkit.folder import read_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FAST = "tokenizer.json"
FILES = (FAST, "vocab.txt", "vocab.json", "spiece.model", "tokenizer.model", "sentencepiece.bpe.model")
"""Files by one of which a folder is known to have a tokenizer."""
_OF_SENTENCEPIECE = {".spm", ".model"}
_NEEDED = ("unk_token", "eos_token", "pad_token")


def check_files(folder: Path, parts: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse a folder without a fast tokenizer whose own cannot be read.

    Args:
        folder: of the model.
        parts: classes of tokenizers and the files that each is made of.

    Raises:
        UsageError: it has models of SentencePiece, and a package that reads them is not installed.
        ModelError: one of its files is missing.
    """
    if (folder / FAST).is_file():
        return
    made_by = _class_of(folder)
    if any(file.suffix in _OF_SENTENCEPIECE for file in folder.iterdir()):
        _check_packages(folder, made_by)
    name = made_by.__name__ if made_by else ""
    for file in parts.get(name, ()):
        if not (folder / file).is_file():
            raise ModelError(f"{folder}: no {file}, which {name} reads", "copy the tokenizer files once more")


def _check_packages(folder: Path, made_by: type | None) -> None:
    """SentencePiece reads its models; transformers, which makes fast tokenizers of them, does so by protobuf."""
    from transformers import PreTrainedTokenizerFast
    from transformers.utils.import_utils import is_protobuf_available, is_sentencepiece_available

    becomes_fast = made_by is not None and issubclass(made_by, PreTrainedTokenizerFast)
    for package, is_there in (
        ("sentencepiece", is_sentencepiece_available()),
        ("protobuf", not becomes_fast or is_protobuf_available()),
    ):
        if not is_there:
            raise UsageError(
                f"{folder}: its tokenizer needs the package {package}", "pip install 'nlpkit-core[sentencepiece]'"
            )


def _class_of(folder: Path) -> type | None:
    """The class that reads a tokenizer, as transformers chooses it; None: nothing says so."""
    from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES, tokenizer_class_from_name

    known = [read_json(folder / name) for name in ("tokenizer_config.json", "config.json") if (folder / name).is_file()]
    said = [values.get("tokenizer_class") for values in known]
    usual = [TOKENIZER_MAPPING_NAMES.get(str(values.get("model_type", ""))) for values in known]
    name = next((name for name in (*said, *usual) if name and isinstance(name, str)), "")
    found: Any = tokenizer_class_from_name(name.removesuffix("Fast")) or tokenizer_class_from_name(name)
    return found if isinstance(found, type) else None  # transformers gives anything of that name


def check_special_tokens(folder: str | Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a vocabulary that lacks a token which a model is trained with: transformers would add it as a new one.

    Raises:
        ModelError: naming the token.
    """
    for role in _NEEDED:
        token = getattr(tokenizer, role)
        number: Any = tokenizer.vocab_size if token is None else tokenizer.convert_tokens_to_ids(token)
        if number >= tokenizer.vocab_size:
            raise ModelError(
                f"{folder}: the vocabulary has no '{token or role}'", "use the tokenizer that was saved with the model"
            )
