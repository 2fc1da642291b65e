"""Text from a decoder: what follows a prompt, by transformers' own search."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import TextStreamer

from nlpkit.bundle import Loaded
from nlpkit.control import Control, prefix
from nlpkit.errors import ModelError, UsageError
from nlpkit.handover import quiet
from nlpkit.heads import TransformersHead, is_encoder_decoder
from nlpkit.plain_text import token_ids
from nlpkit.randomness import seed_of
from nlpkit.tokenizer import separator

log = logging.getLogger("nlpkit")
_TOGETHER = 64  # texts of one prompt that are written side by side: memory is that of so many
WRITERS = "nlpkit pretrain FILES --objective clm makes a model that writes"


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

    Raises:
        UsageError: an empty stop.
    """

    tokens: int = 100
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if "" in self.stop:
            raise UsageError("a text to stop at is empty", "leave --stop out, or name a text")

    def settings(self, tokenizer: Any) -> dict[str, Any]:
        """What transformers' ``generate`` takes."""
        found: dict[str, Any] = {"do_sample": self.temperature > 0, "repetition_penalty": self.repetition_penalty}
        if self.temperature > 0:
            found |= {"temperature": self.temperature, "top_k": self.top_k, "top_p": self.top_p}
        return found | ({"stop_strings": list(self.stop), "tokenizer": tokenizer} if self.stop else {})


