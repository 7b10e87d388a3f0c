"""A staging root on every kind of storage."""

from __future__ import annotations

from tests.storages import bucket, root

__all__ = ["bucket", "root"]
