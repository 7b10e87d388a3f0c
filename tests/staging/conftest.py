"""A staging root on every kind of storage, and what is needed to fill it."""

from __future__ import annotations

from tests.storages import bucket, manifest_json, put, root

__all__ = ["bucket", "manifest_json", "put", "root"]
