"""Plugins that fail: at every moment the command ends with their name, the moment, their own line, and exit code 5."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from plugin_site import PluginSite, mood

import nlpkit
from nlpkit.errors import PluginError
from nlpkit.plugins import switches as switched

OWNER = "plugin 'mood' (nlpkit-mood 0.3.0)"
TINY = ("model.preset=tiny", "model.vocabulary=300", "model.sequence_length=32", "trainer.max_steps=2")
ROWS = [
    ("the sun is out and I am glad", "glad"),
    ("what a good and happy day it was", "glad"),
    ("we laughed all evening long", "glad"),
    ("she smiles at the sea", "glad"),
    ("a warm cup and a good book", "glad"),
    ("the best walk of the year", "glad"),
    ("rain again and my shoes are wet", "sad"),
    ("nobody came and the food went cold", "sad"),
    ("I lost the letter that she wrote", "sad"),
    ("a grey and lonely afternoon", "sad"),
    ("the train left without us", "sad"),
    ("he would not say why he cried", "sad"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PluginSite]:
    """On ``sys.path`` for all tests of this file; without compiled files, whose times are too coarse for us."""
    site = PluginSite(tmp_path_factory.mktemp("site"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "dont_write_bytecode", True)
        patch.syspath_prepend(str(site.folder))
        yield site
        site.forget()


@pytest.fixture
def site(folder: PluginSite) -> Iterator[PluginSite]:
    yield folder
    for name in ("mood", "loud"):
        folder.remove(name)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "moods.csv"
    path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in ROWS))
    return path


@pytest.fixture
def fit(data: Path, command: Any, tmp_path: Path) -> Any:
    """Fits the task mood in a run of this test."""
    return functools.partial(command, "fit", "--task", "mood", data, "--out", tmp_path / "run", *SPLIT, *TINY)


@pytest.fixture(scope="module")
def run(folder: PluginSite, data: Path, command: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the task as it should be."""
    folder.install("mood", mood())
    out = tmp_path_factory.mktemp("runs") / "mood"
    ended = command("fit", "--task", "mood", data, "--out", out, *SPLIT, *TINY)
    assert ended.code == 0, ended.err
    return out


SPLIT = ("data.dev_share=0.3",)
HEAD = """
    def build_head(self, backbone):
        import torch

        class Own(nlpkit.Head):
            def __init__(self):
                super().__init__()
                self.output = torch.nn.Linear(backbone.hidden_size, 2)

            def forward(self, hidden, batch):
                return self.output(hidden[:, 0])
#parts

        return Own()
"""


def head(**parts: str) -> str:
    """A head of the author's own, with other methods, each of one expression."""
    arguments = {"loss": "logits, batch"}
    methods = [
        f"\n            def {name}(self, {arguments.get(name, 'hidden, batch')}):\n                return {value}"
        for name, value in parts.items()
    ]
    return HEAD.replace("#parts", "\n".join(methods))


def errors(ended: Any) -> list[str]:
    return [line for line in ended.err.splitlines() if line.startswith(("error: ", "hint: ", "Traceback"))]


def assert_says(ended: Any, message: str) -> None:
    """One error, with nothing of a traceback; ``AT`` is any line of the data."""
    pattern = re.escape(f"error: {message}").replace("AT", r"\S+moods\.csv:\d+(, \S+moods\.csv:\d+)*( and \d+ more)?")
    found = errors(ended)
    assert found and re.fullmatch(pattern, found[0]), ended.err
    assert ended.code == 5
    assert [line[:6] for line in found] == ["error:", "hint: "]


def place(module: Path, text: str = "1 / 0") -> str:
    lines = module.read_text().splitlines()
    (number,) = (number for number, line in enumerate(lines, 1) if text in line)
    return f"{module}:{number}"


