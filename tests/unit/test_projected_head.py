"""Label smoothing in the loss over a vocabulary: in training, of every kind of class, against torch's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModel, BartConfig, Gemma2Config, GPT2Config, M2M100Config, PretrainedConfig, T5Config

from nlpkit.heads import body_of
from nlpkit.objectives.causal_head import CausalHead
from nlpkit.objectives.projected_head import ProjectedHead
from nlpkit.objectives.sequence_head import SequenceHead

TOKENS, WIDTH = 90, 32
SIZES: dict[str, Any] = {
    "vocab_size": TOKENS,
    "d_model": WIDTH,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 32,
}
WRITERS: dict[str, PretrainedConfig] = {
    "m2m100": M2M100Config(**SIZES),
    "bart": BartConfig(**SIZES),  # adds a bias, so that all logits are made
    "t5": T5Config(
        vocab_size=TOKENS, d_model=WIDTH, d_kv=16, d_ff=64, num_layers=1, num_heads=2, decoder_start_token_id=0
    ),
    "gpt2": GPT2Config(vocab_size=TOKENS, n_embd=WIDTH, n_layer=1, n_head=2, n_positions=32),
    "gemma2": Gemma2Config(  # caps its logits, so that all are made
        vocab_size=TOKENS,
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        final_logit_softcapping=2.0,
    ),
}


def parts(family: str) -> tuple[ProjectedHead, Any, dict[str, torch.Tensor]]:
    """A head, its body, both without dropout, and a batch in which not all counts."""
    torch.manual_seed(0)
    config = WRITERS[family]
    writes = config.is_encoder_decoder
    head = SequenceHead(config) if writes else CausalHead(config)
    body = body_of(AutoModel.from_config(config))
    head.tie(body)
    for module in (*head.modules(), *body.modules()):
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)
    if family == "bart":
        head.model.final_logits_bias.normal_()  # type: ignore[operator, union-attr]
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(5, TOKENS, (3, 9), generator=draw)
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    batch = {"input_ids": ids, "attention_mask": mask}
    if writes:
        batch["labels"] = torch.randint(5, TOKENS, (3, 7), generator=draw)
        batch["labels"][2, 4:] = -100
    return head, body, batch


@pytest.mark.parametrize("family", WRITERS)
@pytest.mark.parametrize("training", [True, False])
def test_answers_are_smoothed_in_training_alone(family: str, training: bool) -> None:
    head, body, batch = parts(family)
    head.smoothing = 0.2
    head.train(training)
    body.train(training)
    inputs = {k: batch[k] for k in ("input_ids", "attention_mask")}
    hidden = body(**inputs).last_hidden_state
    found = head.loss_from(hidden, batch)
    weights = [p for p in dict.fromkeys([*head.parameters(), *body.parameters()]) if p.requires_grad]
    ours = torch.autograd.grad(found, weights, allow_unused=True)
    hidden = body(**inputs).last_hidden_state
    logits = head.project(head.states(hidden, batch))
    expected = nn.functional.cross_entropy(
        logits.flatten(0, 1), head.answers(batch).flatten(), label_smoothing=0.2 if training else 0.0
    )
    theirs = torch.autograd.grad(expected, weights, allow_unused=True)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for one, other in zip(ours, theirs, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_heads_smooth_nothing_unless_they_are_told_to() -> None:
    assert ProjectedHead.smoothing == 0
    head, body, batch = parts("m2m100")
    hidden = body(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    losses = [head.train(training).loss_from(hidden, batch).detach() for training in (True, False)]
    assert losses[0] == losses[1]
