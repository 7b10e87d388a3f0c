"""The world of the steps, with feeds in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.continuous.feeds import FeedWorld
from tests.steps.conftest import a_world, empty_ledger

__all__ = ["empty_ledger"]


@pytest.fixture
def world(tmp_path: Path, empty_ledger: Path) -> Iterator[FeedWorld]:
    with a_world(tmp_path, empty_ledger, FeedWorld) as made:
        yield made