RAISED = {
    "Mood.prepare": ("    @classmethod\n    def prepare(cls, config, examples): return 1 / 0", ""),
    "Mood.check": ("    @classmethod\n    def check(cls, example): return 1 / 0", "; at AT"),
    "Mood.labels_of": ("    @classmethod\n    def labels_of(cls, example): return 1 / 0", "; at AT"),
    "Mood.encode": ("    def encode(self, example): return 1 / 0", "; at AT"),
    "Mood.lengths": ("    def lengths(self, features): return 1 / 0", ""),
    "Mood.build_head": ("    def build_head(self, backbone): return 1 / 0", ""),
    "Mood.build_metrics": ("    def build_metrics(self): return 1 / 0", ""),
    "Mood.collate": ("    def collate(self, features): return 1 / 0", "; in the batch of AT"),
    "Mood.compare": ("    def compare(self, predictions, batch): return 1 / 0", ""),
    "Mood.build_head.Own.forward": (head(forward="1 / 0"), "; in the batch of AT"),
    "Mood.build_head.Own.loss": (head(loss="1 / 0"), "; in the batch of AT"),
}


@pytest.mark.parametrize("moment", RAISED)
def test_task_that_raises_is_named_with_moment_and_line(
    moment: str, site: PluginSite, tmp_path: Path, fit: Any
) -> None:
    body, where = RAISED[moment]
    module = site.install("mood", mood(body))

    ended = fit()

    assert_says(ended, f"{OWNER}: {moment}: ZeroDivisionError: division by zero ({place(module)}){where}")
    assert not (tmp_path / "run").exists()


OF_PREDICTIONS = {
    "Mood.decode": "    def decode(self, predictions, batch): return 1 / 0",
    "Mood.complete": "    def complete(self, answer, example): return 1 / 0",
    "Mood.encode": "    def encode(self, example): return 1 / 0",
}


@pytest.mark.parametrize("moment", OF_PREDICTIONS)
def test_task_that_raises_for_new_texts_is_named(
    moment: str, run: Path, site: PluginSite, data: Path, command: Any
) -> None:
    module = site.install("mood", mood(OF_PREDICTIONS[moment]))

    ended = command("predict", run, data)

    where = "at" if moment == "Mood.encode" else "in the batch of"
    assert_says(ended, f"{OWNER}: {moment}: ZeroDivisionError: division by zero ({place(module)}); {where} AT")


def test_head_that_raises_for_new_texts_is_named(
    site: PluginSite, data: Path, command: Any, tmp_path: Path, fit: Any
) -> None:
    site.install("mood", mood(head()))
    assert fit().code == 0
    module = site.install("mood", mood(head(predict="1 / 0")))

    ended = command("predict", tmp_path / "run", data)

    moment = "Mood.build_head.Own.predict"
    assert_says(ended, f"{OWNER}: {moment}: ZeroDivisionError: division by zero ({place(module)}); in the batch of AT")


ENDS = ("SystemExit", "KeyboardInterrupt")  # the second is no Ctrl-C of the user


@pytest.mark.parametrize("error", ENDS)
def test_end_of_the_program_in_a_task_is_an_error(
    error: str, run: Path, site: PluginSite, data: Path, command: Any, fit: Any, tmp_path: Path
) -> None:
    module = site.install("mood", mood(f"    def encode(self, example): raise {error}"))
    said = f"{OWNER}: Mood.encode: {error} ({place(module, error)}); at AT"

    assert_says(command("predict", run, data), said)
    assert_says(fit(), said)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("error", ENDS)
def test_end_of_the_program_as_a_page_is_drawn_is_an_error(
    error: str, run: Path, site: PluginSite, data: Path, command: Any, tmp_path: Path
) -> None:
    module = site.install("mood", mood(f"    def page(self, rows): raise {error}"))

    ended = command("predict", run, data, "--html", tmp_path / "page.html")

    assert_says(ended, f"{OWNER}: Mood.page: {error} ({place(module, error)})")


