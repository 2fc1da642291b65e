"""The command itself in processes of its own: plugins, streams, exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nlpkit as package
from nlpkit.cli import VERBS

ROOT = Path(package.__file__).parents[1]
FORBIDDEN = ("torch", "pytorch_lightning", "numpy", "omegaconf")
TASK = """
import nlpkit

class {cls}(nlpkit.Task):
    '''Says {name}.

    And more.
    '''
    name = "{name}"
    def encode(self, example): return {{}}
    def build_head(self, backbone): return None
    def build_metrics(self): return None
    def decode(self, predictions, batch): return []

@nlpkit.hookimpl
def nlpkit_tasks():
    return [{cls}]
"""
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def task(name: str) -> str:
    return TASK.format(cls=name.title(), name=name)


class Site:
    """A folder of distributions that the command finds before those that are installed here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.install("nlpkit-core", "0.1.0", "mlm = nlpkit.objectives.mlm")
        for ours in ("nlpkit-ner", "nlpkit-sentiment", "nlpkit-translation"):
            self.install(ours, "0.1.0", "")

    def install(self, name: str, version: str, entries: str, source: str | None = None) -> None:
        metadata = self.folder / f"{name.replace('-', '_')}-{version}.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (metadata / "entry_points.txt").write_text(f"[nlpkit]\n{entries}\n")
        if source is not None:
            (self.folder / f"{entries.split(' = ')[1]}.py").write_text(textwrap.dedent(source))

    def plugin(self, name: str, source: str, version: str = "0.3.0") -> None:
        self.install(f"nlpkit-{name}", version, f"{name} = {name}_plugin", source)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "site")


@pytest.fixture
def nlpkit(site: Site, tmp_path: Path) -> Run:
    def run(*arguments: str, program: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        path = os.pathsep.join([str(site.folder), str(ROOT)])
        dropped = ("NLPKIT_PLUGINS", "NO_COLOR", "PYTHONDONTWRITEBYTECODE")
        kept = {name: value for name, value in os.environ.items() if name not in dropped}
        command = [sys.executable, *(["-c", program] if program else ["-m", "nlpkit"]), *arguments]
        variables = {**kept, "PYTHONPATH": path, **environment}
        return subprocess.run(command, capture_output=True, text=True, env=variables, cwd=tmp_path, timeout=60)

    return run


def assert_ends(result: subprocess.CompletedProcess[str], code: int, stderr: str) -> None:
    assert (result.returncode, result.stdout, result.stderr) == (code, "", stderr)


def test_help_lists_every_verb_with_its_line(nlpkit: Run) -> None:
    result = nlpkit("--help")

    listed = dict(re.findall(r"^  (\w+)  +(.*)$", result.stdout.partition("Commands:\n")[2], re.MULTILINE))
    assert (result.returncode, result.stderr) == (0, "")
    assert listed == VERBS


def test_help_imports_no_verb_and_nothing_heavy(nlpkit: Run) -> None:
    program = (
        "import sys; from nlpkit.cli import main; code = main(sys.argv[1:]);"
        "print(*sorted(m for m in sys.modules if m.startswith('nlpkit')), file=sys.stderr);"
        f"print([m for m in {(*FORBIDDEN, 'pluggy', 'logging')} if m in sys.modules], file=sys.stderr)"
    )

    result = nlpkit("--help", program=program)

    assert result.stderr == "nlpkit nlpkit.cli nlpkit.signals\n[]\n"


def test_tasks_imports_nothing_heavy(nlpkit: Run) -> None:
    program = (
        "import sys; from nlpkit.cli import main; code = main(sys.argv[1:]);"
        f"print([m for m in {FORBIDDEN} if m in sys.modules], file=sys.stderr)"
    )

    result = nlpkit("tasks", program=program)

    assert result.stderr == "[]\n"
    assert "mlm" in result.stdout


def test_help_of_fit_imports_nothing_that_only_a_run_needs(nlpkit: Run) -> None:
    program = (
        "import sys; from nlpkit.cli import main; code = main(sys.argv[1:]);"
        "print([m for m in ('logging', 'subprocess', 'tempfile', 'importlib.metadata') if m in sys.modules],"
        " file=sys.stderr)"
    )

    result = nlpkit("fit", "--help", program=program)

    assert (result.returncode, result.stderr) == (0, "[]\n")
    assert result.stdout.startswith("Usage: nlpkit fit ")


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "fit"])
def test_verb_has_help_of_its_own(verb: str, command: Any) -> None:
    ended = command(verb, "--help")

    assert ended.code == 0, ended.err
    assert ended.out.startswith(f"Usage: nlpkit {verb} ")


