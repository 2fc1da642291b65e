"""Tokenizers of all kinds for new models: which objective takes which, and what is said of the others."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoTokenizer,
    BertTokenizer,
    GPT2Tokenizer,
    LlamaTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    RobertaTokenizer,
    T5Tokenizer,
)

from nlpkit import adopting, backbone, tokenizer
from nlpkit.config import ModelConfig
from nlpkit.errors import ModelError
from nlpkit.objectives.clm import Clm
from nlpkit.objectives.denoise import Denoise
from nlpkit.objectives.mlm import Mlm
from nlpkit.objectives.mlm_nsp import MlmNsp
from nlpkit.objectives.nsp import Nsp

TEXTS = ["the coat is soft and warm, a hat and 100% wool; the coat number is unflattering"] * 20
SEEN = "a soft coat, UNSEEN Größe"
OBJECTIVES: tuple[Any, ...] = (Mlm, Nsp, MlmNsp, Clm, Denoise)
FAMILIES = {"mlm": ("bert", "modernbert"), "nsp": ("bert",), "mlm+nsp": ("bert",), "clm": ("gpt2", "llama")}
OPTIONS = {"clm": "--decoder ", "denoise": "--sentinels "}
FITS = {
    "ours": {"mlm", "nsp", "mlm+nsp", "clm"},
    "ours for a decoder": {"clm"},
    "ours with sentinels": {"clm", "denoise"},
    "bert": {"mlm", "nsp", "mlm+nsp", "clm"},
    "roberta": {"mlm", "nsp", "mlm+nsp", "clm"},
    "gpt2": {"clm"},
    "llama": {"clm"},
    "t5": {"clm", "denoise"},
}


@cache
def trained(**purpose: Any) -> PreTrainedTokenizerBase:
    return tokenizer.train(TEXTS, kind="bpe", vocabulary=400, lowercase=False, max_length=64, **purpose)


def vocabulary(*special: str) -> dict[str, Any]:
    """That of a byte-level BPE, with special tokens of others behind."""
    model = json.loads(trained().backend_tokenizer.to_str())["model"]
    entries = dict(model["vocab"])
    entries |= {token: len(entries) + i for i, token in enumerate(special)}
    return {"vocab": entries, "merges": [tuple(pair) for pair in model["merges"]]}


@cache
def pieces() -> list[tuple[str, float]]:
    """That of a Unigram, as a T5 has it; ties are broken anew in each training."""
    words = tokenizer.train(TEXTS, kind="unigram", vocabulary=64, lowercase=False, max_length=64)
    model = json.loads(words.backend_tokenizer.to_str())["model"]
    rest = [tuple(entry) for entry in model["vocab"] if entry[0] not in tokenizer.SPECIAL_TOKENS]
    return [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0), *rest]


MAKERS: dict[str, Callable[[], PreTrainedTokenizerBase]] = {
    "ours": trained,
    "ours for a decoder": lambda: trained(generates=True),
    "ours with sentinels": lambda: trained(denoises=True),
    "bert": lambda: BertTokenizer(vocab={t: i for i, t in enumerate([*tokenizer.SPECIAL_TOKENS, *"abcdefhioqrstuw"])}),
    "roberta": lambda: RobertaTokenizer(**vocabulary("<s>", "</s>", "<pad>", "<unk>", "<mask>")),
    "gpt2": lambda: GPT2Tokenizer(**vocabulary("<|endoftext|>")),
    "llama": lambda: LlamaTokenizer(**vocabulary("<s>", "</s>", "<unk>"), add_bos_token=True),
    "t5": lambda: T5Tokenizer(vocab=pieces(), extra_ids=100),
}


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[str], str]:
    """Save the tokenizer of a name; gives its folder."""

    def save(name: str) -> str:
        MAKERS[name]().save_pretrained(tmp_path / "tok")
        return str(tmp_path / "tok")

    return save


@pytest.mark.parametrize(
    ("name", "objective"), [(name, o) for name in FITS for o in OBJECTIVES if o.name in FITS[name]]
)
def test_fitting_tokenizer_gives_its_ids_beside_any_model_in_plain_transformers(
    name: str, objective: Any, saved: Any, tmp_path: Path
) -> None:
    words = adopting.adopt(saved(name), objective, 32)
    for family in FAMILIES.get(objective.name, ("t5", "m2m100")):
        architecture = backbone.architecture(ModelConfig(preset="tiny", family=family, sequence_length=32), words)  # type: ignore[arg-type]
        architecture.save_pretrained(tmp_path / family)
        words.save_pretrained(tmp_path / family)
        opened = AutoTokenizer.from_pretrained(tmp_path / family)
        found, ids = opened(SEEN)["input_ids"], MAKERS[name]()(SEEN)["input_ids"]
        if objective is Clm and name in ("ours", "bert"):  # a document begins where the one before ends
            ids[0] = ids[-1]
        assert found == ids
        assert tokenizer.tokenizer_hash(opened) == tokenizer.tokenizer_hash(words)  # a resume finds its token store
        assert opened.model_max_length == 32
        padding = opened.pad_token_id if opened.pad_token_id != opened.eos_token_id else None
        assert architecture.pad_token_id == padding  # nothing is learnt of a row for padding
        assert architecture.eos_token_id in (None, tokenizer.separator(opened))


def test_end_of_texts_that_also_pads_is_learnt(saved: Any) -> None:
    words = adopting.adopt(saved("gpt2"), Clm, 32)
    assert words.pad_token_id == words.eos_token_id
    for family in ("gpt2", "llama"):
        body = backbone.build(
            backbone.architecture(ModelConfig(preset="tiny", family=family, sequence_length=32), words)
        )  # type: ignore[arg-type]
        embedding = body.get_input_embeddings()
        body(input_ids=torch.tensor([[5, words.eos_token_id, 6]])).last_hidden_state.square().sum().backward()
        for rows in (embedding.weight, embedding.weight.grad):
            assert rows[words.eos_token_id].any()


def test_encoder_decoder_needs_a_token_that_only_pads(tmp_path: Path) -> None:
    words = trained(denoises=True)
    roles = {role: token for role, token in words.special_tokens_map.items() if role != "pad_token"}
    PreTrainedTokenizerFast(tokenizer_object=words.backend_tokenizer, **roles).save_pretrained(tmp_path / "tok")
    with pytest.raises(ModelError, match="has no pad_token, which denoise needs"):
        adopting.adopt(str(tmp_path / "tok"), Denoise, 32)


@pytest.mark.parametrize(("name", "objective"), [(n, o) for n in FITS for o in OBJECTIVES if o.name not in FITS[n]])
def test_other_tokenizer_is_refused_with_the_command_that_makes_a_fitting_one(
    name: str, objective: Any, saved: Any
) -> None:
    with pytest.raises(ModelError) as caught:
        adopting.adopt(folder := saved(name), objective, 32)
    assert caught.value.message.startswith(f"{folder}: the tokenizer ")
    assert caught.value.message.endswith(f", which {objective.name} needs")
    option = OPTIONS.get(objective.name, "")
    assert caught.value.hint == (f"nlpkit tokenizer train FILES {option}--out DIR makes one that fits {objective.name}")


@pytest.mark.parametrize(
    ("name", "objective", "lacks"),
    [
        ("gpt2", Mlm, "has no pad_token and no cls_token and no sep_token and no mask_token"),
        ("roberta", Denoise, "has no <extra_id_0>"),
        ("ours for a decoder", Mlm, "puts no [CLS] before a text"),
    ],
)
def test_what_a_tokenizer_lacks_is_named(name: str, objective: Any, lacks: str, saved: Any) -> None:
    with pytest.raises(ModelError, match=", which") as caught:
        adopting.adopt(saved(name), objective, 32)
    assert f"the tokenizer {lacks}, which" in caught.value.message


def test_special_tokens_that_no_text_gets_are_not_enough(tmp_path: Path) -> None:
    bare = PreTrainedTokenizerFast(tokenizer_object=trained().backend_tokenizer, **trained().special_tokens_map)
    bare.backend_tokenizer.post_processor = GPT2Tokenizer(
        **vocabulary("<|endoftext|>")
    ).backend_tokenizer.post_processor
    bare.save_pretrained(tmp_path / "tok")
    with pytest.raises(ModelError, match=r"puts no \[CLS\] before a text, which mlm needs"):
        adopting.adopt(str(tmp_path / "tok"), Mlm, 32)


def test_padding_that_is_stored_in_a_tokenizer_is_none_of_what_it_puts_before_a_text(saved: Any) -> None:
    file = Path(folder := saved("ours"), "tokenizer.json")
    content = json.loads(file.read_text())
    before = {"direction": "Left", "strategy": {"Fixed": 8}, "pad_to_multiple_of": None}
    content["padding"] = {**before, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
    file.write_text(json.dumps(content))
    assert tokenizer.load(folder).backend_tokenizer.encode("").ids == [0] * 6 + [2, 3]
    assert adopting.adopt(folder, Mlm, 32)("").input_ids == [2, 3]


def test_length_of_the_new_model_is_that_of_its_tokenizer_and_a_shorter_one_is_said(
    saved: Any, caplog: pytest.LogCaptureFixture
) -> None:
    folder = saved("ours")  # for 64 tokens
    with caplog.at_level(logging.INFO, "nlpkit"):
        assert [adopting.adopt(folder, Mlm, length).model_max_length for length in (32, 128)] == [32, 128]
    size = f"{folder}: a vocabulary of {len(trained())} tokens"
    longer = f"{folder}: made for inputs of 64 tokens; this model reads 128 (model.sequence_length)"
    assert caplog.messages == [size, longer, size]


def test_every_number_of_a_vocabulary_with_gaps_has_a_row() -> None:
    words = BertTokenizer(vocab={**{t: i for i, t in enumerate(tokenizer.SPECIAL_TOKENS)}, "coat": 40})
    assert len(words) == 6
    for family in ("bert", "modernbert"):
        model = ModelConfig(preset="tiny", family=family, sequence_length=32)  # type: ignore[arg-type]
        assert backbone.architecture(model, words).vocab_size == 41


@pytest.mark.parametrize("content", [None, "file"])
def test_folder_that_is_not_there_gets_the_nearest_name(content: str | None, tmp_path: Path) -> None:
    (tmp_path / "tokens").mkdir()
    if content:
        (tmp_path / "token").write_text(content)
    with pytest.raises(ModelError) as caught:
        adopting.read(str(tmp_path / "token"), "so")
    problem = "is a file, not a folder" if content else "no such folder"
    assert caught.value.message == f"{tmp_path / 'token'}: {problem}"
    assert caught.value.hint == f"did you mean '{tmp_path / 'tokens'}'? so"


def test_folder_without_a_tokenizer_is_refused_with_the_hint_of_the_command(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        adopting.read(str(tmp_path), "so")
    assert (caught.value.message, caught.value.hint) == (
        f"{tmp_path}: no tokenizer found, expected tokenizer.json",
        "so",
    )


@pytest.mark.parametrize("name", ["ours", "bert"])
def test_tokenizer_of_an_encoder_makes_the_same_tokens_for_a_decoder(name: str, saved: Any, tmp_path: Path) -> None:
    words: Any = adopting.adopt(saved(name), Clm, 32)
    words.save_pretrained(tmp_path / "decoder")
    opened = tokenizer.load(tmp_path / "decoder")
    assert tokenizer.same_tokens(opened, tokenizer.load(tmp_path / "tok"))
    assert opened.bos_token_id == opened.eos_token_id == opened.sep_token_id == opened("a")["input_ids"][0]
    assert opened.model_input_names == ["input_ids", "attention_mask"]
    assert not tokenizer.same_tokens(opened, MAKERS["gpt2"]())
