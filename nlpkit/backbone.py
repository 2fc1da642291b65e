"""The shared body: architectures by preset, built with random weights. Loading weights is handover.py's."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any

import torch
from transformers import (
    BertConfig,
    EncoderDecoderConfig,
    GPT2Config,
    LlamaConfig,
    M2M100Config,
    ModernBertConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    T5Config,
)

from nlpkit.config import ModelConfig
from nlpkit.errors import ModelError, UsageError
from nlpkit.heads import body_of, class_of, detach_pooler, is_decoder, parts_of
from nlpkit.tokenizer import separator, vocabulary_size

_DROPOUT = re.compile(r"dropout|pdrop")
_DECODER_LAYERS = (
    4  # of a new decoder behind an encoder, at most: it is read token by token, and has few texts to learn of
)
# layers, width; heads are 64 wide. Sizes of the BERT miniatures (Turc et al. 2019).
PRESETS = {"tiny": (2, 128), "mini": (4, 256), "small": (4, 512), "base": (12, 768)}


def architecture(model: ModelConfig, tokenizer: PreTrainedTokenizerBase) -> PretrainedConfig:
    """The complete configuration of a preset, for a tokenizer's vocabulary and special tokens.

    Positions end at ``model.sequence_length``: the model never meets a position it was not trained for.
    """
    layers, width = PRESETS[model.preset]
    return _FAMILIES[model.family](model, tokenizer, layers, width, model.dropout or 0.0)


def _bert(
    model: ModelConfig, tokenizer: PreTrainedTokenizerBase, layers: int, width: int, dropout: float
) -> PretrainedConfig:
    return BertConfig(
        **_shared(model, tokenizer, layers, width),
        intermediate_size=4 * width,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )


def _modernbert(
    model: ModelConfig, tokenizer: PreTrainedTokenizerBase, layers: int, width: int, dropout: float
) -> PretrainedConfig:
    return ModernBertConfig(
        **_shared(model, tokenizer, layers, width),
        intermediate_size=_gated(width),
        cls_token_id=tokenizer.cls_token_id,
        sep_token_id=tokenizer.sep_token_id,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
        layer_types=[_attention(i, model.local_attention) for i in range(layers)],
        local_attention=model.local_attention,
        classifier_pooling="mean",
        embedding_dropout=dropout,
        mlp_dropout=dropout,
        attention_dropout=dropout,
    )


def _gpt2(
    model: ModelConfig, tokenizer: PreTrainedTokenizerBase, layers: int, width: int, dropout: float
) -> PretrainedConfig:
    return GPT2Config(
        vocab_size=vocabulary_size(tokenizer),
        n_embd=width,
        n_layer=layers,
        n_head=width // 64,
        n_positions=model.sequence_length,
        **_ends(tokenizer),
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
    )


def _llama(
    model: ModelConfig, tokenizer: PreTrainedTokenizerBase, layers: int, width: int, dropout: float
) -> PretrainedConfig:
    return LlamaConfig(
        **{**_shared(model, tokenizer, layers, width), **_ends(tokenizer)},
        intermediate_size=_gated(width),
        num_key_value_heads=width // 64,
        tie_word_embeddings=True,
        attention_dropout=dropout,
    )


def _t5(
    model: ModelConfig, tokenizer: PreTrainedTokenizerBase, layers: int, width: int, dropout: float
) -> PretrainedConfig:
    return T5Config(
        vocab_size=vocabulary_size(tokenizer),
        d_model=width,
        d_kv=64,
        d_ff=_gated(width),
        num_layers=layers,
        num_heads=width // 64,
        feed_forward_proj="gated-gelu",
        dropout_rate=dropout,
        classifier_dropout=dropout,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.sep_token_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id,
        **{"decoder_start_token_id": tokenizer.pad_token_id},
    )


def _m2m100(
    model: ModelConfig, tokenizer: PreTrainedTokenizerBase, layers: int, width: int, dropout: float
) -> PretrainedConfig:
    return M2M100Config(
        vocab_size=vocabulary_size(tokenizer),
        d_model=width,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=width // 64,
        decoder_attention_heads=width // 64,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
        max_position_embeddings=model.sequence_length,
        dropout=dropout,
        attention_dropout=dropout,
        encoder_layerdrop=0.0,
        decoder_layerdrop=0.0,
        **_ends(tokenizer),
        decoder_start_token_id=separator(tokenizer),
    )


def _shared(model: ModelConfig, tokenizer: PreTrainedTokenizerBase, layers: int, width: int) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary_size(tokenizer),
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 64,
        "max_position_embeddings": model.sequence_length,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _ends(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """What stands between two documents begins one and ends one; where it pads too, it is learnt as any other token."""
    end = separator(tokenizer)
    padding = None if tokenizer.pad_token_id == end else tokenizer.pad_token_id
    return {"pad_token_id": padding, "bos_token_id": end, "eos_token_id": end}


def _gated(width: int) -> int:
    """Width of a feed-forward of three matrices instead of two: two thirds of the usual four times."""
    return width * 8 // 3 // 64 * 64


_FAMILIES = {
    "bert": _bert,
    "modernbert": _modernbert,
    "gpt2": _gpt2,
    "llama": _llama,
    "t5": _t5,
    "m2m100": _m2m100,
}
DECODERS = {"gpt2", "llama"}
ENCODER_DECODERS = {"t5", "m2m100"}


def _attention(layer: int, window: int) -> str:
    """Every other layer, from the first, sees its neighbours only; where all see everything, they are learnt late."""
    return "sliding_attention" if window and layer % 2 == 0 else "full_attention"


def with_decoder(
    encoder: PretrainedConfig,
    tokenizer: PreTrainedTokenizerBase,
    frame: Sequence[int],
    *,
    layers: int,
    width: int,
    positions: int,
    given: GPT2Config | None = None,
) -> EncoderDecoderConfig:
    """An encoder and a decoder that reads its hidden states, as transformers' `EncoderDecoderModel` joins them.

    The decoder is a GPT-2 with cross-attention: its logits are what one matrix, that of its embedding, makes of its
    states, and it is normalised before each layer, so it learns from nothing without much care.

    Args:
        encoder: stays as it is.
        tokenizer: of both.
        frame: token ids that it puts around a text; the decoder begins with the first and ends with the last.
        layers: of the decoder; 0: as many as the encoder has, 4 at most.
        width: of the decoder, a multiple of 64; 0: that of the encoder.
        positions: tokens that the decoder can write.
        given: the decoder as it learnt by itself, whose sizes stay; it begins as a document did for it, and not with
            the first token of the frame. None: a new one.

    Raises:
        UsageError: the given decoder can write fewer tokens.
        ModelError: it is no encoder, or its tokenizer puts no token before a text and another behind it.
    """
    if is_decoder(encoder):
        raise ModelError(
            f"{encoder.model_type} is a decoder alone, and the text to write from is read by an encoder",
            "start from an encoder (BERT, ModernBERT) or an encoder-decoder (T5, M2M100), or leave out --from",
        )
    if len(frame) < 2:
        raise ModelError(
            "the tokenizer puts no tokens before and behind a text, with which a new decoder would begin and end",
            "start from an encoder whose tokenizer does, such as a BERT, or from an encoder-decoder",
        )
    if given is not None and given.n_positions < positions:
        raise UsageError(
            f"task.max_length is {positions}, and the decoder writes {given.n_positions} tokens at most",
            f"task.max_length={given.n_positions}",
        )
    decoder = copy.deepcopy(given)
    if decoder is None:
        decoder = GPT2Config(
            vocab_size=encoder.vocab_size,
            n_embd=width or encoder.hidden_size,
            n_layer=layers or min(encoder.num_hidden_layers, _DECODER_LAYERS),
            n_head=encoder.num_attention_heads if width in {0, encoder.hidden_size} else width // 64,
            n_positions=positions,
            activation_function="gelu",
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=frame[0],
            eos_token_id=frame[-1],
        )
    decoder.add_cross_attention = True
    set_dropout(decoder, max(_dropouts(encoder).values(), default=0.0))
    return EncoderDecoderConfig(
        encoder={**encoder.to_dict(), "_name_or_path": ""},  # which would be written, and says where it was
        decoder={**decoder.to_dict(), "is_decoder": True, "_name_or_path": ""},
        pad_token_id=tokenizer.pad_token_id,
        decoder_start_token_id=decoder.bos_token_id,
    )


def build(config: PretrainedConfig) -> PreTrainedModel:
    """The body with random weights and without its pooler, ready to train; of an encoder-decoder the encoder."""
    body = body_of(class_of(config).from_config(config, dtype=torch.float32))
    detach_pooler(body)
    return body.train()


def set_dropout(config: PretrainedConfig, share: float) -> PretrainedConfig:
    """Set every dropout of body and head, whatever the family calls it; a switch stays, and None follows another."""
    for part in parts_of(config):
        for name in _dropouts(part):
            setattr(part, name, share)
    return config


def _dropouts(config: PretrainedConfig) -> dict[str, float]:
    return {
        name: value
        for name, value in config.to_dict().items()
        if _DROPOUT.search(name) and isinstance(value, int | float) and not isinstance(value, bool)
    }


def count_parameters(*modules: torch.nn.Module) -> int:
    """Parameters, shared ones once."""
    return sum(p.numel() for p in {id(p): p for m in modules for p in m.parameters()}.values())
