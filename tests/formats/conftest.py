"""The world of the steps, in which time passes as quickly."""

from __future__ import annotations

from tests.steps.conftest import empty_ledger, world

__all__ = ["empty_ledger", "world"]
