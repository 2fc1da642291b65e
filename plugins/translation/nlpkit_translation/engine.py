"""CTranslate2: a finished model, converted once, that writes several times as fast on a CPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nlpkit import Batch
from nlpkit_translation.conversion import converted
from nlpkit_translation.head import Search, predictions, room_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Engine:
    """Writes what `TranslationHead.predict` does, on the CPU.

    Args:
        model: folder of the model; the conversion is kept beside it.
        tokenizer: of the model.
        search: how to write.
        int8: compute in whole numbers of 8 bits, which loses a little.

    Raises:
        ModelError: as `converted`.
    """

    def __init__(self, model: Path, tokenizer: PreTrainedTokenizerBase, search: Search, *, int8: bool) -> None:
        import ctranslate2

        self.tokenizer, self.search = tokenizer, search
        self._end, self._pad = self._ids([str(tokenizer.eos_token or tokenizer.sep_token), str(tokenizer.pad_token)])
        with converted(model) as folder:
            self._never = _never_written(folder, tokenizer)
            self.translator = ctranslate2.Translator(
                str(folder),
                device="cpu",
                compute_type="int8" if int8 else "float32",
                intra_threads=torch.get_num_threads(),
            )

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """The same values as those of the head, on the CPU wherever the batch is."""
        mask = batch["attention_mask"].cpu()
        room = room_of(mask, self.search.longest)
        pairs = zip(batch["input_ids"].tolist(), mask.tolist(), strict=True)
        rows = [[i for i, real in zip(ids, reals, strict=True) if real] for ids, reals in pairs]
        ids: list[list[int]] = [[]] * len(rows)
        for most, together in self._by_room(room):
            written = self._write([rows[i] for i in together], most)
            for i, row in zip(together, written, strict=True):
                ids[i] = row
        longest = max(map(len, ids))
        padded = torch.tensor([row + [self._pad] * (longest - len(row)) for row in ids])  # (R, T)
        return predictions(padded, self._end, room, self._pad)

    def _by_room(self, room: Tensor) -> list[tuple[int, list[int]]]:
        """Numbers of the rows that are searched together, with the tokens that each may get.

        With a beam these have the same room (R,): where a search may go on for longer it may find something else.
        Greedy rows are the same wherever they are cut.
        """
        if self.search.beams == 1:
            return [(int(room.max()), list(range(len(room))))]
        return [(most, (room == most).nonzero().flatten().tolist()) for most in room.unique().tolist()]

    def _write(self, rows: list[list[int]], most: int) -> list[list[int]]:
        """Tokens that are written of each row of tokens, with the end where it is reached."""
        begin = self.search.begin
        found = self.translator.translate_batch(
            [self.tokenizer.convert_ids_to_tokens(row) for row in rows],
            target_prefix=None if begin is None else [self.tokenizer.convert_ids_to_tokens([begin])] * len(rows),
            beam_size=self.search.beams,
            length_penalty=self.search.length_penalty,
            max_decoding_length=most,
            min_decoding_length=0,  # else no translation could be empty, as those of torch may
            max_input_length=0,
            suppress_sequences=self._never,
            return_end_token=True,
        )
        written = [self._ids(row.hypotheses[0]) for row in found]
        # it does not begin to write of a source without text, and leaves out the end, too
        return [row if len(row) == most or row[-1:] == [self._end] else [*row, self._end] for row in written]

    def _ids(self, tokens: list[str]) -> list[int]:
        ids: Any = self.tokenizer.convert_tokens_to_ids(tokens)
        return list(ids)


def _never_written(folder: Path, tokenizer: PreTrainedTokenizerBase) -> list[list[str]]:
    """Padding, which torch never writes either; nothing where it ends a text, or the conversion lacks it, as Marian's.

    Args:
        folder: of the conversion, whose vocabulary is that of both sides or of each.
        tokenizer: of the model.
    """
    *_, of_targets = sorted(folder.glob("*_vocabulary.json"))  # shared, or source and target
    pad = tokenizer.pad_token
    known = pad in json.loads(of_targets.read_text("utf-8"))
    return [[str(pad)]] if known and pad != (tokenizer.eos_token or tokenizer.sep_token) else []
