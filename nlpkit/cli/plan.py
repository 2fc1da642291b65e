"""What a run would take, on stdout."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from nlpkit.cli.options import Common, print_json, print_table

if TYPE_CHECKING:
    from nlpkit.planning import Plan


def print_plan(common: Common, plan: Plan) -> None:
    """Print a plan: what is counted, then what is estimated."""
    if common.as_json:
        print_json(asdict(plan))
        return
    print_table(("PLAN", ""), [*_counted(plan), *_estimated(plan)])
    click.echo(f"time and memory are estimates from {plan.probed_steps} steps on this machine; nothing was trained")
    if plan.store_bytes:
        click.echo("the token store stays in the cache, where the run will find it")


def _counted(plan: Plan) -> list[tuple[str, str]]:
    body = plan.parameters - plan.embedding_parameters
    of = "documents" if plan.store_bytes else "examples"
    return [
        ("parameters", f"{plan.parameters:,} (embeddings {plan.embedding_parameters:,}, the rest {body:,})"),
        ("of them trained", f"{plan.trained_parameters:,}"),
        (of, f"{plan.documents:,}"),
        ("tokens to learn from", f"{plan.corpus_tokens:,}"),
        ("tokens a step", f"{plan.step_tokens:,}"),
        ("steps", f"{plan.steps:,} ({plan.epochs:.1f} epochs, scored {plan.validations} times)"),
        ("tokens in all", f"{plan.tokens:,}, padding included"),
        *([("token store", _size(plan.store_bytes))] if plan.store_bytes else []),
        ("checkpoint", _size(plan.checkpoint_bytes)),
        ("model", _size(plan.bundle_bytes)),
        ("run folder", f"{_size(plan.disk)}, {_size(plan.disk_peak)} at most while it runs"),
    ]


def _estimated(plan: Plan) -> list[tuple[str, str]]:
    gpu = [("GPU memory", f"about {_size(plan.gpu_memory)}")] if plan.gpu_memory else []
    return [("memory", f"about {_size(plan.memory)}"), *gpu, ("time", f"about {_time(plan.seconds)} ({plan.device})")]


def _size(count: float) -> str:
    for unit in ("bytes", "KB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
