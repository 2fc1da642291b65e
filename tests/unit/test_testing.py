"""The test kit passes sound tasks, and each task that breaks a rule is caught by the check for just that rule."""

from __future__ import annotations

import functools
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import testing_page
from broken_tasks import BREAKS
from sound_task import EXAMPLES, Sound

from nlpkit.errors import UsageError
from nlpkit.plugins import Registry
from nlpkit.testing import CHECKS, TaskUnderTest, check_task, starter, task_test
from nlpkit.testing.alike import difference
from nlpkit.testing.check import Finding
from nlpkit.testing.elsewhere import Elsewhere
from nlpkit.testing.there import _module, _Watch
from nlpkit.testing.trial import Trial

SLOW = {name for name, check in CHECKS.items() if check.slow}
TRAIN = {"learns_a_few_examples", "a_seed_repeats", "learning_raises_the_score", "saved_and_loaded_is_the_same"}
SHOWN_BY_TRAINING = {*TRAIN, "files_hold_plain_values"}
QUICK = [(name, task) for name, tasks in BREAKS.items() for task in tasks if name not in SLOW]

test_a_sound_task_passes = task_test(Sound, EXAMPLES)


def failed(task: type[Any], names: set[str]) -> list[str]:
    trial = Trial(task, EXAMPLES, None)
    return [name for name in CHECKS if name in names and trial.outcome(name).verdict == "failed"]


@pytest.mark.parametrize(("name", "task"), QUICK, ids=[f"{name}-{task.__name__}" for name, task in QUICK])
def test_a_broken_rule_is_caught_by_its_check_alone(name: str, task: type[Any]) -> None:
    untold = SLOW if name in SHOWN_BY_TRAINING else SLOW | SHOWN_BY_TRAINING  # which takes most of the time
    assert failed(task, set(CHECKS) - untold) == [name]


def test_what_only_other_processes_show_is_caught_by_its_check_alone() -> None:
    answers, scores = "a_new_process_answers_the_same", "two_processes_are_as_one"
    (task,) = {*BREAKS[answers], *BREAKS[scores]}  # one with two mistakes: processes take the longest
    trial = Trial(task, EXAMPLES, None)
    names = {"saved_and_loaded_is_the_same", "metrics_start_anew", *SLOW}
    assert [name for name in CHECKS if name in names and trial.outcome(name).verdict == "failed"] == [answers, scores]
    found = {name: trial.outcome(name).text.splitlines()[3] for name in (answers, scores)}
    assert found[answers].endswith("""here and in a new process: label is '["bad", "good"]' and '[]'""")
    assert "accuracy at first is " in found[scores]


def test_an_import_of_torch_is_caught_with_its_line() -> None:
    task = importlib.import_module("broken_import").ImportsTorch
    outcome = Trial(task, EXAMPLES, None).outcome("imports_fast")
    where = f"{Path(__file__).parents[1] / 'support' / 'broken_import.py'}:5"
    assert outcome.verdict == "failed"
    assert f"  found: the import brings torch by {where}" in outcome.text


def test_every_check_has_a_task_that_breaks_it_a_rule_and_a_reason() -> None:
    assert {*BREAKS, "imports_fast"} == set(CHECKS)
    assert all(check.rule.endswith(".") and check.reason.endswith(".") for check in CHECKS.values())
    names = list(CHECKS)
    assert all(need in names for check in CHECKS.values() for need in check.needs)