@pytest.mark.parametrize("error", ENDS)
@pytest.mark.parametrize("more", [(), ("--plan",)])
def test_end_of_the_program_in_a_head_is_an_error(
    more: tuple[str, ...], error: str, site: PluginSite, fit: Any, tmp_path: Path
) -> None:
    module = site.install("mood", mood(HEAD.replace("return self.output(hidden[:, 0])", f"raise {error}")))

    ended = fit(*more)

    assert_says(ended, f"{OWNER}: Mood.build_head.Own.forward: {error} ({place(module, error)})")
    assert not (tmp_path / "run").exists()


GIVEN = {
    "encode without tokens": (
        "    def encode(self, example): return {'ids': [1]}",
        "gives only ids where 'input_ids' was expected, a list of token numbers; at AT",
    ),
    "prepare": (
        "    @classmethod\n    def prepare(cls, config, examples): pass",
        "gives None, expected the settings, a TaskConfig",
    ),
    "check": ("    @classmethod\n    def check(cls, example): pass", "gives None, expected an nlpkit.Example; at AT"),
    "labels_of": (
        "    @classmethod\n    def labels_of(cls, example): return example['label']",
        "gives a str, expected a list of texts; at AT",
    ),
    "encode": (
        "    def encode(self, example): return [1, 2]",
        "gives a list, expected a dict such as {'input_ids': [...]}; at AT",
    ),
    "collate": (
        "    def collate(self, features): return list(features)",
        "gives a list, expected a dict of tensors; in the batch of AT",
    ),
    "build_head": (
        "    def build_head(self, backbone): return backbone",
        "gives a ModernBertConfig, expected an nlpkit.Head",
    ),
    "build_metrics": (
        "    def build_metrics(self): return {}",
        "gives a dict, expected a torchmetrics MetricCollection",
    ),
    "compare": (
        "    def compare(self, predictions, batch): return predictions",
        "gives a Tensor, expected a tuple such as (predictions, batch['labels'])",
    ),
    "encode of transformers": (
        "    def encode(self, example): return self.tokenizer(example['text'])",
        "gives a BatchEncoding, expected dict(...) of it; at AT",
    ),
    "encode with a list that is not padded": (
        "    def encode(self, example): return {**self.tokenizer(example['text']), 'x': [1]}",
        "gives a list 'x' that padding has no value for: write padding = {**Task.padding, 'x': 0}; in the batch of AT",
    ),
    "build_head.Own.loss": (head(loss="None"), "gives None, expected one number, as a tensor"),
    "as_predicted": ("    def as_predicted(self, batch): pass", "gives None, expected pairs of batches"),
    "build_metrics of several values": (
        "    def build_metrics(self):\n"
        "        from torchmetrics.classification import MulticlassAccuracy\n"
        "        from torchmetrics import MetricCollection\n"
        "        return MetricCollection({'accuracy': MulticlassAccuracy(2, average=None)})",
        "gives the score 'accuracy' of 2 values, expected one number: average it, or wrap the metric in torchmetrics' "
        "ClasswiseWrapper",
    ),
}


@pytest.mark.parametrize("case", GIVEN)
def test_task_that_gives_what_cannot_be_used_is_named(case: str, site: PluginSite, fit: Any) -> None:
    body, what = GIVEN[case]
    site.install("mood", mood(body))

    ended = fit()

    assert_says(ended, f"{OWNER}: Mood.{case.split()[0]} {what}")


