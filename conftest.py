"""What holds for the tests of the core and of the plugins alike."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


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