@pytest.mark.parametrize(
    ("verb", "says"),
    [
        ("pretrain", "With FILES it goes on from a finished run"),
        ("pretrain", "Leave out of the corpus what also stands in FILE"),
        ("evaluate", "or a pre-trained one on any text"),
    ],
)
def test_help_says_all_that_an_option_is_for(verb: str, says: str, command: Any) -> None:
    assert says in " ".join(command(verb, "--help").out.split())


def test_version_is_printed(nlpkit: Run) -> None:
    assert nlpkit("--version").stdout == f"nlpkit {package.__version__}\n"


def test_unknown_command_names_the_nearest(nlpkit: Run) -> None:
    assert_ends(
        nlpkit("evalaute"),
        2,
        "error: unknown command 'evalaute'\n"
        "hint: did you mean 'evaluate'? commands: pretrain, fit, evaluate, predict, generate, tokenizer, demo, tasks, "
        "plugins, config\n",
    )


def test_unknown_option_points_to_the_help(nlpkit: Run) -> None:
    result = nlpkit("tasks", "--jsno")

    assert_ends(result, 2, "error: unknown option '--jsno'\nhint: did you mean '--json'? nlpkit tasks --help\n")


def test_tasks_are_listed_with_owner_and_summary(site: Site, nlpkit: Run) -> None:
    site.plugin("emotion", task("emotion"))

    result = nlpkit("tasks")

    assert (result.returncode, result.stderr) == (0, "")
    assert [re.split(" {2,}", line) for line in result.stdout.splitlines()] == [
        ["NAME", "USED BY", "PLUGIN", "SUMMARY"],
        ["emotion", "fit --task", "nlpkit-emotion 0.3.0", "Says emotion."],
        [
            "mlm",
            "pretrain --objective",
            "nlpkit-core 0.1.0",
            "Guess hidden words from both sides: the objective for encoders.",
        ],
    ]


def test_tasks_as_json(site: Site, nlpkit: Run) -> None:
    site.plugin("emotion", task("emotion"))

    (emotion, _) = json.loads(nlpkit("tasks", "--json").stdout)

    assert emotion == {
        "name": "emotion",
        "stage": "finetune",
        "summary": "Says emotion.",
        "plugin": {
            "name": "emotion",
            "distribution": "nlpkit-emotion",
            "version": "0.3.0",
            "value": "emotion_plugin",
        },
    }


def test_plugins_are_listed_without_importing_any(site: Site, nlpkit: Run, tmp_path: Path) -> None:
    site.plugin("emotion", f"open({str(tmp_path / 'imported')!r}, 'w')")

    result = nlpkit("plugins", "list")

    assert (result.returncode, result.stderr) == (0, "")
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["NAME", "DISTRIBUTION", "VERSION", "VALUE", "IN", "USE"],
        ["mlm", "nlpkit-core", "0.1.0", "nlpkit.objectives.mlm", "yes"],
        ["emotion", "nlpkit-emotion", "0.3.0", "emotion_plugin", "yes"],
    ]
    assert not (tmp_path / "imported").exists()


def test_broken_plugin_leaves_other_commands_alone(site: Site, nlpkit: Run) -> None:
    site.plugin("bad", "raise SystemExit(0)")
    site.plugin("emotion", task("emotion"))

    result = nlpkit("config", "show", "--task", "emotion", "--json")

    assert result.returncode == 0
    assert json.loads(result.stdout)["seed"] == 0
    assert result.stderr == (
        f"warning: left out: plugin 'bad' (nlpkit-bad 0.3.0): import: SystemExit: 0 "
        f"({site.folder}/bad_plugin.py:1); see nlpkit plugins doctor\n"
    )


def test_broken_plugin_ends_the_command_that_needs_it(site: Site, nlpkit: Run) -> None:
    site.plugin("bad", "import nlpkit\n\n1 / 0\n")

    result = nlpkit("config", "show", "--task", "bad")

    assert (result.returncode, result.stdout) == (5, "")
    assert result.stderr.splitlines()[-2:] == [
        "error: no task 'bad': plugin 'bad' (nlpkit-bad 0.3.0): import: "
        f"ZeroDivisionError: division by zero ({site.folder}/bad_plugin.py:3)",
        "hint: nlpkit plugins doctor -v",
    ]


