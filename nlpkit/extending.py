"""A model folder with more words: the tokenizer's new tokens, and rows for them that start from their old pieces."""

from __future__ import annotations

import copy
import logging
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, PreTrainedModel, PreTrainedTokenizerBase

from nlpkit import bundle, handover, seen, tokenizer, vocabulary
from nlpkit.errors import DataError, ModelError, RunFolderError
from nlpkit.files import new_folder, write_json
from nlpkit.folder import versions
from nlpkit.heads import is_encoder_decoder, parts_of, vocabulary_of
from nlpkit.tokenizer_report import Report, report
from nlpkit.vocabulary import Word

log = logging.getLogger("nlpkit")
_SAMPLE_BYTES = 50_000_000
_COMPARED = 1000  # texts whose ids must be the same when the folder is opened


@dataclass(frozen=True)
class Extended:
    """What came of it.

    Args:
        words: that are tokens now, the most useful first.
        before: what the old tokenizer made of the corpus.
        after: what the new one makes of it.
        objective: that pre-training can go on with; empty: none, as for a BART, whose tokenizer has no sentinels.
    """

    words: list[str]
    before: Report
    after: Report
    objective: str


def extend(source: str, texts: Iterable[str], most: int, out: Path) -> Extended:
    """Write a model folder with up to ``most`` words more, which plain transformers opens.

    Args:
        source: run, bundle or model folder; stays as it is.
        texts: the corpus that words are chosen on; a sample of a large one is looked at.
        most: words to add, at most.
        out: becomes the folder; must not exist.

    Raises:
        RunFolderError: there is something at ``out``.
        ModelError: no model, or a tokenizer that cannot be extended.
        DataError: no text, or no word that would save a token.
    """
    if out.exists():
        raise RunFolderError(f"{out}: exists, and nothing is overwritten", "choose another --out")
    folder = Path(bundle.find(source))
    model, record = handover.whole(folder), bundle.read_record(str(folder))
    words = tokenizer.load(folder)
    tokenizer.check_matches(words, vocabulary_of(model.config))
    sample = tokenizer.sample_texts(texts, _SAMPLE_BYTES)
    if not sample:
        raise DataError("the corpus has no text to choose words on", "name files with text, one text a row")
    chosen = vocabulary.choose(words, sample, most)
    if not chosen:
        raise DataError(
            "no word that stands in the text twice takes more than one token: the vocabulary fits it as it is",
            "give text of the domain that the words are to come from",
        )
    if len(chosen) < most:
        log.info("the text has %d words that save tokens, not %d", len(chosen), most)
    more = vocabulary.extend(words, chosen)
    make_room(model, chosen, vocabulary.next_id(words))
    longest = min(words.model_max_length, 512)
    with new_folder(out) as made:
        _write(made, model, more, folder, _with_history(record, source, chosen))
        _check(made, more, sample)
    before, after = (report(each, sample, longest) for each in (words, more))
    return Extended([word.text for word in chosen], before, after, _objective(model, more))


def _objective(model: PreTrainedModel, words: PreTrainedTokenizerBase) -> str:
    if is_encoder_decoder(model.config):
        return "denoise" if tokenizer.sentinels(words) else ""
    return "mlm" if type(model.config) in AutoModelForMaskedLM._model_mapping else "clm"


@torch.no_grad()
def make_room(model: PreTrainedModel, words: Sequence[Word], first: int) -> None:
    """Give a model rows for new tokens, each the mean of those of its old pieces.

    Args:
        model: changed in place: input embedding, output projection and biases, as many of them as it has.
        words: the new tokens.
        first: id of the first of them.
    """
    size = max(first + len(words), *(part.vocab_size for part in parts_of(model.config)))
    every = _tensors(model)
    axes = _shaped_by_vocabulary(model)
    wider = {id(every[name]): _wider(every[name], axis, words, first, size) for name, axis in axes.items()}
    for name, old in every.items():
        if id(old) in wider:
            owner = model.get_submodule(name.rpartition(".")[0])
            setattr(owner, name.rpartition(".")[2], wider[id(old)])  # what was shared stays shared
            for count in {"num_embeddings", "out_features"} & set(vars(owner)):
                setattr(owner, count, size)
    for part in parts_of(model.config):
        part.vocab_size = size


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, shared ones under each of their names; BART keeps a bias of its words in a buffer."""
    named = model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False)
    return dict(chain(*named))


def _shaped_by_vocabulary(model: PreTrainedModel) -> dict[str, int]:
    """Names of the tensors that would be longer with one token more, and along which axis."""
    config = copy.deepcopy(model.config)
    for part in parts_of(config):
        part.vocab_size += 1
    with torch.device("meta"):
        other = _tensors(type(model)(config))
    return {
        name: axis
        for name, tensor in _tensors(model).items()
        for axis, (now, then) in enumerate(zip(tensor.shape, other[name].shape, strict=True))
        if now != then
    }


def _wider(old: Tensor, axis: int, words: Sequence[Word], first: int, size: int) -> Tensor:
    """Rows as they were, and behind them those of new words; along the axis that is given."""
    rows = old.movedim(axis, 0)  # (V, ...)
    more = rows.new_zeros(size, *rows.shape[1:])
    more[: len(rows)] = rows
    for number, word in enumerate(words, first):
        more[number] = rows[list(word.pieces)].mean(0)
    made = more.movedim(0, axis).contiguous()
    return nn.Parameter(made, requires_grad=old.requires_grad) if isinstance(old, nn.Parameter) else made


def _with_history(record: dict[str, Any] | None, source: str, words: Sequence[Word]) -> dict[str, Any] | None:
    """What nlpkit.json says, and that words were added; a plain transformers folder stays one."""
    if record is None:
        return None
    step = {"stage": "tokenizer", "words": len(words), "source": source}
    record = {key: value for key, value in record.items() if key != "store"}  # whose tokens are of the old vocabulary
    return {**record, "history": [*record.get("history", []), step], "source": source, "versions": versions()}


def _write(
    folder: Path, model: PreTrainedModel, words: PreTrainedTokenizerBase, source: Path, record: dict[str, Any] | None
) -> None:
    with handover.no_bars():
        model.save_pretrained(folder)
        words.save_pretrained(folder)
    if (source / handover.HEAD_FILE).is_file():
        shutil.copy(source / handover.HEAD_FILE, folder)
    seen.write(folder, seen.read(source))
    if record is not None:
        write_json(folder / bundle.RECORD, record)


def _check(folder: Path, words: PreTrainedTokenizerBase, sample: Sequence[str]) -> None:
    """Make sure that the written folder gives the tokens that the report counts."""
    texts = list(sample[:_COMPARED])
    with handover.quiet():  # that a text is longer than the model reads
        same = tokenizer.load(folder)(texts)["input_ids"] == words(texts)["input_ids"]
    if not same:
        raise ModelError("transformers reads the extended tokenizer differently", "please report this")
