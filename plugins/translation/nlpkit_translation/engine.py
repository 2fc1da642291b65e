"""CTranslate2: a finished model, converted once, that writes several times as fast on a CPU."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from nlpkit import Batch, handover
from nlpkit.errors import ModelError, UsageError
from nlpkit.files import MANIFEST, new_folder, verify_manifest
from nlpkit_translation.head import Search, predictions, room_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger("nlpkit")
FOLDER = "ct2"
_MADE_OF = "made_of.txt"
_FAMILIES = ("m2m_100", "t5", "mt5")


class Engine:
    """Writes what `TranslationHead.predict` does.

    Args:
        model: folder of the model; the conversion is kept beside it.
        tokenizer: of the model.
        search: how to write.
        int8: compute in whole numbers of 8 bits, which loses a little.

    Raises:
        UsageError: the package is not installed, or does not know the family.
        ModelError: it cannot convert this model.
    """

    def __init__(self, model: Path, tokenizer: PreTrainedTokenizerBase, search: Search, *, int8: bool) -> None:
        try:
            import ctranslate2
        except ImportError as error:
            hint = "pip install 'nlpkit-translation[ct2]', or leave out --engine"
            raise UsageError("--engine ct2 needs the package ctranslate2", hint) from error
        self.tokenizer, self.search = tokenizer, search
        self._end = self._ids([str(tokenizer.eos_token or tokenizer.sep_token)])[0]
        self.translator = ctranslate2.Translator(
            str(converted(model, tokenizer)),
            device="cpu",
            compute_type="int8" if int8 else "float32",
            intra_threads=torch.get_num_threads(),
        )

    def __call__(self, batch: Batch) -> dict[str, torch.Tensor]:
        """The same values as those of the head."""
        rows = [list(_real(row, mask)) for row, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)]
        room = room_of(batch["attention_mask"], self.search.longest).cpu()
        begin = self.search.begin
        written = self.translator.translate_batch(
            [self.tokenizer.convert_ids_to_tokens(row) for row in rows],
            target_prefix=None if begin is None else [self.tokenizer.convert_ids_to_tokens([begin])] * len(rows),
            beam_size=self.search.beams,
            length_penalty=self.search.length_penalty,
            max_decoding_length=int(room.max()),
            max_input_length=0,
            return_end_token=True,
        )
        ids = [self._ids(found.hypotheses[0]) for found in written]
        longest, pad = max(1, *map(len, ids)), self._ids([str(self.tokenizer.pad_token)])[0]
        padded = torch.tensor([row + [pad] * (longest - len(row)) for row in ids])
        return predictions(padded, self._end, room, pad)

    def _ids(self, tokens: list[str]) -> list[int]:
        ids: Any = self.tokenizer.convert_tokens_to_ids(tokens)
        return list(ids)


def _real(row: Any, mask: Any) -> Iterator[int]:
    return (i for i, real in zip(row.tolist(), mask.tolist(), strict=True) if real)


def converted(model: Path, tokenizer: PreTrainedTokenizerBase) -> Path:
    """The folder of the conversion, which is made where there is none."""
    model = model.resolve()
    target = model.parent / f"{model.name}-{FOLDER}"
    made_of = hashlib.sha256((model / MANIFEST).read_bytes()).hexdigest()
    if target.is_dir():
        verify_manifest(target)
        if (target / _MADE_OF).read_text() == made_of:
            return target
        raise ModelError(f"{target}: converted from another model that stood here", "remove this folder")
    family = json.loads((model / "config.json").read_text())["model_type"]
    if family not in _FAMILIES:
        raise UsageError(f"--engine ct2 knows no model of the family {family}", "leave out --engine")
    log.info("converting %s for CTranslate2, once: %s", model, target)
    with new_folder(target) as folder, handover.quiet(), handover.no_bars():
        try:
            _converter(model).convert(str(folder), force=True)
        except (RuntimeError, ValueError, KeyError, AttributeError) as error:
            raise ModelError(f"{model}: CTranslate2 cannot convert it: {error}", "leave out --engine") from error
        _name_beginning(folder / "config.json")
        (folder / _MADE_OF).write_text(made_of)
    return target


def _name_beginning(path: Path) -> None:
    """Tokenizers without a token that begins a text leave a gap that the translator cannot read."""
    config = json.loads(path.read_text())
    config["bos_token"] = config.get("bos_token") or config["decoder_start_token"]
    path.write_text(json.dumps(config, indent=2))


def _converter(model: Path) -> Any:
    from ctranslate2.converters import TransformersConverter

    class Converter(TransformersConverter):
        """Positions of an M2M100 count from its padding token on, which CTranslate2 takes to be 1."""

        def load_model(self, *given: Any, **settings: Any) -> Any:
            model = super().load_model(*given, **settings)
            for module in model.modules():
                if type(module).__name__ == "M2M100SinusoidalPositionalEmbedding":
                    module.offset = module.padding_idx + 1
            return model

    return Converter(str(model))
