"""The decoder behind an encoder that comes without one: made new, or begun from a run of clm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nlpkit import decoders
from nlpkit.backbone import with_decoder
from nlpkit.errors import UsageError
from nlpkit.heads import is_encoder_decoder

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

    from nlpkit import Head
    from nlpkit_translation.config import TranslationConfig
    from nlpkit_translation.rows import Rows


def completed(
    backbone: PretrainedConfig, config: TranslationConfig, tokenizer: PreTrainedTokenizerBase, rows: Rows
) -> PretrainedConfig:
    """An encoder-decoder as it is, and an encoder with the decoder that the settings describe.

    Raises:
        ModelError: the backbone is a decoder, or its tokenizer does not say where a text begins and ends.
        UsageError: a width that no decoder can have, or sizes beside a decoder that has its own.
    """
    if is_encoder_decoder(backbone):
        return backbone
    layers, width = config.decoder_layers, config.decoder_width
    if width % 64:
        raise UsageError(f"task.decoder_width is {width}, expected a multiple of 64", "task.decoder_width=256")
    if config.decoder and (layers or width):
        name = "layers" if layers else "width"
        raise UsageError(f"task.decoder has its own sizes, and task.decoder_{name} is set", "leave one of them out")
    given = decoders.read(config.decoder, tokenizer, rows.frame) if config.decoder else None
    sizes = {"layers": layers, "width": width, "positions": rows.longest}
    return with_decoder(backbone, tokenizer, rows.frame, **sizes, given=given)


def begin(head: Head, backbone: PretrainedConfig, config: TranslationConfig) -> list[str]:
    """Give the new decoder the weights of the one that ``task.decoder`` names, and say where these are.

    Raises:
        UsageError: there is no new decoder.
        ModelError: not all of its tensors are there, or others are.
    """
    if not config.decoder:
        return []
    if is_encoder_decoder(backbone):
        raise UsageError(
            f"task.decoder is put behind an encoder, and {backbone.model_type} has a decoder already",
            "give an encoder with --from, or leave it out",
        )
    model: Any = head
    decoders.start(config.decoder, model)
    return [config.decoder]
