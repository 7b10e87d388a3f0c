"""The world of the steps, in which time passes as quickly."""

from __future__ import annotations

from tests.steps.conftest import _quick, empty_ledger, world

__all__ = ["_quick", "empty_ledger", "world"]