def test_clash_ends_the_command_that_asks_for_the_name(site: Site, nlpkit: Run) -> None:
    site.plugin("first", task("emotion"), version="1.0")
    site.plugin("second", task("emotion"), version="2.0")

    result = nlpkit("config", "show", "--task", "emotion")

    assert result.returncode == 5
    assert result.stderr.splitlines()[-2:] == [
        "error: task 'emotion' is registered by 'first' (nlpkit-first 1.0) and by 'second' (nlpkit-second 2.0)",
        "hint: pip uninstall nlpkit-second",
    ]


def doctors_lines(result: subprocess.CompletedProcess[str]) -> list[str]:
    """Without the versions, and without the seconds that imports take."""
    return [re.sub(r" \(\d+\.\d\d s\)$", "", line) for line in result.stdout.splitlines()[1:]]


def test_doctor_of_sound_plugins_ends_well(site: Site, nlpkit: Run) -> None:
    site.plugin("emotion", task("emotion"))

    result = nlpkit("plugins", "doctor")

    assert (result.returncode, result.stderr) == (0, "")
    assert doctors_lines(result) == [
        "mlm (nlpkit-core 0.1.0): tasks: mlm",
        "emotion (nlpkit-emotion 0.3.0): tasks: emotion",
    ]


def test_doctor_names_every_problem_and_fails(site: Site, nlpkit: Run) -> None:
    site.plugin("bad", "import nlpkit\n@nlpkit.hookimpl\ndef nlpkit_tasks(): return None\n")
    site.plugin("old", "NLPKIT_API = 2\n" + task("old"))
    site.plugin("first", task("emotion"))
    site.plugin("second", task("emotion"))

    result = nlpkit("plugins", "doctor")

    assert (result.returncode, result.stderr) == (5, "")
    assert doctors_lines(result) == [
        "mlm (nlpkit-core 0.1.0): tasks: mlm",
        "bad (nlpkit-bad 0.3.0): broken",
        "first (nlpkit-first 0.3.0): tasks: emotion",
        "old (nlpkit-old 0.3.0): broken",
        "second (nlpkit-second 0.3.0): tasks: emotion",
        "problem: plugin 'bad' (nlpkit-bad 0.3.0): nlpkit_tasks: returned None, expected a list of task classes",
        "problem: plugin 'old' (nlpkit-old 0.3.0): registration: "
        "written for version 2 of nlpkit's hooks, this nlpkit has version 1: pip install --upgrade nlpkit-core",
        "problem: plugin 'second' (nlpkit-second 0.3.0): clash: "
        "task 'emotion' is also registered by 'first' (nlpkit-first 0.3.0)",
    ]


def test_doctor_shows_tracebacks_on_request(site: Site, nlpkit: Run) -> None:
    site.plugin("bad", "def inner():\n    return 1 / 0\ninner()\n")

    assert "in inner\n" not in nlpkit("plugins", "doctor").stdout
    assert "in inner\n" in nlpkit("plugins", "doctor", "-v").stdout


def test_doctor_as_json_has_what_the_text_has(site: Site, nlpkit: Run) -> None:
    site.plugin("bad", "x = 1")

    result = nlpkit("plugins", "doctor", "--json")

    found = json.loads(result.stdout)
    assert [(row["name"], row["ok"]) for row in found["plugins"]] == [("mlm", True), ("bad", False)]
    assert [(row["plugin"]["version"], row["moment"]) for row in found["problems"]] == [("0.3.0", "registration")]


def test_doctor_names_imports_that_slow_every_command(site: Site, nlpkit: Run) -> None:
    site.plugin("emotion", "import numpy\n" + task("emotion"))

    result = nlpkit("plugins", "doctor")

    assert result.returncode == 0
    assert doctors_lines(result)[-1] == (
        "warning: plugin 'emotion' (nlpkit-emotion 0.3.0): import: is slow: it imports numpy at once; "
        "import inside the functions that use it"
    )


def test_environment_leaves_only_named_plugins(site: Site, nlpkit: Run) -> None:
    site.plugin("emotion", task("emotion"))
    site.plugin("bad", "x = 1")

    result = nlpkit("plugins", "doctor", NLPKIT_PLUGINS="emotion")

    assert (result.returncode, [line.split()[0] for line in doctors_lines(result)]) == (0, ["mlm", "emotion"])


def test_no_plugins_leaves_the_core_alone(site: Site, nlpkit: Run) -> None:
    site.plugin("bad", "x = 1")

    result = nlpkit("tasks", "--no-plugins", "--json")

    assert (result.returncode, result.stderr) == (0, "")
    assert [row["name"] for row in json.loads(result.stdout)] == ["mlm"]


