"""A decoder that has learnt its language by clm, put behind an encoder: what it must be, and its weights."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import GPT2Config, PretrainedConfig, PreTrainedTokenizerBase

from nlpkit import bundle, handover, tokenizer
from nlpkit.errors import ModelError
from nlpkit.handover import Account
from nlpkit.heads import TransformersHead, is_decoder
from nlpkit.vetting import check_folder, check_weights

log = logging.getLogger("nlpkit")
_MAKE_ONE = "nlpkit pretrain FILES --objective clm --tokenizer RUN, where RUN is what --from names, makes one that fits"


def read(source: str, words: PreTrainedTokenizerBase, frame: Sequence[int]) -> GPT2Config:
    """The architecture of such a decoder, which reads nothing but its own text yet.

    Args:
        source: run, bundle or model folder.
        words: tokenizer of the encoder.
        frame: token ids that it puts around a text.

    Raises:
        ModelError: no such model, one of another kind, or with another vocabulary or end of text.
    """
    folder = bundle.find(source)
    check_folder(Path(folder), _MAKE_ONE)
    config = handover.read_architecture(folder)
    if not isinstance(config, GPT2Config):
        raise ModelError(f"{source}: {_unfit(config)}", _MAKE_ONE)
    own = tokenizer.load(folder)
    if not tokenizer.same_tokens(own, words):
        sizes = f"{len(own):,} tokens, and the encoder's {len(words):,}"
        raise ModelError(f"{source}: its vocabulary is another than that of the encoder; it has {sizes}", _MAKE_ONE)
    tokenizer.check_matches(words, config.vocab_size)
    if [config.eos_token_id] != list(frame[-1:]) or config.bos_token_id is None:
        raise ModelError(f"{source}: its texts end with another token than those of the encoder", _MAKE_ONE)
    return config


def _unfit(config: PretrainedConfig) -> str:
    if is_decoder(config):
        return f"transformers has no {config.model_type} with cross-attention, by which a decoder reads an encoder"
    return f"{config.model_type} is no decoder that learnt by clm"


@torch.no_grad()
def start(source: str, head: TransformersHead) -> Account:
    """Give the decoder of a head the weights of one that `read` took; its cross-attention stays as it was made.

    Args:
        source: run, bundle or model folder.
        head: joins a decoder of this architecture to an encoder.

    Raises:
        ModelError: damaged; a tensor lacks, has no place, or holds no numbers.
    """
    folder = bundle.find(source)
    bundle.read_record(folder)  # after the hashes were checked
    check_weights(Path(folder))
    whole: Any = head.model
    decoder = whole.get_decoder()
    config = copy.deepcopy(decoder.config)
    with handover.explain(source):
        loaded, info = type(decoder).from_pretrained(
            folder,
            config=config,
            output_loading_info=True,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            dtype=torch.float32,
        )
    found = dict(loaded.named_parameters())
    config.add_cross_attention = False
    with torch.device("meta"):
        alone = {name for name, _ in type(decoder)(config).named_parameters()}
    new = set(found) - alone
    if lost := sorted((set(info["missing_keys"]) & set(found)) - new):
        raise ModelError(f"{source}: the weights lack {handover.short(lost)}, which config.json asks for")
    if strange := sorted({*info["unexpected_keys"], *(new - set(info["missing_keys"]))}):
        raise ModelError(f"{source}: the weights hold {handover.short(strange)}, for which there is no place")
    handover.check_finite(source, loaded, new)
    for name, weights in decoder.named_parameters():
        if name not in new:
            weights.copy_(found[name])
    account = Account(len(alone), sorted(new), reason="cross-attention")
    log.info("%s: %s", source, account)
    return account
