"""Switches off, one at a time, what keeps a run safe, and looks whether a test notices: python tests/support/mutants.py

A test of reliability that never failed proves nothing. Each mutant is one change of the source text; a change whose
text is no longer there is an error, so this list cannot rot. Third-party modules are imported once, and are no garbage
to look through; each mutant is a fork, without further plugins of pytest.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Mutant:
    """One safeguard taken away.

    Args:
        name: of the safeguard.
        module: where it stands.
        old: text of it, which is there once.
        new: what stands there instead.
        tests: of which at least one must fail; all pass without the change.
    """

    name: str
    module: str
    old: str
    new: str
    tests: tuple[str, ...]


_SYNC = "                os.fsync(file.fileno())\n            os.replace"
_BEFORE_NAME = "unit/test_files.py::test_file_is_on_the_disk_before_it_has_its_name"
_KEPT = "unit/test_files.py::test_write_that_fails_keeps_the_old_file"
_KILLED = "unit/test_resume.py::test_a_run_killed_after_any_save_is_the_straight_one_again"
_NAN = "unit/test_module.py::test_a_loss_of_nan_stops_before_the_step_and_leaves_a_good_checkpoint"
_INF = "unit/test_module.py::test_an_infinite_gradient_stops_before_the_step"
_ROT = "unit/test_checkpoints.py::test_one_that_cannot_be_read_back_deletes_none_before_it"
_NAMED = "unit/test_files.py::test_file_that_differs_from_the_manifest_is_named"
_PASSED_OVER = "unit/test_checkpoints.py::test_damaged_newest_is_passed_over_with_a_message"

MUTANTS = (
    Mutant("fsync of a file", "nlpkit.files", _SYNC, "                pass\n            os.replace", (_BEFORE_NAME,)),
    Mutant(
        "fsync of its folder",
        "nlpkit.files",
        "            _fsync_folder(path.parent)\n",
        "",
        (_BEFORE_NAME,),
    ),
    Mutant(
        "fsync of a folder's files",
        "nlpkit.files",
        '        with open(path, "rb+") as file:\n            os.fsync(file.fileno())\n',
        "",
        ("unit/test_files.py::test_folder_is_on_the_disk_before_it_has_its_name",),
    ),
    Mutant(
        "rename of a file",
        "nlpkit.files",
        "            os.replace(temporary, path)\n",
        "            path.write_bytes(content)\n",
        (_BEFORE_NAME,),
    ),
    Mutant(
        "temporary name",
        "nlpkit.files",
        'with open(temporary, "xb") as file:',
        'with open(path, "wb") as file:',
        (_KEPT,),
    ),
    Mutant(
        "rename of a folder",
        "nlpkit.files",
        "        os.replace(new, target)\n    except OSError:",
        "        shutil.copytree(new, target)\n    except OSError:",
        ("unit/test_files.py::test_folder_is_on_the_disk_before_it_has_its_name",),
    ),
    Mutant("hash", "nlpkit.files", "if sha256(path) != digest:", "if False:", (f"{_PASSED_OVER}[middle bit]",)),
    Mutant("size", "nlpkit.files", "if path.stat().st_size != size:", "if False:", (_NAMED,)),
    Mutant("reading back", "nlpkit.checkpoints", "        prove(Path(path))\n", "", (_ROT,)),
    Mutant(
        "keeping the one before",
        "nlpkit.callbacks",
        "self._prune(keep | self._kept)",
        "self._prune(keep)",
        ("unit/test_checkpoints.py::test_two_are_there_until_the_next_was_read_back",),
    ),
    Mutant(
        "lock",
        "nlpkit.folder",
        "fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "pass",
        ("unit/test_folder.py::test_two_processes_cannot_begin_one_run",),
    ),
    Mutant(
        "place of the folder",
        "nlpkit.folder",
        "if not self.path.is_dir() or (self._lock and not self._is_ours()):",
        "if False:",
        ("unit/test_folder_in_use.py::test_another_run_in_the_place_of_a_moved_one_is_not_written",),
    ),
    Mutant("finite loss", "nlpkit.callbacks", "if not math.isfinite(loss):", "if False:", (f"{_NAN}[1]",)),
    Mutant(
        "finite gradient",
        "nlpkit.module",
        'if norm.device.type == "cpu" and not math.isfinite(float(norm)):',
        "if False:",
        (f"{_INF}[0.0]",),
    ),
    Mutant(
        "seeds by counters",
        "nlpkit.randomness",
        "    torch.manual_seed(seed)\n",
        "",
        (f"{_KILLED}[freeze]",),
    ),
    Mutant(
        "place in the data",
        "nlpkit.data",
        '        return {"epoch": self.epoch, "batch": self.batch}\n',
        '        return {"epoch": self.epoch, "batch": 0}\n',
        (f"{_KILLED}[freeze]",),
    ),
    Mutant(
        "no save inside an accumulation",
        "nlpkit.callbacks",
        "if (index + 1) % self.accumulate or step == self._saved_step",
        "if not step",
        (f"{_KILLED}[accumulation of 2]",),
    ),
)


def mutate(mutant: Mutant) -> None:
    """Put the changed module where every later import finds it.

    Raises:
        ValueError: the text to change is not there once.
    """
    spec = importlib.util.find_spec(mutant.module)
    assert spec and spec.origin
    source = Path(spec.origin).read_text("utf-8")
    if source.count(mutant.old) != 1:
        raise ValueError(f"{mutant.module} has {source.count(mutant.old)} times what '{mutant.name}' changes")
    module = importlib.util.module_from_spec(spec)
    sys.modules[mutant.module] = module
    exec(compile(source.replace(mutant.old, mutant.new), spec.origin, "exec"), module.__dict__)
    package, _, name = mutant.module.rpartition(".")
    setattr(sys.modules[package], name, module)


def run(tests: tuple[str, ...], mutant: Mutant | None) -> int:
    """Run tests in a fork: pytest's exit code, 0 where all passed and 1 where one failed."""
    child = os.fork()
    if not child:
        code = 99
        try:
            for stream in (1, 2):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
            if mutant:
                mutate(mutant)
            import pytest

            paths = [str(ROOT / "tests" / test) for test in tests]
            code = int(pytest.main(["-q", "-x", "-p", "no:cacheprovider", "--rootdir", str(ROOT), *paths]))
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> int:
    """Print what became of each mutant; 1 if one lives."""
    import hypothesis  # noqa: F401
    import pytest  # noqa: F401
    import pytorch_lightning  # noqa: F401
    import torch
    from transformers import AutoModelForMaskedLM, PreTrainedTokenizerFast  # noqa: F401

    torch.set_num_threads(1)
    os.chdir(ROOT)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    gc.freeze()
    every = tuple(dict.fromkeys(test for mutant in MUTANTS for test in mutant.tests))
    alive = 0
    if run(every, None) != 0:
        print("the tests fail without any change")
        return 1
    for mutant in MUTANTS:
        code = run(mutant.tests, mutant)
        alive += code != 1
        print(f"{mutant.name}: {'noticed' if code == 1 else f'NOT noticed (pytest says {code})'}", flush=True)
    return int(alive > 0)


if __name__ == "__main__":
    sys.exit(main())
