"""The task in other processes: a plugin that is quick to import, a model that needs nothing else, training by two."""

from __future__ import annotations

import json
import math

from nlpkit.testing.alike import difference
from nlpkit.testing.check import check, require
from nlpkit.testing.under_test import TaskUnderTest

_ALIKE = 1e-3  # rounding is another in two halves of a batch, and a few steps add to it


@check("Every command that names a task imports every plugin, and would wait for this one.", slow=True)
def imports_fast(it: TaskUnderTest) -> None:
    """The task's module is imported without torch or another library that takes long."""
    found = [f"{name} by {line}" for name, line in it.elsewhere.imported().items()]
    require(
        not found,
        f"the import brings {', '.join(found)}",
        "import them inside the methods that use them, and for annotations under TYPE_CHECKING",
    )


@check(
    "Models are trained by one command and used by others: on another day, on another machine.",
    needs=("saved_and_loaded_is_the_same",),
    slow=True,
)
def a_new_process_answers_the_same(it: TaskUnderTest) -> None:
    """A new process that imports the task's module and loads the model gives the same answers."""
    for row, (here, there) in enumerate(zip(it.answers(it.batch()), it.elsewhere.answers(it), strict=True)):
        other = difference(json.loads(json.dumps(here)), there)
        require(
            not other,
            f"{it.named(row)}, here and in a new process: {other}",
            "keep what the task knows in its settings, which are saved; what modules and classes hold is not",
        )


@check(
    "A run on two GPUs would learn something else than one on one, or wait for ever.",
    needs=(
        "company_changes_nothing",
        "loss_reaches_every_weight",
        "loss_is_a_mean_by_count",
        "a_seed_repeats",
        "metrics_are_finite",
        "saved_and_loaded_is_the_same",
    ),
    slow=True,
)
def two_processes_are_as_one(it: TaskUnderTest) -> None:
    """Two processes that share each batch have the loss and the scores of one alone, at first and after three steps."""
    from nlpkit.testing.together import train

    both, alone = it.elsewhere.trained(it), train(it, 1)
    for rank, there in enumerate(both):
        odd = [
            f"{name} is {alone[name]:.5f} alone, {there.get(name, math.nan):.5f} in process {rank} of 2"
            for name in alone
            if not math.isclose(alone[name], there.get(name, math.nan), rel_tol=_ALIKE, abs_tol=_ALIKE)
        ]
        require(
            not odd,
            ", ".join(odd),
            "keep sums of metrics in states with dist_reduce_fx, and let nothing depend on the order of a set",
        )
