"""A shop to try nlpkit on: reviews written for it, so that the whole story runs without anybody's data."""

from __future__ import annotations

from nlpkit.demo.shop import write_shop

__all__ = ["write_shop"]
