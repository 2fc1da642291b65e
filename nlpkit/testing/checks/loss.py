"""What the task learns from: a loss that is sound, shared, and brings the weights somewhere."""

from __future__ import annotations

import math

import torch

from nlpkit import given
from nlpkit.testing.alike import TOLERANCE
from nlpkit.testing.check import check, require
from nlpkit.testing.under_test import LEARNT, TaskUnderTest

_FEW = 3  # steps after which weights are compared


@check("Training ends at the first loss or gradient that is no number.")
def loss_is_finite(it: TaskUnderTest) -> None:
    """The loss of all examples, and of each one alone, is one finite number, and so is its gradient."""
    for rows in ((), *((row,) for row in range(len(it.examples)))):
        loss = it.loss(it.batch(*rows))
        which = it.named(rows[0]) if rows else "all examples"
        advice = "divide by a count only where it is not 0: .clamp(min=1)"
        require(bool(torch.isfinite(loss)), f"{which}: the loss is {float(loss.detach())}", advice)
    it.loss(it.batch()).backward()
    odd = [name for name, p in it.module.named_parameters() if p.grad is not None and not _is_finite(p.grad)]
    require(not odd, f"the gradient is not finite: {_some(odd)}", "look for a root, a logarithm or a norm of 0 in Head")


def _is_finite(gradient: torch.Tensor) -> bool:
    return bool(torch.isfinite(_values(gradient)).all())


def _values(gradient: torch.Tensor) -> torch.Tensor:
    """What a gradient holds: of a sparse one what stands in it."""
    return gradient.coalesce().values() if gradient.is_sparse else gradient


@check(
    "A weight without a gradient never learns, and several processes wait for it for ever.", needs=("loss_is_finite",)
)
def loss_reaches_every_weight(it: TaskUnderTest) -> None:
    """Every weight of head and backbone that may learn gets a gradient from the loss, and not one of zeros alone."""
    it.nudged().loss(it.batch()).backward()
    learning = {name: p.grad for name, p in it.module.named_parameters() if p.requires_grad}
    advice = "use them in Head.forward, or delete them; detach nothing"
    idle = [name for name, gradient in learning.items() if gradient is None]
    require(not idle, f"no gradient: {_some(idle)}", advice)
    dead = [name for name, gradient in learning.items() if gradient is not None and not bool(_values(gradient).any())]
    require(not dead, f"a gradient of zeros alone: {_some(dead)}", f"{advice}, and multiply nothing by 0")


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


@check(
    "Several devices share a batch, and batches add up to the dev loss: both would depend on how they are divided.",
    needs=("loss_is_finite", "padding_changes_nothing", "company_changes_nothing"),
)
def loss_is_a_mean_by_count(it: TaskUnderTest) -> None:
    """The losses of parts of a batch, weighted by what Head.count says, have the loss of the whole as their mean."""
    it.nudged().module.eval()
    halves = [it.batch(*range(start, len(it.examples), 2)) for start in (0, 1)]
    with torch.no_grad():
        whole = float(it.loss(it.batch()))
        terms = [given.terms(it.module.head, it.module.hidden(half), half) for half in halves]
        scored = [given.scored(it.module.head, it.module.hidden(half), half)[0] for half in halves]
    for name, found in (("terms", terms), ("scored", scored)):
        parts = list(zip(*found, strict=True))
        mean = sum(sum(float(m) * n for m, n in same) / max(1, sum(n for _, n in same)) for same in parts)
        require(
            math.isclose(mean, whole, rel_tol=TOLERANCE, abs_tol=TOLERANCE),
            f"Head.{name}: the halves of the examples have the mean {mean:.4f}, all have {whole:.4f}",
            "return a mean from Head.loss, and from Head.count the number that it is divided by",
        )


@check("What cannot learn eight examples by heart learns nothing from eight thousand.", needs=("loss_is_finite",))
def learns_a_few_examples(it: TaskUnderTest) -> None:
    """The loss of the examples falls to a fifth in at most 120 steps on just them, from one of two seeds."""
    losses = it.learn_by_heart()
    if losses[-1] >= LEARNT * losses[0]:  # a body so small may get stuck
        losses = it.again(seed=1).learn_by_heart()
    require(
        losses[-1] < LEARNT * losses[0],
        f"from {losses[0]:.3f} to {losses[-1]:.3f} in {len(losses)} steps",
        "see that labels stand beside the text they belong to, and that no two examples contradict each other",
    )


@check(
    "A run could not be repeated, and one that was interrupted would not go on as if it had not been.",
    needs=("loss_is_finite",),
)
def a_seed_repeats(it: TaskUnderTest) -> None:
    """The same seed gives the same batch and, after some steps, the same weights, bit for bit."""
    again = it.again()
    first, second = it.batch(), again.batch()
    keys = sorted(set(first) ^ set(second))
    keys += [key for key in first if key in second and not torch.equal(first[key], second[key])]
    require(
        not keys,
        f"the same examples give another batch: {', '.join(keys)}",
        'draw by the "seed" of each features dict; set Task.seeded',
    )
    it.learn(_FEW)
    again.learn(_FEW)
    others = dict(again.module.named_parameters())
    names = [name for name, weights in it.module.named_parameters() if not torch.equal(weights, others[name])]
    require(
        not names,
        f"after {_FEW} steps from the same seed, weights differ: {_some(names)}",
        "draw by torch, numpy or random, which are seeded before each batch; depend on no time and no order of a set",
    )
