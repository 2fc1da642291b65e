"""Writes docs/reference/api.md from the docstrings: python tests/support/api_page.py"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from docstrings import code, prose, signature

import nlpkit
from nlpkit import errors
from nlpkit.predictor import Predictor
from nlpkit.running import Run

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "api.md"
FUNCTIONS = ("pretrain", "fit", "evaluate", "load", "resume", "read", "assemble")
CLASSES = ("TaskModule", "TaskDataModule", "TransformersHead", "SpanHead", "SequenceHead", "Objective")
OF_TASKS = ("Task", "TaskConfig", "Field", "Dataset", "Head", "Example", "Features", "Batch", "hookimpl")
ERRORS = ("NlpkitError", "DataError", "UsageError")
_INTRODUCTION = """# The Python interface

Every public name of `import nlpkit`, from the docstrings (`tests/support/api_page.py` makes this page). They are
loaded on first use, so the import itself is fast. What a command can do these functions can: `data` are files as on
the command line, `overrides` are its `key=value`. None of them prints; what is said goes to the log `nlpkit` and,
where one is given, to `progress`. What a user can mend is an `NlpkitError`, with a message and a hint.

```py
import nlpkit

run = nlpkit.fit("sentiment", "shop/labelled.csv", out="runs/sentiment")
print(run.results["dev"])

print(nlpkit.evaluate(run.folder, "shop/more-labelled.csv"))
print(nlpkit.load(run.folder).predict(["Soft and warm"]))
```

What plugins are written with is described in [hooks](hooks.md): {names}. What tests them, `nlpkit.testing`, is in
[testing a task](testing.md).
"""


def page() -> str:
    """The page as Markdown."""
    names = ", ".join(f"`{name}`" for name in OF_TASKS)
    parts = [_INTRODUCTION.replace("{names}", names), "\n## Functions\n"]
    parts += [_function(getattr(nlpkit, name)) for name in FUNCTIONS]
    parts += ["\n## What they give\n", *(_class(cls, methods=True) for cls in (Run, Predictor))]
    parts += ["\n## Classes\n", *(_class(getattr(nlpkit, name)) for name in CLASSES)]
    return "".join([*parts, "\n## Errors\n", _errors()])


def _function(function: Any) -> str:
    about = prose(inspect.getdoc(function) or "")
    return f"\n### {function.__name__}\n\n{code(f'def {signature(function)}')}\n{about}\n"


def _class(cls: type, *, methods: bool = False) -> str:
    about = prose(inspect.getdoc(cls) or "")
    shown = signature(cls).removesuffix(" -> None")
    parts = [f"\n### {cls.__name__}\n\n{code(f'class {shown}')}\n{about}\n"]
    for name, function in vars(cls).items() if methods else ():
        if inspect.isfunction(function) and not name.startswith("_"):
            about = prose(inspect.getdoc(function) or "")
            parts.append(f"\n#### {cls.__name__}.{name}\n\n{code(f'def {signature(function)}')}\n{about}\n")
    return "".join(parts)


def _errors() -> str:
    names = " and ".join(f"`{name}`" for name in ERRORS[1:])
    lines = [
        "\nIn `nlpkit.errors`, all of them `NlpkitError(message, hint)`; the exit code is the command's. "
        f"{names}, which a task raises itself, are names of `import nlpkit`, too.\n"
    ]
    lines.append("\n| error | exit code | for |\n|---|---|---|\n")
    for cls in vars(errors).values():
        if isinstance(cls, type) and issubclass(cls, errors.NlpkitError) and cls is not errors.NlpkitError:
            about = (inspect.getdoc(cls) or "").splitlines()[0]
            number = "128 and the signal's number" if cls is errors.Interrupted else str(cls.exit_code)
            lines.append(f"| `{cls.__name__}` | {number} | {about} |\n")
    return "".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
