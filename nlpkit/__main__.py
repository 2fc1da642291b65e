"""``python -m nlpkit`` is the command ``nlpkit``."""

from __future__ import annotations

import sys

from nlpkit.signals import ending_at_once

with ending_at_once():
    from nlpkit.cli import main

if __name__ == "__main__":
    sys.exit(main())