def test_no_plugins_says_why_a_task_is_missing(site: Site, nlpkit: Run) -> None:
    site.plugin("emotion", task("emotion"))

    assert_ends(
        nlpkit("config", "show", "--task", "emotion", "--no-plugins"),
        5,
        "error: no task 'emotion': plugin 'emotion' (nlpkit-emotion 0.3.0) is switched off\n"
        "hint: leave out NLPKIT_PLUGINS or --no-plugins, or set NLPKIT_PLUGINS=emotion\n",
    )


def test_file_is_a_plugin_for_one_command(nlpkit: Run, tmp_path: Path) -> None:
    (tmp_path / "emotion.py").write_text(task("emotion"))

    result = nlpkit("config", "show", "--plugin", "emotion.py", "--task", "emotion")

    assert (result.returncode, result.stderr) == (0, "")
    assert nlpkit("config", "show", "--task", "emotion").returncode == 2
    assert not (tmp_path / "__pycache__").exists()


def test_file_with_a_mistake_names_the_line(nlpkit: Run, tmp_path: Path) -> None:
    (tmp_path / "emotion.py").write_text("import nlpkit\n\nvalues = (1, 2\n")

    result = nlpkit("tasks", "--plugin", "emotion.py")

    assert (result.returncode, result.stdout) == (5, "")
    (error, hint) = result.stderr.splitlines()
    assert error == f"error: {tmp_path}/emotion.py:3: '(' was never closed"
    assert hint == "hint: correct the file, or leave out its --plugin"


def test_file_that_is_missing_is_an_error(nlpkit: Run) -> None:
    assert_ends(
        nlpkit("tasks", "--plugin", "emotion.py"),
        5,
        "error: emotion.py: no such file or folder\nhint: --plugin takes a .py file, or a folder with __init__.py\n",
    )


def test_plugin_that_prints_leaves_json_whole(site: Site, nlpkit: Run) -> None:
    site.plugin("loud", "print('hello')\n" + task("loud"))

    result = nlpkit("tasks", "--json")

    assert [row["name"] for row in json.loads(result.stdout)] == ["loud", "mlm"]
    assert result.stderr == "hello\n"


def test_uninstalled_nlpkit_says_so(nlpkit: Run, site: Site) -> None:
    program = "import sys; sys.path = [p for p in sys.path if 'site' not in p]; "
    program += f"sys.path.append({os.path.dirname(os.path.dirname(sys.modules['click'].__file__ or ''))!r}); "
    program += "import click, pluggy; sys.path.pop(); from nlpkit.cli import main; sys.exit(main(sys.argv[1:]))"

    result = nlpkit("tasks", program=program)

    assert result.stderr == (
        "nlpkit runs from a folder without being installed, so that plugins are not found: pip install -e that folder\n"
    )


def test_config_show_tells_the_origin_of_each_value(site: Site, nlpkit: Run) -> None:
    result = nlpkit("config", "show", "--objective", "mlm", "--origin", "seed=7")

    origins = dict(re.findall(r"^(\S+): .*  # (.*)$", result.stdout, re.MULTILINE))
    assert (origins["seed"], origins["optim.name"], origins["strategy"]) == ("command line", "task mlm", "default")


