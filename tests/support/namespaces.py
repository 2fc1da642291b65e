"""File systems of a chosen size, or read-only, for tests."""

from __future__ import annotations

import subprocess

import pytest


def needs_namespaces() -> tuple[str, ...]:
    """The start of a command that may mount file systems of its own; skips where that is not allowed."""
    prefix = ("unshare", "-Urm")
    try:
        subprocess.run([*prefix, "mount", "-t", "tmpfs", "x", "/mnt"], check=True, capture_output=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        pytest.skip("no user namespaces here, so no file system of a chosen size can be mounted")
    return prefix