ANSWERS = {
    "a text": ("'glad'", "gives a str, expected a list of dicts; in the batch of AT"),
    "labels": ("['glad'] * len(predictions)", "gives a list with a str, expected a list of dicts; in the batch of AT"),
    "too few": ("[{}]", "gives 1 answers for 12 examples; in the batch of AT"),
    "a tensor": (
        "[{'p': p[0]} for p in predictions]",
        "gives what JSON does not have in 'p': Object of type Tensor is not JSON serializable",
    ),
    "NaN": (
        "[{'p': float('nan')} for p in predictions]",
        "gives what JSON does not have in 'p': a number that is not finite",
    ),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_answers_that_cannot_be_written_are_named(
    case: str, run: Path, site: PluginSite, data: Path, command: Any
) -> None:
    value, what = ANSWERS[case]
    site.install("mood", mood(f"    def decode(self, predictions, batch): return {value}"))

    ended = command("predict", run, data)

    assert_says(ended, f"{OWNER}: Mood.decode {what}")
    assert ended.out == ""


def test_answer_that_is_completed_to_none_is_named(run: Path, site: PluginSite, data: Path, command: Any) -> None:
    site.install("mood", mood("    def complete(self, answer, example): answer['text'] = example['text']"))

    ended = command("predict", run, data)

    assert_says(ended, f"{OWNER}: Mood.complete gives None, expected a dict; in the batch of AT")


ENDS_EARLY = {
    "check": "    @classmethod\n    def check(cls, example): return next(iter([]))",
    "encode": "    def encode(self, example): return next(iter([]))",
    "collate": "    def collate(self, features): return next(iter([]))",
}


@pytest.mark.parametrize("moment", ENDS_EARLY)
def test_end_of_an_iterator_in_a_task_is_its_authors(moment: str, run: Path, site: PluginSite, fit: Any) -> None:
    module = site.install("mood", mood(ENDS_EARLY[moment]))
    said = f"{OWNER}: Mood.{moment}: StopIteration ({place(module, 'iter([])')}); "

    ended = fit()

    assert_says(ended, f"{said}{'in the batch of' if moment == 'collate' else 'at'} AT")
    with pytest.raises(PluginError) as caught:
        nlpkit.load(run).predict(["a text"])
    assert caught.value.message.startswith(said)


UNUSABLE = {
    "numbers that no token has": (
        "    def encode(self, example):\n"
        "        return {'input_ids': self.tokenizer(example['text'])['input_ids'] + [99999], 'labels': 0}",
        "Mood.encode: nlpkit's TaskModule.hidden cannot use what it gives: IndexError: index out of range in self; "
        "in the batch of AT",
    ),
    "logits of no shape": (
        head(forward="None"),
        "Mood.build_head.Own.forward: nlpkit's Head.loss cannot use what it gives: "
        "AttributeError: 'NoneType' object has no attribute 'reshape'; in the batch of AT",
    ),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_what_our_own_code_cannot_use_names_who_gave_it(case: str, site: PluginSite, fit: Any) -> None:
    body, message = UNUSABLE[case]
    site.install("mood", mood(body))

    ended = fit()

    (place,) = re.findall(r" \(\S+/nlpkit/\w+\.py:\d+\)", errors(ended)[0])  # our own line, which no test should pin
    before, separator, where = message.rpartition("; ") if "; " in message else (message, "", "")
    assert_says(ended, f"{OWNER}: {before}{place}{separator}{where}")


SETTINGS = {
    "a type that no setting has": (
        "    rate: complex = 1j",
        "mood_plugin.MoodConfig.rate has the type complex, which a setting cannot have",
    ),
    "no default": (
        "    rate: float = dataclasses.field(init=True)\n    def __post_init__(self): self.rate.nothing",
        "mood_plugin.MoodConfig cannot be made without arguments: MoodConfig.__init__() "
        "missing 1 required keyword-only argument: 'rate'",
    ),
    "a default of another type": ("    rate: int = 'much'", "default: task.rate is 'much', expected a whole number"),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_settings_that_cannot_be_are_named_with_the_plugin(
    case: str, site: PluginSite, data: Path, command: Any
) -> None:
    setting, message = SETTINGS[case]
    above = "import dataclasses, nlpkit\n@dataclasses.dataclass(kw_only=True)\nclass MoodConfig(nlpkit.TaskConfig):\n"
    site.install("mood", above + setting + mood("    config_class = MoodConfig"))

    ended = command("fit", "--task", "mood", data, *TINY)

    assert ended.code == 5
    assert errors(ended)[0].startswith(f"error: {OWNER}: {message}"), ended.err


IN_CONFIG = {
    "MoodConfig.__post_init__": "    def __post_init__(self): 1 / 0",
    "MoodConfig.<lambda>": "    rate: float = dataclasses.field(default_factory=lambda: 1 / 0)",
}


@pytest.mark.parametrize("moment", IN_CONFIG)
def test_settings_that_raise_are_named_by_what_the_author_wrote(
    moment: str, site: PluginSite, data: Path, command: Any
) -> None:
    above = "import dataclasses, nlpkit\n@dataclasses.dataclass(kw_only=True)\nclass MoodConfig(nlpkit.TaskConfig):\n"
    module = site.install("mood", above + IN_CONFIG[moment] + mood("    config_class = MoodConfig"))

    ended = command("fit", "--task", "mood", data, *TINY)

    assert_says(ended, f"{OWNER}: {moment}: ZeroDivisionError: division by zero ({place(module)})")


def test_score_that_no_metric_gives_names_the_plugin(site: PluginSite, data: Path, fit: Any) -> None:
    site.install("mood", mood("    score = 'nix'"))

    ended = fit()

    assert_says(ended, f"{OWNER}: the task chooses by 'nix', which is none of its scores (accuracy, loss)")


NAMED = {
    "head": "@nlpkit.hookimpl\ndef nlpkit_heads(): return {'odd': lambda task, backbone: 1 / 0}",
    "metric": "@nlpkit.hookimpl\ndef nlpkit_metrics(): return {'odd': lambda task: 1 / 0}",
    "reader": "@nlpkit.hookimpl\ndef nlpkit_datasets(): return {'odd': nlpkit.Dataset(lambda path: 1 / 0)}",
}
ASKED = {"head": "task.head=odd", "metric": "task.metrics=[odd]", "reader": "data.reader=odd"}


@pytest.mark.parametrize("kind", NAMED)
def test_function_of_a_name_that_raises_is_called_by_it(kind: str, site: PluginSite, fit: Any) -> None:
    module = site.install("mood", mood(of_module=NAMED[kind]))

    ended = fit(ASKED[kind])

    assert_says(ended, f"{OWNER}: {kind} 'odd': ZeroDivisionError: division by zero ({place(module)})")


def test_functions_of_equal_code_keep_their_names(site: PluginSite, fit: Any) -> None:
    source = mood(of_module=NAMED["metric"])
    module = site.install("mood", source)
    site.install("loud", source.replace('"mood"', '"loud"').replace("odd", "new"))

    ended = fit("task.metrics=[odd]")

    assert_says(ended, f"{OWNER}: metric 'odd': ZeroDivisionError: division by zero ({place(module)})")


def test_notes_of_an_author_may_be_anything(run: Path, site: PluginSite, data: Path, command: Any) -> None:
    body = "    def decode(self, predictions, batch):\n        error = KeyError()\n"
    module = site.install("mood", mood(body + "        error.__notes__ = [1]\n        raise error"))

    ended = command("predict", run, data)

    assert_says(ended, f"{OWNER}: Mood.decode: KeyError ({place(module, 'raise')}); 1; in the batch of AT")


def test_lines_of_the_author_are_shown_on_request_and_ours_are_not(
    run: Path, site: PluginSite, data: Path, command: Any
) -> None:
    body = "    def encode(self, example): return inner(example)"
    site.install("mood", mood(body, "def inner(example):\n    return example['txt']"))

    ended = command("predict", run, data, "-v")

    assert ended.code == 5
    frames = re.findall(r'File ".*/(\w+\.py)", line \d+, in (\w+)', ended.err)
    assert frames == [("mood_plugin.py", "encode"), ("mood_plugin.py", "inner")]
    assert "    return example['txt']\n" in ended.err
    assert ended.err.splitlines()[-1] == "hint: this is for the plugin's author"


def test_python_gets_an_error_of_ours_with_the_authors_as_its_cause(run: Path, site: PluginSite) -> None:
    site.install("mood", mood("    def encode(self, example): return 1 / 0"))
    model = nlpkit.load(run)

    with pytest.raises(PluginError, match=r"Mood\.encode: ZeroDivisionError: .*; at row 1") as caught:
        model.predict(["a text"])

    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_bug_of_ours_is_not_blamed_on_the_plugin_in_use(
    run: Path, site: PluginSite, data: Path, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install("mood", mood())
    monkeypatch.setattr("nlpkit.predictor.sorted_batches", lambda *_: [][0])

    ended = command("predict", run, data)

    assert ended.code == 1, ended.err
    assert ended.err.endswith("error: this is a bug in nlpkit; please report the lines above\n")


# removed after a run was made with it


def unfinished(run: Path, target: Path) -> Path:
    """A copy of a run that seems to have been interrupted at its end."""
    shutil.copytree(run, target)
    (target / "results.json").unlink()
    shutil.rmtree(target / "model")
    return target


def test_run_of_a_removed_plugin_says_what_to_install(
    run: Path, site: PluginSite, data: Path, command: Any, tmp_path: Path
) -> None:
    site.remove("mood")
    broken_off = unfinished(run, tmp_path / "run")
    lost = "of nlpkit-mood 0.3.0, which is not installed"

    for verb in ("predict", "evaluate"):
        assert_says(command(verb, run, data), f"{run}/model: made by task 'mood' {lost}")
    ended = command("fit", "--resume", broken_off)

    assert_says(ended, f"{broken_off}: began with task 'mood' {lost}")
    assert errors(ended)[1] == "hint: pip install nlpkit-mood==0.3.0, or from where you had it"


def test_body_of_a_removed_plugins_run_is_a_start_for_another_task(
    run: Path, site: PluginSite, data: Path, command: Any, tmp_path: Path
) -> None:
    site.remove("mood")

    ended = command("fit", "--task", "sentiment", data, "--from", run, "--out", tmp_path / "run", *SPLIT, TINY[-1])

    assert ended.code == 0, ended.err


def test_run_of_a_later_version_without_the_task_says_so(run: Path, site: PluginSite, data: Path, command: Any) -> None:
    site.install("mood", mood().replace('name = "mood"', 'name = "humour"'), version="0.4.0")

    ended = command("predict", run, data)

    assert_says(
        ended,
        f"{run}/model: made by task 'mood' of nlpkit-mood 0.3.0, which is there in version 0.4.0, without it",
    )
    assert errors(ended)[1] == "hint: pip install nlpkit-mood==0.3.0, or from where you had it"


def test_run_of_a_plugin_that_is_broken_now_says_how(run: Path, site: PluginSite, data: Path, command: Any) -> None:
    module = site.install("mood", "import nlpkit\n1 / 0")

    ended = command("predict", run, data)

    error = f"ZeroDivisionError: division by zero ({place(module)})"
    assert_says(
        ended,
        f"{run}/model: made by task 'mood' of nlpkit-mood 0.3.0, which does not load: import: {error}",
    )


# switched off


@pytest.fixture
def switches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NLPKIT_CONFIG", str(tmp_path / "settings"))
    return tmp_path / "settings" / "plugins.json"


def in_use(command: Any) -> dict[str, str]:
    return {row["name"]: row["why_not"] for row in json.loads(command("plugins", "list", "--json").out)}


def test_disabled_plugin_is_out_of_use_until_it_is_enabled(
    switches: Path, run: Path, site: PluginSite, data: Path, command: Any
) -> None:
    site.install("mood", "raise SystemExit('imported')")

    ended = command("plugins", "disable", "mood")

    assert (ended.code, ended.out) == (0, "")
    assert ended.err == "mood is off; nlpkit plugins enable mood puts it back\n"
    assert in_use(command)["mood"] == "nlpkit plugins disable"
    ended = command("predict", run, data)
    assert_says(ended, f"{run}/model: made by task 'mood' of nlpkit-mood 0.3.0, which is switched off")
    assert errors(ended)[1] == "hint: nlpkit plugins enable mood"
    ended = command("fit", "--task", "mood", data)
    assert errors(ended) == [f"error: no task 'mood': {OWNER} is switched off", "hint: nlpkit plugins enable mood"]
    assert command("plugins", "enable", "mood").err == "mood is on\n"
    assert in_use(command)["mood"] == ""
    assert "mood_plugin" not in sys.modules


@pytest.mark.parametrize("variables", [{"XDG_CONFIG_HOME": "/home/me/.config"}, {"HOME": "/home/me"}])
def test_switches_are_kept_where_a_user_has_settings(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NLPKIT_CONFIG", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert str(switched.path()) == "/home/me/.config/nlpkit/plugins.json"


def test_distribution_that_is_disabled_takes_its_plugins_with_it(
    switches: Path, site: PluginSite, command: Any
) -> None:
    site.install("mood", mood())

    assert command("plugins", "disable", "nlpkit-mood").code == 0

    assert json.loads(switches.read_text()) == {"disabled": ["nlpkit-mood"]}
    assert in_use(command)["mood"] == "nlpkit plugins disable"
    assert command("plugins", "enable", "mood").code == 0
    assert in_use(command)["mood"] == ""


def test_disabled_plugin_that_is_gone_is_said_and_can_be_forgotten(
    switches: Path, site: PluginSite, command: Any
) -> None:
    site.install("mood", mood())
    command("plugins", "disable", "mood")
    site.remove("mood")

    for verb in ("list", "doctor"):
        ended = command("plugins", verb)
        assert ended.code == 0, ended.err
        assert ended.err == "mood is switched off, and not installed; nlpkit plugins enable mood forgets it\n"
    assert command("plugins", "enable", "mood").err == "mood is forgotten: it is not installed\n"
    assert command("plugins", "list").err == ""


SLOW_SWITCH = """
import sys, time
from nlpkit.plugins import switches
read = switches.switched_off
switches.switched_off = lambda: (read(), time.sleep(0.3))[0]
switches.change(add=[sys.argv[1]])
"""


def test_switches_of_many_processes_at_once_are_all_kept(switches: Path) -> None:
    names = [f"plugin-{number}" for number in range(4)]

    running = [subprocess.Popen([sys.executable, "-c", SLOW_SWITCH, name]) for name in names]

    assert [process.wait() for process in running] == [0] * len(names)
    assert json.loads(switches.read_text()) == {"disabled": names}


@pytest.mark.parametrize("name", ["nlpkit_mood", "NLPKIT.Mood", "Mood"])
def test_names_are_compared_as_pip_does(
    name: str, switches: Path, site: PluginSite, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install("mood", mood())

    assert command("plugins", "disable", name).code == 0
    assert in_use(command)["mood"] == "nlpkit plugins disable"
    assert command("plugins", "enable", name).code == 0
    assert in_use(command)["mood"] == ""
    monkeypatch.setenv("NLPKIT_PLUGINS", f"- {name}")
    assert in_use(command)["mood"] == "NLPKIT_PLUGINS or --no-plugins"
    assert command("tasks").code == 0


def test_list_says_what_the_environment_names_in_vain(
    switches: Path, site: PluginSite, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install("mood", mood())
    monkeypatch.setenv("NLPKIT_PLUGINS", "-mod")

    ended = command("plugins", "list")

    assert ended.code == 0
    assert ended.err.startswith("NLPKIT_PLUGINS lists 'mod', which is not installed; did you mean 'mood'? installed")


@pytest.mark.parametrize("config", ["/dev/null", "/proc/x"])
def test_folder_for_settings_that_cannot_be_is_an_error(
    config: str, site: PluginSite, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install("mood", mood())
    monkeypatch.setenv("NLPKIT_CONFIG", config)

    ended = command("plugins", "disable", "mood")

    assert ended.code not in (0, 1)
    assert re.match(rf"error: {config}/plugins\.json: cannot be written \(.*\)", errors(ended)[0]), ended.err
    assert errors(ended)[1:] == ["hint: keep it in another folder: NLPKIT_CONFIG=DIR"]


def test_new_plugin_where_no_folder_can_be_is_an_error(command: Any) -> None:
    ended = command("plugins", "new", "tone", "--out", "/proc/x/y")

    assert ended.code not in (0, 1)
    assert errors(ended)[0] == "error: /proc/x/y: cannot be written (No such file or directory)"


def test_file_of_switches_may_begin_with_a_mark_of_its_order(switches: Path, site: PluginSite, command: Any) -> None:
    site.install("mood", mood())
    switches.parent.mkdir()
    switches.write_text('{"disabled": ["mood"]}', "utf-8-sig")

    assert in_use(command)["mood"] == "nlpkit plugins disable"


def test_file_of_switches_that_is_not_readable_says_what_to_type(
    switches: Path, site: PluginSite, command: Any
) -> None:
    switches.mkdir(parents=True)

    ended = command("plugins", "list")

    assert ended.code == 2
    assert errors(ended)[1] == "hint: keep it in another folder: NLPKIT_CONFIG=DIR"


REFUSED = {
    ("disable", "mod"): (5, "plugin 'mod' is not installed", "did you mean 'mood'? "),
    ("disable", "mlm"): (5, "nlpkit plugins disable: 'mlm', which is nlpkit's own and always in use", "leave it out"),
    ("enable", "mod"): (
        5,
        "plugin 'mod' is neither installed nor switched off",
        "did you mean 'mood'? nlpkit plugins list",
    ),
}


@pytest.mark.parametrize(("verb", "name"), REFUSED)
def test_switch_of_what_is_not_there_is_refused(
    verb: str, name: str, switches: Path, site: PluginSite, command: Any
) -> None:
    site.install("mood", mood())
    code, message, hint = REFUSED[verb, name]

    ended = command("plugins", verb, name)

    assert ended.code == code
    assert errors(ended)[0] == f"error: {message}"
    assert errors(ended)[1].startswith(f"hint: {hint}")
    assert not switches.exists()


@pytest.mark.parametrize("text", ["", "[]", '{"disabled": "mood"}', '{"disabled": [1]}', "\0"])
def test_file_of_switches_that_says_something_else_is_refused(
    text: str, switches: Path, site: PluginSite, command: Any
) -> None:
    switches.parent.mkdir()
    switches.write_text(text)

    ended = command("tasks")

    assert (ended.code, ended.out) == (2, "")
    assert errors(ended) == [
        f'error: {switches}: does not say which plugins are switched off, expected {{"disabled": ["NAME"]}}',
        "hint: correct or remove it; without it all are in use",
    ]


def test_environment_leaves_out_names_with_a_minus(
    switches: Path, site: PluginSite, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install("mood", mood())
    monkeypatch.setenv("NLPKIT_PLUGINS", "-mood, -nlpkit-ner")

    found = in_use(command)

    assert [name for name, why_not in found.items() if why_not] == ["mood", "ner"]
    assert found["sentiment"] == ""


def test_environment_uses_a_plugin_by_name_although_it_is_off(
    switches: Path, site: PluginSite, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install("mood", mood())
    command("plugins", "disable", "mood")
    monkeypatch.setenv("NLPKIT_PLUGINS", "mood")

    assert in_use(command)["mood"] == ""


ENVIRONMENT = {
    "-mood,ner": (
        2,
        "NLPKIT_PLUGINS is '-mood,ner', "
        "expected names of plugins to use, or -names of those to leave out, and not both",
        "NLPKIT_PLUGINS=ner leaves out all others",
    ),
    "-mod": (5, "NLPKIT_PLUGINS lists 'mod', which is not installed", "did you mean 'mood'? installed plugins: "),
    "-mlm": (5, "NLPKIT_PLUGINS lists 'mlm', which is nlpkit's own and always in use", "leave it out"),
}


@pytest.mark.parametrize("value", ENVIRONMENT)
def test_environment_that_makes_no_sense_is_refused(
    value: str, switches: Path, site: PluginSite, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install("mood", mood())
    monkeypatch.setenv("NLPKIT_PLUGINS", value)
    code, message, hint = ENVIRONMENT[value]

    ended = command("tasks")

    assert ended.code == code
    assert errors(ended)[0] == f"error: {message}"
    assert errors(ended)[1].startswith(f"hint: {hint}")
