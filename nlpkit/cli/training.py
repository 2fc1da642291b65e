"""What ``pretrain`` and ``fit`` have in common: their options, and how a run is started or gone on with.

What only a run needs is imported by it: ``--help`` and a mistyped option are to be answered at once.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nlpkit.cli import TYPED
from nlpkit.cli.arguments import given_options, refuse_with_resume
from nlpkit.cli.interrupts import interruptible
from nlpkit.cli.options import Common
from nlpkit.cli.plan import print_plan
from nlpkit.cli.progress import progress_for
from nlpkit.cli.results import print_run
from nlpkit.errors import NlpkitError, UsageError
from nlpkit.processes import started

if TYPE_CHECKING:
    from nlpkit.config import TrainerConfig
    from nlpkit.planning import Plan
    from nlpkit.plugins import Stage
    from nlpkit.run import Run
    from nlpkit.task import Task

_FOUND_LATER = (OSError, ValueError, KeyError, TypeError, AttributeError, NlpkitError)
"""What may be wrong with the folder of a run, for the library to say."""
_SHOWN = ("resume", "as_json", "quiet", "verbose", "no_plugins")
_AS_BEFORE = (*_SHOWN, "plugins", "hub", "resume_anyway")  # beside --resume
_FURTHER = (*_SHOWN, "plugins", "out", "config", "seed", "plan", "exclude", "watch")  # beside --resume and files
_OPTIONS = [
    click.option("--from", "source", default="", metavar="MODEL", help="Start from a run, a bundle or a model folder."),
    click.option("--hub", is_flag=True, help="Let --from name a model on the hub; nothing else uses the network."),
    click.option("--out", metavar="DIR", help="Folder of the run, new or empty; default: the next free runs/NAME-N."),
    click.option("--config", metavar="FILE", help="A YAML file of settings, or the name of a recipe."),
    click.option("--seed", type=int, metavar="N", help="Seed of everything random."),
    click.option(
        "--resume",
        metavar="RUN",
        help="Go on with an interrupted run, as if it had never stopped; its settings are kept.",
    ),
    click.option("--plan", is_flag=True, help="Only say what it would take: try a few steps, train nothing."),
    click.option("--resume-anyway", is_flag=True, help="With --resume: go on although data or settings have changed."),
]


@dataclass(frozen=True)
class Training:
    """The options of a training verb.

    Args:
        source: model to start from; empty: a new one.
        hub: whether ``source`` may be on the hub.
        out: folder of the run.
        config: file of settings.
        seed: None: not given.
        resume: run to go on with.
        resume_anyway: even if the data or the settings have changed.
        plan: only say what it would take.
    """

    source: str
    hub: bool
    out: str | None
    config: str | None
    seed: int | None
    resume: str | None
    resume_anyway: bool
    plan: bool

    def arguments(self) -> dict[str, Any]:
        """What `nlpkit.run.pretrain` and `nlpkit.run.fit` take of it."""
        return {"source": self.source, "hub": self.hub, **self.arguments_further()}

    def arguments_further(self) -> dict[str, Any]:
        """What `nlpkit.run.further` takes of it."""
        out = {} if self.plan else {"out": self.out}
        return {"config": self.config, "flags": {"seed": self.seed}, **out}


def training_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb the options of training; it receives them as ``training``."""
    names = tuple(Training.__dataclass_fields__)

    @functools.wraps(function)
    def with_training(*args: Any, **given: Any) -> Any:
        training = Training(**{name: given.pop(name) for name in names})
        return function(*args, training=training, **given)

    wrapped: Callable[..., Any] = with_training
    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


@dataclass(frozen=True)
class Typed:
    """What a training verb was given beside its options of training.

    Args:
        name: of the task or objective.
        stage: of it.
        files: in their order.
        settings: likewise.
        start: makes the run or its plan; takes what `Training.arguments` gives, and ``progress`` unless it plans.
        beside: files that options name.
        for_further: what else `nlpkit.run.further` takes.
    """

    name: str
    stage: Stage
    files: Sequence[str]
    settings: Sequence[str]
    start: Callable[..., Run | Plan]
    beside: Sequence[str] = ()
    for_further: Mapping[str, Any] = field(default_factory=dict)


def train(common: Common, training: Training, typed: Typed) -> None:
    """Start a run, or go on with one, and print what came out, or only what it would take.

    Args:
        common: shared options.
        training: options of training.
        typed: the rest.

    Raises:
        Interrupted: Ctrl-C, SIGTERM or SIGHUP.
    """
    from nlpkit.cli.launch import end_with_launcher
    from nlpkit.cli.log import set_up_log

    end_with_launcher()
    if not started().first:  # the first speaks for all
        common.quiet = True
        set_up_log(silent=True)
    work = _work(common, training, typed)
    with interruptible("interrupted before training began; nothing is left of it"):
        ended = work()
        if not started().first:
            return
        if training.plan:
            print_plan(common, ended)
        else:
            print_run(common, ended)


