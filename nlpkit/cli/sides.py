"""Options for data whose fields stand in a file each: ``--source FILE --target FILE``, as a reader names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from nlpkit.cli.failures import showing_lines
from nlpkit.cli.options import Common, leave_out_plugins
from nlpkit.errors import UsageError

if TYPE_CHECKING:
    from nlpkit.plugins import Registry

_OPTIONS = "nlpkit.cli.sides"
"""Key of a context's ``meta``: the options of the task that was typed."""
_TRAIN, _DEV = "train_", "dev_"


class WithSides(click.Command):
    """A verb that has ``--task``, and beside it ``--SIDE FILE`` and ``--dev-SIDE FILE`` for each side of its data."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse twice: what the options are depends on the task that is typed.

        Without one no plugin is imported, and ``fit --help`` is instant. With one all are, as for every command that
        names a task: the names of its tasks are known to a plugin alone, and so is that two plugins claim one. None of
        them imports torch for it.
        """
        parser = self.make_parser(ctx)
        parser.ignore_unknown_options = True
        typed, _, _ = parser.parse_args(list(args))
        if typed.get("task") and not ctx.resilient_parsing:
            if typed.get("no_plugins"):
                leave_out_plugins()
            with showing_lines(typed.get("verbose") or 0):
                ctx.meta[_OPTIONS] = _options(typed["task"], typed.get("plugins") or ())
        return super().parse_args(ctx, args)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Those of every task, and those of this one."""
        return [*super().get_params(ctx), *ctx.meta.get(_OPTIONS, ())]


def side_by_side(
    task: str, registry: Registry, given: Mapping[str, Sequence[str]], files: Sequence[str], dev: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Files in the order in which a reader with sides takes them.

    Args:
        task: its name.
        registry: has it, and its reader.
        given: what the options of `WithSides` were given.
        files: that were given without an option.
        dev: likewise by ``--dev``.

    Returns:
        Files to train on, files of the dev part, and the setting that names the reader, if there are sides.

    Raises:
        DataError: a file that is missing.
        UsageError: sides without their other sides, or beside files of another kind.
    """
    if not any(given.values()):
        return tuple(files), tuple(dev), ()
    from nlpkit import readers

    reader = registry.task(task, stage="finetune").sides
    sides = registry.dataset(reader).sides
    parts = {before: {side: given[before + side] for side in sides} for before in (_TRAIN, _DEV)}
    names = " ".join(f"{_flag(_TRAIN, side)} FILE" for side in sides)
    if not any(parts[_TRAIN].values()) or files or dev:
        other = "FILES" if files else "--dev" if dev else f"no {' and '.join(_flag(_TRAIN, side) for side in sides)}"
        first = next(_flag(before, side) for before, part in parts.items() for side in sides if part[side])
        raise UsageError(f"{first} stands with {other}", f"give all data as {names}, and --dev- likewise, or none")
    for before, part in parts.items():
        counts = {side: len(readers.expand(paths)) if paths else 0 for side, paths in part.items()}
        if len(set(counts.values())) > 1:
            found = ", ".join(f"{_flag(before, side)} names {count}" for side, count in counts.items())
            raise UsageError(f"{found}; expected as many files of each side", names)
    train, chooses = (tuple(path for paths in part.values() for path in paths) for part in parts.values())
    return train, chooses, (f"data.reader={reader}",)


def _flag(before: str, side: str) -> str:
    """An option as it is typed."""
    return f"{'--dev-' if before == _DEV else '--'}{side.replace('_', '-')}"


def _options(task: str, plugins: Sequence[str]) -> list[click.Option]:
    registry = Common(False, False, 0, plugins).registry
    reader = registry.task(task, stage="finetune").sides
    sides = registry.dataset(reader).sides if reader else ()
    purposes = {_TRAIN: "to learn from", _DEV: "that chooses the best step"}
    return [
        click.Option(
            [_flag(before, side), before + side],
            multiple=True,
            metavar="FILE",
            help=f"The {side} of data {purpose}, line by line beside the other sides.",
        )
        for before, purpose in purposes.items()
        for side in sides
    ]
