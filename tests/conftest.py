"""What all tests share: a cache of their own, and a tiny model of each stage for those that need any model."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from commands import Ended, run_command
from hypothesis import HealthCheck, settings

settings.register_profile(
    "tests", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)
settings.load_profile("tests")

# before any test imports torch
os.environ["NLPKIT_CACHE"] = tempfile.mkdtemp(prefix="nlpkit-tests-")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# a shell starts what runs in its background with Ctrl-C ignored, and nohup anything with SIGHUP ignored; every command
# of a test would inherit that
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
TINY = ("model.preset=tiny", "model.vocabulary=1000", "model.sequence_length=64", "trainer.max_steps=6")


Command = Callable[..., Ended]


@pytest.fixture(scope="session")
def command() -> Command:
    """The command line in this process."""
    return run_command


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo shop's folder."""
    from nlpkit.demo import write_shop

    folder = tmp_path_factory.mktemp("demo") / "shop"
    write_shop(folder)
    return folder


@dataclass(frozen=True)
class Trained:
    """A finished run and how its command ended."""

    folder: Path
    ended: Ended


@pytest.fixture(scope="session")
def base(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A tiny backbone, hardly trained."""
    out = tmp_path_factory.mktemp("runs") / "base"
    return Trained(out, run_command("pretrain", shop / "reviews.csv", "--out", out, *TINY))


@pytest.fixture(scope="session")
def fitted(shop: Path, base: Trained, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A tiny sentiment model, hardly trained."""
    out = tmp_path_factory.mktemp("runs") / "sentiment"
    labelled = shop / "labelled.csv"
    arguments = ("fit", "--task", "sentiment", labelled, "--from", base.folder, "--out", out, "trainer.max_steps=6")
    return Trained(out, run_command(*arguments))


@pytest.fixture(scope="session")
def snapshot() -> Callable[[Path], dict[str, bytes]]:
    """Every file below a folder, with its content."""

    def take(folder: Path) -> dict[str, bytes]:
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

    return take


@pytest.fixture(scope="session", autouse=True)
def _own_cache() -> Iterator[None]:
    yield
    import shutil

    shutil.rmtree(os.environ["NLPKIT_CACHE"], ignore_errors=True)