@pytest.mark.parametrize("name", sorted(Registry().tasks("pretrain")))
def test_objectives_keep_the_rules(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    skip = dict.fromkeys(SLOW, "the three tasks start processes in tests of their own")
    if name == "clm":
        skip["takes_odd_texts"] = "reads stretches of a token store, which are never empty"
    check_task(Registry().task(name), EXAMPLES, skip=skip)
    said = capsys.readouterr().err.splitlines()
    assert len([line for line in said if ": skipped " in line]) == len(skip) == len(said)


def test_all_failures_are_told_at_once() -> None:
    class TwoMistakes(Sound):
        score = "bleu"

        def decode(self, predictions: Any, batch: Any) -> Any:
            return super().decode(predictions, batch)[:-1]

    skip = dict.fromkeys({*SLOW, *TRAIN}, "takes long")
    with pytest.raises(AssertionError) as caught:
        check_task(TwoMistakes, EXAMPLES, skip=skip)
    assert str(caught.value) == (
        f"TwoMistakes fails 2 of {len(CHECKS)} checks:\n"
        "\n"
        "answers_are_json\n"
        "  rule:  decode gives one JSON object for each example of a batch.\n"
        "  why:   `nlpkit predict` writes a line of JSON for each text; where one is missing, all later ones are of "
        "another text.\n"
        "  found: 7 answers for 8 examples\n"
        "  do:    return a list from decode, with one dict for each example\n"
        "\n"
        "metrics_are_finite\n"
        "  rule:  Metrics are finite numbers, and the one that chooses the best step is among them.\n"
        "  why:   A score that is no number chooses no step, and cannot be written to results.json.\n"
        "  found: Task.score is 'bleu', the metrics are accuracy\n"
        "  do:    name one of them, or 'loss'"
    )


def test_what_is_skipped_or_left_open_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    broken = BREAKS["padding_changes_nothing"][0]
    skip = dict.fromkeys({*SLOW, *TRAIN}, "takes long") | {"padding_changes_nothing": "has no padding"}
    check_task(broken, EXAMPLES, skip=skip)
    said = capsys.readouterr().err.splitlines()
    assert f"{broken.__name__}: skipped padding_changes_nothing: has no padding" in said
    assert f"{broken.__name__}: company_changes_nothing says nothing before padding_changes_nothing passes" in said


def test_an_error_of_the_author_is_shown_with_his_line() -> None:
    class Raises(Sound):
        def build_metrics(self) -> Any:
            if sys._getframe(2).f_code.co_name == "scores":
                raise ValueError("no such average")
            return super().build_metrics()

    outcome = Trial(Raises, EXAMPLES, None).outcome("metrics_are_finite")
    line = Raises.build_metrics.__code__.co_firstlineno + 2
    assert outcome.text.splitlines()[3:] == [
        "  found: ValueError: no such average",
        f'         {__file__}:{line}, in build_metrics: raise ValueError("no such average")',
        "  do:    mend what raised it",
    ]


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


@pytest.mark.parametrize("error", [SystemExit(1), Unprintable()])
def test_whatever_the_author_raises_the_other_checks_go_on(error: BaseException) -> None:
    class Raises(Sound):
        def decode(self, predictions: Any, batch: Any) -> Any:
            raise error

    trial = Trial(Raises, EXAMPLES, None)
    found = trial.outcome("answers_are_json").text.splitlines()[3]
    assert found == f"  found: {type(error).__name__}{': 1' if isinstance(error, SystemExit) else ''}"
    assert trial.outcome("loss_is_finite").verdict == "passed"


def test_a_head_that_cannot_be_made_is_told_once() -> None:
    class Exits(Sound):
        def build_head(self, backbone: Any) -> Any:
            raise SystemExit("no head")

    with pytest.raises(AssertionError, match=r"^Exits cannot be made: SystemExit: no head\n.*, in build_head: raise"):
        check_task(Exits, EXAMPLES)


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([1, 2], "example 0 is 1, expected a dict: the value of each field, by its name"),
        ([*EXAMPLES, "late"], "example 8 is 'late', expected a dict: the value of each field, by its name"),
        ("texts.csv", "examples are a str, expected a list of dicts"),
        (iter(EXAMPLES), "examples are a list_iterator, expected a list of dicts"),
    ],
)
def test_examples_are_dicts(examples: Any, message: str) -> None:
    for way in (check_task, task_test):
        with pytest.raises(UsageError) as caught:
            way(Sound, examples)
        assert caught.value.message == message


@pytest.mark.parametrize(
    ("skip", "message", "hint"),
    [
        (
            {"paddings_change_nothing": "why not"},
            "skip names 'paddings_change_nothing', which is no check",
            f"did you mean 'padding_changes_nothing'? {', '.join(CHECKS)}",
        ),
        (
            {"a_seed_repeats": " "},
            "skip gives no reason for 'a_seed_repeats'",
            'skip={"a_seed_repeats": "why it does not apply"}',
        ),
        (
            ["a_seed_repeats"],
            "skip is a list, expected a dict: why each check does not apply, by its name",
            'skip={"learns_a_few_examples": "has no weights to learn"}',
        ),
    ],
)
def test_a_skip_without_a_name_or_a_reason_is_refused(skip: Any, message: str, hint: str) -> None:
    for way in (check_task, task_test):
        with pytest.raises(UsageError) as caught:
            way(Sound, EXAMPLES, skip=skip)
        assert (caught.value.message, caught.value.hint) == (message, hint)


