"""Writes docs/presets.md from the modules themselves: python tests/support/presets_page.py"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch
from transformers import AutoModel

from nlpkit import backbone, tokenizer
from nlpkit.config import ModelConfig

PAGE = Path(__file__).parents[2] / "docs" / "presets.md"
_VOCABULARY = 8000
_HEAD = f"""# Presets

The sizes of new models, chosen by `model.family` and `model.preset`; `tests/support/presets_page.py` makes this page
from the modules themselves. Parameters in thousands, for a vocabulary of {_VOCABULARY:,} tokens and inputs of 256.
*Embedding* is the table of tokens, which is the output projection as well; *body* is all else that hidden states come
from. The decoder behind an encoder belongs to the head. What `mlm` and tasks add on top is not counted. Attention heads
are 64 wide; the sizes are those of the BERT miniatures (Turc et al. 2019).

| family | preset | layers | width | embedding | body | decoder | all |
|---|---|---|---|---|---|---|---|
"""
_EXAMPLE = """
```bash
nlpkit demo shop
nlpkit pretrain shop/reviews.csv --objective denoise model.family=m2m100 model.preset=tiny --out runs/m2m100
```
"""


def page() -> str:
    """The page as Markdown."""
    hints = get_type_hints(ModelConfig)
    rows = [_row(family, preset) for family in get_args(hints["family"]) for preset in get_args(hints["preset"])]
    return _HEAD + "".join("| " + " | ".join(row) + " |\n" for row in rows) + _EXAMPLE


def _row(family: Any, preset: Any) -> tuple[str, ...]:
    model = ModelConfig(family=family, preset=preset)
    words = tokenizer.train(
        ["a coat and a hat"] * 9, kind="bpe", vocabulary=400, lowercase=True, max_length=256, denoises=True
    )
    config = backbone.architecture(model, words)
    config.vocab_size = _VOCABULARY
    with torch.device("meta"):
        whole, body = AutoModel.from_config(config), backbone.build(config)
    embedding = body.get_input_embeddings().weight.numel()
    size = backbone.count_parameters(body)
    pooler = sum(p.numel() for n, p in whole.named_parameters() if n.startswith("pooler."))
    decoder = backbone.count_parameters(whole) - size - pooler
    layers, width = backbone.PRESETS[preset]
    numbers = [f"{round(n / 1000):,}" for n in (embedding, size - embedding, decoder, size + decoder)]
    return (f"`{family}`", preset, str(layers), str(width), *(number if number != "0" else "-" for number in numbers))


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