@dataclass(frozen=True)
class Written:
    """A text that a model has written.

    Args:
        text: what follows the prompt.
        attributes: what it was asked for, of a model that was trained with ``data.control``.
    """

    text: str
    attributes: dict[str, str] = field(default_factory=dict)


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
            raise ModelError(f"a model of {loaded.task.name} generates no text", WRITERS)
        self.task, self.head = loaded.task, head
        self.tokenizer = loaded.task.tokenizer
        self.control = Control.of(loaded.record)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.backbone = loaded.backbone.eval().to(self.device)
        head.eval().to(self.device)

    def generate(
        self,
        prompts: Sequence[str],
        count: int = 1,
        sampling: Sampling | None = None,
        *,
        attributes: Mapping[str, str] | None = None,
        seed: int = 0,
        write: Callable[[str], None] | None = None,
    ) -> Iterator[list[Written]]:
        """What follows each prompt, without it: ``count`` texts for each; equal seeds give equal texts.

        Args:
            prompts: beginnings; an empty one begins a document.
            count: texts for each prompt.
            sampling: how tokens are chosen.
            attributes: column -> value to ask for; each text gets the other columns from a row drawn from those of
                the training data that are alike.
            seed: of all choices.
            write: told of the text piece by piece as it comes, where ``count`` is 1.

        Raises:
            UsageError: a prompt leaves no room for a token, or an attribute that the model does not know.
        """
        sampling = sampling or Sampling()
        asked = self._check(attributes or {})
        self._warn_of_attributes(prompts)
        plans = [self._plan(number, prompt, count, asked, seed) for number, prompt in enumerate(prompts)]
        for number, (prompt, plan) in enumerate(zip(prompts, plans, strict=True)):
            torch.manual_seed(seed_of(seed, 5, number))
            found: dict[str, list[str]] = {}
            for start, same in Counter(start for start, _ in plan).items():
                found[start] = self._write(start, same, sampling, write if count == 1 else None, bare=not prompt)
            yield [Written(found[start].pop(0), drawn) for start, drawn in plan]

    def _check(self, attributes: Mapping[str, str]) -> dict[str, str]:
        if attributes and not self.control:
            raise UsageError(
                "--set: this model was trained without attributes",
                "nlpkit pretrain TABLE --objective clm --control COLUMN makes one with",
            )
        return self.control.check(attributes) if self.control else {}

    def _warn_of_attributes(self, prompts: Sequence[str]) -> None:
        """Say of the first prompt that begins like attributes that these are asked for in another way."""
        for number, prompt in enumerate(prompts, 1):
            column, colon, rest = (part.strip() for part in prompt.partition(":"))
            if self.control and colon and column in self.control.columns:
                value = rest.partition("|")[0].strip()
                found = f"prompt {number} begins with '{column}:', and stands behind the attributes as text"
                log.warning('%s; ask for it by --set "%s=%s"', found, column, value)
                return

    def _plan(
        self, number: int, prompt: str, count: int, asked: Mapping[str, str], seed: int
    ) -> list[tuple[str, dict[str, str]]]:
        """The beginning of each text of a prompt, and the attributes that stand in it."""
        drawn = self.control.draw(asked, count, seed_of(seed, 6, number)) if self.control else [{}] * count
        starts = [prefix(attributes) + prompt for attributes in drawn]
        # the space before a word is a part of its token, which is still to come
        plan = [(start if prompt else start.rstrip(), values) for start, values in zip(starts, drawn, strict=True)]
        longest = max(len(self._ids(start)) for start in dict.fromkeys(start for start, _ in plan))
        if longest >= self.task.config.max_length:
            raise UsageError(
                f"prompt {number + 1} has {longest} tokens, and the model reads {self.task.config.max_length}",
                "give a shorter prompt",
            )
        return plan

    def _write(
        self, start: str, count: int, sampling: Sampling, write: Callable[[str], None] | None, *, bare: bool
    ) -> list[str]:
        """Texts that follow a beginning; bare ones stand alone, and begin with their first letter."""
        ids = self._ids(start)
        inputs = torch.tensor([ids], device=self.device)
        streamer = _Streamer(self.tokenizer, write, sampling.stop, bare=bare) if write else None
        rows: list[list[int]] = []
        with torch.inference_mode(), quiet(), self.head.assemble(self.backbone) as model:
            search: Any = model.generate  # typed as a tensor by nn.Module
            while len(rows) < count:
                found = search(
                    input_ids=inputs,
                    attention_mask=torch.ones_like(inputs),
                    max_new_tokens=min(sampling.tokens, self.task.config.max_length - len(ids)),
                    num_return_sequences=min(_TOGETHER, count - len(rows)),
                    streamer=streamer,
                    **sampling.settings(self.tokenizer),
                )
                rows += found.tolist()
        texts = [self._text(ids, row, sampling.stop) for row in rows]
        return [text.lstrip() for text in texts] if bare else texts

    def _ids(self, beginning: str) -> list[int]:
        """A document begins where the one before ends, unless the model was made by others, who begin it otherwise."""
        ids = token_ids(self.tokenizer, beginning)
        end = separator(self.tokenizer)
        begin = end if self.head.config.bos_token_id == end else self.tokenizer.bos_token_id
        return ids if begin is None else [begin, *ids]

    def _text(self, beginning: list[int], ids: list[int], stop: Sequence[str]) -> str:
        whole = self.tokenizer.decode(ids, skip_special_tokens=True)
        begin = self.tokenizer.decode(beginning, skip_special_tokens=True)
        text = str(whole)[len(begin) :]
        return text[: _end(text, stop)]


def _end(text: str, stop: Sequence[str]) -> int:
    """Where the first stop begins; the end of the text if there is none."""
    return min((place for word in stop if (place := text.find(word)) >= 0), default=len(text))


class _Streamer(TextStreamer):
    """Hands on whole words as they come, but what may be the beginning of a stop only when it is none."""

    def __init__(self, tokenizer: Any, write: Callable[[str], None], stop: Sequence[str], *, bare: bool) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.write, self.stop, self.bare = write, stop, bare
        self.held, self.ended = "", False

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Write a piece."""
        if self.ended:
            return
        text = self.held + text
        end = _end(text, self.stop)
        self.ended = end < len(text)
        if not self.ended and not stream_end:
            end = next((i for i in range(len(text)) if any(word.startswith(text[i:]) for word in self.stop)), end)
        text, self.held = text[:end], text[end:]
        if self.bare:
            text = text.lstrip()
            self.bare = not text
        self.write(text)
