"""What holds for the tests of the core and of the plugins alike."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _log_as_it_was() -> Iterator[None]:
    """A command sets up the library's log for its process, which here is that of all tests."""
    log = logging.getLogger("nlpkit")
    before = list(log.handlers), log.propagate, log.level
    yield
    log.handlers, log.propagate = before[0], before[1]
    log.setLevel(before[2])
