"""Text from a decoder: what follows a prompt, by transformers' own search."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import TextStreamer

from nlpkit.bundle import Loaded
from nlpkit.errors import ModelError, UsageError
from nlpkit.handover import quiet
from nlpkit.heads import TransformersHead, is_encoder_decoder
from nlpkit.randomness import seed_of

log = logging.getLogger("nlpkit")


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Args:
        tokens: new ones, at most.
        temperature: below 1 keeps to likely tokens, above 1 strays; 0 takes the likeliest each time (greedy).
        top_k: only the so many likeliest; 0: all.
        top_p: only the likeliest that together reach this probability (Holtzman et al. 2020); 1: all.
        repetition_penalty: above 1 makes tokens that are there already less likely (Keskar et al. 2019).
        stop: texts at which it ends; they are left out.
    """

    tokens: int = 100
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()

    def settings(self, tokenizer: Any) -> dict[str, Any]:
        """What transformers' ``generate`` takes."""
        found: dict[str, Any] = {"do_sample": self.temperature > 0, "repetition_penalty": self.repetition_penalty}
        if self.temperature > 0:
            found |= {"temperature": self.temperature, "top_k": self.top_k, "top_p": self.top_p}
        return found | ({"stop_strings": list(self.stop), "tokenizer": tokenizer} if self.stop else {})


class Generator:
    """A finished run that writes.

    Args:
        loaded: the bundle.
        device: ``cpu`` or ``cuda``; None: a GPU if there is one.

    Raises:
        ModelError: the model generates nothing.
    """

    def __init__(self, loaded: Loaded, device: str | None = None) -> None:
        head = loaded.head
        # an encoder-decoder of denoise writes what fills gaps, and goes on with no text
        if not isinstance(head, TransformersHead) or not head.model.can_generate() or is_encoder_decoder(head.config):
            raise ModelError(
                f"a model of {loaded.task.name} generates no text", "nlpkit pretrain FILES --objective clm makes one"
            )
        self.task, self.head = loaded.task, head
        self.tokenizer = loaded.task.tokenizer
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.backbone = loaded.backbone.eval().to(self.device)
        head.eval().to(self.device)

    def generate(
        self,
        prompts: Sequence[str],
        count: int = 1,
        sampling: Sampling | None = None,
        *,
        seed: int = 0,
        write: Callable[[str], None] | None = None,
    ) -> Iterator[list[str]]:
        """What follows each prompt, without it: ``count`` texts for each; equal seeds give equal texts.

        Args:
            prompts: beginnings; an empty one begins a document.
            count: texts for each prompt.
            sampling: how tokens are chosen.
            seed: of all choices.
            write: told of the text piece by piece as it comes, where ``count`` is 1.

        Raises:
            UsageError: a prompt leaves no room for a token.
        """
        sampling = sampling or Sampling()
        for number, prompt in enumerate(prompts):
            ids = self._ids(prompt)
            room = min(sampling.tokens, self.task.config.max_length - len(ids))
            if room < 1:
                raise UsageError(
                    f"prompt {number + 1} has {len(ids)} tokens, and the model reads {self.task.config.max_length}",
                    "give a shorter prompt",
                )
            torch.manual_seed(seed_of(seed, 5, number))
            inputs = torch.tensor([ids], device=self.device)
            streamer = _Streamer(self.tokenizer, write) if write and count == 1 else None
            with torch.inference_mode(), quiet(), self.head.assemble(self.backbone) as model:
                search: Any = model.generate  # typed as a tensor by nn.Module
                found = search(
                    input_ids=inputs,
                    attention_mask=torch.ones_like(inputs),
                    max_new_tokens=room,
                    num_return_sequences=count,
                    streamer=streamer,
                    **sampling.settings(self.tokenizer),
                )
            yield [self._text(prompt, row, sampling.stop) for row in found.tolist()]

    def _ids(self, prompt: str) -> list[int]:
        """A document begins where the one before ends."""
        ids: list[int] = self.tokenizer.backend_tokenizer.encode(prompt, add_special_tokens=False).ids
        begin = self.tokenizer.bos_token_id
        return ids if begin is None else [begin, *ids]

    def _text(self, prompt: str, ids: list[int], stop: Sequence[str]) -> str:
        whole = self.tokenizer.decode(ids, skip_special_tokens=True)
        begin = self.tokenizer.decode(self._ids(prompt), skip_special_tokens=True)
        text = str(whole)[len(begin) :]
        ends = [place for word in stop if (place := text.find(word)) >= 0]
        return text[: min(ends)] if ends else text


class _Streamer(TextStreamer):
    """Hands on whole words as they come."""

    def __init__(self, tokenizer: Any, write: Callable[[str], None]) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.write = write

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Write a piece."""
        self.write(text)