def test_config_show_output_is_a_config_file(nlpkit: Run, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(nlpkit("config", "show", "--objective", "mlm", "seed=7").stdout)

    shown = json.loads(nlpkit("config", "show", "--objective", "mlm", "--config", "run.yaml", "--json").stdout)

    assert shown["seed"] == 7
    assert shown["task"]["rate"] == 0.2


def test_config_docs_explain_the_settings_of_a_task(nlpkit: Run) -> None:
    rows = {row["key"]: row for row in json.loads(nlpkit("config", "docs", "--objective", "mlm", "--json").stdout)}

    assert rows["task.mask_share"]["doc"] == "Share of these that the model sees as [MASK]."
    assert rows["seed"]["doc"] == "Start of every random choice."


def test_config_takes_one_task_only(nlpkit: Run) -> None:
    assert_ends(
        nlpkit("config", "show", "--task", "a", "--objective", "b"),
        2,
        "error: both --task and --objective are given\nhint: leave one of them out\n",
    )


def test_unexpected_error_is_our_bug_with_a_traceback(nlpkit: Run) -> None:
    program = (
        "import sys, nlpkit.cli.tasks as tasks; from nlpkit.cli import main\n"
        "tasks.command.callback = lambda **rest: {}['gone']\n"
        "sys.exit(main(['tasks']))"
    )

    result = nlpkit(program=program)

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("Traceback (most recent call last):\n")
    assert result.stderr.endswith("\nerror: this is a bug in nlpkit; please report the lines above\n")


def test_unexpected_error_in_a_plugin_is_the_plugins(site: Site, nlpkit: Run) -> None:
    source = task("emotion").replace("def encode(self, example): return {}", "def encode(self, example): return 1 / 0")
    site.plugin("emotion", source)
    program = (
        "import sys, nlpkit.cli.tasks as tasks; from nlpkit.cli import main; from nlpkit.plugins import Registry\n"
        "tasks.command.callback = lambda **rest: Registry().task('emotion')(None, None).encode({})\n"
        "sys.exit(main(['tasks']))"
    )

    result = nlpkit(program=program)

    assert (result.returncode, result.stdout) == (5, "")
    assert result.stderr.splitlines() == [
        "error: plugin 'emotion' (nlpkit-emotion 0.3.0): Emotion.encode: "
        f"ZeroDivisionError: division by zero ({site.folder}/emotion_plugin.py:10)",
        "hint: this is for the plugin's author; the same command with -v shows their lines",
    ]


def test_full_disk_under_stdout_is_a_resource_error(nlpkit: Run, site: Site) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "nlpkit", "tasks"]
        variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site.folder), str(ROOT)])}
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=variables, timeout=60)

    assert result.returncode == 6
    assert result.stderr == "error: no space left on device\nhint: free some space, or write elsewhere\n"


def test_closed_pipe_ends_quietly(site: Site) -> None:
    """R18."""
    command = [sys.executable, "-m", "nlpkit", "config", "docs"]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site.folder), str(ROOT)])}
    reader, writer = os.pipe()
    os.close(reader)

    result = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, env=variables, timeout=60)

    os.close(writer)
    assert (result.returncode, result.stderr) == (141, "")


def test_ctrl_c_ends_with_130_and_no_traceback(site: Site, tmp_path: Path) -> None:
    site.plugin("slow", "import time\nprint('ready', flush=True)\ntime.sleep(30)\n")
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site.folder), str(ROOT)])}
    command = [sys.executable, "-m", "nlpkit", "tasks"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables)
    assert process.stderr
    assert process.stderr.readline() == "ready\n"

    process.send_signal(signal.SIGINT)

    assert process.communicate(timeout=30) == ("", "interrupted\n")
    assert process.returncode == 130


def test_stdout_of_a_poor_encoding_gets_escapes(site: Site, nlpkit: Run) -> None:
    site.plugin("emotion", task("emotion").replace("Says emotion.", "Joy 😀."))

    result = nlpkit("tasks", PYTHONIOENCODING="iso-8859-1")

    assert result.returncode == 0
    assert "Joy \\U0001f600." in result.stdout


def test_stderr_has_no_colour_when_it_is_no_terminal(nlpkit: Run) -> None:
    assert "\x1b" not in nlpkit("fitt").stderr


@pytest.mark.parametrize(("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_no_color_is_obeyed_on_a_terminal(environment: dict[str, str], coloured: bool, site: Site) -> None:
    pty = pytest.importorskip("pty", reason="terminals are tried on Unix only")
    variables = {k: v for k, v in os.environ.items() if k != "NO_COLOR"}
    variables |= {"PYTHONPATH": os.pathsep.join([str(site.folder), str(ROOT)]), "TERM": "xterm", **environment}
    ours, theirs = pty.openpty()

    subprocess.run([sys.executable, "-m", "nlpkit", "fitt"], stderr=theirs, env=variables, timeout=60, check=False)

    os.close(theirs)
    assert (b"\x1b[" in os.read(ours, 10_000)) is coloured
    os.close(ours)


def test_notes_of_an_error_are_said_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    from nlpkit.cli.failures import report
    from nlpkit.errors import DataError

    error = DataError("no label", "give one")
    error.add_note("in the batch of a.csv:3")
    assert report(error) == 3
    assert capsys.readouterr().err == "error: no label; in the batch of a.csv:3\nhint: give one\n"


def test_a_working_folder_that_is_gone_is_no_bug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    from nlpkit.cli.failures import report

    with pytest.raises(FileNotFoundError) as caught:
        os.getcwd()
    assert report(caught.value) == 8
    said = "error: the folder that this command was started in is gone\nhint: cd to a folder that is there\n"
    assert capsys.readouterr().err == said
