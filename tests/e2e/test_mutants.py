"""The mutation check: each safeguard that is switched off turns a test red."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_every_safeguard_that_is_switched_off_is_noticed() -> None:
    program = Path(__file__).parents[1] / "support" / "mutants.py"
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=500, check=False)
    assert done.stderr == ""
    assert done.returncode == 0, done.stdout
    assert len(done.stdout.splitlines()) >= 16
