"""``nlpkit plugins doctor``: what plugins need, what they take, and what they change for everybody else."""

from __future__ import annotations

import json
import logging
import os
import random
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from plugin_site import PluginSite, mood

from nlpkit.plugins import Registry
from nlpkit.plugins.checkup import examine

OWNER = "plugin 'mood' (nlpkit-mood 0.3.0)"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PluginSite]:
    site = PluginSite(tmp_path / "site")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(str(site.folder))
    yield site
    site.forget()


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process as it was, whatever a plugin has done to it."""
    root, ours = logging.getLogger(), logging.getLogger("nlpkit")
    folder, dtype, threads = os.getcwd(), torch.get_default_dtype(), torch.get_num_threads()
    level, handlers, disabled = root.level, list(root.handlers), root.manager.disable
    of_ours = ours.level, ours.disabled
    variables, path, limit, hook = dict(os.environ), list(sys.path), sys.getrecursionlimit(), sys.excepthook
    received = signal.getsignal(signal.SIGTERM)
    with warnings.catch_warnings():
        yield
    root.level, root.handlers, root.manager.disable = level, handlers, disabled
    ours.level, ours.disabled = of_ours
    os.chdir(folder)
    torch.set_default_dtype(dtype)
    torch.set_default_device(None)
    torch.set_grad_enabled(True)
    torch.set_num_threads(threads)
    os.environ.clear()
    os.environ.update(variables)
    sys.path[:], sys.excepthook = path, hook
    sys.setrecursionlimit(limit)
    signal.signal(signal.SIGTERM, received)
    random.seed()


def found(ended: Any, owner: str = OWNER) -> list[str]:
    """What is said of a plugin, without its first line."""
    lines: list[str] = ended.out.splitlines()
    return [line.replace(f"{owner}: ", "") for line in lines if f" {owner}: " in line]


def test_doctor_begins_with_the_versions(site: PluginSite, command: Any) -> None:
    first = command("plugins", "doctor").out.splitlines()[0]

    pattern = r"nlpkit \d\S*, NLPKIT_API 1, Python 3\.\d+\.\d+, torch \S+, transformers \S+, pytorch-lightning \S+"
    assert re.fullmatch(pattern, first)


def test_doctor_of_our_own_plugins_finds_nothing_to_mend(command: Any) -> None:
    ended = command("plugins", "doctor", "--json")

    said = json.loads(ended.out)
    assert ended.code == 0
    assert said["problems"] == []
    assert [finding for finding in said["findings"] if finding["level"] == "warning"] == []


def test_doctor_says_how_long_a_sound_plugin_takes(site: PluginSite, command: Any) -> None:
    site.install("mood", mood())

    ended = command("plugins", "doctor")

    (line,) = [line for line in ended.out.splitlines() if line.startswith("mood ")]
    assert re.fullmatch(r"mood \(nlpkit-mood 0\.3\.0\): tasks: mood \(0\.\d\d s\)", line)
    assert (ended.code, found(ended)) == (0, [])


def test_plugin_that_takes_ten_seconds_to_import_is_named_by_the_doctor_and_to_those_who_wait(site: PluginSite) -> None:
    site.install("mood", "import time\ntime.sleep(10)\n" + mood())
    said: list[str] = []
    registry = Registry(warn=said.append)

    assert registry.task("mood").name == "mood"

    problems, findings = examine(registry)
    (finding,) = [one for one in findings if one.plugin.name == "mood"]
    takes = re.escape(f"{OWNER}: import: takes ") + r"1\d\.\d seconds"
    assert problems == []
    assert re.fullmatch(takes + ": do the work when it is due", str(finding))
    assert len(said) == 1 and re.fullmatch(takes + "; see nlpkit plugins doctor", said[0])


def test_plugin_that_prints_is_said_to(site: PluginSite, command: Any) -> None:
    site.install("mood", "print('hello,')\nprint('world', '!' * 100)\n" + mood())

    ended = command("plugins", "doctor")

    assert found(ended) == [
        f"warning: stdout: prints 'hello, world {'!' * 47}...' as it is imported; use logging",
    ]
    assert ended.err == f"hello,\nworld {'!' * 100}\n"


CHANGES = {
    "import logging; logging.getLogger().setLevel(1)": "the level of the root logger",
    "import logging; logging.disable()": "the level of the root logger",
    "import logging; logging.getLogger().addHandler(logging.NullHandler())": "the handlers of the root logger",
    "import logging; logging.getLogger('nlpkit').setLevel(99)": "the log of nlpkit",
    "import logging; logging.getLogger('nlpkit').disabled = True": "the log of nlpkit",
    "import os; os.chdir('/')": "the working directory",
    "import sys; sys.path.append('/nowhere')": "sys.path",
    "import sys; sys.excepthook = print": "sys.excepthook",
    "import sys; sys.setrecursionlimit(5000)": "the recursion limit",
    "import signal; signal.signal(signal.SIGTERM, print)": "signal handlers",
    "import warnings; warnings.simplefilter('ignore')": "filters that silence all warnings",
    "import os; os.environ['MOOD'] = 'x'; os.environ.pop('HOME')": "the environment (HOME, MOOD)",
    "import random; random.seed(3)": "the seed of random",
    "import numpy; numpy.random.seed(3)": "the seed of numpy",
    "import torch; torch.manual_seed(3)": "the seed of torch",
    "import torch; torch.set_default_dtype(torch.float64)": "torch's default dtype",
    "import torch; torch.set_default_device('meta')": "torch's default device",
    "import torch; torch.set_grad_enabled(False)": "whether torch keeps gradients",
    "import torch; torch.set_num_threads(torch.get_num_threads() + 1)": "torch's number of threads",
    "import threading as t; t.Thread(target=t.Event().wait, args=(9,), name='beat', daemon=True).start()": (
        "the threads that run (beat)"
    ),
}


@pytest.mark.parametrize("statement", CHANGES)
def test_plugin_that_changes_the_process_is_said_to(
    statement: str, restored: None, site: PluginSite, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.seed()
    monkeypatch.setenv("HOME", "/home/somebody")
    site.install("mood", f"{statement}\n" + mood())

    ended = command("plugins", "doctor")

    what = f"changes {CHANGES[statement]} as it is imported, for the whole process"
    assert (ended.code, found(ended)) == (0, [f"warning: state: {what}"])


def fresh_doctor(site: PluginSite) -> dict[str, Any]:
    """What the doctor says in a process that has imported no library yet."""
    path = os.pathsep.join([str(site.folder), *filter(None, sys.path)])
    variables = {**os.environ, "PYTHONPATH": path, "NLPKIT_PLUGINS": "mood"}
    words = [sys.executable, "-m", "nlpkit", "plugins", "doctor", "--json"]
    said: dict[str, Any] = json.loads(subprocess.run(words, capture_output=True, env=variables, check=True).stdout)
    return said


def test_libraries_that_a_plugin_imports_are_no_change_of_its_own(site: PluginSite) -> None:
    site.install("mood", "import torch, transformers\n" + mood())

    (mine,) = [row for row in fresh_doctor(site)["plugins"] if row["name"] == "mood"]

    assert mine["changed"] == []
    assert {"torch", "transformers"} <= set(mine["slow"])


def test_seeds_and_dtype_are_noticed_where_the_plugin_brings_the_library(site: PluginSite) -> None:
    source = "import numpy, torch\nnumpy.random.seed(0)\ntorch.manual_seed(0)\ntorch.set_default_dtype(torch.float16)\n"
    source += "torch.set_default_device('meta')\ntorch.set_grad_enabled(False)\n"
    source += "torch.set_num_interop_threads(torch.get_num_interop_threads() + 1)\n"
    site.install("mood", source + mood())

    said = fresh_doctor(site)

    (mine,) = [row for row in said["plugins"] if row["name"] == "mood"]
    of_torch = ["torch's default dtype", "torch's default device", "whether torch keeps gradients", "the seed of torch"]
    assert mine["changed"] == ["the seed of numpy", *of_torch, "torch's number of threads"]
    assert [f["topic"] for f in said["findings"] if f["plugin"]["name"] == "mood"] == ["import", "state"]


def test_doctor_works_where_the_folder_is_gone_and_a_variable_is_lost(
    restored: None, site: PluginSite, command: Any, tmp_path: Path
) -> None:
    (tmp_path / "gone").mkdir()
    os.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    site.install("mood", "import warnings\nwarnings.filters = None\n" + mood())

    ended = command("plugins", "doctor")

    what = "changes filters that silence all warnings as it is imported, for the whole process"
    assert (ended.code, found(ended)) == (0, [f"warning: state: {what}"])


METADATA = """\
Requires-Dist: nlpkit-core >=9,<10
Requires-Dist: torch
Requires-Dist: no-such-thing >=1.5
Requires-Dist: not-for-us ; python_version < "3"
Requires-Dist: no-such-runtime >=1 ; extra == "onnx"
Requires-Dist: click ; extra == "onnx"
Requires-Dist: no-such-linter ; extra == "dev"
Requires-Dist: of all trades
Provides-Extra: onnx
Provides-Extra: dev
"""


def test_requirements_of_a_plugin_are_held_against_what_is_installed(site: PluginSite, command: Any) -> None:
    import nlpkit

    site.install("mood", mood(), metadata=METADATA)

    ended = command("plugins", "doctor")

    assert ended.code == 5
    assert found(ended) == [
        f"warning: requirement: needs nlpkit-core<10,>=9, installed is {nlpkit.__version__}",
        "warning: requirement: 'of all trades' is no requirement",
        "note: extra: 'onnx' lacks no-such-runtime; pip install 'nlpkit-mood[onnx]'",
        "problem: requirement: needs no-such-thing>=1.5, which is not installed",
    ]


def test_plugin_that_is_switched_off_is_not_examined(
    site: PluginSite, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install("mood", "1 / 0", metadata=METADATA)
    monkeypatch.setenv("NLPKIT_PLUGINS", "-mood")

    ended = command("plugins", "doctor", "--json")

    said = json.loads(ended.out)
    assert (ended.code, said["problems"]) == (0, [])
    assert [(row["name"], row["why_not"]) for row in said["off"]] == [("mood", "NLPKIT_PLUGINS or --no-plugins")]


def test_lines_of_a_plugin_that_fails_to_load_are_the_authors_alone(site: PluginSite, command: Any) -> None:
    site.install("mood", "def inner():\n    return 1 / 0\ninner()\n")

    for ended in (command("plugins", "doctor", "-v"), command("fit", "--task", "mood", "x.csv", "-v")):
        frames = re.findall(r'File ".*/(\w+\.py)", line (\d), in (\S+)', ended.out + ended.err)
        assert ended.code == 5
        assert frames == [("mood_plugin.py", "3", "<module>"), ("mood_plugin.py", "2", "inner")]
