"""Base-size models in bfloat16 on a GPU, sequences of 512, against transformers' Trainer: the share of the chip's peak.

    python tests/benchmarks/gpu.py --objective mlm [--runs 3] [--steps 60] [--batch-tokens 65536]

Text: drawn at random (books.py), so that no data is needed. Sides as in pretrain_mlm.py and pretrain_clm.py, and each
with compiled code: torch_compile of the Trainer, trainer.compile of ours; 12 layers, 768 wide, a vocabulary of 30,000
at most. The first 15 steps do not count, in which code is made and kernels are chosen. Prints tokens a wall second and
`mfu`, the model FLOPs utilisation (Chowdhery et al. 2022, appendix B): the FLOPs that the model needs for the tokens
seen, over what the chip can do.

    FLOPs a token = 6 N + 12 layers * width * length,    N = 12 layers * width^2 + share * vocabulary * width

The first term is forward (2) and backward (4) of the matrices, the second of attention, in full for a decoder too;
share is that of the places where a word is guessed: 1 for clm, 0.15 for mlm. Where no GPU is seen, its smoke form
runs on the CPU: a tiny model, some steps, in float32; the peak is then what torch multiplies in this process.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import sys
import time
from collections.abc import Iterator

import books
import pretraining
import side

# Dense bfloat16 with float32 accumulation, TFLOP/s, from NVIDIA's data sheets (which print twice as much, "with
# sparsity", from the L4 on). The first name that is part of the device's counts.
PEAKS = {
    "B200": 2250.0,
    "H200": 989.4,
    "H100 PCIe": 756.5,
    "H100 NVL": 835.5,
    "H100": 989.4,
    "A100": 312.0,
    "A10G": 70.0,
    "A10": 125.0,
    "L40S": 362.1,
    "L40": 181.1,
    "L4": 121.0,
}
_COMPILED = "-compiled"


def measured(arguments: argparse.Namespace, side_name: str) -> side.Values:
    """Train a side; tokens a second and the share of the peak."""
    import torch

    name = side_name.removesuffix(_COMPILED)
    made = dataclasses.replace(_made(arguments), compile=name != side_name)
    found = pretraining.sides(made, pretraining.group_texts)[name](arguments)
    flops = found["count"] * _flops_of_token(made)
    if not _has_gpu():
        return found | {"chip": "CPU, smoke form", "mfu": flops / found["wall_s"] / _multiplies(arguments.threads)}
    chip = torch.cuda.get_device_name()
    peak = next((peak for name, peak in PEAKS.items() if name in chip), None)
    share = {"mfu": flops / found["wall_s"] / (peak * 1e12)} if peak else {}
    return found | share | {"chip": chip, "gpu_peak_mb": torch.cuda.max_memory_allocated() / 2**20}


def _made(arguments: argparse.Namespace) -> pretraining.Comparison:
    def texts(*, held_out: bool = False) -> Iterator[str]:
        return books.generated(1 if held_out else arguments.megabytes, seed=int(held_out))

    task = {"rate": pretraining.SHARE} if arguments.objective == "mlm" else {}
    made = functools.partial(pretraining.Comparison, arguments.objective, texts, task=task)
    if _has_gpu():
        return made(
            preset="base",
            length=512,
            precision="bf16-mixed",
            accelerator="gpu",
            vocabulary=30_000,
            warm=min(15, arguments.steps // 2),
        )
    return made(preset="tiny")


def _flops_of_token(made: pretraining.Comparison) -> float:
    from nlpkit import tokenizer

    words = tokenizer.load(pretraining.folder() / "tokenizer")
    model = made.architecture(words)
    layers, width = model.num_hidden_layers, model.hidden_size
    share = 1.0 if made.objective == "clm" else pretraining.SHARE
    matrices = 12 * layers * width**2 + share * len(words) * width
    return float(6 * matrices + 12 * layers * width * made.length)


def _multiplies(threads: int) -> float:
    """FLOP/s of float32 matrices on this CPU."""
    import torch

    torch.set_num_threads(threads)
    some = torch.rand(1024, 1024)
    times = []
    for _ in range(10):
        begin = time.perf_counter()
        some @ some
        times.append(time.perf_counter() - begin)
    return 2 * 1024**3 / min(times)


@functools.cache
def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


if __name__ == "__main__":
    options = pretraining.parser(__doc__)
    options.add_argument("--objective", choices=("mlm", "clm"), default="mlm")
    options.add_argument("--megabytes", type=float, default=8 if _has_gpu() else 0.5, help="text to draw")
    options.set_defaults(
        **({"steps": 60, "batch_tokens": 65_536} if _has_gpu() else {"steps": 4, "batch_tokens": 4096, "runs": 1})
    )
    if not _has_gpu():
        print("no GPU is seen: the smoke form, a tiny model on the CPU", file=sys.stderr)
    names = (
        "transformers",
        "nlpkit-adamw",
        "nlpkit",
        "transformers-compiled",
        "nlpkit-adamw-compiled",
        "nlpkit-compiled",
    )
    pretraining.compare(
        options,
        {name: functools.partial(measured, side_name=name) for name in names},
        lambda arguments: _made(arguments).prepare(arguments),
    )
