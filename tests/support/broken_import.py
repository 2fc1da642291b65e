"""A task whose module imports torch at its top."""

from __future__ import annotations

import torch  # noqa: F401
from sound_task import Sound


class ImportsTorch(Sound):
    pass