def test_pytest_has_a_test_for_each_check_and_is_told_why_one_is_skipped() -> None:
    broken = BREAKS["padding_changes_nothing"][0]
    test: Any = task_test(broken, EXAMPLES, skip={"a_seed_repeats": "draws lots"})
    (mark,) = test.pytestmark
    assert [p.values[0] for p in mark.args[1]] == list(CHECKS)
    reasons = {p.values[0]: p.marks[0].kwargs["reason"] for p in mark.args[1] if p.marks}
    assert reasons == {"a_seed_repeats": "a_seed_repeats: draws lots"}
    test("encodes_without_label")
    with pytest.raises(pytest.fail.Exception, match=r"^padding_changes_nothing\n  rule:  Padding") as caught:
        test("padding_changes_nothing")
    assert not caught.value.pytrace
    with pytest.raises(pytest.skip.Exception, match="says nothing before padding_changes_nothing passes"):
        test("company_changes_nothing")


def test_a_task_that_no_other_process_finds_is_told_so() -> None:
    class Inside(Sound):
        pass

    outcome = Trial(Inside, EXAMPLES, None).outcome("imports_fast")
    assert outcome.text.splitlines()[3:] == [
        "  found: test_a_task_that_no_other_process_finds_is_told_so.<locals>.Inside is defined inside a function",
        "  do:    define it at the top of its module",
    ]


def test_examples_are_values_that_another_process_can_be_told() -> None:
    examples = [{**row, "image": object()} for row in EXAMPLES]
    with pytest.raises(AssertionError, match="examples: Object of type object is not JSON serializable"):
        Elsewhere(Sound, examples, None).imported()


STARTS_ONE = """
import sys
from multiprocessing.process import BaseProcess
from nlpkit.testing import starter

def start(self, of_all=BaseProcess.start):
    BaseProcess.start = lambda self: sys.exit("no more processes")
    of_all(self)

BaseProcess.start = start
starter._FORKS = False
starter.main()
"""


@pytest.mark.parametrize(
    ("program", "end"),
    [("raise SystemExit(3)", "3 and said"), (STARTS_ONE, "1 and said\nno more processes")],
    ids=["at once", "when one of two has started"],
)
def test_a_process_that_ends_without_a_report_is_told(program: str, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starter, "begin", functools.cache(starter.begin.__wrapped__))  # that of the other tests stays
    monkeypatch.setattr(starter, "python", lambda module: [sys.executable, "-c", program])
    with pytest.raises(Finding, match=f"^the process ended with {end}$"):
        Elsewhere(Sound, EXAMPLES, None).answers(TaskUnderTest(Sound, EXAMPLES))
    assert starter.begin.cache_info().currsize == 0


def test_numbers_of_answers_are_compared_as_shares_where_they_are_large() -> None:
    assert difference({"price": 5000.0}, {"price": 5000.2}) == ""
    assert difference({"price": 5000.0}, {"price": 5001.0}) == "price is 5000 and 5001"


def test_another_process_finds_a_module_by_name_or_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "sound_task.py"
    file.write_text("class Mood: pass\n")
    sound = importlib.import_module("sound_task")
    assert _module({"module": "sound_task", "file": sound.__file__}) is sound
    for name in ("sound_task", "__main__", "tests.that.are.no.package"):
        found = _module({"module": name, "file": str(file)})
        monkeypatch.delitem(sys.modules, found.__name__)
        assert found.Mood.__module__ == found.__name__ == "nlpkit_plugin_sound_task"


def test_the_line_of_an_import_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = _Watch(__file__)
    monkeypatch.setattr(sys, "meta_path", [watch, *sys.meta_path])
    monkeypatch.delitem(sys.modules, "pandas", raising=False)
    line = sys._getframe().f_lineno + 1
    importlib.util.find_spec("pandas")
    assert watch.found == {"pandas": f"{__file__}:{line}"}


def test_the_page_of_the_checks_is_made_from_them() -> None:
    assert testing_page.PAGE.read_text("utf-8") == testing_page.page(), "python tests/support/testing_page.py"
