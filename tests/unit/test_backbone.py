from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedTokenizerBase

from nlpkit import backbone
from nlpkit.config import ModelConfig


@pytest.mark.parametrize("family", ["bert", "modernbert"])
@pytest.mark.parametrize(("preset", "layers", "width"), [("tiny", 2, 128), ("mini", 4, 256), ("small", 4, 512)])
def test_preset_has_its_layers_and_width(
    family: Any, preset: Any, layers: int, width: int, words: PreTrainedTokenizerBase
) -> None:
    config = backbone.architecture(ModelConfig(preset=preset, family=family, sequence_length=64), words)
    body = backbone.build(config)
    assert (config.num_hidden_layers, config.hidden_size, config.num_attention_heads) == (layers, width, width // 64)
    assert config.vocab_size == len(words)
    assert config.max_position_embeddings == 64
    matrices = 4 * width**2 + (2 * 4 * width**2 if family == "bert" else 3 * width * (width * 8 // 3 // 64 * 64))
    assert sum(p.numel() for n, p in body.named_parameters() if "layer" in n and p.ndim == 2) == layers * matrices


def attention(width: int) -> int:
    return 4 * width**2


def feed_forward(family: str, width: int) -> int:
    return 3 * width * (width * 8 // 3 // 64 * 64) if family in {"llama", "t5"} else 2 * 4 * width**2


@pytest.mark.parametrize("family", ["gpt2", "llama", "t5", "m2m100"])
@pytest.mark.parametrize("preset", ["tiny", "mini"])
def test_preset_of_a_writer_has_its_matrices(family: Any, preset: Any, words: PreTrainedTokenizerBase) -> None:
    layers, width = backbone.PRESETS[preset]
    config = backbone.architecture(ModelConfig(preset=preset, family=family, sequence_length=64), words)
    assert (config.num_hidden_layers, config.hidden_size) == (layers, width)
    body = backbone.build(config)
    position = ("wpe", "relative_attention_bias")
    inside = [n for n, p in body.named_parameters() if p.ndim == 2 and p is not body.get_input_embeddings().weight]
    found = sum(body.get_parameter(n).numel() for n in inside if not any(p in n for p in position))
    assert found == layers * (attention(width) + feed_forward(family, width))


@pytest.mark.parametrize("family", ["t5", "m2m100"])
def test_decoder_is_as_deep_and_wide_as_its_encoder(family: Any, words: PreTrainedTokenizerBase) -> None:
    config = backbone.architecture(ModelConfig(preset="mini", family=family, sequence_length=64), words)
    decoder = AutoModel.from_config(config).get_decoder()
    shared = decoder.embed_tokens.weight
    matrices = [p for n, p in decoder.named_parameters() if p.ndim == 2 and p is not shared and "bias" not in n]
    assert sum(p.numel() for p in matrices) == 4 * (2 * attention(256) + feed_forward(family, 256))
    assert config.decoder_start_token_id == (words.pad_token_id if family == "t5" else words.sep_token_id)


def test_architecture_opens_in_plain_transformers(words: PreTrainedTokenizerBase, tmp_path: Any) -> None:
    config = backbone.architecture(ModelConfig(preset="tiny"), words)
    config.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert (again.layer_types, again.local_attention) == (["sliding_attention", "full_attention"], 16)
    torch.manual_seed(0)
    body = backbone.build(config).eval()
    other = AutoModel.from_config(again, dtype=torch.float32).eval()
    other.load_state_dict(body.state_dict())
    ids = torch.arange(5, 55).unsqueeze(0)
    assert torch.equal(body(input_ids=ids).last_hidden_state, other(input_ids=ids).last_hidden_state)


@pytest.mark.parametrize(("window", "reach"), [(16, 8), (0, 40)])
def test_first_layer_sees_half_of_the_window_on_each_side(
    window: int, reach: int, words: PreTrainedTokenizerBase
) -> None:
    torch.manual_seed(0)
    body = backbone.build(backbone.architecture(ModelConfig(preset="tiny", local_attention=window), words)).eval()
    ids = torch.arange(5, 45).unsqueeze(0)  # (1, 40)
    changed = ids.clone()
    changed[0, 0] = 60
    first = [body(input_ids=i, output_hidden_states=True).hidden_states[1] for i in (ids, changed)]
    differs = (first[0] != first[1]).any(-1)[0]
    assert differs.tolist() == [position <= reach for position in range(40)]


def test_dropout_is_set_by_any_name(words: PreTrainedTokenizerBase) -> None:
    for family in ("bert", "modernbert"):
        config = backbone.architecture(ModelConfig(preset="tiny", family=family), words)  # type: ignore[arg-type]
        rates = {
            m.p for m in backbone.build(backbone.set_dropout(config, 0.25)).modules() if type(m).__name__ == "Dropout"
        }
        assert rates == {0.25}


def test_a_switch_of_dropout_stays() -> None:
    config = PretrainedConfig(use_dropout=True, classifier_dropout=None, hidden_dropout=0.5, attention_dropout=0)
    backbone.set_dropout(config, 0.25)
    assert (config.use_dropout, config.classifier_dropout) == (True, None)
    assert (config.hidden_dropout, config.attention_dropout) == (0.25, 0.25)


def test_shared_parameters_are_counted_once() -> None:
    one, other = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2, bias=False)
    other.weight = one.weight
    assert backbone.count_parameters(one, other) == 8
