"""The plugin host, on real distributions that are written to a folder of ``sys.path``."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nlpkit.errors import NlpkitError, PluginError, UsageError
from nlpkit.plugins import Plugin, Problem, Registry
from nlpkit.plugins import registry as registry_module
from nlpkit.plugins.installed import find_installed
from nlpkit.plugins.results import KINDS, Rubbish, check

TASK = """
import nlpkit

class {cls}(nlpkit.{base}):
    "Says {name}."
    name = "{name}"
    stage = "{stage}"
    overhead = 0
    def encode(self, example): return {{}}
    def encode_tokens(self, tokens): return {{}}
    def build_head(self, backbone): return None
    def build_metrics(self): return None
    def decode(self, predictions, batch): return []
"""
HOOK = """
@nlpkit.hookimpl
def nlpkit_tasks():
    return [{cls}]
"""
Install = Callable[..., Path]


def task(name: str, stage: str = "finetune") -> str:
    base = "Objective" if stage == "pretrain" else "Task"
    values = {"cls": name.title().replace("-", ""), "name": name, "stage": stage, "base": base}
    return TASK.format(**values) + HOOK.format(**values)


def write_distribution(folder: Path, name: str, version: str, entries: str, **modules: str) -> Path:
    metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (metadata / "entry_points.txt").write_text(f"[console_scripts]\nx = y:z\n\n[nlpkit]\n{entries}\n")
    for module, source in modules.items():
        (folder / f"{module}.py").write_text(textwrap.dedent(source))
    return metadata


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder at the head of sys.path, with a core of its own, so that what is installed here does not matter."""
    folder = tmp_path / "site"
    write_distribution(folder, "nlpkit-core", "0.1.0", "mlm = nlpkit.objectives.mlm")
    for ours in ("nlpkit-ner", "nlpkit-sentiment", "nlpkit-translation"):
        write_distribution(folder, ours, "0.1.0", "")
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    monkeypatch.setattr(registry_module, "_said", set())
    monkeypatch.delenv("NLPKIT_PLUGINS", raising=False)
    before = set(sys.modules)
    yield folder
    for module in set(sys.modules) - before:
        if str(getattr(sys.modules[module], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[module]


@pytest.fixture
def install(site: Path) -> Install:
    def write(name: str, source: str, version: str = "0.3.0", entry: str = "") -> Path:
        module = name.replace("-", "_") + "_plugin"
        return write_distribution(site, f"nlpkit-{name}", version, f"{entry or name} = {module}", **{module: source})

    return write


def refused(registry: Registry) -> Problem:
    (problem,) = registry.problems()
    return problem


def assert_rest_works(registry: Registry) -> None:
    assert "mlm" in registry.tasks()


def test_plugins_are_listed_without_importing_any(install: Install) -> None:
    install("emotion", "raise SystemExit('imported')")

    listed = Registry().plugins()

    assert Plugin("emotion", "nlpkit-emotion", "0.3.0", "emotion_plugin") in listed
    assert "emotion_plugin" not in sys.modules


def test_plugins_of_the_core_come_first(install: Install) -> None:
    install("aaa", task("aaa"))

    assert [plugin.name for plugin in Registry().plugins()][:2] == ["mlm", "aaa"]


def test_task_is_found_by_its_own_name_not_the_plugins(install: Install) -> None:
    install("emotion", task("six-emotions"))

    registry = Registry()

    assert registry.task("six-emotions", stage="finetune").name == "six-emotions"
    assert registry.owner("task", "six-emotions").distribution == "nlpkit-emotion"


def test_entry_point_may_name_an_object(site: Path) -> None:
    source = TASK.format(cls="Odd", name="odd", stage="finetune", base="Task") + (
        "class Hooks:\n    @nlpkit.hookimpl\n    def nlpkit_tasks(self): return [Odd]\n\nhooks = Hooks()\n"
    )
    write_distribution(site, "nlpkit-odd", "1.0", "odd = odd_plugin:hooks [extra]", odd_plugin=source)

    assert Registry().task("odd").name == "odd"


def test_two_objectives_and_tasks_are_told_apart(install: Install) -> None:
    install("emotion", task("emotion"))
    install("clm", task("clm", stage="pretrain"))

    registry = Registry()

    assert list(registry.tasks("pretrain")) == ["clm", "mlm"]
    assert list(registry.tasks("finetune")) == ["emotion"]


def test_objective_asked_for_as_task_names_the_verb(site: Path) -> None:
    with pytest.raises(UsageError) as error:
        Registry().task("mlm", stage="finetune")

    assert str(error.value) == "'mlm' is an objective, not a task\nhint: nlpkit pretrain --objective mlm"


def test_task_asked_for_as_objective_names_the_verb(install: Install) -> None:
    install("emotion", task("emotion"))

    with pytest.raises(UsageError) as error:
        Registry().task("emotion", stage="pretrain")

    assert str(error.value) == "'emotion' is a task, not an objective\nhint: nlpkit fit --task emotion"


def test_unknown_task_gives_the_nearest_and_all_names(install: Install) -> None:
    install("emotion", task("emotion"))
    install("topic", task("topic"))

    with pytest.raises(UsageError) as error:
        Registry().task("emotoin", stage="finetune")

    assert str(error.value) == (
        "unknown task 'emotoin'\nhint: did you mean 'emotion'? known tasks: emotion, topic; see nlpkit tasks"
    )


def test_unknown_task_of_our_own_says_what_to_install(site: Path) -> None:
    with pytest.raises(UsageError) as error:
        Registry().task("ner", stage="finetune")

    assert str(error.value) == "unknown task 'ner'\nhint: known tasks: none; see nlpkit tasks; pip install nlpkit-ner"


def test_unknown_task_of_a_stranger_suggests_no_package(site: Path) -> None:
    with pytest.raises(UsageError) as error:
        Registry().task("evil", stage="finetune")

    assert "pip" not in str(error.value)


BROKEN = {
    "import of a missing module": ("import no_such_module", "import", "ModuleNotFoundError: .*'no_such_module'.*:1.*"),
    "import of a missing name": ("from nlpkit.task import Nothing", "import", "ImportError: cannot import name .*"),
    "error while importing": ("x = 1\n1 / 0", "import", r"ZeroDivisionError: division by zero \(.*_plugin.py:2\)"),
    "syntax": ("x = 1\ny = (", "import", r".*bad_plugin.py:2: '\(' was never closed"),
    "exit": ("import sys; sys.exit(0)", "import", r"SystemExit: 0 \(.*_plugin.py:1\)"),
    "recursion": ("def f(): f()\nf()", "import", r"RecursionError: maximum recursion depth exceeded.*"),
    "bare exception": ("raise BaseException('no')", "import", r"BaseException: no \(.*_plugin.py:1\)"),
    "an interrupt of its own": ("raise KeyboardInterrupt", "import", r"KeyboardInterrupt \(.*_plugin.py:1\)"),
    "generator exit": ("raise GeneratorExit", "import", r"GeneratorExit \(.*_plugin.py:1\)"),
    "exception that cannot be shown": (
        "class Mute(Exception):\n    def __str__(self): raise ValueError\nraise Mute",
        "import",
        r"Mute \(.*_plugin.py:3\)",
    ),
    "null byte": ("x = '\0'", "import", r".*null bytes.*"),
    "hook raises": (
        "import nlpkit\n@nlpkit.hookimpl\ndef nlpkit_tasks(): raise KeyError('x')",
        "nlpkit_tasks",
        r"KeyError: 'x' \(.*_plugin.py:3\)",
    ),
    "hook exits": (
        "import nlpkit\n@nlpkit.hookimpl\ndef nlpkit_heads(): raise SystemExit",
        "nlpkit_heads",
        r"SystemExit \(.*_plugin.py:3\)",
    ),
    "no hooks": ("x = 1", "registration", r"this plugin registers nothing: is @nlpkit.hookimpl missing\?"),
    "undecorated hook": (
        "def nlpkit_tasks(): return []",
        "registration",
        r"nlpkit_tasks is not registered: is @nlpkit.hookimpl missing\?",
    ),
    "one of two hooks undecorated": (
        task("good") + "def nlpkit_heads(): return {}",
        "registration",
        r"nlpkit_heads is not registered: is @nlpkit.hookimpl missing\?",
    ),
    "misspelt hook": (
        "import nlpkit\n@nlpkit.hookimpl\ndef nlpkit_task(): return []",
        "registration",
        r"there is no hook 'nlpkit_task'; did you mean 'nlpkit_tasks'\? known hooks: .*",
    ),
    "wrong argument": (
        "import nlpkit\n@nlpkit.hookimpl\ndef nlpkit_tasks(config): return []",
        "registration",
        r"nlpkit_tasks asks for the argument 'config', but is called with no arguments",
    ),
    "later API": (
        "NLPKIT_API = 2\n" + task("good"),
        "registration",
        r"written for version 2 of nlpkit's hooks, this nlpkit has version 1: pip install --upgrade nlpkit-core",
    ),
    "later API that lacks a name": (
        "from nlpkit import Later\nNLPKIT_API = 2\n",
        "registration",
        r"written for version 2 of nlpkit's hooks, this nlpkit has version 1: pip install --upgrade nlpkit-core",
    ),
    "later API, annotated": (
        "from nlpkit import Later\nNLPKIT_API: int = 7\n",
        "registration",
        r"written for version 7 of nlpkit's hooks, this nlpkit has version 1: pip install --upgrade nlpkit-core",
    ),
    "earlier API": (
        "NLPKIT_API = 0\n" + task("good"),
        "registration",
        r"written for version 0 of nlpkit's hooks, this nlpkit has version 1: pip install --upgrade nlpkit-bad",
    ),
    "odd API": (
        "NLPKIT_API = '1'\n" + task("good"),
        "registration",
        r"NLPKIT_API is '1', expected the version of nlpkit's hooks, 1",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_plugin_is_named_and_the_rest_works(case: str, install: Install) -> None:
    source, moment, error = BROKEN[case]
    install("bad", source)
    install("emotion", task("emotion"))

    registry = Registry()

    assert_rest_works(registry)
    assert registry.task("emotion").name == "emotion"
    problem = refused(registry)
    assert problem.moment == moment
    assert re.fullmatch(error, problem.error)
    assert str(problem).startswith(f"plugin 'bad' (nlpkit-bad 0.3.0): {moment}: ")


RUBBISH = {
    "None": ("None", "returned None, expected a list of task classes"),
    "a generator": ("(t for t in [Good])", "returned a generator, expected a list of task classes"),
    "a class": ("Good", "returned the class Good, expected a list of task classes"),
    "a dict": ("{'good': Good}", "returned a dict, expected a list of task classes"),
    "a text": ("'good'", "returned a str, expected a list of task classes"),
    "a list of names": ("['good']", "returned a list with a str, expected task classes"),
    "an instance": ("[Good(None, None)]", "returned a list with a Good, expected task classes"),
    "another class": ("[dict]", "returned the class dict, which is no subclass of nlpkit.Task"),
    "no name": ("[Good, Nameless]", "Nameless has no name"),
    "an odd name": ("[Good, type('Bad', (Good,), {'name': 'Good_Task'})]", "Bad.name is 'Good_Task', expected "),
    "a path as name": ("[type('Bad', (Good,), {'name': '../evil'})]", "Bad.name is '../evil', expected "),
    "an empty name": ("[type('Bad', (Good,), {'name': ''})]", "Bad.name is '', expected "),
    "a number as name": ("[type('Bad', (Good,), {'name': 7})]", "Bad.name is 7, expected "),
    "an unknown stage": ("[type('Bad', (Good,), {'stage': 'both'})]", "Bad.stage is 'both', expected "),
    "an abstract class": ("[type('Bad', (nlpkit.Task,), {'name': 'bad'})]", "Bad does not define build_head, "),
    "one name twice": ("[Good, type('Bad', (Good,), {})]", "returned two tasks of the name 'good'"),
    "no config": ("[type('Bad', (Good,), {'config_class': dict})]", "Bad.config_class is the class dict, expected "),
    "a config without @dataclass": ("[type('Bad', (Good,), {'config_class': Plain})]", "Plain has settings of its own"),
    "what raises when read": ("Evil()", "ValueError: read"),
    "fields of another kind": (
        "[type('Bad', (Good,), {'fields': {'text': 'text'}})]",
        "Bad.fields has a str at 'text', ",
    ),
    "fields in a list": ("[type('Bad', (Good,), {'fields': ['text']})]", "Bad.fields is a list, expected a dict of "),
    "no field of new texts": (
        "[type('Bad', (Good,), {'fields': {'text': nlpkit.Field(('text',), required=False)}})]",
        "Bad.fields has no field that is required, so that new texts would be empty",
    ),
    "a method with too few arguments": (
        "[type('Bad', (Good,), {'decode': lambda self, predictions: []})]",
        "Bad.decode(self, predictions) cannot be called as decode(self, predictions, batch)",
    ),
    "a method that needs more": (
        "[type('Bad', (Good,), {'__init__': lambda self, config, tokenizer, more, other=2: None})]",
        "Bad.__init__(self, config, tokenizer, more, other=2) cannot be called as __init__(self, config, tokenizer)",
    ),
    "a method of an objective": (
        "[type('Bad', (Objective,), {**vars(Good), 'overhead': 2, 'stage': 'pretrain', 'encode_tokens': lambda: {}})]",
        "Bad.encode_tokens() cannot be called as encode_tokens(self, tokens)",
    ),
    "no classmethod": (
        "[type('Bad', (Good,), {'prepare': lambda cls, config, examples: config})]",
        "Bad.prepare is no",
    ),
    "a classmethod without its class": (
        "[type('Bad', (Good,), {'labels_of': classmethod(lambda example: [])})]",
        "Bad.labels_of(example) cannot be called as labels_of(cls, example)",
    ),
    "no method": ("[type('Bad', (Good,), {'about_scores': {}})]", "Bad.about_scores is a dict, expected a method"),
    "no property": (
        "[type('Bad', (Good,), {'encode': property(print)})]",
        "Bad.encode is a property, expected a method",
    ),
    "defaults in a list": ("[type('Bad', (Good,), {'defaults': []})]", "Bad.defaults is a list, expected a dict of "),
    "no padding": ("[type('Bad', (Good,), {'padding': None})]", "Bad.padding is None, expected a dict such as {**"),
    "a function as score": ("[type('Bad', (Good,), {'score': print})]", "Bad.score is a builtin_function_or_method, "),
    "a path as sample": (
        "[type('Bad', (Good,), {'sample': ('a.csv',)})]",
        "Bad.sample is a tuple, expected the name of ",
    ),
}


@pytest.mark.parametrize("case", RUBBISH)
def test_rubbish_from_nlpkit_tasks_is_refused_as_a_whole(case: str, install: Install) -> None:
    """D10."""
    value, error = RUBBISH[case]
    more = """
from nlpkit import Objective
class Nameless(Good):
    name = None
class Plain(nlpkit.TaskConfig):
    rate: float = 0.5
class Evil(list):
    def __iter__(self): raise ValueError("read")
@nlpkit.hookimpl
def nlpkit_heads(): return {"good-head": print}
@nlpkit.hookimpl
def nlpkit_tasks(): return """
    install("bad", TASK.format(cls="Good", name="good", stage="finetune", base="Task") + more + value)

    registry = Registry()

    assert_rest_works(registry)
    assert refused(registry).moment == "nlpkit_tasks"
    assert refused(registry).error.startswith(error)
    assert "good-head" not in registry.heads()
    assert "good" not in registry.tasks()


def test_methods_may_take_more_and_be_of_other_kinds(install: Install) -> None:
    free = """
    import functools
    check = staticmethod(lambda example: example)
    build_metrics = functools.wraps(len)(lambda *given: None)
    decode = classmethod(lambda cls, predictions, batch, more=None, *, other=None: [])
    complete = functools.partialmethod(print, "")
    page = print
"""
    install("free", task("free").replace("\n@nlpkit", f"{free}@nlpkit"))

    assert "free" in Registry().tasks()


NAMED = {
    ("nlpkit_heads", "None"): "returned None, expected a dict of heads by name",
    ("nlpkit_heads", "[print]"): "returned a list, expected a dict of heads by name",
    ("nlpkit_heads", "{'a': 7}"): "head 'a' is an int, expected a function that makes one",
    ("nlpkit_heads", "{'a': lambda task: None}"): "head 'a' cannot be called with (task, backbone)",
    ("nlpkit_metrics", "{'a': dict.fromkeys, 'b': lambda: None}"): "metric 'b' cannot be called with (task)",
    ("nlpkit_datasets", "{'a': nlpkit.Dataset(lambda *, columns: [])}"): "reader 'a' cannot be called with (path)",
    ("nlpkit_datasets", "{'a': nlpkit.Dataset('a.csv')}"): "reader 'a' cannot be called with (path)",
    (
        "nlpkit_datasets",
        "{'a': nlpkit.Dataset(lambda path: [], sides=('x', 'y'))}",
    ): "reader 'a' cannot be called with (x, y)",
    ("nlpkit_metrics", "{7: print}"): "returned a metric of the name 7, expected letters, digits, '-', '_' and '.'",
    ("nlpkit_metrics", "{'a b': print}"): "returned a metric of the name 'a b', expected letters, ",
    ("nlpkit_datasets", "{'a': '/tmp/a.csv'}"): "dataset 'a' is a str, expected an nlpkit.Dataset",
    ("nlpkit_datasets", "{'a': nlpkit.Dataset(print, sides='text')}"): "sides of dataset 'a' are 'text', expected a ",
    ("nlpkit_datasets", "{'a': nlpkit.Dataset(print, sides=('text',))}"): "sides of dataset 'a' are ('text',), exp",
}


@pytest.mark.parametrize(("hook", "value"), NAMED)
def test_rubbish_from_the_other_hooks_is_refused(hook: str, value: str, install: Install) -> None:
    install("bad", f"import nlpkit\n@nlpkit.hookimpl\ndef {hook}(): return {value}")

    problem = refused(Registry())

    assert problem.moment == hook
    assert problem.error.startswith(NAMED[hook, value])


@pytest.mark.parametrize("then", ["raise", "raise KeyboardInterrupt('all is closed')"])
def test_ctrl_c_while_a_plugin_is_imported_is_not_swallowed(then: str, install: Install) -> None:
    source = "import signal\ntry:\n    signal.raise_signal(signal.SIGINT)\nexcept KeyboardInterrupt:\n    "
    install("bad", source + then)

    with pytest.raises(KeyboardInterrupt):
        Registry().tasks()


def test_broken_plugin_is_said_once_with_its_version(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    install("bad", "x = 1")

    with caplog.at_level("WARNING", "nlpkit"):
        Registry().tasks()
        Registry().heads()

    assert [record.getMessage() for record in caplog.records] == [
        "left out: plugin 'bad' (nlpkit-bad 0.3.0): registration: this plugin registers nothing: "
        "is @nlpkit.hookimpl missing?; see nlpkit plugins doctor"
    ]


def test_problem_keeps_the_traceback_for_the_author(install: Install) -> None:
    install("bad", "def inner():\n    return 1 / 0\ninner()")

    assert "in inner\n" in refused(Registry()).traceback


def test_task_of_a_broken_plugin_is_a_plugin_error(install: Install) -> None:
    install("emotion", "x = 1")

    with pytest.raises(PluginError) as error:
        Registry().task("emotion", stage="finetune")

    assert str(error.value) == (
        "no task 'emotion': plugin 'emotion' (nlpkit-emotion 0.3.0): registration: this plugin registers nothing: "
        "is @nlpkit.hookimpl missing?\nhint: nlpkit plugins doctor -v"
    )


def test_task_that_a_refused_plugin_offered_is_a_plugin_error(install: Install) -> None:
    install("bad", task("good") + "@nlpkit.hookimpl\ndef nlpkit_heads(): return 7")

    with pytest.raises(PluginError, match="no task 'good': plugin 'bad'"):
        Registry().task("good", stage="finetune")


def test_two_plugins_with_one_task_are_both_named(install: Install) -> None:
    install("first", task("emotion"), version="1.0")
    install("second", task("emotion"), version="2.0")

    with pytest.raises(PluginError) as error:
        Registry().task("emotion", stage="finetune")

    assert str(error.value) == (
        "task 'emotion' is registered by 'first' (nlpkit-first 1.0) and by 'second' (nlpkit-second 2.0)\n"
        "hint: pip uninstall nlpkit-second"
    )


def test_clash_leaves_other_tasks_alone(install: Install) -> None:
    install("first", task("emotion"))
    install("second", task("emotion"))
    install("topic", task("topic"))

    registry = Registry()

    assert list(registry.tasks("finetune")) == ["topic"]
    assert registry.task("topic").name == "topic"
    assert str(refused(registry)) == (
        "plugin 'second' (nlpkit-second 0.3.0): clash: "
        "task 'emotion' is also registered by 'first' (nlpkit-first 0.3.0)"
    )


def test_clash_of_three_plugins_names_all(install: Install) -> None:
    for name in ("first", "second", "third"):
        install(name, task("emotion"))

    with pytest.raises(PluginError) as error:
        Registry().task("emotion")

    assert [name in str(error.value) for name in ("nlpkit-first", "nlpkit-second", "nlpkit-third")] == [True] * 3


def test_clash_of_heads_is_an_error_when_asked_for(install: Install) -> None:
    for name in ("first", "second"):
        install(name, "import nlpkit\n@nlpkit.hookimpl\ndef nlpkit_heads(): return {'mean': lambda t, b: None}")

    with pytest.raises(PluginError, match="head 'mean' is registered by 'first'"):
        Registry().head("mean")


def test_one_plugin_under_two_names_is_no_clash(site: Path) -> None:
    write_distribution(site, "nlpkit-twin", "1.0", "a = twin_plugin\nb = twin_plugin", twin_plugin=task("twin"))

    assert Registry().task("twin").name == "twin"


def test_entry_names_of_two_distributions_are_both_kept(install: Install) -> None:
    install("first", task("emotion"), entry="shop")
    install("second", task("topic"), entry="shop")

    registry = Registry()

    assert [p.distribution for p in registry.plugins() if p.name == "shop"] == ["nlpkit-first", "nlpkit-second"]
    assert list(registry.tasks("finetune")) == ["emotion", "topic"]


def test_heads_datasets_and_metrics_are_found_by_name(install: Install) -> None:
    source = """
        import nlpkit
        @nlpkit.hookimpl
        def nlpkit_heads(): return {"mean": max}
        @nlpkit.hookimpl
        def nlpkit_metrics(): return {"kappa": max}
        @nlpkit.hookimpl
        def nlpkit_datasets(): return {"sample": nlpkit.Dataset(about="ours")}
    """
    install("many", source)

    registry = Registry()

    assert registry.head("mean") is max
    assert registry.metric("kappa") is max
    assert registry.dataset("sample").about == "ours"
    with pytest.raises(UsageError) as error:
        registry.head("maen")
    assert str(error.value) == "unknown head 'maen'\nhint: did you mean 'mean'? known heads: mean"


def test_wrapper_of_one_plugin_does_not_reach_another(install: Install) -> None:
    install(
        "greedy",
        task("greedy")
        + "@nlpkit.hookimpl(wrapper=True, specname='nlpkit_tasks')\ndef mine():\n    yield\n    return [[]]\n",
    )
    install("emotion", task("emotion"))

    assert "emotion" in Registry().tasks()


def test_environment_selects_plugins_and_keeps_the_core(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("emotion", task("emotion"))
    install("topic", task("topic"))
    install("bad", "1 / 0")
    monkeypatch.setenv("NLPKIT_PLUGINS", "emotion, nlpkit-topic")

    registry = Registry()

    assert list(registry.tasks()) == ["emotion", "mlm", "topic"]
    assert registry.problems() == []


def test_environment_that_names_no_plugin_is_an_error(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("emotion", task("emotion"))
    monkeypatch.setenv("NLPKIT_PLUGINS", "emotoin")

    with pytest.raises(PluginError, match=r"NLPKIT_PLUGINS lists 'emotoin', which is not installed"):
        Registry().tasks()


def test_switched_off_plugin_is_said_to_be_so(install: Install) -> None:
    install("emotion", task("emotion"))

    with pytest.raises(PluginError) as error:
        Registry(enabled=()).task("emotion", stage="finetune")

    assert str(error.value) == (
        "no task 'emotion': plugin 'emotion' (nlpkit-emotion 0.3.0) is switched off\n"
        "hint: leave out NLPKIT_PLUGINS or --no-plugins, or set NLPKIT_PLUGINS=emotion"
    )


def test_file_is_a_plugin(site: Path, tmp_path: Path) -> None:
    file = tmp_path / "my task.py"
    file.write_text(task("emotion"))

    registry = Registry([str(file)])

    assert registry.task("emotion").name == "emotion"
    assert registry.owner("task", "emotion") == Plugin("my task", "", "", str(file))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my task.py", "site"]


PACKAGES = {
    "relative": ("mood", "from .reader import NAME"),
    "by its own name": ("mood", "from mood.reader import NAME"),
    "of the name of another module": ("json", "from .reader import NAME"),
}


@pytest.mark.parametrize("given", ["", "/", "/__init__.py"])
@pytest.mark.parametrize("case", PACKAGES)
def test_folder_of_several_modules_is_a_plugin(case: str, given: str, site: Path, tmp_path: Path) -> None:
    name, imports = PACKAGES[case]
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text(f"{imports}\n" + task("emotion").replace('"emotion"', "NAME"))
    (tmp_path / name / "reader.py").write_text("NAME = 'six-emotions'\n")

    registry = Registry([f"{tmp_path}/{name}{given}", f"{tmp_path}/{name}"])

    assert registry.owner("task", "six-emotions") == Plugin(name, "", "", f"{tmp_path}/{name}/__init__.py")
    assert Registry([f"{tmp_path}/{name}"]).task("six-emotions") is registry.task("six-emotions")


SEVERAL = "; a plugin of several files is a folder with __init__.py: --plugin FOLDER"
IMPORTS = {
    "of a file beside it": ("mood.py", "import mood_reader", SEVERAL),
    "relative": ("mood.py", "from .mood_reader import NAME", SEVERAL),
    "of what is not there": (
        "mood.py",
        "import mood_words.of",
        "; install what brings mood_words, if it is a dependency",
    ),
    "in a package": ("__init__.py", "import mood_reader", "; a module of the same package: from . import mood_reader"),
    "of a part that is not there": ("mood.py", "import json.words", ""),
}


@pytest.mark.parametrize("case", IMPORTS)
def test_file_that_cannot_import_says_how_it_could(case: str, site: Path, tmp_path: Path) -> None:
    name, source, hint = IMPORTS[case]
    (tmp_path / "mood_reader.py").write_text("")
    (tmp_path / name).write_text(source)

    with pytest.raises(PluginError) as error:
        Registry([f"{tmp_path}/{name}"]).tasks()

    assert error.value.hint == f"correct the file, or leave out its --plugin{hint}"


def test_file_may_hold_dataclasses(site: Path, tmp_path: Path) -> None:
    file = tmp_path / "emotion.py"
    config = "from __future__ import annotations\nfrom dataclasses import dataclass\nimport nlpkit\n@dataclass\n"
    config += "class Config(nlpkit.TaskConfig):\n    rate: float = 0.5\n"
    file.write_text(config + task("emotion"))

    assert "emotion" in Registry([str(file)]).tasks()


def test_file_named_twice_is_loaded_once(site: Path, tmp_path: Path) -> None:
    file = tmp_path / "emotion.py"
    file.write_text(task("emotion"))

    assert Registry([str(file), os.path.relpath(file)]).task("emotion").name == "emotion"


NONE = "import nlpkit\n@nlpkit.hookimpl\ndef nlpkit_tasks(): pass\n"
FILES = {
    "syntax": ("import nlpkit\ndef f(:\n", "emotion.py:2: invalid syntax"),
    "exception": ("\n1 / 0", "emotion.py: ZeroDivisionError: division by zero ("),
    "nothing": ("", "emotion.py: this plugin registers nothing: is @nlpkit.hookimpl missing?"),
    "hook": (NONE, "emotion.py: nlpkit_tasks: returned None, expected a list of task classes"),
}


@pytest.mark.parametrize("case", FILES)
def test_file_that_is_broken_is_an_error(case: str, site: Path, tmp_path: Path) -> None:
    source, message = FILES[case]
    file = tmp_path / "emotion.py"
    file.write_text(source)

    with pytest.raises(PluginError) as error:
        Registry([str(file)]).tasks()

    assert error.value.message.startswith(f"{tmp_path}/{message}")
    assert error.value.hint == "correct the file, or leave out its --plugin"


def test_file_that_takes_itself_out_of_the_modules_says_why_it_fails(site: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import sys\ndel sys.modules[__name__]\n1 / 0\n")

    with pytest.raises(PluginError, match="ZeroDivisionError"):
        Registry([str(tmp_path / "mine.py")]).task("mine")


NO_FILES = {
    "emotion.txt": "emotion.txt: not a .py file",
    "emotoin": "emotoin: no such file or folder",
    "words": "words/__init__.py: missing, and words is no package without it",
    "": "--plugin: no such file or folder",
}


@pytest.mark.parametrize("given", NO_FILES)
def test_path_that_is_no_plugin_is_not_run(
    given: str, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("emotion.txt").write_text(task("emotion"))
    Path("words").mkdir()

    with pytest.raises(PluginError) as error:
        Registry([given]).tasks()

    assert error.value.message == NO_FILES[given]
    assert error.value.hint == "--plugin takes a .py file, or a folder with __init__.py"


def test_files_of_one_name_are_refused(site: Path, tmp_path: Path) -> None:
    one, two = str(tmp_path / "emotion.py"), str(tmp_path / "site" / "emotion.py")
    for file in (one, two):
        Path(file).write_text(task("emotion"))

    with pytest.raises(UsageError, match=f"--plugin {one} and --plugin {two} are both called 'emotion'"):
        Registry([one, two]).tasks()


DATASET = "@nlpkit.hookimpl\ndef nlpkit_datasets(): return {'few': nlpkit.Dataset(read=print)}\n"


@pytest.mark.parametrize("path", ["site/emotion_plugin.py", "checkout/emotion_plugin/__init__.py"])
def test_file_counts_instead_of_the_installed_plugin_that_it_is(
    path: str, install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NLPKIT_PLUGINS", "emotion")
    install("emotion", task("emotion") + DATASET)
    file = tmp_path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    itself = "import emotion_plugin\nassert emotion_plugin.__file__ == __file__\n"
    file.write_text(itself + task("emotion") + DATASET)

    registry = Registry([str(file)])

    assert registry.dataset("few").read is print
    assert registry.owner("task", "emotion").value == str(file)
    assert (Plugin("emotion", "nlpkit-emotion", "0.3.0", "emotion_plugin"), f"--plugin {file}") in registry.installed()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("1 / 0", ("does not load: import: ZeroDivisionError", "nlpkit plugins doctor -v --plugin emotion.py")),
        (task("emotion"), ("is given, without it", "give the file as it was then")),
        (None, ("is not given", "--plugin emotion.py")),
    ],
)
def test_why_a_file_does_not_give_what_it_gave(
    source: str | None, said: tuple[str, str], site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("emotion.py").write_text(source or "")

    reason, hint = Registry(["emotion.py"] if source else []).absence(Plugin("emotion", "", "", "emotion.py"))

    assert (reason.startswith(said[0]), hint) == (True, said[1])


def test_task_of_a_file_that_clashes_names_both(install: Install, tmp_path: Path) -> None:
    install("emotion", task("emotion"))
    file = tmp_path / "emotion.py"
    file.write_text(task("emotion"))

    with pytest.raises(PluginError) as error:
        Registry([str(file)]).task("emotion")

    assert str(error.value) == (
        f"task 'emotion' is registered by 'emotion' (nlpkit-emotion 0.3.0) and by 'emotion' ({file})\n"
        f"hint: leave out --plugin {file}"
    )


def test_printing_plugin_leaves_stdout_alone(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install("loud", "print('hello')\n" + task("loud"))

    assert "loud" in Registry().tasks()

    assert capsys.readouterr() == ("", "hello\n")


def test_stdout_of_a_loading_plugin_is_like_any_other(install: Install, capfd: pytest.CaptureFixture[str]) -> None:
    asks = "import sys\nassert sys.stdout.encoding\nsys.stdout.fileno()\nsys.stdout.writelines(['a', 'b' * 9999])\n"
    install("loud", asks + task("loud"))

    (loud,) = (one for one in Registry().loaded() if one.plugin.name == "loud")

    assert loud.problem is None
    assert loud.printed == "a" + "b" * 999
    assert capfd.readouterr() == ("", "a" + "b" * 9999)


def test_metadata_of_a_distribution_counts_once_for_all_folders(site: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_distribution(site, "nlpkit-emotion", "2.0", "emotion = a")
    write_distribution(other, "nlpkit_Emotion", "1.0", "emotion = a")

    plugins, problems = find_installed([str(site), str(other)])

    assert [p.version for p in plugins if p.name == "emotion"] == ["2.0"]
    assert problems == []


def test_metadata_of_two_versions_side_by_side_is_a_problem(site: Path) -> None:
    write_distribution(site, "nlpkit-emotion", "0.9", "emotion = a")
    write_distribution(site, "nlpkit-emotion", "1.0", "emotion = a")

    plugins, (problem,) = find_installed([str(site)])

    assert [p.version for p in plugins if p.name == "emotion"] == ["1.0"]
    assert problem.error == "installed twice, also as version 0.9; reinstall nlpkit-emotion"


def test_metadata_without_a_version_in_its_name_is_read_inside(site: Path) -> None:
    write_distribution(site, "nlpkit-emotion", "1.5", "emotion = a").rename(site / "nlpkit_emotion.egg-info")

    plugins, _ = find_installed([str(site)])

    assert [p.owner for p in plugins if p.name == "emotion"] == ["nlpkit-emotion 1.5"]


@pytest.mark.parametrize("line", ["emotion", "emotion =", "= emotion", "emotion = a b", "a b = c", "emotion = os; x"])
def test_metadata_line_that_is_no_entry_point_is_a_problem(line: str, site: Path) -> None:
    write_distribution(site, "nlpkit-bad", "1.0", f"{line}\ntopic = topic_plugin")

    plugins, (problem,) = find_installed([str(site)])

    assert "topic" in [plugin.name for plugin in plugins]
    assert str(problem) == (
        f"plugin '?' (nlpkit-bad 1.0): metadata: entry point {line!r} is not of the form NAME = MODULE"
    )


def test_metadata_that_is_damaged_is_passed_over(site: Path, tmp_path: Path) -> None:
    (site / "empty-1.0.dist-info").mkdir()
    (site / "file-1.0.dist-info").write_text("not a folder")
    (site / "-.dist-info").mkdir()
    (site / "binary-1.0.dist-info").mkdir()
    (site / "binary-1.0.dist-info" / "entry_points.txt").write_bytes(bytes(range(256)) * 10)

    plugins, problems = find_installed([str(site), str(tmp_path / "absent"), str(site / "empty-1.0.dist-info")])

    assert [plugin.name for plugin in plugins] == ["mlm"]
    assert problems == []


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.one_of(st.binary(), st.text().map(lambda text: ("[nlpkit]\n" + text).encode("utf-8", "replace"))))
def test_metadata_of_any_content_never_raises(content: bytes, site: Path) -> None:
    folder = site / "odd-1.0.dist-info"
    folder.mkdir(exist_ok=True)
    (folder / "entry_points.txt").write_bytes(content)

    plugins, _ = find_installed([str(site)])

    assert "mlm" in [plugin.name for plugin in plugins]


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(print) | st.just(dict),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner, inner),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(hook=st.sampled_from(sorted(KINDS)), value=json_like)
def test_check_of_any_value_is_a_dict_by_name_or_rubbish(hook: str, value: Any) -> None:
    names: list[Any] = []
    with contextlib.suppress(Rubbish):
        names = list(check(hook, value))

    assert all(isinstance(name, str) for name in names)


def test_uninstalled_nlpkit_says_how_to_install_it(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(site.parent)])

    with pytest.raises(NlpkitError) as error:
        Registry().task("mlm", stage="pretrain")

    assert str(error.value) == (
        "unknown objective 'mlm'\nhint: known objectives: none; see nlpkit tasks; nlpkit runs from a folder "
        "without being installed, so that plugins are not found: pip install -e that folder"
    )
