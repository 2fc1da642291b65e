"""What holds for the tests of the core and of the plugins alike."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest

# no plugin is switched off here, whatever the user has done
os.environ["NLPKIT_CONFIG"] = tempfile.mkdtemp(prefix="nlpkit-tests-")


@pytest.fixture(scope="session", autouse=True)
def _own_settings() -> Iterator[None]:
    yield
    shutil.rmtree(os.environ["NLPKIT_CONFIG"], ignore_errors=True)


@pytest.fixture(autouse=True)
def _log_of_a_fresh_process() -> Iterator[None]:
    """A command sets up the library's log for its process, which here is that of all tests and their fixtures."""
    _reset()
    yield
    _reset()


def _reset() -> None:
    log = logging.getLogger("nlpkit")
    log.handlers, log.propagate = [], True
    log.setLevel(logging.NOTSET)
