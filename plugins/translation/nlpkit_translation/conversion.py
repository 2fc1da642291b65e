"""A model converted for CTranslate2: once, into a folder beside it."""

from __future__ import annotations

import contextlib
import json
import logging
import shlex
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from nlpkit import handover
from nlpkit.errors import ModelError, RunFolderError, UsageError
from nlpkit.files import MANIFEST, new_folder, sha256, verify_manifest

log = logging.getLogger("nlpkit")
FOLDER = "ct2"
_MADE_OF = "made_of.txt"
_FAMILIES = ("m2m_100", "marian", "t5", "mt5")


def check_possible(family: str) -> None:
    """Refuse what no conversion can be made of, before any work.

    Raises:
        UsageError: the package is not installed, or does not know the family.
    """
    try:
        import ctranslate2  # noqa: F401
    except ImportError as error:
        hint = "pip install 'nlpkit-translation[ct2]', or --engine torch"
        raise UsageError("--engine ct2 needs the package ctranslate2", hint) from error
    if family not in _FAMILIES:
        raise UsageError(f"--engine ct2 knows no model of the family {family}", "--engine torch")


def identity(model: Path) -> str:
    """What tells a model from others that stood in the same folder."""
    return sha256(model / MANIFEST)


@contextlib.contextmanager
def converted(model: Path) -> Iterator[Path]:
    """The folder of the conversion, which is made where there is none; to be read while the block lasts.

    Of several processes that make it at the same time all use that of the first. Where nothing can be written beside
    the model, it is made for this block alone.

    Args:
        model: its folder.

    Raises:
        ModelError: CTranslate2 cannot convert it, or the conversion is damaged or of another model.
    """
    model = model.resolve()
    target = model.parent / f"{model.name}-{FOLDER}"
    with contextlib.ExitStack() as stack:
        if not target.is_dir():
            log.info("converting %s for CTranslate2, once: %s", model, target)
            try:
                convert(model, target)
            except RunFolderError as error:
                what = "converted for this time alone; to keep it, copy the folder to where you may write"
                log.warning("%s; %s", error.message, what)
                target = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nlpkit-"))) / FOLDER
                convert(model, target)
        verify_manifest(target)
        if (target / _MADE_OF).read_text() != identity(model):
            hint = f"rm -r {shlex.quote(str(target))}"
            raise ModelError(f"{target}: converted from another model that stood here", hint)
        yield target


def convert(model: Path, target: Path) -> None:
    """Make the conversion; one that another process has made meanwhile stays.

    Raises:
        ModelError: CTranslate2 cannot.
        RunFolderError: nobody may write there.
    """
    made_of = identity(model)
    with new_folder(target, replace=False) as folder, handover.quiet(), handover.no_bars():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # as in `nlpkit.tokenizer.load`
                _converter(model).convert(str(folder), force=True)
        except (RuntimeError, ValueError, KeyError, AttributeError) as error:
            raise ModelError(f"{model}: CTranslate2 cannot convert it: {error}", "--engine torch") from error
        _name_beginning(folder / "config.json")
        (folder / _MADE_OF).write_text(made_of)


def _name_beginning(path: Path) -> None:
    """Tokenizers without a token that begins a text leave a gap that the translator cannot read."""
    config = json.loads(path.read_text())
    config["bos_token"] = config.get("bos_token") or config["decoder_start_token"]
    path.write_text(json.dumps(config, indent=2))


def _converter(model: Path) -> Any:
    from ctranslate2.converters import TransformersConverter

    class Converter(TransformersConverter):
        """Changes in memory what CTranslate2 takes for granted of a family."""

        def load_model(self, *given: Any, **settings: Any) -> Any:
            model = super().load_model(*given, **settings)
            for module in model.modules():
                if type(module).__name__ == "M2M100SinusoidalPositionalEmbedding":
                    module.offset = module.padding_idx + 1  # positions count from it on; it is taken to be 1
            if model.config.model_type == "marian":
                _begin_with_zeros(model.model.decoder)
            return model

    return Converter(str(model))


@torch.no_grad()
def _begin_with_zeros(decoder: Any) -> None:
    """Move the embedding of the token that a Marian begins with into the first position, where nothing else stands.

    CTranslate2 begins with an embedding of zeros, as Marian itself does. In transformers that token is ``<pad>``, and
    its embedding a row of the output weights, too: it is zeros until the model is trained further.
    """
    decoder.embed_positions.weight[0] += decoder.embed_scale * decoder.embed_tokens.weight[decoder.padding_idx]
