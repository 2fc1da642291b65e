"""Writes docs/reference/testing.md from the checks themselves: python tests/support/testing_page.py"""

from __future__ import annotations

from pathlib import Path

from nlpkit.testing import CHECKS, Check

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "testing.md"
_HEAD = """# Testing a task

`nlpkit.testing` tries a task on a tiny backbone, with a tokenizer made of the examples that it is given, offline. It
needs about 15 seconds of one core, of which importing torch and Lightning, here and for further processes, takes 12;
another task in the same run of pytest needs 3 to 4. A machine that is busy with other work takes as many times longer.
`tests/support/testing_page.py` makes this page from the checks themselves. A whole test file:

```py
from nlpkit.testing import task_test
from nlpkit_mood import Mood

EXAMPLES = [{"text": "what a day", "label": "good"}, {"text": "I am late again", "label": "bad"}, ...]
test_mood = task_test(Mood, EXAMPLES)
```

pytest then has a test for each check: `pytest -k padding` runs one. Without pytest, `check_task(Mood, EXAMPLES)` runs
all of them and raises an `AssertionError` that lists every failure.

* **Examples**: eight or so, labelled, as the task's reader gives them; of several lengths, with two labels or more,
  none contradicting another; values as JSON has them.
* **Where the task is defined**: at the top of a module or file, not inside a function: other processes look it up by
  its name. They import its module by name where that leads to the same file, and run the file itself where it does
  not, as `--plugin` does. A script that calls `check_task` does so under `if __name__ == "__main__":`.
* **Settings**: `config=MoodConfig(...)` tries the task with others than its defaults.
* **Skipping**: `skip={"company_changes_nothing": "ranks the texts of a batch"}`, always with a reason; pytest prints it
  with `-rs`, `check_task` on stderr. A name that is no check's is an error.
* A check that **needs** another one says nothing before that one passes, so that one mistake is told once; it is then
  skipped, and says for which.

A failure gives the rule, why it is one, what was found, and what to do:

```text
padding_changes_nothing
  rule:  Padding behind an example changes neither its answer nor its loss.
  why:   An answer would depend on the length of the longest text that happens to stand in the same batch.
  found: example 0 ('lovely soft wool'), alone and padded from 14 to 15 tokens: the loss is 1.4961 and 1.5104
  do:    leave out places where batch["attention_mask"] is 0, and declare padding of labels as -100 in Task.padding
```

| check | rule | why | needs |
|---|---|---|---|
"""
_TAIL = """
Those marked \\* start further processes: one that imports the task's module and nothing else, and two that import it
beside torch, load the model that was saved here, and train together (DDP, by gloo); the two serve both checks. On Linux
they are forks of a process that has imported torch and Lightning once for all tasks, and no task.

Each check has a task of its own with weights from the same seed, so that none sees what another has changed. Where
answers are compared, and where gradients are looked at, the head's weights have some noise added, since a layer that
begins at zero would hide everything; and what the head predicts is compared as tensors, before it is decoded to the
likeliest label.
"""


def page() -> str:
    """The page as Markdown."""
    return _HEAD + "".join(map(_row, CHECKS.values())) + _TAIL


def _row(check: Check) -> str:
    needs = ", ".join(f"`{name}`" for name in check.needs)
    mark = r" \*" if check.slow else ""
    return f"| `{check.name}`{mark} | {check.rule} | {check.reason} | {needs} |\n"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