def _work(common: Common, training: Training, typed: Typed) -> Callable[[], Any]:
    """What there is to do, looked at and ready to be called; all that it needs is imported."""
    if training.resume and typed.files and typed.stage == "pretrain":
        return _further(common, training, typed)
    if training.resume:
        return _resumed(common, training, typed)
    return _started(common, training, typed)


def _started(common: Common, training: Training, typed: Typed) -> Callable[[], Run | Plan]:
    if training.resume_anyway:
        raise UsageError("--resume-anyway without --resume", "say which run: --resume RUN")
    task: type[Task[Any]] = common.registry.task(typed.name, stage=typed.stage)
    from nlpkit import readers

    # what is mistyped is said before torch is imported, which takes seconds
    asked = _asked(training, task, typed.settings)
    if files := [*typed.files, *typed.beside]:
        readers.expand(files)
    if not training.plan:
        _launch_if_several(asked, training.out, typed.name)
    progress = {} if training.plan else {"progress": progress_for(common.quiet, task.score)}
    import nlpkit.run  # noqa: F401 - before a signal is an exception

    return functools.partial(typed.start, **progress, **training.arguments())


def _resumed(common: Common, training: Training, typed: Typed) -> Callable[[], Run]:
    refuse_with_resume([*typed.files, *typed.settings, *given_options(*_AS_BEFORE)])
    from nlpkit import run

    folder = training.resume or ""
    _launch_if_several(_trainer_of(Path(folder), common), folder)
    score, best = _before(Path(folder), common)
    progress = progress_for(common.quiet, score, best)
    given: dict[str, Any] = {"anyway": training.resume_anyway, "plugins": common.plugins, "hub": training.hub}
    return functools.partial(run.resume, folder, stage=typed.stage, progress=progress, **given)


def _asked(training: Training, task: type[Task[Any]], settings: Sequence[str]) -> TrainerConfig:
    """How a run is to be trained; that a setting is wrong is found out by it, too."""
    from nlpkit import config

    pipe = training.config is not None and os.path.exists(training.config) and not os.path.isfile(training.config)
    file = None if pipe else training.config  # a pipe is read once
    return config.compose(task, file=file, overrides=settings).config.trainer


def _launch_if_several(asked: TrainerConfig, out: str | None, name: str = "") -> None:
    """Leave the work to processes of their own, where more than one was asked for and nobody has started them.

    Args:
        asked: says how many.
        out: folder of the run; None: the next free one of ``name``, made here to be known in the end.
        name: of the task or objective.
    """
    if asked.devices == 1 or asked.nodes > 1 or started().world > 1:
        return
    from nlpkit.cli.launch import launch
    from nlpkit.folder import RunFolder, make_next

    folder = RunFolder(Path(out) if out else make_next(Path("runs"), name))
    typed = list(click.get_current_context().meta[TYPED])
    code = launch(typed if out else [typed[0], "--out", str(folder.path), *typed[1:]], asked.devices, folder)
    if not out:
        with contextlib.suppress(OSError):  # it is empty
            folder.path.rmdir()
    raise click.exceptions.Exit(code)


def _further(common: Common, training: Training, typed: Typed) -> Callable[[], Run | Plan]:
    refuse_with_resume(given_options(*_FURTHER))
    from nlpkit import readers

    readers.expand([*typed.files, *typed.beside])
    folder = training.resume or ""
    if not training.plan:
        task = None
        with contextlib.suppress(*_FOUND_LATER):
            task = _task_of(Path(folder), common)
        if task:
            _launch_if_several(_asked(training, task, typed.settings), training.out, task.name)
    from nlpkit import run

    given = {
        "overrides": typed.settings,
        "plugins": common.plugins,
        **typed.for_further,
        **training.arguments_further(),
    }
    if training.plan:
        return functools.partial(run.plan_further, folder, typed.files, **given)
    score, _ = _before(Path(folder), common)
    return functools.partial(run.further, folder, typed.files, progress=progress_for(common.quiet, score), **given)


def _before(folder: Path, common: Common) -> tuple[str, float | None]:
    """The score that chooses and its best value so far, for show."""
    from nlpkit.metrics_log import best_of

    score, best = "loss", None
    with contextlib.suppress(*_FOUND_LATER):
        score = _task_of(folder, common).score
        best = best_of(folder / "metrics.jsonl", score)
    return score, best


def _trainer_of(folder: Path, common: Common) -> TrainerConfig:
    """How a run is trained, as far as that is known."""
    from nlpkit import config

    with contextlib.suppress(*_FOUND_LATER):
        return config.load(_task_of(folder, common), str(folder / "config.yaml")).trainer
    return config.TrainerConfig()


def _task_of(folder: Path, common: Common) -> type[Task[Any]]:
    import json

    request = json.loads((folder / "run.json").read_text("utf-8"))["request"]
    return common.registry.task(request["task"])
